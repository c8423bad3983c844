"""Server-sent events: each change once and in order, whoever reads how slowly."""

import contextlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.raw import Connection, Server
from tests.e2e.test_hostile import ACCOUNTING
from tests.e2e.web import Event, Stream, Web, problem
from tests.harness import STORAGE, Supervisord, running, ttl, until

KIB = 1024
LIMIT_EXCEEDED = 201
HTTP = {"http": "true"}
SECTIONS = {"cache": {**HTTP, "max_watchers": "120"}, "short": {**HTTP, "max_changes": "5"}}
# What one reader may be owed, with what supervisord keeps beside for it.
OWED = 256 * KIB
# So that it is not the kernel that keeps what a reader does not take.
SMALL_BUFFER = 4 * KIB


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with running(SECTIONS) as found:
        yield found
        assert "Traceback" not in found.log


@pytest.fixture(scope="module")
def proxy(supervisord: Supervisord) -> Any:
    return supervisord.unix()


@pytest.fixture(params=["inet", "unix"])
def web(supervisord: Supervisord, proxy: Any, request: pytest.FixtureRequest) -> Web:
    proxy.cache.clear()
    return Web(Server(supervisord, inet=request.param == "inet"))


def newest(web: Web) -> int:
    return int(web.json("v1/changes")["revision"])


def watchers(web: Web) -> int:
    found: int = web.json("v1/stats")["watchers"]
    return found


def until_watched(web: Web, number: int) -> None:
    until(lambda: watchers(web) == number, f"{number} watch")


def keys(event: Event) -> list[str]:
    return [change["key"] for change in event.data]


# What is told


def test_a_stream_is_announced_as_one(web: Web) -> None:
    with web.stream().opened() as stream:
        head = stream.head.lower()
    assert head.startswith("http/1.1 200 ok\r\n")
    for line in ("content-type: text/event-stream", "cache-control: no-store", "connection: close"):
        assert f"\r\n{line}" in head
    assert "content-length" not in head
    assert "transfer-encoding" not in head
    assert "x-content-type-options: nosniff" in head


def test_each_revision_is_one_event_with_all_its_changes(web: Web, proxy: Any) -> None:
    proxy.cache.storeMany({"old": 1, "new": 0})
    with web.stream().opened() as stream:
        start = newest(web)
        web.put("/k?note=n&ttl=1000", '"\u2028\u0085\n\u00e9')
        web.post("batch", {"store": {"a": [1], "b": {"$dateTime": "2026-11-03T12:00:00"}}, "delete": ["old"]})
        web.post("touch", {"key": "k", "ttl": 0})
        proxy.cache.deletePrefix("a")
        web.put(f"/ends?ttl={ttl(0.05)}", "v")
        proxy.cache.clear()
        events = stream.events(6)
        if "expire" not in str(events):
            events = [*events[:5], *stream.events(1)] if keys(events[5]) == ["ends"] else events
    assert [event.name for event in events] == [""] * len(events)
    assert [int(event.number) for event in events] == [start + n for n in range(1, len(events) + 1)]
    for event in events:
        assert {change["revision"] for change in event.data} == {event.number}
    stored, batch, touched, deleted = (event.data for event in events[:4])
    server = "inet_http_server" if web.server.inet else "unix_http_server"
    (change,) = stored
    found = change.pop("entry")
    assert {**change, "modified": 0} == {
        "revision": events[0].number,
        "kind": "store",
        "key": "k",
        "modified": 0,
        "note": "n",
        "via": server,
    }
    assert (found["value"], found["note"], found["revision"]) == ('"\u2028\u0085\n\u00e9', "n", events[0].number)
    assert found["expires"] > found["modified"]
    assert {each["key"]: each["entry"] and each["entry"]["value"] for each in batch} == {
        "a": [1],
        "b": {"$dateTime": "2026-11-03T12:00:00"},
        "old": None,
    }
    assert (touched[0]["kind"], touched[0]["entry"]["expires"]) == ("touch", 0.0)
    assert (deleted[0]["kind"], deleted[0]["key"], deleted[0]["entry"]) == ("delete", "a", None)
    cleared = next(each for event in events[4:] for each in event.data if each["kind"] == "clear")
    assert (cleared["key"], cleared["entry"]) == ("", None)


def test_what_ends_by_itself_is_told(web: Web) -> None:
    with web.stream().opened() as stream:
        web.put(f"/ends?ttl={ttl(0.05)}", "v")
        _, ended = stream.events(2)
    assert [(each["kind"], each["key"], each["entry"]) for each in ended.data] == [("expire", "ends", None)]


def test_a_stream_tells_of_its_prefix_and_of_a_clear(web: Web, proxy: Any) -> None:
    with web.stream("?prefix=config/").opened() as stream:
        web.put("/other", "v")
        web.put("/config", "v")
        web.put("/config/a", "v")
        proxy.cache.storeMany({"config/b": 1, "other": 2, "config/c": 3})
        web.delete("/other")
        proxy.cache.clear()
        web.put("/config/last", "v")
        events = stream.events(4)
    assert [sorted(keys(event)) for event in events] == [["config/a"], ["config/b", "config/c"], [""], ["config/last"]]


def test_a_large_value_is_left_out_and_can_be_asked_for(web: Web) -> None:
    with web.stream().opened() as stream:
        web.put("/small", "x" * (8 * KIB - 2))
        web.put("/large", "x" * (8 * KIB - 1))
        web.post("batch", {"store": {f"{number:02}": "x" * 8000 for number in range(20)}})
        small, large, many = stream.events(3)
    assert small.data[0]["entry"]["value"] == "x" * (8 * KIB - 2)
    assert "value" not in large.data[0]["entry"]
    assert set(large.data[0]["entry"]) == {"key", "revision", "modified", "expires", "owner", "note"}
    assert large.data[0]["entry"]["revision"] == large.number
    shown = ["value" in each["entry"] for each in many.data]
    assert 0 < sum(shown) < 20
    assert len(json.dumps(many.data)) < OWED


def test_a_key_that_looks_like_a_field_stays_a_key(web: Web) -> None:
    with web.stream().opened() as stream:
        for key in ('"value":null,', "\\", "data: x", "\u2028id: 5"):
            web.put(f"?key={''.join(f'%{byte:02x}' for byte in key.encode())}", "x" * 9000)
            (event,) = stream.events(1)
            assert event.data[0]["entry"]["key"] == event.data[0]["key"] == key
            assert "value" not in event.data[0]["entry"]


@pytest.mark.local("no call changes more than a hundred entries")
def test_ten_thousand_that_go_at_once_are_told_as_a_reset(web: Web, proxy: Any) -> None:
    for start in range(0, 10_000, 2000):
        proxy.cache.storeMany({f"k/{number:05}": 1 for number in range(start, start + 2000)})
    with web.stream().opened() as stream:
        assert proxy.cache.deletePrefix("k/") == 10_000
        web.put("/after", "v")
        gone, after = stream.events(2)
    assert (gone.name, gone.data) == ("reset", {"revision": gone.number})
    assert keys(after) == ["after"]


# Coming back


@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_who_comes_back_is_told_what_has_been_missed(web: Web, proxy: Any, how: str) -> None:
    with web.stream().opened() as stream:
        web.put("/a", "v")
        (last,) = stream.events(1)
    web.put("/b", "v")
    proxy.cache.storeMany({"c": 1, "d": 2})
    web.put("/b", "w")
    query = {"header": "", "query": f"?since={last.number}", "both": "?since=1"}[how]
    headers = [] if how == "query" else [f"Last-Event-ID: {last.number}"]
    with web.stream(query, *headers).opened() as stream:
        web.put("/e", "v")
        events = stream.events(4)
    assert [sorted(keys(event)) for event in events] == [["b"], ["c", "d"], ["b"], ["e"]]
    assert [int(event.number) for event in events] == [int(last.number) + n for n in range(1, 5)]
    # As they are afterwards, by now.
    assert [event.data[0]["entry"]["value"] for event in events] == ["w", 1, "w", "v"]


def test_who_comes_back_with_a_prefix_is_told_of_that(web: Web) -> None:
    start = newest(web)
    for key in ("a1", "b1", "a2"):
        web.put(f"/{key}", "v")
    with web.stream(f"?prefix=a&since={start}").opened() as stream:
        web.put("/b2", "v")
        web.put("/a3", "v")
        assert [keys(event) for event in stream.events(3)] == [["a1"], ["a2"], ["a3"]]


@pytest.mark.parametrize("since", ["0", "1", "99999999999999999999", "gone"])
def test_who_comes_back_too_late_is_told_to_begin_anew(web: Web, since: str) -> None:
    short = Web(web.server, "short")
    since = str(newest(short)) if since == "gone" else since
    for number in range(10):
        short.put("/k", str(number))
    with short.stream("", f"Last-Event-ID: {since}").opened() as stream:
        revision = newest(short)
        (reset,) = stream.events(1)
        assert (reset.name, reset.number, reset.data) == ("reset", str(revision), {"revision": str(revision)})
        short.put("/k", "after")
        (event,) = stream.events(1)
        assert (event.name, int(event.number), keys(event)) == ("", revision + 1, ["k"])


def test_an_empty_last_event_id_means_from_now_on(web: Web) -> None:
    web.put("/before", "v")
    for query, headers in (("?since=", []), ("", ["Last-Event-ID:"])):
        with web.stream(query, *headers).opened() as stream:
            web.put("/after", "v")
            assert [keys(event) for event in stream.events(1)] == [["after"]]


@pytest.mark.parametrize(
    "query", ["since=x", "since=-1", f"since={'9' * 21}", "prefix=%00", "x=1", "since=1&since=2", "limit=5"]
)
def test_what_cannot_be_followed_is_a_bad_request(web: Web, query: str) -> None:
    problem(web.get(f"v1/stream?{query}"), 400, "BAD_ARGUMENTS", 3)
    problem(web.get("v1/stream", "Last-Event-ID: x"), 400, "BAD_ARGUMENTS", 3)
    assert watchers(web) == 0


def test_many_who_come_back_at_once_get_each_change_once_and_in_order(supervisord: Supervisord, proxy: Any) -> None:
    web = Web(Server(supervisord, inet=False))
    proxy.cache.clear()
    first = newest(web)
    for number in range(1500):
        proxy.cache.store(f"{number % 300:03}/{'odd' if number % 2 else 'even'}", "x" * (number % 500))
    missed = web.json(f"v1/changes?since={first}&limit=500")["changes"]
    ways = [(first, ""), (first, "1"), (int(missed[400]["revision"]), ""), (int(missed[0]["revision"]), "2")]
    with contextlib.ExitStack() as stack:
        streams = [
            (position, prefix, stack.enter_context(web.stream(f"?since={position}&prefix={prefix}").opened()))
            for position, prefix in ways * 10
        ]
        # While they are told what they missed, there is more.
        for number in range(200):
            proxy.cache.store(f"{number:03}/late", number)
        changes: list[dict[str, Any]] = []
        since = first
        while page := web.json(f"v1/changes?since={since}&limit=500")["changes"]:
            changes += page
            since = page[-1]["revision"]
        for position, prefix, stream in streams:
            expected = [
                (change["revision"], change["key"])
                for change in changes
                if int(change["revision"]) > position and change["key"].startswith(prefix)
            ]
            told = [
                (change["revision"], change["key"]) for event in stream.events(len(expected)) for change in event.data
            ]
            assert told == expected


@pytest.mark.local("what ends is noticed by etcd, and at no hundredth of a second")
def test_what_ends_while_others_catch_up_is_told_to_those_who_follow(supervisord: Supervisord, proxy: Any) -> None:
    # What is told to one client may be what notices that an entry has ended.
    web = Web(Server(supervisord, inet=False))
    proxy.cache.clear()
    start = newest(web)
    for _ in range(50):
        proxy.cache.storeMany({f"missed/{number}": "x" * 2000 for number in range(100)})
    told: list[Event] = []

    def follow(stream: Stream) -> None:
        while not told or keys(told[-1]) != ["last"]:
            told.extend(stream.events(1))

    with web.stream().opened() as stream, web.server.connect() as connection:
        follower = threading.Thread(target=follow, args=[stream])
        follower.start()
        begins = time.monotonic() + 2
        for number in range(500):
            ttl = begins + number * 0.002 - time.monotonic()
            connection.send(web.request("PUT", f"v1/entries/short/{number}?ttl={max(ttl, 0.1):.4f}", body="x"))
            assert connection.reply() is not None
        turn = 0
        while proxy.cache.getKeys("short/"):
            with web.stream(f"?since={start + turn % 9}&prefix=missed").opened() as other:
                other.events(3)
            turn += 1
        proxy.cache.store("last", 1)
        follower.join()
    numbers = [int(event.number) for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert sum(change["kind"] == "expire" for event in told for change in event.data) == 500


@pytest.mark.local("no call changes more than a hundred entries")
def test_a_huge_commit_costs_little_however_many_prefixes_are_followed(supervisord: Supervisord, proxy: Any) -> None:
    servers = [Web(Server(supervisord, inet=inet)) for inet in (True, False)]
    proxy.cache.clear()
    names = [f"{'k' * 60}{number:05}" for number in range(9000)]
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(servers[number % 2].stream(f"?prefix={'k' * (number // 2)}").opened())
            for number in range(100)
        ]
        until_watched(servers[0], 100)
        before = supervisord.processor_seconds()
        for _ in range(3):
            assert servers[1].post("batch", {"store": dict.fromkeys(names, 1)}).status == 200
            assert servers[1].post("batch", {"delete": names}).status == 200
        revision = newest(servers[1])
        for stream in streams:
            while int((event := stream.events(1)[0]).number) < revision:
                assert event.name == "reset"
        # Six commits; a hundred events of each, made and thrown away, would take twenty seconds and more.
        assert supervisord.processor_seconds() - before < 8
        # From there it goes on as ever.
        servers[1].put("/" + names[0], "v")
        assert all(keys(stream.events(1)[0]) == [names[0]] for stream in streams)


@pytest.mark.local("no call changes more than a hundred entries")
def test_commits_for_which_there_is_no_time_at_once_are_told_all_the_same(supervisord: Supervisord, proxy: Any) -> None:
    # Larger than the history keeps, with prefixes of which each matches few: nobody need begin anew.
    web = Web(Server(supervisord, inet=False))
    proxy.cache.clear()
    names = [f"{number:04}{'k' * 40}" for number in range(8000)]
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(web.stream(f"?prefix={number:02}").opened()) for number in range(50)]
        for _ in range(3):
            revision = json.loads(web.post("batch", {"store": dict.fromkeys(names, 1)}).body)["revision"]
            web.put("/0000", "v")
            for number, stream in enumerate(streams):
                (event,) = stream.events(1)
                assert (event.name, event.number) == ("", revision)
                assert keys(event) == names[100 * number : 100 * number + 100]
            assert keys(streams[0].events(1)[0]) == ["0000"]


def test_a_stream_ends_with_a_reload_and_goes_on_where_it_was(start: StartSupervisord) -> None:
    supervisord = start({"cache": HTTP})
    for inet in (True, False):
        web = Web(Server(supervisord, inet=inet))
        stream = web.stream().opened()
        web.put("/a", "v")
        (last,) = stream.events(1)
        supervisord.reload()
        assert [event for event in stream.rest() if event.name != ":"] == []
        stream.close()
        assert watchers(web) == 0
        web.put("/b", "v")
        with web.stream("", f"Last-Event-ID: {last.number}").opened() as stream:
            web.put("/c", "v")
            assert [keys(event) for event in stream.events(2)] == [["b"], ["c"]]
        until_watched(web, 0)


# Clients


def test_a_client_that_closes_frees_its_place(web: Web) -> None:
    streams = [web.stream().opened() for _ in range(10)]
    until_watched(web, 10)
    for stream in streams:
        stream.close()
    until_watched(web, 0)
    web.put("/k", "v")


def test_a_client_of_http_1_0_can_follow(web: Web) -> None:
    connection = web.server.connect()
    with connection:
        connection.send(web.request("GET", "v1/stream").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        buffer = b""
        while b"retry" not in buffer:
            buffer += connection._socket.recv(4096)
        web.put("/k", "v")
        while b"\n\n" not in buffer.partition(b"retry: 1000\n\n")[2]:
            buffer += connection._socket.recv(4096)
    assert b"chunked" not in buffer
    assert b'"key":"k"' in buffer


def test_what_a_follower_sends_is_not_run(web: Web) -> None:
    with web.stream().opened() as stream:
        stream.connection.send(web.request("PUT", "v1/entries/sneaked", body="v") * 10)
        web.put("/k", "v")
        assert [keys(event) for event in stream.events(1)] == [["k"]]
        web.put("/l", "v")
        assert [keys(event) for event in stream.events(1)] == [["l"]]
    assert web.get("v1/entries/sneaked").status == 404


def test_half_of_all_who_may_watch_may_be_streams_of_one_server(supervisord: Supervisord, proxy: Any) -> None:
    inet, unix = (Web(Server(supervisord, inet=inet)) for inet in (True, False))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(inet.stream().opened())
        until_watched(inet, 60)
        reply = inet.get("v1/stream")
        problem(reply, 429, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
        assert "retry-after" in reply.headers
        problem(inet.get("v1/changes?wait=5"), 429, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
        stream = stack.enter_context(unix.stream().opened())
        proxy.cache.store("k", 1)
        assert [keys(event) for event in stream.events(1)] == [["k"]]
    until_watched(inet, 0)


def test_fifty_streams_under_a_storm_get_each_change_once_and_in_order(  # noqa: C901 - readers and writers
    supervisord: Supervisord, proxy: Any
) -> None:
    proxy.cache.clear()
    servers = [Web(Server(supervisord, inet=inet)) for inet in (True, False)]
    start = newest(servers[0])
    writers, writes = 4, 300
    total = writers * writes
    found: dict[int, list[Event]] = {}
    failures: list[BaseException] = []

    def follow(number: int) -> None:
        chance = random.Random(number)
        web, last, mine = servers[number % 2], str(start), found.setdefault(number, [])
        try:
            while len(mine) < total:
                # Some lose their connection now and then.
                until_lost = chance.choice([50, 500, total])
                with web.stream("", f"Last-Event-ID: {last}").opened() as stream:
                    for event in itertools.islice(stream.rest(), until_lost):
                        if event.name != ":":
                            mine.append(event)
                            last = event.number
                        if len(mine) == total:
                            return
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    def write(number: int) -> None:
        web = servers[number % 2]
        with web.server.connect() as connection:
            for turn in range(writes):
                connection.send(web.request("PUT", f"v1/entries/{number}/{turn % 20}", body=str(turn)))
                assert connection.reply() is not None

    threads = [threading.Thread(target=follow, args=[number]) for number in range(50)]
    threads += [threading.Thread(target=write, args=[number]) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = [str(start + number) for number in range(1, total + 1)]
    for mine in found.values():
        assert [event.number for event in mine] == expected
        assert all(len(event.data) == 1 for event in mine)
    until_watched(servers[0], 0)


# Slow and dead readers


def sleepy(web: Web) -> Connection:
    """Connect with as little as possible in the kernel."""
    connection = web.server.connect()
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    return connection


def open_without_reading(web: Web, query: str = "") -> Connection:
    connection = sleepy(web)
    connection.send(web.request("GET", f"v1/stream{query}"))
    return connection


HASTE = "\n[rpcinterface:haste]\nsupervisor.rpcinterface_factory = tests.e2e.haste:make_haste\n"


@pytest.fixture
def start_hasty(start: StartSupervisord) -> Callable[..., Supervisord]:
    def start_one(**intervals: float) -> Supervisord:
        lines = "".join(f"{name} = {value}\n" for name, value in intervals.items())
        environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONMALLOC": "malloc"}
        return start({"cache": {**HTTP, "max_watchers": "200"}}, HASTE + lines + ACCOUNTING, environment=environment)

    return start_one


def test_ten_thousand_changes_come_to_a_slow_reader_each_once(supervisord: Supervisord, proxy: Any) -> None:
    # Over inet, so small a buffer would leave little but waiting.
    web = Web(Server(supervisord, inet=False))
    proxy.cache.clear()
    start = newest(web)
    for turn in range(20):
        for part in range(25):
            proxy.cache.storeMany({f"{part}/{number}": turn for number in range(20)})
    connection = sleepy(web)
    with web.stream(f"?since={start}", connection=connection).opened() as stream:
        changes = 0
        expected = start
        while changes < 10_000:
            (event,) = stream.events(1)
            expected += 1
            assert int(event.number) == expected
            changes += len(event.data)
            if expected % 50 == 0:
                # Others have their turn.
                assert web.get("v1/values/0/0").status == 200
        web.put("/after", "v")
        (event,) = stream.events(1)
        assert keys(event) == ["after"]


def test_readers_who_take_nothing_cost_a_bounded_amount_and_hold_nobody_up(
    start_hasty: Callable[..., Supervisord],
) -> None:
    supervisord = start_hasty()
    proxy = supervisord.unix()
    web = Web(Server(supervisord, inet=False))
    since = newest(web)
    text = "x" * 8000
    keys_written = [f"{number:03}" for number in range(200)]
    for key in keys_written:
        proxy.cache.store(key, text)
    before = proxy.accounting.in_use()
    readers = 30
    with contextlib.ExitStack() as stack:
        # Half of them have much to catch up with.
        for number in range(readers):
            stack.enter_context(open_without_reading(web, f"?since={since}" if number % 2 else ""))
        until_watched(web, readers)
        quick = stack.enter_context(web.stream().opened())
        most = 0
        for turn in range(400):
            proxy.cache.store(keys_written[turn % 200], text)
            assert len(quick.events(1)) == 1
            if turn % 40 == 0:
                most = max(most, proxy.accounting.in_use())
        most = max(most, proxy.accounting.in_use())
        assert most - before < readers * OWED
    until_watched(web, 0)
    until(lambda: proxy.accounting.in_use() - before < 2 * OWED, "what they were owed is forgotten")


def test_a_reader_who_wakes_up_gets_all_it_has_missed(supervisord: Supervisord, proxy: Any) -> None:
    web = Web(Server(supervisord, inet=False))
    proxy.cache.clear()
    connection = open_without_reading(web)
    with connection:
        until_watched(web, 1)
        start = newest(web)
        for number in range(1000):
            proxy.cache.store(f"{number % 50}", f"{number:04}" * 500)
        stream = Stream.__new__(Stream)
        stream.connection = connection
        stream._until(b"\r\n\r\n")
        stream._until(b"\n\n")
        events = stream.events(1000)
    assert [int(event.number) for event in events] == [start + number for number in range(1, 1001)]


def test_a_reader_who_takes_nothing_is_dropped_and_others_are_not(start_hasty: Callable[..., Supervisord]) -> None:
    supervisord = start_hasty(stalled=2, comment=0.5)
    web = Web(Server(supervisord, inet=False))
    if STORAGE == "etcd":
        # Its connections are made when they are needed first.
        for _ in range(20):
            web.put("/k", "v")
        time.sleep(1.5)
    descriptors = supervisord.descriptors()
    with open_without_reading(web) as dead, web.stream("?prefix=none").opened() as idle, web.stream().opened() as quick:
        until_watched(web, 3)

        def is_dropped() -> bool:
            web.put("/k", "x" * 8000)
            quick.events(1)
            return watchers(web) == 2

        until(is_dropped, "the dead reader is dropped")
        # Who has been told nothing for as long is there still, and so is who takes what comes.
        assert idle.next() is not None
        web.put("/last", "v")
        assert keys(quick.events(1)[0]) == ["last"]
        # Both ends know.
        dead._socket.settimeout(30)
        while dead._more():
            pass
    until(lambda: supervisord.descriptors() <= descriptors + 1, "their descriptors are closed")


def test_a_comment_keeps_a_silent_stream_open(start_hasty: Callable[..., Supervisord]) -> None:
    supervisord = start_hasty(comment=0.2, stalled=2)
    for inet in (True, False):
        web = Web(Server(supervisord, inet=inet))
        with web.stream("?prefix=a").opened() as stream:
            # Longer than a reader may take nothing.
            for _ in range(4):
                assert stream.next() == Event(":", "", None)
            web.put("/b", "v")
            web.put("/a", "v")
            assert keys(stream.events(1)[0]) == ["a"]

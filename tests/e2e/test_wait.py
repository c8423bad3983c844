"""Clients that learn of changes: `wait` and `getChanges`, on a real supervisord."""

import contextlib
import os
import signal
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.raw import Connection, Server, post
from tests.harness import STORAGE, Supervisord, parts, program, ttl, until

# Long, so that nothing but a change can be why an answer comes within a test's patience.
LONG = 60
PATIENCE = 30.0
GONE_SECONDS = 3.0
IDLE_SECONDS = 5.0
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo ready > %(here)s/ready; while true; do sleep 0.05; done'"


class Call(threading.Thread):
    """One call of ``wait``, on its way."""

    def __init__(self, cache: Any, *args: object) -> None:
        super().__init__(daemon=True)
        self._cache = cache
        self._args = args
        self._answer: dict[str, Any] = {}
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer = self._cache.wait(*self._args)
        except Exception as error:  # noqa: BLE001 - that of the call, for the test to judge
            self.error = error

    def ended(self) -> "Call":
        self.join(PATIENCE)
        assert not self.is_alive(), "wait does not answer"
        return self

    def answer(self) -> dict[str, Any]:
        self.ended()
        if self.error is not None:
            raise self.error
        return self._answer


def waiting(supervisord: Supervisord, number: int) -> None:
    """Wait until so many clients wait."""
    until(lambda: supervisord.unix().cache.getStats()["watchers"] == number, f"{number} clients wait")


@contextlib.contextmanager
def clients(server: Server, number: int, since: str) -> Iterator[list[Connection]]:
    """So many clients that wait on ``server`` while nobody reads what they are told."""
    body = xmlrpc.client.dumps((since, LONG), "cache.wait").encode()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(number)]
        for connection in connections:
            connection.send(post(body, *server.login))
        yield connections


@pytest.fixture(scope="module")
def host() -> Iterator[Supervisord]:
    supervisord = Supervisord(more=program("worker")).start()
    yield supervisord
    log = supervisord.log
    supervisord.close()
    assert "Traceback" not in log


@pytest.fixture
def here(host: Supervisord) -> Any:
    """The cache of `host` over its unix socket, with entries under two prefixes."""
    cache = host.unix().cache
    cache.clear()
    if host.process("worker")["statename"] != "RUNNING":
        host.unix().supervisor.startProcess("worker")
    cache.storeMany({"a/n": 1, "b/n": 1})
    return cache


# What wakes those who wait for ``a/``, through the other server or by itself, once it has been prepared.
CAUSES: dict[str, tuple[Callable[[Any], object], Callable[[Supervisord], object]]] = {
    "store": (lambda _: None, lambda host: host.inet().cache.store("a/n", 2)),
    "storeMany": (lambda _: None, lambda host: host.inet().cache.storeMany({"0": 1, "a/m": 1, "z": 1})),
    "add": (lambda _: None, lambda host: host.inet().cache.add("a/new", 1)),
    "storeIf": (lambda _: None, lambda host: host.inet().cache.storeIf("a/new", 1, "")),
    "increment": (lambda _: None, lambda host: host.inet().cache.increment("a/n")),
    "touch": (lambda _: None, lambda host: host.inet().cache.touch("a/n", 1000)),
    "delete": (lambda _: None, lambda host: host.inet().cache.delete("a/n")),
    "deleteMany": (lambda _: None, lambda host: host.inet().cache.deleteMany(["none", "a/n"])),
    "deletePrefix": (lambda _: None, lambda host: host.inet().cache.deletePrefix("a")),
    "clear": (lambda _: None, lambda host: host.inet().cache.clear()),
    "a write on the same server": (lambda _: None, lambda host: host.unix().cache.store("a/n", 2)),
    "expiry": (lambda cache: cache.touch("a/n", ttl(1)), lambda _: None),
    "release": (
        lambda cache: cache.store("a/owned", 1, {"owner": "worker"}),
        lambda host: host.unix().supervisor.stopProcess("worker"),
    ),
}


@pytest.mark.parametrize(("prepare", "change"), CAUSES.values(), ids=CAUSES)
def test_each_cause_of_a_change_wakes_those_who_wait_for_it(
    host: Supervisord, here: Any, prepare: Callable[[Any], object], change: Callable[[Supervisord], object]
) -> None:
    prepare(here)
    since = here.getRevision()
    concerned, other = Call(host.unix().cache, since, LONG, "a/"), Call(host.inet().cache, since, LONG, "c")
    waiting(host, 2)
    change(host)
    assert concerned.answer() == {"changed": True, "revision": str(int(since) + 1)}
    assert here.getRevision() == str(int(since) + 1)
    # The other one goes on waiting, but where everything has gone.
    if here.getCount():
        assert here.getStats()["watchers"] == 1
        here.store("c", 1)
    assert other.answer() == {"changed": True, "revision": here.getRevision()}
    assert here.getStats()["watchers"] == 0


def test_what_has_changed_already_answers_at_once(here: Any) -> None:
    since = here.getRevision()
    here.store("a/n", 2)
    newest = here.getRevision()
    assert here.wait(since, LONG) == {"changed": True, "revision": newest}
    assert here.wait(since, LONG, "a/") == {"changed": True, "revision": newest}
    here.clear()
    assert here.wait(newest, LONG, "whatever") == {"changed": True, "revision": here.getRevision()}


def test_what_cannot_be_known_answers_at_once(here: Any) -> None:
    newest = here.getRevision()
    for since in ("", "0", str(int(newest) + 1), "9" * 20):
        assert here.wait(since, LONG, "nothing here") == {"changed": True, "revision": newest}


def test_a_timeout_of_zero_asks_only(here: Any) -> None:
    since = here.getRevision()
    assert here.wait(since, 0) == {"changed": False, "revision": since}
    here.store("a/n", 2)
    assert here.wait(since, 0, "b/") == {"changed": False, "revision": str(int(since) + 1)}
    assert here.wait(since, 0.0, "a/") == {"changed": True, "revision": str(int(since) + 1)}


def test_a_change_under_another_prefix_does_not_wake(host: Supervisord, here: Any) -> None:
    since = here.getRevision()
    asked = time.monotonic()
    call = Call(host.unix().cache, since, 2, "a/")
    waiting(host, 1)
    for number in range(10):
        here.store("b/n", number)
        here.storeMany({"a": number, "a0": number, "`": number, "A/": number})
    answer = call.answer()
    assert time.monotonic() - asked > 1.9
    assert answer == {"changed": False, "revision": here.getRevision()}
    assert int(answer["revision"]) == int(since) + 20


def test_what_changes_nothing_does_not_wake(here: Any, host: Supervisord) -> None:
    since = here.getRevision()
    call = Call(host.unix().cache, since, 2)
    waiting(host, 1)
    here.add("a/n", 2)
    here.delete("a/none")
    here.touch("a/none", 5)
    here.store("a/n", 1, {"if_changed": True})
    with pytest.raises(Fault, match="BAD_ARGUMENTS"):
        here.store("a/n", 1, {"owner": "nobody"})
    assert call.answer() == {"changed": False, "revision": since}


BAD_WAITS: list[tuple[tuple[object, ...], str]] = [
    ((5, 1), "revision must be a string"),
    (("x", 1), "revision 'x' is no decimal number"),
    (("-1", 1), "revision '-1' is no decimal number"),
    (("1.0", 1), "revision '1.0' is no decimal number"),
    (("1" * 21, 1), f"revision '{'1' * 21}' is no decimal number"),
    (("1", -1), "timeout must be a number of seconds from 0 to 1500"),
    (("1", 1500.5), "timeout must be a number of seconds from 0 to 1500"),
    (("1", float("nan")), "timeout must be a number of seconds from 0 to 1500"),
    (("1", float("inf")), "timeout must be a number of seconds from 0 to 1500"),
    (("1", True), "timeout must be a number of seconds from 0 to 1500"),
    (("1", "5"), "timeout must be a number of seconds from 0 to 1500"),
    (("1", 1, 5), "prefix must be a string"),
    (("1", 1, ["a"]), "prefix must be a string"),
]


@pytest.mark.parametrize(("args", "text"), BAD_WAITS)
def test_wrong_arguments_of_wait_are_refused(here: Any, args: tuple[object, ...], text: str) -> None:
    with pytest.raises(Fault) as caught:
        here.wait(*args)
    assert (caught.value.faultCode, caught.value.faultString) == (3, f"BAD_ARGUMENTS: {text}")
    assert here.getStats()["watchers"] == 0


def test_a_number_of_arguments_that_wait_does_not_take_is_supervisors_fault(here: Any) -> None:
    for args in ((), ("1",), ("1", 1, "", "")):
        with pytest.raises(Fault, match="INCORRECT_PARAMETERS"):
            here.wait(*args)


def test_a_follower_sees_every_change_of_a_writer(host: Supervisord, here: Any) -> None:
    since, writes = here.getRevision(), 3000

    def write() -> None:
        cache = host.inet().cache
        for _ in range(writes):
            cache.increment("n")

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[str] = []
    newest = since
    end = time.monotonic() + LONG
    while len(seen) < writes:
        assert time.monotonic() < end
        answer = here.wait(newest, PATIENCE, "n")
        assert answer["changed"]
        page = here.getChanges(newest, "n", 1000)
        seen += [change["revision"] for change in page]
        newest = seen[-1]
    writer.join()
    assert seen == [str(int(since) + number) for number in range(1, writes + 1)]
    assert here.fetch("n") == writes


def test_two_that_answer_each_other_never_miss_a_change(host: Supervisord, here: Any) -> None:
    rounds = 400
    lost: list[str] = []
    end = time.monotonic() + LONG

    def follow(mine: str, other: str, cache: Any) -> None:
        for number in range(1, rounds + 1):
            if mine == "ping":
                cache.store(mine, number)
            revision = cache.getRevision()
            # One change that gets lost between the look and the call, and both wait in vain.
            while cache.fetchMany([other]).get(other, 0) < number:
                if not cache.wait(revision, PATIENCE, other)["changed"] or time.monotonic() > end:
                    lost.append(f"{other} {number}")
                    return
                revision = cache.getRevision()
            if mine == "pong":
                cache.store(mine, number)

    since = here.getRevision()
    players = [
        threading.Thread(target=follow, args=("ping", "pong", host.unix().cache)),
        threading.Thread(target=follow, args=("pong", "ping", host.inet().cache)),
    ]
    for player in players:
        player.start()
    for player in players:
        player.join()
    assert lost == []
    assert [change["key"] for change in here.getChanges(since)] == ["ping", "pong"] * rounds


def test_so_many_clients_may_wait_and_half_of_them_on_one_server(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"max_watchers": "5"}})
    cache = supervisord.unix().cache
    since = cache.getRevision()
    with clients(Server(supervisord, inet=False), 3, since) as on_unix:
        waiting(supervisord, 3)
        with pytest.raises(Fault) as caught:
            cache.wait(since, LONG)
        assert (caught.value.faultCode, caught.value.faultString) == (
            201,
            "LIMIT_EXCEEDED: 3 clients wait already on unix_http_server, half of max_watchers, which is 5",
        )
        with clients(Server(supervisord, inet=True), 2, since) as on_inet:
            waiting(supervisord, 5)
            with pytest.raises(Fault) as caught:
                supervisord.inet().cache.wait(since, LONG)
            assert caught.value.faultString == "LIMIT_EXCEEDED: 5 clients wait already; max_watchers is 5"
            assert cache.wait(since, 0) == {"changed": False, "revision": since}
            assert cache.wait("0", LONG) == {"changed": True, "revision": since}
            cache.store("k", "v")
            for connection in [*on_unix, *on_inet]:
                reply = connection.reply()
                assert reply is not None
                ((answer,), _) = xmlrpc.client.loads(reply.body)
                assert answer == {"changed": True, "revision": str(int(since) + 1)}
    assert cache.getStats()["watchers"] == 0
    assert cache.wait(cache.getRevision(), 0.1)["changed"] is False


def test_nobody_may_wait_where_max_watchers_is_zero(start: StartSupervisord) -> None:
    cache = start({"cache": {"max_watchers": "0"}}).unix().cache
    since = cache.getRevision()
    with pytest.raises(Fault, match="LIMIT_EXCEEDED: 0 clients wait already; max_watchers is 0"):
        cache.wait(since, 1)
    assert cache.wait(since, 0) == {"changed": False, "revision": since}


@pytest.mark.parametrize("inet", [False, True], ids=["unix", "inet"])
def test_a_client_that_goes_away_frees_its_place(start: StartSupervisord, inet: bool) -> None:
    supervisord = start({"cache": {"max_watchers": "2"}})
    cache = supervisord.unix().cache
    server = Server(supervisord, inet=inet)
    with clients(server, 1, cache.getRevision()):
        waiting(supervisord, 1)
    # A second more than promised, for a machine that is busy.
    until(lambda: cache.getStats()["watchers"] == 0, "its place is free", GONE_SECONDS + 1)
    with clients(server, 1, cache.getRevision()):
        waiting(supervisord, 1)


def test_a_hundred_who_wait_cost_next_to_nothing_and_keep_their_places(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"max_watchers": "200"}})
    since = supervisord.unix().cache.getRevision()
    with (
        clients(Server(supervisord, inet=False), 50, since) as on_unix,
        clients(Server(supervisord, inet=True), 50, since) as on_inet,
    ):
        waiting(supervisord, 100)
        used = supervisord.processor_seconds()
        time.sleep(IDLE_SECONDS)
        assert supervisord.processor_seconds() - used < 0.03 * IDLE_SECONDS
        assert supervisord.unix().cache.getStats()["watchers"] == 100
        supervisord.unix().cache.store("k", "v")
        for connection in [*on_unix, *on_inet]:
            reply = connection.reply()
            assert reply is not None
            assert reply.status == 200
    waiting(supervisord, 0)


def test_a_reload_cuts_those_who_wait_and_they_resume(start: StartSupervisord) -> None:
    supervisord = start(more=program("worker"))
    cache = supervisord.unix().cache
    cache.store("before", 1)
    cache.store("owned", 1, {"owner": "worker"})
    since = cache.getRevision()
    calls = [Call(supervisord.unix().cache, since, LONG, "other"), Call(supervisord.inet().cache, since, LONG, "other")]
    waiting(supervisord, 2)
    cache.store("missed", 1)
    supervisord.reload()
    for call in calls:
        assert isinstance(call.ended().error, OSError)
    cache = supervisord.inet().cache
    assert cache.getStats()["watchers"] == 0
    assert cache.wait(since, LONG, "missed")["changed"] is True
    cache.store("after", 1)
    changes = cache.getChanges(since)
    assert [(change["kind"], change["key"], change["via"]) for change in changes] == [
        ("store", "missed", "unix_http_server"),
        ("release", "owned", "worker:worker"),
        ("store", "after", "inet_http_server"),
    ]
    assert [change["revision"] for change in changes] == [str(int(since) + number) for number in (1, 2, 3)]
    call = Call(supervisord.unix().cache, changes[-1]["revision"], LONG, "other")
    waiting(supervisord, 1)
    cache.store("other", 1)
    assert call.answer()["changed"] is True


def test_a_shutdown_tells_those_who_wait(start: StartSupervisord) -> None:
    supervisord = start(more=program("stubborn", STUBBORN, stopwaitsecs="4", stopsignal="TERM"))
    until((supervisord.folder / "ready").exists, "it ignores the signal")
    call = Call(supervisord.inet().cache, supervisord.unix().cache.getRevision(), LONG)
    waiting(supervisord, 1)
    supervisord.unix().supervisor.shutdown()
    error = call.ended().error
    assert isinstance(error, Fault)
    assert (error.faultCode, error.faultString) == (6, "SHUTDOWN_STATE: supervisord is shutting down")


def test_wait_answers_inside_a_multicall(host: Supervisord, here: Any) -> None:
    since = here.getRevision()
    answers: list[Any] = []

    def ask() -> None:
        calls = [
            ("cache.getRevision", []),
            ("cache.wait", [since, LONG, "a/"]),
            ("cache.fetch", ["a/n"]),
            ("cache.wait", [since, 0.2, "b/"]),
            ("cache.wait", [since, -1]),
            ("cache.getCount", []),
        ]
        multicall = host.inet().system.multicall
        answers.extend(multicall([{"methodName": name, "params": params} for name, params in calls]))

    asking = threading.Thread(target=ask)
    asking.start()
    waiting(host, 1)
    here.store("a/n", 7)
    newest = here.getRevision()
    asking.join(PATIENCE)
    text = "BAD_ARGUMENTS: timeout must be a number of seconds from 0 to 1500"
    assert answers == [
        since,
        {"changed": True, "revision": newest},
        7,
        {"changed": False, "revision": newest},
        {"faultCode": 3, "faultString": text},
        2,
    ]
    assert here.getStats()["watchers"] == 0


def test_a_change_says_what_happened_who_says_so_and_through_which_server(host: Supervisord, here: Any) -> None:
    since = here.getRevision()
    asked = time.time()
    here.store("a/n", 5, {"note": "ops: d\u00e9ploy"})
    host.inet().cache.deleteMany(["b/n", "none", "a/n"], {"note": "tidy"})
    here.store("k", 1)
    here.clear({"note": "all"})
    changes = here.getChanges(since)
    times = [change.pop("modified") for change in changes]
    assert times == sorted(times)
    assert asked - 1 < times[0] <= times[-1] < time.time() + 1
    number = int(since)
    assert changes == [
        {
            "revision": str(number + 1),
            "kind": "store",
            "key": "a/n",
            "note": "ops: d\u00e9ploy",
            "via": "unix_http_server",
        },
        {"revision": str(number + 2), "kind": "delete", "key": "b/n", "note": "tidy", "via": "inet_http_server"},
        {"revision": str(number + 2), "kind": "delete", "key": "a/n", "note": "tidy", "via": "inet_http_server"},
        {"revision": str(number + 3), "kind": "store", "key": "k", "note": "", "via": "unix_http_server"},
        {"revision": str(number + 4), "kind": "clear", "key": "", "note": "all", "via": "unix_http_server"},
    ]
    assert [change["key"] for change in here.getChanges(since, "a/")] == ["a/n", "a/n", ""]
    assert [change["kind"] for change in here.getChanges(since, "nothing here")] == ["clear"]


def test_changes_are_paged_in_whole_revisions(here: Any) -> None:
    since = here.getRevision()
    sizes = [3, 1, 4, 9, 1, 1, 1, 5]
    for batch, size in enumerate(sizes):
        here.storeMany({f"{batch}/{number}": number for number in range(size)})
    everything = here.getChanges(since)
    assert len(everything) == sum(sizes)
    for limit in (1, 2, 4, 5, 8, 100):
        found: list[dict[str, Any]] = []
        newest = since
        while page := here.getChanges(newest, "", limit):
            revisions = {change["revision"] for change in page}
            assert len(page) == sum(sizes[int(revision) - int(since) - 1] for revision in revisions)
            assert len(page) <= limit or len(revisions) == 1
            newest = page[-1]["revision"]
            found += page
        assert found == everything


def test_more_changes_than_a_reply_may_have_must_be_paged(here: Any) -> None:
    since = here.getRevision()
    for batch in range(3):
        for part in parts({f"{batch}/{number}": number for number in range(700)}):
            here.storeMany(part)
    # Many small revisions are past the one limit before they are past the other.
    limit = "[0-9]{7} bytes; at most 1048576 are allowed" if STORAGE == "etcd" else "2100 changes; at most 2000"
    with pytest.raises(Fault, match=f"LIMIT_EXCEEDED: the reply would have {limit}: use limit"):
        here.getChanges(since)
    assert len(here.getChanges(since, "", 1400)) == 1400
    assert len(here.getChanges(since, "1/")) == 700


def test_wrong_arguments_of_get_changes_are_refused(here: Any) -> None:
    for args in ((5,), ("x",), ("1", 5), ("1", "", -1), ("1", "", True), ("1", "", "5")):
        with pytest.raises(Fault, match="BAD_ARGUMENTS"):
            here.getChanges(*args)


def test_history_that_is_gone_is_said_to_be(start: StartSupervisord) -> None:
    cache = start({"cache": {"max_changes": "5"}}).unix().cache
    revisions = [cache.add(f"k{number}", number) for number in range(10)]
    with pytest.raises(Fault) as caught:
        cache.getChanges(revisions[3])
    known = f"known are those after {revisions[4]}, newest is {revisions[9]}"
    text = f"HISTORY_GONE: changes after revision {revisions[3]} are not known; {known}"
    assert (caught.value.faultCode, caught.value.faultString) == (203, text)
    assert [change["key"] for change in cache.getChanges(revisions[4])] == ["k5", "k6", "k7", "k8", "k9"]
    assert cache.getChanges(revisions[9]) == []
    assert cache.wait(revisions[3], LONG, "nothing here") == {"changed": True, "revision": revisions[9]}
    for since in ("", "0", str(int(revisions[9]) + 1)):
        with pytest.raises(Fault, match="HISTORY_GONE"):
            cache.getChanges(since)


def test_without_history_wait_still_wakes(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"max_changes": "0"}})
    cache = supervisord.unix().cache
    since = cache.add("k", 1)
    assert cache.getChanges(since) == []
    call = Call(supervisord.inet().cache, since, LONG, "k")
    waiting(supervisord, 1)
    cache.store("other", 1)
    assert supervisord.unix().cache.getStats()["watchers"] == 1
    cache.store("k", 2)
    assert call.answer() == {"changed": True, "revision": str(int(since) + 2)}
    with pytest.raises(Fault, match="HISTORY_GONE"):
        cache.getChanges(since)


def test_a_waiter_misses_nothing_while_supervisord_itself_is_held_up(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    seen = cache.getRevision()
    with ThreadPoolExecutor(3) as pool:
        waiting = pool.submit(supervisord.unix().cache.wait, seen, 60, "b/")
        until(lambda: cache.getStats()["watchers"] == 1, "it waits")
        os.kill(supervisord.pid, signal.SIGSTOP)
        # Both are there when it goes on, and the first of them counts those who wait.
        counted = pool.submit(supervisord.unix().cache.getStats)
        stored = pool.submit(supervisord.unix().cache.store, "b/1", 1)
        time.sleep(3.5)
        os.kill(supervisord.pid, signal.SIGCONT)
        assert stored.result(30) is True
        assert counted.result(30)["namespace"] == "cache"
        answer = waiting.result(20)
    assert answer == {"changed": True, "revision": supervisord.unix().cache.getRevision()}


@pytest.mark.local("no entry ends within hundredths of a second")
def test_what_the_revision_of_an_answer_includes_is_told(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    for number in range(8):
        cache.store("k", number, {"ttl": 0.012 + number / 500})
        seen = cache.getRevision()
        answer = cache.wait(seen, 0.02, "k")
        told = cache.getChanges(seen, "k")
        assert answer["changed"] or not [one for one in told if int(one["revision"]) <= int(answer["revision"])]

"""One cache for several supervisords, on a real etcd cluster: what all of them agree on."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import State
from supervisor_cache.core.entry import Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.engines.etcd.engine import EtcdEngine
from supervisor_cache.engines.etcd.options import Options
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.server.clock import HostClock
from tests.cluster import Cluster
from tests.conftest import StartSupervisord
from tests.e2e.raw import Server, post
from tests.e2e.web import Web
from tests.harness import Supervisord, free_port, program, until

LEASE_SECONDS = 5
StartHost = Callable[..., Supervisord]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses."""
    return f"/shared/{abs(hash(request.node.name))}"


@pytest.fixture
def start_host(start: StartSupervisord, cluster: Cluster, prefix: str) -> StartHost:
    """Start supervisords that share one cache."""

    def start_host(more: str = "", **options: str) -> Supervisord:
        section = {"storage": f"etcd://{','.join(cluster.endpoints)}{prefix}", "etcd_lease_ttl": str(LEASE_SECONDS)}
        host = start({"cache": {**section, **options}}, more)
        host.wait_for_storage()
        return host

    return start_host


def caught_up(cache: Any, revision: str) -> None:
    """Wait until ``cache`` has seen ``revision``."""
    until(lambda: int(cache.getRevision()) >= int(revision), f"revision {revision} arrives")


def stored(cluster: Cluster, key: str) -> str:
    pair = cluster.get(key)
    assert pair is not None
    return pair.value


def kinds(cache: Any, since: str, prefix: str = "") -> list[tuple[str, str]]:
    return [(change["kind"], change["key"]) for change in cache.getChanges(since, prefix)]


# What one writes, all read


def test_what_one_host_writes_is_the_same_on_the_others(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    since = one.getRevision()
    values = {
        "text": "déjà vu <&> \u2028",
        "empty": "",
        "number": -(2**31),
        "double": 2.0,
        "yes": True,
        "list": [1, "two", [3.5, {"four": False}]],
        "key with spaces/and é": "x",
    }
    revision = one.storeMany(values, {"note": "with a note: é"})
    caught_up(other, revision)
    assert other.getItems() == one.getItems() == values
    assert type(other.fetch("double")) is float
    assert other.getEntries() == one.getEntries()
    assert other.getChanges(since) == one.getChanges(since)
    assert {change["note"] for change in other.getChanges(since)} == {"with a note: é"}
    assert {change["via"] for change in other.getChanges(since)} == {"unix_http_server"}


def test_each_kind_of_change_is_told_on_the_other_host(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    since = one.getRevision()
    one.store("a", 1)
    one.touch("a", 100)
    one.delete("a")
    one.storeMany({"b": 1, "c": 2})
    one.deletePrefix("b")
    revision = one.add("d", 1)
    one.clear()
    caught_up(other, str(int(revision) + 1))
    expected = [
        ("store", "a"),
        ("touch", "a"),
        ("delete", "a"),
        ("store", "b"),
        ("store", "c"),
        ("delete", "b"),
        ("store", "d"),
        ("clear", ""),
    ]
    assert kinds(other, since) == kinds(one, since) == expected
    assert other.getCount() == one.getCount() == 0


def test_a_writer_reads_what_it_has_written(start_host: StartHost) -> None:
    one, other = start_host(), start_host()
    for number in range(100):
        host = (one, other)[number % 2].unix().cache
        assert host.store("k", number) is True
        assert host.fetch("k") == number


def test_a_request_behind_a_write_is_not_taken_for_more_of_it(start_host: StartHost) -> None:
    server = Server(start_host(), inet=False)
    first, second = (post(dumps((key, 1), "cache.store").encode()) for key in ("first", "second"))
    with server.connect() as connection:
        connection.send(first + second)
        reply = connection.reply()
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert loads(reply.body)[0][0] is True
        assert connection.is_closed()
    assert server.supervisord.unix().cache.getItems() == {"first": 1}


def test_conditions_hold_for_all_hosts(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    for number in range(50):
        key = f"claim/{number}"
        first = one.add(key, "one")
        assert first
        # Whether or not the other copy has it by now.
        assert other.add(key, "other") == ""
        second = other.storeIf(key, "other", first)
        assert int(second) > int(first)
        assert one.storeIf(key, "one", first) == ""
        assert one.deleteIf(key, first) is False
        assert one.touchIf(key, 100, first) == ""
        assert one.deleteIf(key, second) is True
        assert other.touch(key, 100) == ""
        assert other.add(key, "again")
        assert one.delete(key) is True
        assert other.storeIf(key, "gone", second) == ""


def test_what_is_deleted_is_counted_rightly_whoever_has_just_written(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    for number in range(30):
        one.storeMany({f"{number}/a": 1, f"{number}/b": 2})
        assert other.deletePrefix(f"{number}/") == 2
        assert one.deletePrefix(f"{number}/") == 0
        one.store(f"{number}/c", 1)
        assert other.deleteMany([f"{number}/c", f"{number}/d"]) == 1
        one.store("last", 1)
        assert other.clear() is True
        assert one.add("last", 2)


def test_increments_of_many_hosts_add_up(start_host: StartHost) -> None:
    hosts = [start_host(), start_host(), start_host()]
    times = 40
    seen: list[int] = []

    def count(host: Supervisord) -> None:
        cache = host.unix().cache
        seen.extend([cache.increment("n") for _ in range(times)])

    threads = [threading.Thread(target=count, args=(host,)) for host in hosts * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, len(threads) * times + 1))


def test_one_of_many_wins_a_claim(start_host: StartHost) -> None:
    hosts = [start_host(), start_host(), start_host()]
    for number in range(15):
        won: list[str] = []

        def claim(host: Supervisord, key: str, won: list[str]) -> None:
            revision = host.unix().cache.add(key, host.pid)
            if revision:
                won.append(revision)

        threads = [threading.Thread(target=claim, args=(host, f"claim/{number}", won)) for host in hosts * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


# Waiting, streams, events


def test_a_change_by_another_host_wakes_those_who_wait(start_host: StartHost) -> None:
    one, other = start_host(http="true"), start_host(http="true")
    since = other.unix().cache.getRevision()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(other.unix().cache.wait(since, 20, "w/")))
    thread.start()
    web = Web(Server(other, inet=False))
    with web.stream("?prefix=w/").opened() as stream:
        until(lambda: other.unix().cache.getStats()["watchers"] == 2, "both wait")
        one.unix().cache.store("x", 1)
        revision = one.unix().cache.add("w/k", {"a": 1})
        thread.join(10)
        assert answers == [{"changed": True, "revision": revision}]
        (event,) = stream.events(1)
        assert event.number == revision
        assert [change["entry"]["value"] for change in event.data] == [{"a": 1}]


def test_an_event_listener_hears_of_changes_by_another_host(start_host: StartHost, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    source = f"""
import sys
while True:
    print("READY", flush=True)
    header = dict(token.split(":") for token in sys.stdin.readline().split())
    body = sys.stdin.read(int(header["len"]))
    with open({str(heard)!r}, "a") as file:
        file.write(header["eventname"] + " " + body.splitlines()[0] + "\\n")
    print("RESULT 2\\nOK", end="", flush=True)
"""
    (tmp_path / "listen.py").write_text(source)
    listener = f"\n[eventlistener:l]\ncommand=python3 {tmp_path}/listen.py\nevents=CACHE\nbuffer_size=100\n"
    start_host(listener)
    one = start_host().unix().cache
    one.store("k", 1)
    one.delete("k")
    until(lambda: heard.exists() and len(heard.read_text().splitlines()) == 2, "both are heard of")
    assert [line.split()[0] for line in heard.read_text().splitlines()] == ["CACHE_STORE", "CACHE_DELETE"]


# Time and owners


def test_what_ends_by_itself_ends_on_all_hosts(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    since = one.getRevision()
    one.store("short", 1, {"ttl": 2})
    one.store("long", 1, {"ttl": 1000.5})
    one.store("renewed", 1, {"ttl": 2})
    one.touch("renewed", 1000)
    one.store("counted", 1, {"ttl": 1000})
    one.increment("counted")
    one.store("freed", 1, {"ttl": 2})
    one.touch("freed", 0)
    until(lambda: "short" not in other.getKeys(), "it ends", 6)
    assert one.getKeys() == other.getKeys() == ["counted", "freed", "long", "renewed"]
    assert ("expire", "short") in kinds(other, since)
    for cache in (one, other):
        assert cache.getEntry("freed")["expires"] == 0.0
        assert 900 < cache.getEntry("renewed")["expires"] - time.time() < 1001
        # Its TTL runs on.
        assert 900 < cache.getEntry("counted")["expires"] - time.time() < 1001
    time.sleep(2.5)
    assert other.getKeys() == ["counted", "freed", "long", "renewed"]


def test_a_counter_ends_when_it_would_have_ended(start_host: StartHost) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    one.store("n", 1, {"ttl": 3})
    end = other.getEntry("n")["expires"] if "n" in other.getKeys() else one.getEntry("n")["expires"]
    while time.time() < end - 1:
        other.increment("n")
        time.sleep(0.1)
    until(lambda: "n" not in one.getKeys(), "it ends", 6)
    assert time.time() - end < 3


@pytest.mark.parametrize("ttl", [1, 0.5, 1.9])
def test_a_ttl_that_etcd_cannot_keep_is_refused(start_host: StartHost, ttl: float) -> None:
    cache = start_host().unix().cache
    cache.store("k", 1)
    writes: list[Callable[[], object]] = [
        lambda: cache.store("t", 1, {"ttl": ttl}),
        lambda: cache.touch("k", ttl),
        lambda: cache.storeMany({"t": 1, "u": 2}, {"ttl": ttl}),
    ]
    for write in writes:
        with pytest.raises(Fault, match="BAD_ARGUMENTS: ttl must be at least 2 on etcd"):
            write()
    assert cache.getItems() == {"k": 1}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_end_of_a_process_frees_what_it_owned_on_all_hosts(start_host: StartHost, how: str) -> None:
    one, other = start_host(program("web")), start_host(program("web"))
    since = other.unix().cache.getRevision()
    assert one.unix().cache.add("leader", "one", {"owner": "web", "note": "me"})
    assert other.unix().cache.add("leader", "other", {"owner": "web"}) == ""
    assert other.unix().cache.getEntry("leader")["owner"] == "web:web"
    # A process of the same name, on a host that owns nothing.
    other.unix().supervisor.stopProcess("web")
    other.unix().supervisor.startProcess("web")
    assert other.unix().cache.fetch("leader") == "one"
    if how == "stop":
        one.unix().supervisor.stopProcess("web")
    else:
        os.kill(one.process("web")["pid"], signal.SIGKILL)
    until(lambda: other.unix().cache.add("leader", "other", {"owner": "web"}), "it is free", 2)
    assert kinds(other.unix().cache, since) == [("store", "leader"), ("release", "leader"), ("store", "leader")]
    assert other.unix().cache.getChanges(since)[1]["via"] == "web:web"


def test_what_a_process_owns_ends_by_its_ttl_as_well(start_host: StartHost) -> None:
    one, other = start_host(program("web")), start_host()
    one.unix().cache.store("k", 1, {"owner": "web", "ttl": 2})
    one.unix().cache.store("kept", 1, {"owner": "web"})
    # By another host: it stays the process's.
    assert other.unix().cache.touch("kept", 3)
    until(lambda: other.unix().cache.getKeys() == ["kept"], "the first ends", 5)
    until(lambda: other.unix().cache.getKeys() == [], "the second ends", 6)
    assert one.unix().cache.getCount() == 0


def test_what_another_host_touches_still_ends_with_its_process(start_host: StartHost) -> None:
    one, other = start_host(program("web")), start_host()
    one.unix().cache.store("k", 1, {"owner": "web"})
    caught_up(other.unix().cache, one.unix().cache.getRevision())
    assert other.unix().cache.touch("k", 1000, {"note": "by another"})
    one.unix().supervisor.stopProcess("web")
    until(lambda: other.unix().cache.getCount() == 0, "it is released", 2)


def test_the_death_of_a_host_frees_what_its_processes_owned(start_host: StartHost) -> None:
    one, other = start_host(program("web")), start_host()
    one.unix().cache.store("owned", 1, {"owner": "web"})
    one.unix().cache.store("kept", 1)
    caught_up(other.unix().cache, one.unix().cache.getRevision())
    since = other.unix().cache.getRevision()
    web = one.process("web")["pid"]
    one.kill()
    killed = time.monotonic()
    try:
        until(lambda: other.unix().cache.getKeys() == ["kept"], "its lease ends", LEASE_SECONDS + 4)
        assert time.monotonic() - killed < LEASE_SECONDS + 3
    finally:
        os.kill(web, signal.SIGKILL)
    assert kinds(other.unix().cache, since) == [("release", "owned")]


def test_an_orderly_end_frees_it_at_once(start_host: StartHost) -> None:
    one, other = start_host(program("web")), start_host()
    one.unix().cache.store("owned", 1, {"owner": "web"})
    one.stop()
    until(lambda: other.unix().cache.getCount() == 0, "it is released", 2)


def test_a_process_publishes_for_all_hosts(start_host: StartHost) -> None:
    source = "import time, supervisor_cache\nsupervisor_cache.publish({'status': 'warm'})\ntime.sleep(100)\n"
    one = start_host(publish="teller:*")
    one.more = program("teller", one.script("teller.py", source), stdout_capture_maxbytes="64KB")
    one.reload()
    other = start_host()
    until(lambda: other.unix().cache.getItems() == {"process/teller:teller/status": "warm"}, "it is told")
    one.unix().supervisor.stopProcess("teller")
    until(lambda: other.unix().cache.getCount() == 0, "it is gone")


def test_what_is_renewed_again_and_again_leaves_no_lease_behind(start_host: StartHost, cluster: Cluster) -> None:
    one, other = start_host().unix().cache, start_host().unix().cache
    before = set(cluster.leases())

    def leases() -> int:
        return len(set(cluster.leases()) - before)

    one.storeMany({"a": 1, "b": 2}, {"ttl": 1000})
    for number in range(10):
        one.store("k", number, {"ttl": 1000})
        other.touch("k", 1000)
        one.increment("n", 1, {"ttl": 1000})
        other.increment("n")
    until(lambda: leases() == 3, "one lease for what was stored at once, and for each of the others")
    one.delete("a")
    other.store("k", "for good")
    until(lambda: leases() == 2, "that of the others is gone")
    assert one.fetch("b") == 2
    other.clear()
    until(lambda: leases() == 0, "all are gone")


# What etcd sets


def test_one_call_changes_no_more_than_etcd_takes(start_host: StartHost) -> None:
    cache = start_host(max_request_bytes="8MB", max_value_bytes="900KB").unix().cache
    hundred = {f"{number:03}": number for number in range(100)}
    assert cache.storeMany(hundred)
    writes: list[Callable[[], object]] = [
        lambda: cache.storeMany({**hundred, "more": 1}),
        lambda: cache.deleteMany([*hundred, "more", *(f"m{number}" for number in range(30))]),
    ]
    for write in writes:
        with pytest.raises(Fault, match=r"LIMIT_EXCEEDED: .*at most 100"):
            write()
    assert cache.getItems() == hundred
    cache.storeMany({f"x{number:03}": number for number in range(50)})
    with pytest.raises(Fault, match="LIMIT_EXCEEDED"):
        cache.deleteMany(cache.getKeys())
    large = "x" * 400_000
    with pytest.raises(Fault, match=r"LIMIT_EXCEEDED: .*bytes at once; on etcd one call changes at most 1048576"):
        cache.storeMany({"a": large, "b": large, "c": large})
    assert cache.storeMany({"a": large, "b": large})
    assert cache.deletePrefix("x") == 50
    assert cache.clear() is True
    assert cache.getCount() == 0


def test_many_entries_are_copied_at_a_start(start_host: StartHost) -> None:
    one = start_host().unix().cache
    for start in range(0, 3000, 100):
        one.storeMany({f"{number:05}": "x" * (number % 300) for number in range(start, start + 100)})
    other = start_host().unix().cache
    assert other.getCount() == 3000
    assert other.getKeys("", "", 0) == one.getKeys("", "", 0)
    assert other.getEntries("02", "", 500) == one.getEntries("02", "", 500)


def test_each_section_sees_only_its_prefix(start: StartSupervisord, cluster: Cluster, prefix: str) -> None:
    members = ",".join(cluster.endpoints)
    places = {"one": "a", "other": "ab", "third": "a/b"}
    host = start({name: {"storage": f"etcd://{members}{prefix}/{place}"} for name, place in places.items()})
    host.wait_for_storage()
    for name in places:
        getattr(host.unix(), name).store("k", name)
    assert [getattr(host.unix(), name).getItems() for name in places] == [{"k": name} for name in places]
    host.unix().one.clear()
    assert [getattr(host.unix(), name).getCount() for name in places] == [0, 1, 1]


# Beside other programs


def test_etcdctl_reads_it(start_host: StartHost, cluster: Cluster, prefix: str) -> None:
    start_host(program("web")).unix().cache.store("config/é", {"a": [1]}, {"note": "n", "owner": "web"})
    record = json.loads(stored(cluster, f"{prefix}/e/config/é"))
    assert record["value"] == {"a": [1]}
    assert (record["note"], record["owner"], record["expires"]) == ("n", "web:web", 0.0)


@pytest.mark.parametrize(
    "record",
    [
        "",
        "garbage",
        "[]",
        "null",
        "{}",
        '{"value": null, "modified": 1, "expires": 0}',
        '{"value": 1, "modified": "x", "expires": 0}',
        '{"value": 1, "modified": 1e999, "expires": 0}',
        '{"value": 99999999999, "modified": 1, "expires": 0}',
        '{"value": 1, "modified": 1, "expires": 0, "note": "a\\nb"}',
        '{"value": 1, "modified": 1, "expires": 0, "owner": 5}',
        '{"value": ' + "[" * 40 + "]" * 40 + ', "modified": 1, "expires": 0}',
    ],
)
def test_what_is_no_entry_is_left_where_it_is(
    start_host: StartHost, cluster: Cluster, prefix: str, record: str
) -> None:
    host = start_host()
    cache = host.unix().cache
    cache.storeMany({"good": 1, "bad": 2})
    cluster.put(f"{prefix}/e/bad", record)
    cluster.put(f"{prefix}/c", record)
    cluster.put(f"{prefix}/e/", record)
    until(lambda: cache.getItems() == {"good": 1}, "it is no entry any more")
    assert cache.getStats()["storage"]["skipped"] == 1
    other = start_host().unix().cache
    assert other.getItems() == {"good": 1}
    assert other.getStats()["storage"]["skipped"] == 1
    assert stored(cluster, f"{prefix}/e/bad") == record
    # It is in nobody's way.
    assert cache.store("bad", 3) is True
    caught_up(other, cache.getRevision())
    assert other.getItems() == {"good": 1, "bad": 3}
    assert cache.getStats()["storage"]["skipped"] == 0


# Life


def test_a_reload_loses_nothing_and_lets_go_of_everything(start_host: StartHost) -> None:
    one, other = start_host(), start_host()
    cache = one.unix().cache
    cache.store("k", 1)
    since = cache.getRevision()
    descriptors = one.descriptors()
    for number in range(5):
        one.reload()
        other.unix().cache.store("k", number)
        revision = other.unix().cache.getRevision()
        caught_up(one.unix().cache, revision)
        assert one.unix().cache.fetch("k") == number
        assert one.unix().cache.store("own", number) is True
    # No gap, over all reloads.
    expected = [("store", "k"), ("store", "own")] * 5
    assert kinds(one.unix().cache, since) == expected
    assert one.descriptors() <= descriptors + 2
    threads = len(list(Path(f"/proc/{one.pid}/task").iterdir()))
    assert threads < 10


def test_a_reload_changes_from_memory_to_etcd_and_back(
    start: StartSupervisord, start_host: StartHost, cluster: Cluster, prefix: str
) -> None:
    other = start_host()
    other.unix().cache.store("shared", 1)
    host = start({"cache": {"storage": "memory"}})
    host.unix().cache.store("own", 1)
    before = host.unix().cache.getRevision()
    host.sections["cache"]["storage"] = f"etcd://{','.join(cluster.endpoints)}{prefix}"
    host.reload()
    host.wait_for_storage()
    assert host.unix().cache.getItems() == {"shared": 1}
    assert "1 entries of the former are dropped" in host.log
    assert host.unix().cache.store("more", 2) is True
    host.sections["cache"]["storage"] = "memory"
    host.reload()
    assert host.unix().cache.getItems() == {}
    assert int(host.unix().cache.getRevision()) > int(before)
    assert other.unix().cache.getItems() == {"more": 2, "shared": 1}


def test_a_reload_that_adds_a_member_goes_on_with_the_same_cache(
    start_host: StartHost, cluster: Cluster, prefix: str
) -> None:
    two, three = (f"etcd://{','.join(cluster.endpoints[:number])}{prefix}" for number in (2, 3))
    host = start_host(storage=two)
    since = host.unix().cache.getRevision()
    host.unix().cache.store("before", 1)
    host.sections["cache"]["storage"] = three
    host.reload()
    host.wait_for_storage()
    host.unix().cache.store("after", 1)
    assert kinds(host.unix().cache, since) == [("store", "before"), ("store", "after")]
    assert host.storage()["members"] == cluster.endpoints
    assert "are dropped" not in host.log


def test_supervisord_and_its_processes_start_without_etcd(start: StartSupervisord) -> None:
    host = start({"cache": {"storage": f"etcd://127.0.0.1:{free_port()}/nothing"}}, program("web"))
    until(lambda: host.process("web")["statename"] == "RUNNING", "it runs")
    cache = host.unix().cache
    for call in (lambda: cache.fetch("k"), lambda: cache.store("k", 1), cache.getKeys, cache.getRevision):
        with pytest.raises(Fault, match="UNAVAILABLE: etcd has not been reached yet"):
            call()
    until(lambda: "unavailable until it can be read: etcd has not been reached yet" in host.log, "it is said")
    assert host.storage()["state"] == "unavailable"
    assert host.storage()["age"] == -1.0


def test_stats_say_how_it_does(start_host: StartHost, cluster: Cluster, prefix: str) -> None:
    host = start_host(program("web"))
    until(lambda: host.storage()["member"], "one of them tells of changes")
    told = host.storage()
    assert told["kind"] == "etcd"
    assert told["members"] == cluster.endpoints
    assert told["member"] in cluster.endpoints
    assert told["prefix"] == f"{prefix}/"
    assert told["lease"] == ""
    assert told["lease_left"] == -1.0
    host.unix().cache.store("k", 1, {"owner": "web"})
    told = host.storage()
    assert int(told["lease"]) > 0
    assert told["lease_ttl"] == LEASE_SECONDS
    assert 0 < told["lease_left"] <= LEASE_SECONDS
    assert 0 <= told["age"] < 5
    text = host.ctl("cache_stats").stdout
    assert "etcd" in text
    assert cluster.endpoints[0] in text


def sockets() -> set[str]:
    """Name those that this process has open."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {link for link in links if link.startswith("socket:")}


def test_an_engine_that_is_closed_leaves_no_descriptor_behind(cluster: Cluster, prefix: str) -> None:
    """A reload would close it by its number, and Python again, later: by then it is another's."""

    def report(error: Exception) -> None:
        raise error

    cache = Cache(MemoryEngine(0), Limits(), HostClock(), lambda name: Owner(name, os.getpid()), report)
    engine = EtcdEngine(Options(tuple(cluster.endpoints), f"{prefix}/"), HostClock(), cache, lambda: None)
    cache.engine = engine
    before = sockets()
    for number in range(2):
        engine.open()
        until(partial(has_copied, engine, cache), "it is copied")
        stored = cache.write(operations.add, "test", f"k{number}", 1, {"owner": "me"})
        assert isinstance(stored, Answer)
        until(partial(is_told, engine, stored), "it is stored")
        assert stored.result()
        assert sockets() > before
        engine.close()
        assert sockets() == before


def has_copied(engine: EtcdEngine, cache: Cache) -> bool:
    content = engine.tick()
    if content is not None:
        cache.load(content)
        engine.accept()
    return engine.state is State.OK


def is_told(engine: EtcdEngine, answer: Answer[Any]) -> bool:
    engine.tick()
    return answer.done

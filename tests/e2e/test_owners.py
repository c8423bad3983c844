"""Entries that end with a process, on a real supervisord, for each way in which a process can end."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.listening import listening, received
from tests.harness import MOST_AT_ONCE, Supervisord, program, settle, ttl, until

# Ends with the status that is written into a file; until then it does nothing.
WORKER = "/bin/sh -c 'while ! read status < %(here)s/end; do sleep 0.05; done; exit $status'"
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo ready > %(here)s/ready; while true; do sleep 0.05; done'"
# As many as share one revision.
AT_ONCE = min(500, MOST_AT_ONCE)
PROCESSES = (
    program("worker", f"{WORKER} 2>/dev/null", autorestart="false")
    + program("other")
    + program("pool", autorestart="false", numprocs="3", process_name="%(program_name)s_%(process_num)d")
    + program("stopped", autostart="false")
)


def running_processes(start: StartSupervisord, more: str = PROCESSES) -> Supervisord:
    return all_running(start(more=more))


def all_running(supervisord: Supervisord) -> Supervisord:
    # A signal that comes before a process runs its own program is lost, for it is still a copy of supervisord.
    copy = Path(f"/proc/{supervisord.pid}/cmdline").read_bytes()

    def all_run() -> bool:
        infos = [info for info in supervisord.unix().supervisor.getAllProcessInfo() if info["name"] != "stopped"]
        return all(info["pid"] and Path(f"/proc/{info['pid']}/cmdline").read_bytes() != copy for info in infos)

    until(all_run, "the processes run")
    return supervisord


def pid_of(supervisord: Supervisord, name: str) -> int:
    return int(supervisord.process(name)["pid"])


def at_one_moment(supervisord: Supervisord, name: str) -> tuple[dict[str, Any], list[str]]:
    """What Supervisor says of a process, and the keys that there are at the same moment."""
    info, keys = supervisord.unix().system.multicall(
        [
            {"methodName": "supervisor.getProcessInfo", "params": [name]},
            {"methodName": "cache.getKeys", "params": []},
        ]
    )
    return info, keys


def states_until_reaped(supervisord: Supervisord, name: str, pid: int, key: str) -> list[str]:
    """Hold that ``key`` is there exactly as long as ``pid``; answer the states that it was seen in."""
    states: list[str] = []

    def reaped() -> bool:
        info, keys = at_one_moment(supervisord, name)
        alive = info.get("pid") == pid
        assert (key in keys) == alive, (info, keys)
        if alive:
            states.append(info["statename"])
        return not alive

    until(reaped, f"{name} is reaped")
    return states


def changes(cache: Any, since: str) -> list[tuple[str, str, str]]:
    settle(cache)
    return [(change["kind"], change["key"], change["via"]) for change in cache.getChanges(since)]


def tell_to_exit(status: int) -> Callable[[Supervisord, int], None]:
    def tell(supervisord: Supervisord, _pid: int) -> None:
        (supervisord.folder / "end").write_text(f"{status}\n")

    return tell


def stop_and_start(supervisord: Supervisord, _pid: int) -> None:
    supervisord.unix().supervisor.stopProcess("worker")
    supervisord.unix().supervisor.startProcess("worker")


def stop_and_remove(supervisord: Supervisord, _pid: int) -> None:
    supervisord.unix().supervisor.stopProcess("worker")
    supervisord.unix().supervisor.removeProcessGroup("worker")


ENDS: dict[str, Callable[[Supervisord, int], object]] = {
    "stopped": lambda supervisord, _: supervisord.unix().supervisor.stopProcess("worker"),
    "stopped without waiting": lambda supervisord, _: supervisord.unix().supervisor.stopProcess("worker", False),  # noqa: FBT003 - XML-RPC has no names
    "stopped as a group": lambda supervisord, _: supervisord.unix().supervisor.stopProcessGroup("worker"),
    "stopped by supervisorctl": lambda supervisord, _: supervisord.ctl("stop", "worker"),
    "restarted": stop_and_start,
    "removed": stop_and_remove,
    "exits as expected": tell_to_exit(0),
    "exits unexpectedly": tell_to_exit(1),
    "killed": lambda _, pid: os.kill(pid, signal.SIGKILL),
    "killed through supervisord": lambda supervisord, _: supervisord.unix().supervisor.signalProcess("worker", "KILL"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_entry_ends_with_its_process(start: StartSupervisord, end: Callable[[Supervisord, int], object]) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    cache.storeMany({"anybody's": 1})
    cache.store("another's", 2, {"owner": "other"})
    cache.store("of a pool", 3, {"owner": "pool:pool_1"})
    since = cache.add("owned", 4, {"owner": "worker"})
    pid = pid_of(supervisord, "worker")
    end(supervisord, pid)
    states_until_reaped(supervisord, "worker", pid, "owned")
    assert changes(cache, since) == [("release", "owned", "worker:worker")]
    assert cache.getKeys() == ["another's", "anybody's", "of a pool"]


def test_a_process_that_fails_quickly_releases_as_it_falls_back(start: StartSupervisord) -> None:
    more = program("worker", f"{WORKER} 2>/dev/null", startsecs="20", startretries="1")
    supervisord = running_processes(start, more)
    cache = supervisord.unix().cache
    until(lambda: supervisord.process("worker")["statename"] == "STARTING", "it starts")
    since = cache.add("owned", 1, {"owner": "worker"})
    pid = pid_of(supervisord, "worker")
    tell_to_exit(0)(supervisord, pid)
    assert set(states_until_reaped(supervisord, "worker", pid, "owned")) <= {"STARTING"}
    until(lambda: supervisord.process("worker")["statename"] == "FATAL", "it is given up")
    assert changes(cache, since) == [("release", "owned", "worker:worker")]
    with pytest.raises(Fault, match="BAD_ARGUMENTS: owner 'worker' is not running"):
        cache.store("owned", 1, {"owner": "worker"})
    assert supervisord.log.count("spawned: 'worker'") == 2


def test_a_process_that_is_stopping_still_leads(start: StartSupervisord) -> None:
    supervisord = running_processes(
        start, program("worker", STUBBORN, stopwaitsecs="3", stopsignal="TERM") + program("other")
    )
    until((supervisord.folder / "ready").exists, "it ignores the signal")
    cache = supervisord.unix().cache
    since = cache.add("leader", "worker", {"owner": "worker"})
    pid = pid_of(supervisord, "worker")
    stopped = time.time()
    assert supervisord.unix().supervisor.stopProcess("worker", False) is True  # noqa: FBT003 - XML-RPC has no names
    assert supervisord.process("worker")["statename"] == "STOPPING"
    assert cache.add("leader", "other", {"owner": "other"}) == ""
    with pytest.raises(Fault, match="BAD_ARGUMENTS: owner 'worker' is not running"):
        cache.store("more", 1, {"owner": "worker"})
    assert set(states_until_reaped(supervisord, "worker", pid, "leader")) == {"STOPPING"}
    settle(cache)
    (release,) = cache.getChanges(since)
    assert (release["kind"], release["key"], release["via"]) == ("release", "leader", "worker:worker")
    assert release["modified"] > stopped + 2
    assert int(cache.add("leader", "other", {"owner": "other"})) == int(since) + 2


def test_stopping_everything_releases_everything_that_is_owned(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    owners = ["other:other", "pool:pool_0", "pool:pool_1", "pool:pool_2", "worker:worker"]
    for owner in owners:
        cache.store(f"of {owner}", 1, {"owner": owner})
    cache.store("anybody's", 1)
    since = cache.getRevision()
    supervisord.unix().supervisor.stopAllProcesses()
    assert cache.getKeys() == ["anybody's"]
    assert sorted(changes(cache, since)) == [("release", f"of {owner}", owner) for owner in owners]


def test_stopping_a_group_releases_what_its_processes_own(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    for number in range(3):
        cache.store(f"of {number}", 1, {"owner": f"pool:pool_{number}"})
    cache.store("another's", 1, {"owner": "other"})
    since = cache.getRevision()
    os.kill(pid_of(supervisord, "pool:pool_1"), signal.SIGKILL)
    until(lambda: "of 1" not in cache.getKeys(), "it is reaped")
    assert cache.getKeys() == ["another's", "of 0", "of 2"]
    supervisord.unix().supervisor.stopProcessGroup("pool")
    assert cache.getKeys() == ["another's"]
    assert sorted(changes(cache, since)) == [("release", f"of {number}", f"pool:pool_{number}") for number in range(3)]


@pytest.mark.parametrize("hang_up", [False, True], ids=["reload", "SIGHUP"])
def test_a_reload_releases_what_is_owned_and_nothing_else(start: StartSupervisord, hang_up: bool) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    cache.storeMany({"a": 1, "b": 2}, {"owner": "worker"})
    cache.store("c", 3, {"owner": "other"})
    since = cache.add("anybody's", 4)
    if hang_up:
        supervisord.hang_up()
    else:
        supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getKeys() == ["anybody's"]
    assert sorted(changes(cache, since)) == [
        ("release", "a", "worker:worker"),
        ("release", "b", "worker:worker"),
        ("release", "c", "other:other"),
    ]
    until(lambda: supervisord.process("other")["statename"] == "RUNNING", "it runs again")
    assert cache.getKeys() == ["anybody's"]
    assert int(cache.add("c", 5, {"owner": "other"})) > int(since)


def test_all_that_a_process_owned_goes_at_once(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    cache.storeMany({f"k{number:03}": number for number in range(AT_ONCE)}, {"owner": "worker"})
    cache.store("k000", "anybody's")
    since = cache.getRevision()
    supervisord.unix().supervisor.stopProcess("worker")
    settle(cache)
    released = cache.getChanges(since)
    assert {(change["revision"], change["kind"]) for change in released} == {(str(int(since) + 1), "release")}
    assert [change["key"] for change in released] == [f"k{number:03}" for number in range(1, AT_ONCE)]
    assert cache.getItems() == {"k000": "anybody's"}


def test_a_new_life_owns_nothing_of_the_old_one(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    old = pid_of(supervisord, "other")
    cache.store("k", "first", {"owner": "other", "pid": old})
    os.kill(old, signal.SIGKILL)
    until(lambda: pid_of(supervisord, "other") not in {0, old}, "it is started again")
    assert cache.getKeys() == []
    with pytest.raises(Fault, match=f"BAD_ARGUMENTS: other:other has pid [0-9]+, not {old}"):
        cache.store("k", "second", {"owner": "other", "pid": old})
    assert cache.getKeys() == []
    cache.store("k", "second", {"owner": "other", "pid": pid_of(supervisord, "other")})
    assert cache.fetch("k") == "second"


def test_both_names_of_a_process_mean_it(start: StartSupervisord) -> None:
    cache = running_processes(start).unix().cache
    cache.store("short", 1, {"owner": "other"})
    cache.store("long", 1, {"owner": "other:other"})
    cache.store("of a pool", 1, {"owner": "pool:pool_2"})
    cache.store("nobody's", 1, {"owner": ""})
    assert {entry["key"]: entry["owner"] for entry in cache.getEntries()} == {
        "short": "other:other",
        "long": "other:other",
        "of a pool": "pool:pool_2",
        "nobody's": "",
    }


def test_what_was_stored_anew_does_not_end_with_its_first_owner(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    for key in ("taken over", "set free", "deleted between", "touched by another"):
        cache.store(key, "old", {"owner": "worker"})
    cache.store("taken over", "new", {"owner": "pool:pool_0"})
    cache.store("set free", "new")
    cache.delete("deleted between")
    cache.add("deleted between", "new", {"owner": "other"})
    cache.touch("touched by another", 0, {"owner": "pool:pool_0"})
    since = cache.getRevision()
    supervisord.unix().supervisor.stopProcess("worker")
    assert changes(cache, since) == []
    assert cache.getKeys() == ["deleted between", "set free", "taken over", "touched by another"]
    supervisord.unix().supervisor.stopProcess("pool:pool_0")
    assert cache.getKeys() == ["deleted between", "set free"]


def test_increment_and_touch_keep_the_owner(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    cache.store("k", 1, {"owner": "worker", "ttl": 3600})
    assert cache.increment("k") == 2
    assert cache.getEntry("k")["owner"] == "worker:worker"
    cache.touch("k", 0)
    assert cache.touchIf("k", 7200, cache.getRevision()) == cache.getRevision()
    assert cache.getEntry("k")["owner"] == "worker:worker"
    since = cache.getRevision()
    supervisord.unix().supervisor.stopProcess("worker")
    assert changes(cache, since) == [("release", "k", "worker:worker")]


def test_what_has_expired_is_not_released_as_well(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    since = cache.add("k", 1, {"owner": "worker", "ttl": ttl(0.2)})
    until(lambda: not cache.getCount(), "it ends", 10)
    supervisord.unix().supervisor.stopProcess("worker")
    assert changes(cache, since) == [("expire", "k", "")]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"owner": "nobody"}, "owner 'nobody' is no process of this supervisord"),
    ({"owner": "other:nobody"}, "owner 'other:nobody' is no process of this supervisord"),
    ({"owner": "pool"}, "owner 'pool' is no process of this supervisord"),
    ({"owner": "pool_0"}, "owner 'pool_0' is no process of this supervisord"),
    ({"owner": "pool:*"}, r"owner 'pool:\*' is no process of this supervisord"),
    ({"owner": "pool:"}, "owner 'pool:' is no process of this supervisord"),
    ({"owner": ":other"}, "owner ':other' is no process of this supervisord"),
    ({"owner": " other"}, "owner ' other' is no process of this supervisord"),
    ({"owner": "\u00f6"}, r"owner '\\xf6' is no process of this supervisord"),
    ({"owner": "stopped"}, "owner 'stopped' is not running"),
    ({"owner": "other", "pid": 1}, "other:other has pid [0-9]+, not 1"),
    ({"owner": "other", "pid": 0}, "option pid must be an integer above 0"),
    ({"owner": "other", "pid": -5}, "option pid must be an integer above 0"),
    ({"owner": "other", "pid": "1"}, "option pid must be an integer above 0"),
    ({"owner": "other", "pid": True}, "option pid must be an integer above 0"),
    ({"owner": "other", "pid": 1.0}, "option pid must be an integer above 0"),
    ({"pid": 1}, "option pid goes with owner"),
    ({"owner": "", "pid": 1}, "option pid goes with owner"),
    ({"owner": 5}, "option owner must be a string"),
    ({"owner": True}, "option owner must be a string"),
    ({"owner": ["other"]}, "option owner must be a string"),
    ({"owner": {"name": "other"}}, "option owner must be a string"),
]


def test_a_wrong_owner_is_refused_by_each_write_and_changes_nothing(start: StartSupervisord) -> None:
    cache = running_processes(start).unix().cache
    cache.store("k", 1, {"owner": "other"})
    entries = cache.getEntries()
    revision = cache.getRevision()
    writes: list[Callable[[dict[str, Any]], object]] = [
        lambda options: cache.store("k", 2, options),
        lambda options: cache.store("new", 2, options),
        lambda options: cache.storeMany({"k": 2, "new": 2}, options),
        lambda options: cache.add("k", 2, options),
        lambda options: cache.add("new", 2, options),
        lambda options: cache.storeIf("k", 2, revision, options),
        lambda options: cache.increment("k", 1, options),
        lambda options: cache.touch("k", 60, options),
        lambda options: cache.touchIf("k", 60, revision, options),
    ]
    for options, text in WRONG:
        for write in writes:
            with pytest.raises(Fault) as caught:
                write(options)
            assert caught.value.faultCode == 3
            assert re.fullmatch(f"BAD_ARGUMENTS: {text}", caught.value.faultString)
    assert cache.getEntries() == entries
    assert cache.getRevision() == revision
    assert cache.getStats()["refused"] == len(WRONG) * len(writes)


def test_a_delete_has_no_owner(start: StartSupervisord) -> None:
    cache = running_processes(start).unix().cache
    cache.store("k", 1)
    with pytest.raises(Fault, match="BAD_ARGUMENTS: unknown option 'owner'; this call knows note"):
        cache.delete("k", {"owner": "other"})
    assert cache.getCount() == 1


def test_a_release_reaches_a_listener(start: StartSupervisord) -> None:
    supervisord = all_running(listening(start, "CACHE_RELEASE", more=PROCESSES))
    cache = supervisord.unix().cache
    since = int(cache.storeMany({"a": 1, "b": 2}, {"owner": "worker"}))
    supervisord.unix().supervisor.stopProcess("worker")
    header = {"namespace": "cache", "revision": str(since + 1), "expires": "0"}
    assert received(supervisord, 2) == [
        ("CACHE_RELEASE", {**header, "key": "a", "seq": "3"}, ""),
        ("CACHE_RELEASE", {**header, "key": "b", "seq": "4"}, ""),
    ]


def test_the_marker_of_a_leader_is_free_once_its_holder_is_killed(start: StartSupervisord) -> None:
    supervisord = running_processes(start)
    cache = supervisord.unix().cache
    holder = pid_of(supervisord, "pool:pool_0")
    first = cache.add("leader", "pool_0", {"owner": "pool:pool_0", "pid": holder})
    assert cache.add("leader", "pool_1", {"owner": "pool:pool_1"}) == ""
    os.kill(holder, signal.SIGKILL)
    added: list[str] = []

    def is_added() -> bool:
        added.append(cache.add("leader", "pool_1", {"owner": "pool:pool_1"}))
        return added[-1] != ""

    until(is_added, "another one leads")
    assert changes(cache, first) == [("release", "leader", "pool:pool_0"), ("store", "leader", "unix_http_server")]
    assert int(added[-1]) == int(first) + 2
    assert cache.getEntry("leader")["owner"] == "pool:pool_1"

"""System calls of a commit that fail, or at which supervisord is killed: the old state or the new, never a third."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord, missing
from tests.database import assert_integrity, assert_serves
from tests.harness import Supervisord, until

SECTION = {"storage": "sqlite:cache.db", "synchronous": "full"}
# More than a commit makes of each, so that each one has its turn.
CALLS = {"pwrite64": 6, "fdatasync": 2, "fcntl": 7, "newfstatat": 3}
UNAVAILABLE = 204
BEFORE = {"a": "before", "b": "before"}
AFTER = {"a": "after", "b": "after"}


@contextlib.contextmanager
def injected(supervisord: Supervisord, fault: str) -> Iterator[None]:
    """Have system calls of supervisord fail as ``strace`` describes it."""
    if shutil.which("strace") is None:
        missing("strace")
    calls = fault.partition(":")[0]
    output = supervisord.folder / "strace"
    with output.open("w") as told:
        tracer = subprocess.Popen(
            ["strace", "-p", str(supervisord.pid), "-e", f"trace={calls}", "-e", f"inject={fault}"],
            stderr=told,
            stdin=subprocess.DEVNULL,
        )
        try:

            def attached() -> bool:
                assert tracer.poll() is None, output.read_text()
                return "attached" in output.read_text()

            until(attached, "strace is attached")
            yield
        finally:
            tracer.terminate()
            tracer.wait()


def assert_injected(supervisord: Supervisord) -> None:
    assert "INJECTED" in (supervisord.folder / "strace").read_text()


def prepared(start: StartSupervisord) -> Supervisord:
    supervisord = start({"cache": SECTION})
    supervisord.unix().cache.storeMany(BEFORE)
    return supervisord


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(("call", "number"), [(call, number) for call, most in CALLS.items() for number in range(most)])
def test_a_call_that_fails_changes_nothing_or_is_overcome(
    start: StartSupervisord, call: str, number: int, error: str
) -> None:
    supervisord = prepared(start)
    cache = supervisord.unix().cache
    with injected(supervisord, f"{call}:error={error}:when={number + 1}"):
        refused = 0
        try:
            cache.storeMany(AFTER)
        except Fault as fault:
            refused = fault.faultCode
        assert refused in {0, UNAVAILABLE}
        expected = BEFORE if refused else AFTER
        assert cache.getItems() == expected
    if number == 0:
        assert_injected(supervisord)
    # What was refused must not come back, whatever the disk has of it.
    supervisord.kill()
    assert_integrity(supervisord.folder / "cache.db")
    cache = supervisord.start().unix().cache
    assert cache.getItems() == expected
    assert cache.storeMany({"c": 1}) != ""
    assert_serves(supervisord.folder / "cache.db", cache)


@pytest.mark.parametrize("call", CALLS)
def test_calls_that_go_on_failing_leave_reads_and_supervision(start: StartSupervisord, call: str) -> None:
    supervisord = prepared(start)
    cache = supervisord.unix().cache
    with injected(supervisord, f"{call}:error=EIO:when=1+"):
        for _ in range(5):
            with contextlib.suppress(Fault):
                cache.storeMany(AFTER)
        kept = cache.getItems()
        assert kept in (BEFORE, AFTER)
        assert supervisord.unix().supervisor.getState()["statename"] == "RUNNING"
    assert_injected(supervisord)
    until(lambda: cache.getStats()["storage"]["state"] == "ok", "the storage is all right", 8)
    assert cache.getItems() == kept
    cache.store("c", 1)
    assert_serves(supervisord.folder / "cache.db", cache)
    supervisord.kill()
    assert supervisord.start().unix().cache.getItems() == {**kept, "c": 1}


@pytest.mark.parametrize(("call", "number"), [(call, number) for call, most in CALLS.items() for number in range(most)])
def test_a_kill_at_each_call_leaves_all_of_a_commit_or_nothing(start: StartSupervisord, call: str, number: int) -> None:
    supervisord = prepared(start)
    cache = supervisord.unix().cache
    answered = False
    with injected(supervisord, f"{call}:signal=SIGKILL:when={number + 1}"), contextlib.suppress(OSError):
        cache.storeMany(AFTER)
        answered = True
    supervisord.kill() if supervisord.is_alive() else supervisord.stop()
    assert_integrity(supervisord.folder / "cache.db")
    kept = supervisord.start().unix().cache.getItems()
    assert kept in ((AFTER,) if answered else (BEFORE, AFTER))


@pytest.mark.parametrize("call", ["pwrite64", "fcntl", "newfstatat"])
@pytest.mark.parametrize("number", range(5))
def test_a_call_of_a_single_store_that_fails_changes_nothing_or_is_overcome(
    start: StartSupervisord, call: str, number: int
) -> None:
    supervisord = start({"cache": {"storage": "sqlite:cache.db"}})
    cache = supervisord.unix().cache
    cache.store("a", "before")
    refused = 0
    with injected(supervisord, f"{call}:error=EIO:when={number + 1}"):
        try:
            cache.store("a", "after")
        except Fault as fault:
            refused = fault.faultCode
        assert refused in {0, UNAVAILABLE}
        expected = "before" if refused else "after"
        assert cache.fetch("a") == expected
    if number == 0:
        assert_injected(supervisord)
    supervisord.kill()
    assert supervisord.start().unix().cache.fetch("a") == expected


@pytest.mark.parametrize(
    ("call", "number"),
    [("openat", number) for number in range(6)]
    + [(call, 0) for call in ("ftruncate", "fchmod", "unlink", "mmap", "pread64", "statfs")],
)
def test_a_call_that_fails_while_a_lost_database_is_written_again_is_overcome(
    start: StartSupervisord, call: str, number: int
) -> None:
    supervisord = prepared(start)
    cache = supervisord.unix().cache
    with injected(supervisord, f"{call}:error=EMFILE:when={number + 1}"):
        (supervisord.folder / "cache.db").unlink()
        refused = 0
        try:
            cache.storeMany(AFTER)
        except Fault as fault:
            refused = fault.faultCode
        assert refused in {0, UNAVAILABLE}
        expected = BEFORE if refused else AFTER
        assert cache.getItems() == expected
    until(lambda: cache.getStats()["storage"]["state"] == "ok", "the storage is all right", 8)
    assert_serves(supervisord.folder / "cache.db", cache)
    supervisord.kill()
    assert supervisord.start().unix().cache.getItems() == expected

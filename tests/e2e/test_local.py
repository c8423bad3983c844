"""`open_local`: what processes of the same host see of a cache whose supervisord runs, is busy, reloads or has gone."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor_cache import UnavailableError, open_local
from supervisor_cache.client.local import LocalCache
from tests.conftest import StartSupervisord, missing
from tests.harness import Supervisord, until

SECTION = {"storage": "sqlite:cache.db", "chmod": "0644"}


@pytest.fixture
def supervisord(start: StartSupervisord) -> Supervisord:
    return start({"cache": SECTION})


@pytest.fixture
def local(supervisord: Supervisord) -> Iterator[LocalCache]:
    with open_local(supervisord.folder / "cache.db") as local:
        yield local


def test_each_change_is_seen_at_the_next_lookup(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    assert (len(local), list(local), local.get("k"), "k" in local) == (0, [], None, False)
    with pytest.raises(KeyError):
        local["k"]
    values: list[Any] = ["text \u00e4", "", 5, True, -1.5, [1, ["x"]], {"n": {}}]
    for value in values:
        cache.store("k", value)
        assert local["k"] == value
        assert type(local["k"]) is type(value)
    for number in range(500):
        cache.store(f"key/{number % 7}", number)
        assert local[f"key/{number % 7}"] == number
        assert local.get("absent", "default") == "default"
    cache.storeMany({f"many/{number}": number for number in range(3000)})
    assert len(local) == 3008
    assert local.snapshot("many/29") == {
        f"many/{number}": number for number in sorted([29, *range(290, 300), *range(2900, 3000)], key=str)
    }
    assert cache.deletePrefix("many/") == 3000
    assert len(local) == 8
    cache.clear()
    assert dict(local) == {}
    assert local.revision == int(cache.getRevision())
    assert local.age < 6


def test_an_entry_tells_all_of_it(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", {"a": [1]}, {"note": "ops", "ttl": 60})
    entry, known = local.entry("k"), cache.getEntry("k")
    assert entry._asdict() == {**known, "revision": int(known["revision"])}
    with pytest.raises(KeyError):
        local.entry("l")


def test_a_reader_cannot_change_what_another_one_gets(supervisord: Supervisord, local: LocalCache) -> None:
    supervisord.unix().cache.store("k", [1])
    value: Any = local["k"]
    value.append(2)
    assert local["k"] == [1]


def test_what_ends_by_itself_ends_here_too(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1, {"ttl": 1.0})
    stored = time.monotonic()
    assert local["k"] == 1
    supervisord.kill()
    until(lambda: "k" not in local, "it ends", 2)
    assert 0.8 < time.monotonic() - stored < 1.5
    assert (len(local), list(local), local.snapshot()) == (0, [], {})


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_goes_on_without_supervisord(supervisord: Supervisord, local: LocalCache, end: str) -> None:
    cache = supervisord.unix().cache
    cache.store("k", "v")
    path = supervisord.folder / "cache.db"
    with open_local(path) as before:
        assert before["k"] == "v"
        if end == "kill":
            supervisord.kill()
        else:
            supervisord.stop()
        assert (before["k"], local["k"]) == ("v", "v")
        with open_local(path) as after:
            assert after["k"] == "v"
        age = local.age
        time.sleep(0.2)
        assert local.age > age
        supervisord.start().unix().cache.store("k", "w")
        assert (before["k"], local["k"]) == ("w", "w")
        assert local.age < 6
        supervisord.reload()
        supervisord.unix().cache.store("k", "x")
        assert (before["k"], local["k"]) == ("x", "x")


def test_it_can_be_opened_before_there_is_anything(make_supervisord: StartSupervisord) -> None:
    supervisord = make_supervisord({"cache": SECTION})
    with open_local(supervisord.folder / "cache.db") as local:
        assert (dict(local), local.revision, local.get("k", 5)) == ({}, 0, 5)
        assert local.age == float("inf")
        supervisord.start().unix().cache.store("k", "v")
        until(lambda: local.get("k") == "v", "it is seen", 3)


def test_what_is_no_database_is_told() -> None:
    with pytest.raises(UnavailableError):
        open_local("/etc/passwd")
    with pytest.raises(UnavailableError):
        open_local("/etc")


def test_files_that_are_taken_away_are_found_again(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1)
    assert local["k"] == 1
    for path in supervisord.folder.glob("cache.db*"):
        path.unlink()
    cache.store("k", 2)
    until(lambda: local["k"] == 2, "it is seen", 8)
    cache.store("k", 3)
    until(lambda: local["k"] == 3, "it is seen", 8)


def test_threads_read_together(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.storeMany({"a": 0, "b": 0})
    over = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        newest = 0
        while not over.is_set():
            first = local["b"]
            both = local.snapshot()
            # "a" and "b" are written together, and grow.
            if both["a"] != both["b"] or both["a"] < first or first < newest:  # type: ignore[operator]
                wrong.append((first, both))
            newest = first  # type: ignore[assignment]

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 500):
        cache.storeMany({"a": number, "b": number})
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert local["a"] == 499


def test_a_forked_process_goes_on_and_harms_nobody(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", "before")
    assert local["k"] == "before"
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                end = time.monotonic() + 10
                while local.get("k") != f"after {number}" and time.monotonic() < end:
                    time.sleep(0.001)
                status = 0 if local["k"] == f"after {number}" else 2
                local.close()
            os._exit(status)
        cache.store("k", f"after {number}")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert local["k"] == f"after {number}"
    # The database's locks are still held: another supervisord is refused, and this one goes on.
    cache.store("k", "at last")
    assert local["k"] == "at last"


READ = """
import os, sys
import supervisor_cache.client.local as local
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(local.open_local(sys.argv[1])["k"])
"""


def read_as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        missing("root, to become somebody else")
    return subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_read_permission_alone_is_enough(supervisord: Supervisord, state: str) -> None:
    supervisord.unix().cache.store("k", "v")
    if state == "killed":
        supervisord.kill()
    elif state == "stopped":
        supervisord.stop()
    supervisord.folder.chmod(0o711)
    read = read_as_nobody(supervisord.folder / "cache.db")
    assert (read.stdout, read.stderr) == ("v\n", "")


@pytest.mark.parametrize(("file", "folder"), [(0o600, 0o711), (0o644, 0o700)])
def test_without_permission_it_says_so(supervisord: Supervisord, file: int, folder: int) -> None:
    for path in supervisord.folder.glob("cache.db*"):
        path.chmod(file)
    supervisord.folder.chmod(folder)
    read = read_as_nobody(supervisord.folder / "cache.db")
    assert read.returncode == 1
    assert "UnavailableError" in read.stderr
    assert "cache.db" in read.stderr


def test_a_closed_one_says_so(local: LocalCache) -> None:
    local.close()
    with pytest.raises(ValueError, match="closed"):
        local.get("k")


def test_a_reader_costs_supervisord_nothing(supervisord: Supervisord, local: LocalCache) -> None:
    supervisord.unix().cache.store("k", "v")
    before = supervisord.processor_seconds()
    for _ in range(2_000_000):
        local.get("k")
    assert supervisord.processor_seconds() - before < 0.1


def ends_well(pid: int) -> bool:
    """Whether a child ends by itself, within 10 s, with status 0."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def test_forks_beside_threads_hang_nobody(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 0)
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            local.get("k")

    def write() -> None:
        proxy = supervisord.inet().cache
        while not over.is_set():
            proxy.increment("k")

    threads = [threading.Thread(target=one) for one in (read, read, read, write)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                status = 1
                with contextlib.suppress(BaseException):
                    status = 0 if local.get("k") is not None else 2
                os._exit(status)
            assert ends_well(pid)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_trouble_shows_in_the_age_and_leaves_what_was_read(supervisord: Supervisord, local: LocalCache) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1)
    assert local["k"] == 1
    (supervisord.folder / "cache.db-generation").write_bytes(b"\x07" * 16)
    path = supervisord.folder / "cache.db"
    path.rename(supervisord.folder / "elsewhere")
    path.write_bytes(b"no database" * 100)
    assert local["k"] == 1
    age = local.age
    time.sleep(0.3)
    assert local.age >= age + 0.2

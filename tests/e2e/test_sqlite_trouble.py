"""Everything that can be wrong with a database and its folder: supervisord and its processes never notice."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest

from supervisor_cache import UnavailableError, open_local
from tests.conftest import StartSupervisord, missing
from tests.database import assert_integrity, assert_serves, rows
from tests.harness import Supervisord, program, until

UNAVAILABLE = 204
# Longest that anything may hold supervisord up; what a noisy machine adds is not ours.
HELD_UP_SECONDS = 0.2
SLACK = 4


def section(path: str = "data/cache.db") -> dict[str, dict[str, str]]:
    return {"cache": {"storage": f"sqlite:{path}"}}


def refusal(call: Callable[..., Any], *args: object) -> str:
    with pytest.raises(Fault) as raised:
        call(*args)
    assert raised.value.faultCode == UNAVAILABLE
    return str(raised.value.faultString)


def storage(supervisord: Supervisord) -> Any:
    return supervisord.unix().cache.getStats()["storage"]


@pytest.fixture
def prepared(make_supervisord: StartSupervisord) -> Supervisord:
    """A supervisord that is not started yet, with a process and an empty folder for the database."""
    supervisord = make_supervisord(section(), more=program("sleeper"))
    data(supervisord).mkdir(mode=0o755)
    return supervisord


def data(supervisord: Supervisord) -> Path:
    return supervisord.folder / "data"


def database(supervisord: Supervisord) -> Path:
    return data(supervisord) / "cache.db"


def fill(supervisord: Supervisord) -> None:
    """Have entries in the database, and supervisord stopped."""
    cache = supervisord.start().unix().cache
    cache.storeMany({f"key/{number:04}": "x" * 100 for number in range(500)})
    cache.store("k", "v")
    supervisord.stop()


def assert_supervises(supervisord: Supervisord) -> None:
    """Its process runs, and is started again when it is killed."""
    until(lambda: supervisord.process("sleeper")["statename"] == "RUNNING", "sleeper runs")
    pid = supervisord.process("sleeper")["pid"]
    os.kill(pid, signal.SIGKILL)

    def is_another() -> bool:
        found = supervisord.process("sleeper")
        return bool(found["statename"] == "RUNNING" and found["pid"] != pid)

    until(is_another, "sleeper is started again")


@contextlib.contextmanager
def nobody_waits(supervisord: Supervisord) -> Iterator[None]:
    """Ask ``getState`` without pause, and fail if an answer takes long."""
    longest = 0.0
    over = threading.Event()

    def ask() -> None:
        nonlocal longest
        proxy = supervisord.unix().supervisor
        while not over.is_set():
            start = time.monotonic()
            proxy.getState()
            longest = max(longest, time.monotonic() - start)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        over.set()
        asker.join()
    assert 0 < longest < HELD_UP_SECONDS * SLACK


def assert_unreadable(supervisord: Supervisord, why: str) -> None:
    """Every read and write says so, and so do getStats and the log."""
    cache = supervisord.unix().cache
    with nobody_waits(supervisord):
        for call in (cache.getKeys, cache.getCount, cache.getRevision, cache.clear):
            assert why in refusal(call)
        assert why in refusal(cache.fetch, "k")
        assert why in refusal(cache.store, "k", "w")
        assert why in refusal(cache.wait, "1", 5)
        assert cache.getAPIVersion() == "2.0"
        told = storage(supervisord)
        assert (told["state"], why in told["detail"]) == ("unavailable", True)
        assert_supervises(supervisord)
        time.sleep(1.2)
    assert supervisord.log.count("unavailable until it can be read") == 1
    assert why in supervisord.log


def assert_recovers(supervisord: Supervisord, items: int = 501) -> None:
    until(lambda: storage(supervisord)["state"] == "ok", "the storage is all right", 5)
    cache = supervisord.unix().cache
    assert cache.getCount() == items
    assert cache.store("after", "the trouble") is True
    assert_serves(database(supervisord), cache)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def older(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")


def test_a_newer_schema_is_left_alone(prepared: Supervisord) -> None:
    fill(prepared)
    newer(database(prepared))
    before = database(prepared).read_bytes()
    prepared.start()
    assert_unreadable(prepared, "version 99")
    assert database(prepared).read_bytes() == before
    older(database(prepared))
    assert_recovers(prepared)


def test_the_database_of_another_program_is_left_alone(prepared: Supervisord) -> None:
    with closing(sqlite3.connect(database(prepared))) as connection:
        connection.execute("CREATE TABLE precious (data TEXT)")
    before = database(prepared).read_bytes()
    prepared.start()
    assert_unreadable(prepared, "another program")
    assert database(prepared).read_bytes() == before


def test_a_missing_folder_is_waited_for(prepared: Supervisord) -> None:
    data(prepared).rmdir()
    prepared.start()
    assert_unreadable(prepared, "No such file or directory")
    data(prepared).mkdir(mode=0o755)
    assert_recovers(prepared, 0)


def test_a_folder_that_others_can_write_to_is_not_used(prepared: Supervisord) -> None:
    fill(prepared)
    data(prepared).chmod(0o777)
    prepared.start()
    assert_unreadable(prepared, "by others")
    data(prepared).chmod(0o755)
    assert_recovers(prepared)


def test_a_symbolic_link_is_not_followed(prepared: Supervisord) -> None:
    target = prepared.folder / "target"
    target.write_text("precious")
    database(prepared).symlink_to(target)
    prepared.start()
    assert_unreadable(prepared, "symbolic link")
    assert target.read_text() == "precious"


def test_a_fifo_is_not_waited_for(prepared: Supervisord) -> None:
    os.mkfifo(database(prepared), 0o600)
    prepared.start()
    assert_unreadable(prepared, "no regular file")


def test_a_lock_at_start_is_waited_for(prepared: Supervisord) -> None:
    fill(prepared)
    with closing(sqlite3.connect(database(prepared), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        prepared.start()
        assert_unreadable(prepared, "locked")
        other.rollback()
    assert_recovers(prepared)


def test_a_lock_later_refuses_writes_and_not_reads(prepared: Supervisord) -> None:
    fill(prepared)
    cache = prepared.start().unix().cache
    cache.store("ends", 1, {"ttl": 1.0})
    with closing(sqlite3.connect(database(prepared), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with nobody_waits(prepared):
            assert "locked" in refusal(cache.store, "k", "w")
            assert "locked" in refusal(cache.clear)
            assert cache.fetch("k") == "v"
            assert cache.getCount() == 502
            until(lambda: storage(prepared)["state"] == "degraded", "it says so")
            assert_supervises(prepared)
            until(lambda: cache.getCount() == 501, "what ends, ends")
        assert prepared.log.count("writes are refused") == 1
        other.rollback()
    assert cache.store("k", "w") is True
    assert_recovers(prepared, 501)
    cache = restarted(prepared)
    assert cache.getCount() == 502
    assert cache.fetch("k") == "w"


def restarted(supervisord: Supervisord) -> Any:
    supervisord.kill()
    return supervisord.start().unix().cache


def test_a_second_supervisord_is_told_who_has_the_file(
    prepared: Supervisord, make_supervisord: StartSupervisord
) -> None:
    fill(prepared)
    prepared.start()
    second = make_supervisord(section(str(database(prepared))), more=program("sleeper")).start()
    assert refusal(second.unix().cache.fetch, "k").startswith(f"UNAVAILABLE: in use by pid {prepared.pid}")
    assert prepared.unix().cache.fetch("k") == "v"
    prepared.stop()
    until(lambda: storage(second)["state"] == "ok", "the second one has it")
    assert second.unix().cache.fetch("k") == "v"


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096] ^= 0x40
    path.write_bytes(content)


def without_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"\0" * 100 + content[100:])


@pytest.mark.parametrize("damage", [garbage, truncated, emptied, flipped, without_header])
def test_a_corrupt_file_is_set_aside(prepared: Supervisord, damage: Callable[[Path], None]) -> None:
    fill(prepared)
    damage(database(prepared))
    content = database(prepared).read_bytes()
    cache = prepared.start().unix().cache
    told = storage(prepared)
    assert told["state"] == "recovered"
    aside = [path for path in data(prepared).iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    assert str(aside[0]) in told["detail"]
    assert prepared.log.count(" CRIT supervisor_cache") == 1
    assert "began anew" in prepared.log
    assert cache.getCount() == 0
    assert cache.store("k", "new") is True
    assert_supervises(prepared)
    prepared.reload()
    assert storage(prepared)["state"] == "recovered"
    assert_serves(database(prepared), prepared.unix().cache)
    cache = restarted(prepared)
    assert cache.getItems() == {"k": "new"}
    assert storage(prepared)["state"] == "ok"


def unlink(path: Path) -> None:
    path.unlink()


def unlink_all(path: Path) -> None:
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


def unlink_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE restored (data TEXT)")
    other.replace(path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir(mode=0o755)


@pytest.mark.parametrize("take_away", [unlink, unlink_all, unlink_log, replace, remove_folder])
@pytest.mark.parametrize("then", ["write", "wait"])
def test_files_that_are_taken_away_are_written_again(
    prepared: Supervisord, take_away: Callable[[Path], None], then: str
) -> None:
    fill(prepared)
    cache = prepared.start().unix().cache
    cache.store("acknowledged", 1)
    entries = cache.getEntries()
    take_away(database(prepared))
    with nobody_waits(prepared):
        if then == "write":
            cache.store("after", 1)
            entries = cache.getEntries()
            assert len(entries) == 503
        else:
            until(lambda: database(prepared).exists() and _has(database(prepared), 502), "it is written again", 8)
    assert_serves(database(prepared), cache)
    assert restarted(prepared).getEntries() == entries
    if take_away is replace:
        aside = [path for path in data(prepared).iterdir() if ".replaced-" in path.name]
        assert [_tables(path) for path in aside] == [{"restored"}]


def _has(path: Path, count: int) -> bool:
    with contextlib.suppress(sqlite3.Error):
        return bool(rows(path, "SELECT count(*) FROM entries") == [(count,)])
    return False


def _tables(path: Path) -> set[str]:
    return {name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k,mode=0755", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        missing("the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: Path, make_supervisord: StartSupervisord) -> None:
    supervisord = make_supervisord(section(str(small_disk / "cache.db")), more=program("sleeper")).start()
    cache = supervisord.unix().cache
    stored: dict[str, str] = {}
    reason = ""
    for number in range(1000):
        key = f"key/{number}"
        try:
            cache.store(key, "x" * 2000)
        except Fault as fault:
            reason = str(fault.faultString)
            break
        stored[key] = "x" * 2000
    assert reason.startswith("UNAVAILABLE: not stored: ")
    assert "full" in reason
    with nobody_waits(supervisord):
        for _ in range(20):
            refusal(cache.store, "more", "x" * 2000)
        assert cache.getItems() == stored
        assert_supervises(supervisord)
    until(lambda: storage(supervisord)["state"] == "degraded", "it says so")
    assert supervisord.log.count("writes are refused") >= 1
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    until(lambda: storage(supervisord)["state"] == "ok", "the storage is all right", 5)
    assert cache.store("after", 1) is True
    assert_serves(small_disk / "cache.db", cache)
    cache = restarted(supervisord)
    assert cache.getItems() == {**stored, "after": 1}
    supervisord.stop()


def test_a_read_only_file_system_leaves_reads(small_disk: Path, make_supervisord: StartSupervisord) -> None:
    supervisord = make_supervisord(section(str(small_disk / "cache.db")), more=program("sleeper")).start()
    cache = supervisord.unix().cache
    cache.store("k", "v")
    supervisord.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    supervisord.start()
    assert_unreadable(supervisord, "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    until(lambda: storage(supervisord)["state"] == "ok", "the storage is all right", 5)
    assert supervisord.unix().cache.fetch("k") == "v"
    supervisord.stop()


def test_descriptors_that_run_out_leave_what_is_open(prepared: Supervisord) -> None:
    fill(prepared)
    cache = prepared.start().unix().cache
    cache.store("before", 1)
    most = max(int(path.name) for path in Path(f"/proc/{prepared.pid}/fd").iterdir()) + 1
    subprocess.run(["prlimit", f"--pid={prepared.pid}", f"--nofile={most}:"], check=True)
    for number in range(1200):  # some checkpoints come due
        cache.store("k", number)
    assert cache.fetch("k") == 1199
    subprocess.run(["prlimit", f"--pid={prepared.pid}", "--nofile=1024:"], check=True)
    cache.store("after", 1)
    assert_serves(database(prepared), cache)
    assert_supervises(prepared)
    assert_integrity(database(prepared))


FILES = ("cache.db", "cache.db-wal", "cache.db-shm", "cache.db-generation")


def unpack(folder: Path, backup: Path, names: tuple[str, ...]) -> None:
    """Put files of a backup in the place of those there, as tar does: other files, and the time that the folder had."""
    before = folder.stat()
    for name in names:
        (folder / name).unlink()
        shutil.copy2(backup / name, folder / name)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
@pytest.mark.parametrize(
    "names", [FILES, FILES[:3], FILES[:1], FILES[3:]], ids=["all", "database", "one", "generation"]
)
def test_a_backup_that_is_unpacked_over_the_files_in_use_loses_nothing(
    prepared: Supervisord, tmp_path: Path, names: tuple[str, ...], end: signal.Signals
) -> None:
    cache = prepared.start().unix().cache
    cache.store("before", 1)
    for name in FILES:
        shutil.copy2(data(prepared) / name, tmp_path / name)
    acknowledged = {"before"}
    for number in range(50):
        cache.store(f"k{number}", number)
        acknowledged.add(f"k{number}")
    # So that it has seen that its folder is at rest.
    time.sleep(0.5)
    cache.store("settled", 1)
    acknowledged.add("settled")
    unpack(data(prepared), tmp_path, names)

    store_in_the_end(prepared, "after", 1)
    acknowledged.add("after")
    assert set(cache.getKeys()) == acknowledged
    assert storage(prepared)["state"] == "ok"
    assert_serves(database(prepared), cache)
    if end == signal.SIGKILL:
        prepared.kill()
    else:
        prepared.stop()
    assert set(prepared.start().unix().cache.getKeys()) == acknowledged
    assert "entries of the former are dropped" not in prepared.log


def test_of_two_that_want_one_database_never_both_acknowledge(
    prepared: Supervisord, make_supervisord: StartSupervisord
) -> None:
    prepared.start()
    other = make_supervisord(section(str(database(prepared)))).start()
    assert storage(other)["state"] == "unavailable"
    caches = [prepared.unix().cache, other.unix().cache]
    caches[0].store("before", 1)
    acknowledged = {"before"}
    (data(prepared) / "cache.db-generation").unlink()
    end = time.monotonic() + 4
    number = 0
    while time.monotonic() < end:
        for cache in caches:
            number += 1
            with contextlib.suppress(Fault):
                cache.store(f"k{number}", 1)
                acknowledged.add(f"k{number}")
        time.sleep(0.02)
    states = [storage(one)["state"] for one in (prepared, other)]
    assert states.count("ok") == 1
    assert set(caches[states.index("ok")].getKeys()) == acknowledged


def test_a_reader_finds_the_way_also_where_the_generation_file_was_lost_just_before_a_reload(
    prepared: Supervisord,
) -> None:
    cache = prepared.start().unix().cache
    cache.storeMany({"n": 1, "gone": 1})
    with open_local(str(database(prepared))) as reader:
        assert (reader["n"], reader["gone"]) == (1, 1)
        (data(prepared) / "cache.db-generation").unlink()
        prepared.hang_up()
        cache = prepared.unix().cache
        cache.store("n", 2)
        cache.delete("gone")
        until(lambda: (reader.get("n"), reader.get("gone")) == (2, None), "it is seen", 5)


def test_large_values_that_are_written_over_again_and_again_leave_no_large_log(prepared: Supervisord) -> None:
    cache = prepared.start().unix().cache
    log = data(prepared) / "cache.db-wal"
    largest = 0
    for number in range(1500):
        cache.store(f"k{number % 10}", "x" * 60_000)
        largest = max(largest, log.stat().st_size)
    # It was 90 MB of writes, to 600 KB of data.
    assert largest < 40 * 1024 * 1024
    assert storage(prepared)["state"] == "ok"


def cut_log(folder: Path) -> None:
    os.truncate(folder / "cache.db-wal", 0)


def cut_half_of_the_log(folder: Path) -> None:
    os.truncate(folder / "cache.db-wal", (folder / "cache.db-wal").stat().st_size // 2)


def cut_database(folder: Path) -> None:
    os.truncate(folder / "cache.db", 0)


def lose_database(folder: Path) -> None:
    (folder / "cache.db").unlink()


def lose_log(folder: Path) -> None:
    (folder / "cache.db-wal").unlink()


def rename_database(folder: Path) -> None:
    (folder / "cache.db").rename(folder / "elsewhere.db")


HARM = [cut_log, cut_half_of_the_log, cut_database, lose_database, lose_log, rename_database]


@pytest.fixture
def reader(prepared: Supervisord, request: pytest.FixtureRequest) -> Iterator[None]:
    """Another process that has the database open, and asks it nothing any more; where the test wants it."""
    if not request.param:
        yield
        return
    prepared.start().unix().cache.store("k", "v")
    text = f"import sys, supervisor_cache\ncache = supervisor_cache.open_local({str(database(prepared))!r})\n"
    text += "print(cache['k'], flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "v\n"
        yield
        process.communicate()


@pytest.mark.parametrize("reader", [False, True], ids=["", "idle reader"], indirect=True)
@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("then", ["write", "wait", "reload", "stop"])
@pytest.mark.usefixtures("reader")
def test_files_that_are_harmed_in_use_cost_nothing(
    prepared: Supervisord, harm: Callable[[Path], None], then: str
) -> None:
    if not prepared.is_alive():
        prepared.start()
    cache = prepared.unix().cache
    for number in range(300):
        cache.store(f"k{number}", "x" * 300)
    cache.store("ends", 1, {"ttl": 3600})
    stored = cache.getItems()
    harm(data(prepared))
    if then == "write":
        cache.store("after", 1)
        stored["after"] = 1
        cache.deleteMany(["k0"])
        del stored["k0"]
        assert cache.getItems() == stored
        if harm in {cut_log, cut_half_of_the_log}:
            assert storage(prepared)["state"] == "recovered"
            assert storage(prepared)["detail"].endswith("written again from memory: nothing is lost")
        if harm is cut_database:  # which nobody looks at at each write
            until(lambda: _has(database(prepared), len(stored)), "it is written anew", 8)
        assert_serves(database(prepared), cache)
        prepared.kill()
    elif then == "wait":
        until(lambda: _has(database(prepared), len(stored)), "it is written anew", 8)
        prepared.kill()
    elif then == "reload":
        prepared.reload()
        assert prepared.unix().cache.getItems() == stored
        prepared.kill()
    else:
        prepared.stop()
    cache = prepared.start().unix().cache
    assert cache.getItems() == stored
    assert storage(prepared)["state"] == "ok"
    assert cache.store("more", 1) is True
    assert_serves(database(prepared), cache)


def test_another_program_may_write_the_log_back_and_cut_it(prepared: Supervisord) -> None:
    cache = prepared.start().unix().cache
    for number in range(100):
        cache.store(f"k{number}", number)
    with closing(sqlite3.connect(database(prepared))) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert (data(prepared) / "cache.db-wal").stat().st_size == 0
    cache.store("after", 1)
    cache.delete("k0")
    stored = cache.getItems()
    with closing(sqlite3.connect(database(prepared))) as other:
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    time.sleep(6)
    cache.store("again", 1)
    assert storage(prepared)["state"] == "ok"
    assert [path.name for path in data(prepared).iterdir() if "corrupt" in path.name] == []
    assert_serves(database(prepared), cache)
    assert restarted(prepared).getItems() == {**stored, "again": 1}


def store_in_the_end(supervisord: Supervisord, key: str, value: object) -> None:
    """Store; again where a reader has the new file locked just now."""
    cache = supervisord.unix().cache

    def stores() -> bool:
        with contextlib.suppress(Fault):
            return bool(cache.store(key, value))
        return False

    until(stores, "it is stored", 5)


def test_readers_see_no_empty_cache_while_all_files_are_written_anew(prepared: Supervisord) -> None:
    cache = prepared.start().unix().cache
    for start in range(0, 9000, 3000):
        cache.storeMany({f"key/{number}": "x" * 100 for number in range(start, start + 3000)})
    cache.store("k", "v")
    with open_local(str(database(prepared))) as reader:
        for round_ in range(3):
            unlink_all(database(prepared))
            seen = set()
            writer = threading.Thread(target=store_in_the_end, args=(prepared, "k", round_))
            writer.start()
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                if database(prepared).exists():
                    # One that opens it just now has read nothing before.
                    with contextlib.suppress(UnavailableError), open_local(str(database(prepared))) as other:
                        seen.add(len(other))
                seen.add(len(reader))
            writer.join()
            assert seen == {9001}
            until(lambda: reader["k"] == round_, "it is seen", 3)  # noqa: B023 - within the round


def test_who_holds_the_generation_file_is_told(prepared: Supervisord) -> None:
    prepared.start().unix().cache.store("k", "v")
    text = "import fcntl, sys\nfile = open(sys.argv[1])\nfcntl.lockf(file, fcntl.LOCK_SH)\n"
    text += "print(flush=True)\nsys.stdin.read()"
    prepared.stop()
    with subprocess.Popen(
        [sys.executable, "-c", text, str(data(prepared) / "cache.db-generation")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        prepared.start()
        assert refusal(prepared.unix().cache.fetch, "k").startswith(f"UNAVAILABLE: in use by pid {process.pid}")
        process.communicate()
    until(lambda: storage(prepared)["state"] == "ok", "it has it", 5)

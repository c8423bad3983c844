"""A database on a real file system, brought into each kind of trouble: what is refused, kept and told."""

import errno
import fcntl
import os
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor_cache.client import local
from supervisor_cache.core import generation, operations
from supervisor_cache.core.engine import State
from supervisor_cache.core.entry import Owner
from supervisor_cache.engines import files, sqlite
from supervisor_cache.engines.files import Place, Trouble
from supervisor_cache.engines.sqlite import Options, SqliteEngine, _write_back
from supervisor_cache.errors import UnavailableError, UnknownOutcomeError
from tests.database import assert_agreement, rows
from tests.model import Bench

OWNER = Owner("web:0", 7)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "cache.db"


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    """A cache over a database."""
    bench = Bench(path=path)
    yield bench
    bench.close()


def engine(bench: Bench) -> SqliteEngine:
    assert isinstance(bench.engine, SqliteEngine)
    return bench.engine


def ticks(bench: Bench, seconds: float = 2) -> State:
    """Let time go by, and the engine do what is due; answer how it does."""
    bench.clock.pass_by(seconds)
    assert engine(bench).tick() is None
    return engine(bench).state


def assert_well(bench: Bench) -> None:
    assert (engine(bench).state, engine(bench).detail) == (State.OK, "")
    assert bench.path is not None
    assert_agreement(bench.path, bench.cache.content())


def ends(path: Path) -> dict[str, float]:
    """Answer what is stored of when each entry ends."""
    return dict(rows(path, "SELECT key, expires FROM entries"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another program write to the database without an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def failing_disk(path: Path) -> Iterator[Callable[[], None]]:
    """Have the disk take no byte more of a log than there are; answer what mends it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def mend() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        yield mend
    finally:
        mend()


class TestACommit:
    """What is refused has not happened, and memory is what the database has in the end."""

    def test_while_another_program_writes_it_is_refused_and_asked_again_at_once(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", "before")
        with locked(path):
            for _ in range(2):
                with pytest.raises(UnavailableError, match="not stored: database is locked"):
                    bench.write(operations.store, "k", "after")
            with pytest.raises(UnavailableError, match="not stored: database is locked"):
                bench.write(operations.store_many, {"k": 1, "l": 1})
            assert engine(bench).state is State.DEGRADED
            assert bench.cache.items() == {"k": "before"}
        bench.write(operations.store, "k", "after")
        assert_well(bench)

    def test_what_has_ended_has_ended_whether_it_can_be_written_down_or_not(self, bench: Bench, path: Path) -> None:
        bench.pids["web:0"] = 7
        bench.write(operations.store, "k", 1, {"ttl": 5})
        bench.write(operations.store, "owned", 1, {"owner": "web:0"})
        with locked(path):
            bench.clock.pass_by(5)
            bench.cache.release(OWNER)
            assert bench.cache.keys() == []
            assert ticks(bench) is State.DEGRADED
        assert ticks(bench) is State.OK
        assert_well(bench)

    @pytest.mark.parametrize("many", [False, True])
    def test_a_disk_that_fails_makes_it_unknown_only_where_it_cannot_be_written_over(
        self, bench: Bench, path: Path, many: bool
    ) -> None:
        bench.write(operations.store, "k", "before")
        call: tuple[Any, ...] = (operations.store, "k", "x" * 10_000)
        if many:
            call = (operations.store_many, {"k": "x" * 10_000, "l": 1})
        with failing_disk(path):
            with pytest.raises(UnknownOutcomeError, match="it may be stored or not: "):
                bench.write(*call)
            assert engine(bench).state is State.DEGRADED
            # Not tried again at once: each attempt may take long.
            with pytest.raises(UnavailableError, match="not stored: "):
                bench.write(operations.store, "m", 1)
            assert bench.cache.items() == {"k": "before"}
        assert ticks(bench) is State.OK
        assert_well(bench)

    def test_a_disk_that_fails_once_leaves_nothing_unknown(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.write(operations.store, "k", "before")
        revision = bench.cache.revision
        with failing_disk(path) as mend:
            content = bench._content

            def mended() -> Any:
                mend()
                return content()

            monkeypatch.setattr(engine(bench), "_memory", mended)
            with pytest.raises(UnavailableError, match="not stored: "):
                bench.write(operations.store, "k", "x" * 10_000)
        assert_well(bench)
        # The number of what may have got onto the disk is not given again.
        bench.write(operations.store, "l", 1)
        assert bench.cache.revision == revision + 2
        assert_agreement(path, bench.cache.content())

    def test_an_end_that_the_disk_does_not_take_happens_all_the_same(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1, {"ttl": 5})
        bench.clock.pass_by(5)
        with failing_disk(path):
            assert bench.cache.keys() == []
        assert ticks(bench) is State.OK
        assert_well(bench)

    def test_a_full_disk_is_written_to_when_there_is_room_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.write(operations.store, "k", "before")
        connection = engine(bench)._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(UnavailableError, match="not stored: database or disk is full"):
            bench.write(operations.store_many, {f"k{number}": "x" * 5000 for number in range(20)})
        connection.execute("PRAGMA max_page_count = 1000000")
        monkeypatch.setattr(sqlite, "_ROOM_BYTES", 2**62)
        # As much as the next write needs is not free yet.
        assert ticks(bench) is State.DEGRADED
        assert "database or disk is full" in engine(bench).detail
        monkeypatch.undo()
        assert ticks(bench) is State.OK
        assert bench.cache.items() == {"k": "before"}
        assert_well(bench)

    def test_a_database_that_becomes_corrupt_is_set_aside_and_written_anew(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store_many, {f"k{number}": "x" * 200 for number in range(200)})
        items = bench.cache.items()
        bench.reopen()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        connection = engine(bench)._connection
        assert connection is not None
        connection.execute("PRAGMA shrink_memory")  # or it would not look at the disk
        # What is in memory already is the truth.
        with pytest.raises(UnavailableError, match="malformed"):
            bench.write(operations.store_many, {"new": 1, "k5": 2})
        assert ticks(bench) is State.RECOVERED
        assert "it was set aside as" in engine(bench).detail
        assert bench.cache.items() == items
        assert_agreement(path, bench.cache.content())
        bench.write(operations.store, "new", 1)
        assert len([found for found in path.parent.iterdir() if ".corrupt-" in found.name]) >= 1
        assert_agreement(path, bench.cache.content())

    def test_what_is_skipped_is_forgotten_where_it_is_written_over(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store_many, {"a": 1, "b": 2})
        bench.close()
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE entries SET value = 'none'")
            other.commit()
        bench.open()
        assert engine(bench).skipped == {"a", "b"}
        assert engine(bench).told() == {"path": str(path), "skipped": 2}
        bench.write(operations.store, "a", 1)
        assert engine(bench).skipped == {"b"}
        bench.write(operations.clear)
        assert engine(bench).skipped == frozenset()
        assert_well(bench)


class TestAttaching:
    """A database that cannot be used is left alone, and told."""

    @pytest.fixture
    def closed(self, bench: Bench) -> Bench:
        bench.write(operations.store, "k", "v")
        bench.close()
        return bench

    def opened(self, bench: Bench) -> SqliteEngine:
        """Open it anew, as after a start."""
        assert bench.path is not None
        made = SqliteEngine(str(bench.path), Options(), bench.clock, bench._content)
        assert made.open() is None
        made.close()
        return made

    def test_what_another_program_keeps_there_is_not_touched(self, bench: Bench, path: Path) -> None:
        bench.close()
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs (k)")
            other.commit()
        made = self.opened(bench)
        assert (made.state, "it is the database of another program" in made.detail) == (State.UNAVAILABLE, True)

    def test_one_of_a_newer_release_is_not_touched(self, closed: Bench, path: Path) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version = 2")
        made = self.opened(closed)
        assert (made.state, "from a newer release; this one knows 1" in made.detail) == (State.UNAVAILABLE, True)

    def test_one_that_is_locked_at_the_start_is_read_as_soon_as_it_is_not(self, closed: Bench, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            made = SqliteEngine(str(path), Options(), closed.clock, closed._content)
            assert made.open() is None
            assert (made.state, "locked" in made.detail) == (State.UNAVAILABLE, True)
            assert made.tick() is None
            other.execute("ROLLBACK")
        assert not [found for found in path.parent.iterdir() if ".corrupt-" in found.name]
        closed.clock.pass_by(2)
        content = made.tick()
        assert content is not None
        assert (list(content.entries), made.state) == (["k"], State.OK)
        made.close()

    def test_one_that_this_supervisord_had_before_is_brought_in_line(self, closed: Bench) -> None:
        closed.clock.pass_by(1)
        assert engine(closed).open() is None
        closed.write(operations.store, "l", 1)
        assert_well(closed)

    def test_a_database_that_was_emptied_is_no_empty_one(self, closed: Bench, path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(0)
        made = SqliteEngine(str(path), Options(), closed.clock, closed._content)
        content = made.open()
        assert content is not None
        assert (made.state, "it is empty, and was not" in made.detail) == (State.RECOVERED, True)
        made.close()

    def test_an_index_that_disagrees_is_corruption_though_all_can_be_read(
        self, closed: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damaged(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.undo()
            return Checked(connect(*args, **kwargs), "wrong # of entries")

        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", damaged)
        made = SqliteEngine(str(path), Options(), closed.clock, closed._content)
        assert made.open() is not None
        assert "it is corrupt: wrong # of entries" in made.detail
        made.close()

    def test_a_place_without_a_write_ahead_log_is_told(self, closed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: Logless(connect(*args, **kwargs)))
        made = self.opened(closed)
        assert "no write-ahead log is possible there: journal_mode is delete" in made.detail

    def test_a_log_that_is_being_written_back_is_waited_for(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = threading.Event()
        monkeypatch.setattr(sqlite, "_write_back", lambda _path, _closes: over.wait())
        monkeypatch.setattr(sqlite, "_CHECKPOINT", 1)
        bench.write(operations.store, "k", 1)
        ticks(bench)
        # A second one is not begun beside it.
        bench.write(operations.store, "k", 2)
        ticks(bench)
        try:
            path.rename(f"{path}.away")
            with pytest.raises(UnavailableError, match="its log is being written back"):
                bench.write(operations.store, "k", 3)
        finally:
            over.set()
        thread = engine(bench)._checkpoint
        assert thread is not None
        thread.join()
        assert ticks(bench) is State.OK
        assert_well(bench)

    def test_a_defect_is_told_as_a_state_and_raised(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        bench.close()

        def fail() -> Any:
            raise ZeroDivisionError("defect")

        monkeypatch.setattr(engine(bench), "_memory", fail)
        with pytest.raises(ZeroDivisionError):
            engine(bench).open()
        assert engine(bench).state is State.DEGRADED
        assert "defect" in engine(bench).detail

    def test_what_another_supervisord_has_written_is_read(self, closed: Bench, path: Path) -> None:
        other = Bench(path=path)
        other.write(operations.store, "k", "theirs")
        other.close()
        # A reload of this one ends.
        content = engine(closed).open()
        assert content is not None
        closed.cache.load(content)
        engine(closed).accept()
        assert closed.cache.fetch("k") == "theirs"

    def test_what_is_kept_writes_memory_over_a_database(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", "stored")
        bench.close()
        other = Bench()  # with the same revisions
        other.clock.now += 60
        other.write(operations.store, "other", 1)
        made = SqliteEngine(str(path), Options(), other.clock, other._content)
        assert made.open() is not None
        made.keep()
        assert made.state is State.OK
        made.close()
        assert_agreement(path, other.cache.content())


class Checked:
    """A connection whose check finds something."""

    def __init__(self, connection: sqlite3.Connection, found: str) -> None:
        self._connection = connection
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *args: Any) -> Any:
        if statement.startswith("PRAGMA quick_check"):
            return self._connection.execute("SELECT ?", (self._found,))
        return self._connection.execute(statement, *args)


class Logless(Checked):
    """A connection on a file system without shared memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection, "ok")

    def execute(self, statement: str, *args: Any) -> Any:
        if statement == "PRAGMA journal_mode = WAL":
            return self._connection.execute("SELECT 'delete'")
        return super().execute(statement, *args)


class TestTheEnds:
    """Others have but the wall clock to know when an entry ends: what is stored goes by it when it has been set."""

    @pytest.mark.parametrize("step", [3600.0, -3600.0])
    def test_they_are_told_anew_when_the_wall_clock_is_set(
        self, bench: Bench, path: Path, step: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_ENDS_AT_ONCE", 2)
        for number in range(5):
            bench.write(operations.store, f"k{number}", 1, {"ttl": 60 + number})
        bench.write(operations.store, "never", 1)
        before = ends(path)
        ticks(bench, 1)
        assert ends(path) == before
        bench.clock.now += step
        with locked(path):
            assert ticks(bench, 0.1) is State.OK
        bench.write(operations.delete, "k4")
        bench.write(operations.increment, "k3")
        for _ in range(4):
            ticks(bench, 0.1)
        assert ends(path) == {
            "never": 0,
            **{f"k{number}": pytest.approx(before[f"k{number}"] + step) for number in range(4)},
        }
        assert_well(bench)
        # Also where all of it has to be written once more, and after a restart.
        path.unlink()
        bench.write(operations.store, "k", 1)
        assert ends(path)["k0"] == pytest.approx(before["k0"] + step)
        bench.reopen()
        bench.clock.pass_by(57)
        assert "k0" in bench.cache.items()
        bench.clock.pass_by(2)
        assert bench.cache.keys() == ["k", "k1", "k2", "k3", "never"]

    def test_a_disk_that_fails_then_is_trouble_as_at_any_time(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", "x" * 5000, {"ttl": 60})
        before = ends(path)
        bench.clock.now += 3600
        with failing_disk(path):
            assert ticks(bench, 0.1) is State.DEGRADED
        assert ticks(bench) is State.OK
        ticks(bench)
        assert ends(path) == {"k": pytest.approx(before["k"] + 3600)}
        assert_well(bench)

    @pytest.mark.parametrize("step", [3600.0, -3600.0])
    def test_who_reads_all_before_they_are_told_reads_them_again(
        self, bench: Bench, path: Path, step: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_ENDS_AT_ONCE", 2)
        monkeypatch.setattr(local, "elapsed", bench.clock.elapsed)
        monkeypatch.setattr(time, "time", bench.clock.wall)
        for number in range(3):
            bench.write(operations.store, f"k{number}", number, {"ttl": 600})
        bench.write(operations.store, "never", 1)
        with closing(local.open_local(path)) as old:
            assert len(old) == 4
            told = old.entry("k0").expires
            bench.clock.now += step
            with closing(local.open_local(path)) as new:
                assert len(old) == 4
                bench.write(operations.store, "never", 2)
                assert new["never"] == 2
                for _ in range(2):
                    ticks(bench, 0.1)
                for reader in (old, new):
                    assert dict(reader) == {"k0": 0, "k1": 1, "k2": 2, "never": 2}
                    assert reader.entry("k0").expires == pytest.approx(told + step)
                bench.clock.pass_by(601)
                assert list(old) == list(new) == ["never"]

    def test_a_clock_that_is_slewed_is_not_set(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1, {"ttl": 60})
        before = ends(path)
        bench.clock.now += 0.5
        ticks(bench)
        assert ends(path) == before


class TestTheLog:
    """It is written back by a thread of its own, and supervisord goes on."""

    def test_after_many_changes_it_is_written_back(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "_CHECKPOINT", 5)
        for number in range(5):
            bench.write(operations.store, "k", number)
        ticks(bench)
        thread = engine(bench)._checkpoint
        assert thread is not None
        thread.join()
        assert_well(bench)
        assert bench.path is not None
        # All of it is in the database itself.
        with closing(sqlite3.connect(f"file:{bench.path}?immutable=1", uri=True)) as alone:
            assert alone.execute("SELECT value FROM entries").fetchall() == [("4",)]

    def test_a_large_one_is_written_back_after_few_changes(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "_LARGE_LOG", 1000)
        bench.write(operations.store, "k", "x" * 2000)
        ticks(bench, 6)
        assert engine(bench).log_bytes > 1000
        thread = engine(bench)._checkpoint
        assert thread is not None
        thread.join()
        ticks(bench, 6)
        # Where nothing was added, that is not done again.
        assert engine(bench)._checkpoint is None

    def test_a_large_one_of_small_values_is_written_back_too(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_LARGE_LOG", 1000)
        bench.write(operations.store, "k", 1)
        ticks(bench, 6)
        thread = engine(bench)._checkpoint
        assert thread is not None
        thread.join()
        assert_well(bench)

    def test_where_no_thread_can_be_started_it_is_done_later(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_CHECKPOINT", 1)
        bench.write(operations.store, "k", 1)
        with monkeypatch.context() as none:

            def fail(_thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            none.setattr(threading.Thread, "start", fail)
            assert ticks(bench) is State.OK
            assert engine(bench)._checkpoint is None
        bench.write(operations.store, "k", 2)
        ticks(bench)
        assert engine(bench)._checkpoint is not None

    def test_the_end_waits_until_it_is_written_back(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "_CHECKPOINT", 1)
        bench.write(operations.store, "k", 1)
        ticks(bench)
        bench.close()
        thread = engine(bench)._checkpoint
        assert thread is not None
        assert not thread.is_alive()

    def test_a_failure_of_it_is_nobodys(self, tmp_path: Path) -> None:
        sqlite._write_back(str(tmp_path / "missing" / "cache.db"), threading.Event())

    def test_files_that_are_not_the_ones_any_more_are_not_written_to(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_CHECKPOINT", 1)
        bench.write(operations.store, "k", 1)
        path.rename(f"{path}.away")
        ticks(bench)
        assert engine(bench)._checkpoint is None


class TestTheHistory:
    """What it drops is dropped in the database as well."""

    def test_what_is_dropped_in_memory_is_dropped_there(self, bench: Bench, path: Path) -> None:
        for number in range(600):
            bench.write(operations.store, "k", number)
        bench.cache.limits = bench.limits._replace(max_changes=10)
        for number in range(500):
            bench.write(operations.store, "k", number)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM changes").fetchone()[0] <= 510
        bench.reopen()
        assert_well(bench)

    def test_thousands_are_written_again_in_slices(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store_many, {f"k{number}": number for number in range(500)})
        for number in range(450):
            bench.write(operations.store, "k", number)
        path.unlink()
        slices = sum(1 for _ in engine(bench).align())
        assert slices >= 3 + 2
        assert_well(bench)

    def test_what_comes_while_it_is_written_again_does_not_break_it(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store_many, {f"k{number}": number for number in range(500)})
        path.unlink()
        slices = engine(bench).align()
        next(slices)
        slices.close()
        bench.clock.pass_by(2)
        assert engine(bench).retry()
        assert_well(bench)


class TestTrouble:
    """It ends, and then all is as it was."""

    def test_in_it_supervisord_shows_life_all_the_same(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        beside = Path(f"{path}{generation.SUFFIX}")
        with locked(path):
            with pytest.raises(UnavailableError):
                bench.write(operations.store, "k", 2)
            os.utime(beside, (1, 1))
            ticks(bench, 6)
            assert beside.stat().st_mtime > 1
            os.utime(beside, (1, 1))
            ticks(bench, 2)
            assert beside.stat().st_mtime == 1
        assert ticks(bench) is State.OK

    def test_it_is_not_asked_about_without_pause(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        path.parent.chmod(0o777)
        path.rename(f"{path}.away")
        with pytest.raises(UnavailableError, match="the folder can be written to by others than its owner"):
            bench.write(operations.store, "k", 2)
        path.parent.chmod(0o755)
        assert ticks(bench, 0.5) is State.DEGRADED
        with pytest.raises(UnavailableError):
            bench.write(operations.store, "k", 2)
        assert ticks(bench, 0.6) is State.OK
        assert_well(bench)

    def test_a_database_without_its_folder_is_written_again_where_that_is_back(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        path.parent.rename(f"{path.parent}-away")
        with pytest.raises(UnavailableError, match="No such file or directory"):
            bench.write(operations.store, "k", 2)
        assert ticks(bench, 6) is State.DEGRADED
        path.parent.mkdir(mode=0o755)
        assert ticks(bench) is State.OK
        assert_well(bench)

    def test_what_has_fallen_behind_is_brought_in_line(self, bench: Bench) -> None:
        bench.write(operations.store, "k", 1)
        engine(bench).fall_behind()
        assert ticks(bench) is State.OK
        assert_well(bench)

    def test_a_lost_generation_file_is_made_anew_and_its_readers_told(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        beside = Path(f"{path}{generation.SUFFIX}")
        with beside.open("rb") as reader:
            beside.unlink()
            assert ticks(bench, 6) is State.OK
            assert int.from_bytes(reader.read(8), "little") == generation.GONE
        assert 0 < int.from_bytes(beside.read_bytes()[:8], "little") < generation.GONE
        assert_well(bench)

    def test_nobody_is_told_by_a_file_that_was_let_go(self, path: Path) -> None:
        place = Place(str(path))
        place.take(0o600, (-1, -1))
        place.release()
        before = Path(f"{path}{generation.SUFFIX}").read_bytes()
        place.bump()
        assert Path(f"{path}{generation.SUFFIX}").read_bytes() == before
        place.release()

    def test_a_log_that_is_not_there_has_no_bytes(self, path: Path) -> None:
        assert Place(str(path)).sizes() == (0, 0)


def fill(bench: Bench) -> None:
    """Have more in it than is written in one slice, part of it in the log alone."""
    bench.write(operations.store_many, {f"k{number}": "x" * 100 for number in range(500)})
    bench.write(operations.store, "k", 1)


def write_back(path: Path) -> None:
    """Write the log back and cut it, as another program may."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def assert_written_again(bench: Bench, path: Path, state: State) -> None:
    assert engine(bench).state is state
    assert_agreement(path, bench.cache.content())
    items = bench.cache.items()
    bench.reopen()
    assert bench.cache.items() == items
    assert_well(bench)


class TestHarm:
    """Files that are cut or lost in use are written again from memory."""

    @pytest.mark.parametrize("kept", [0, 1])
    def test_a_log_that_was_cut_is_noticed_before_a_write(self, bench: Bench, path: Path, kept: int) -> None:
        fill(bench)
        log = Path(f"{path}-wal")
        os.truncate(log, kept * (log.stat().st_size - 1))
        bench.write(operations.store, "k", 2)
        assert engine(bench).detail.startswith("it was cut while in use (")
        assert engine(bench).detail.endswith(", and written again from memory: nothing is lost")
        assert_written_again(bench, path, State.RECOVERED)

    def test_a_database_that_was_cut_is_noticed_in_time(self, bench: Bench, path: Path) -> None:
        fill(bench)
        write_back(path)
        bench.write(operations.store, "k", 2)
        ticks(bench, 6)
        assert_well(bench)
        os.truncate(path, path.stat().st_size - 4096)
        assert ticks(bench, 6) is State.RECOVERED
        assert_written_again(bench, path, State.RECOVERED)

    def test_a_database_that_cannot_tell_is_cut(self, bench: Bench, path: Path) -> None:
        fill(bench)
        write_back(path)
        bench.write(operations.store, "k", 2)
        # It is as long as it has to be, and cannot be brought up to date.
        os.truncate(f"{path}-wal", 32)
        bench.write(operations.store, "k", 3)
        assert_written_again(bench, path, State.RECOVERED)

    def test_where_the_log_is_being_written_back_it_is_asked_again(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(bench)
        write_back(path)
        real = engine(bench)._connection

        class Busy:
            """A connection for which another one writes the log back just now."""

            def execute(self, statement: str) -> Any:
                assert real is not None
                if "wal_checkpoint" in statement:
                    return real.execute("SELECT 1, -1, -1")
                return real.execute(statement)

        with monkeypatch.context() as busy:
            busy.setattr(engine(bench), "_connection", Busy())
            with pytest.raises(UnavailableError, match="not stored: its log is being written back"):
                bench.write(operations.store, "k", 2)
        assert ticks(bench) is State.OK
        assert_well(bench)

    @pytest.mark.parametrize("says", ["database is locked", "database or disk is full"])
    def test_one_that_cannot_be_asked_just_now_is_not_taken_for_cut(
        self, bench: Bench, path: Path, says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(bench)
        write_back(path)
        real = engine(bench)._connection

        class Hindered:
            """A connection for which the disk is full, or another program holds the database."""

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def execute(self, statement: str) -> Any:
                assert real is not None
                if "wal_checkpoint" in statement:
                    raise sqlite3.OperationalError(says)
                return real.execute(statement)

        with monkeypatch.context() as hindered:
            hindered.setattr(engine(bench), "_connection", Hindered())
            with pytest.raises(UnavailableError, match=f"not stored: {says}"):
                bench.write(operations.store, "k", 2)
        assert ticks(bench) is State.OK
        bench.write(operations.store, "k", 3)
        assert_well(bench)
        assert not list(path.parent.glob("*corrupt*"))

    @pytest.mark.parametrize(
        "statement",
        [
            "DROP TABLE entries",
            "DROP TABLE changes",
            "DROP TABLE changes; DROP TABLE entries",
            "ALTER TABLE entries ADD COLUMN theirs",
        ],
    )
    def test_tables_that_another_program_has_changed_are_set_aside(
        self, bench: Bench, path: Path, statement: str
    ) -> None:
        fill(bench)
        with closing(sqlite3.connect(path)) as other:
            other.executescript(statement)
        with pytest.raises(UnavailableError, match=r"entries|changes"):
            bench.write(operations.store, "k", 2)
        assert ticks(bench) is State.RECOVERED
        assert "its tables were changed while in use (" in engine(bench).detail
        bench.write(operations.store, "k", 3)
        assert_written_again(bench, path, State.RECOVERED)
        assert [
            found.name for found in path.parent.glob("cache.db.corrupt-*") if found.name[-4:] not in {"-wal", "-shm"}
        ]

    def test_without_a_descriptor_for_the_log_it_is_looked_at_all_the_same(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.open

        def opened(name: str, *args: Any) -> int:
            if str(name).endswith("-wal"):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(name, *args)

        bench.close()
        with monkeypatch.context() as hindered:
            hindered.setattr(os, "open", opened)
            bench.open()
        fill(bench)
        with monkeypatch.context() as untouched:
            # All is not compared at each write.
            untouched.setattr(engine(bench), "_slices", pytest.fail)
            bench.write(operations.store, "k", 2)
        os.truncate(f"{path}-wal", 32)
        bench.write(operations.store, "k", 3)
        assert_written_again(bench, path, State.RECOVERED)

    def test_where_another_program_has_written_the_log_back_nothing_is_compared(
        self, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(bench)
        write_back(path)
        with monkeypatch.context() as untouched:
            untouched.setattr(engine(bench), "_slices", pytest.fail)
            bench.write(operations.store, "k", 2)
            assert ticks(bench, 6) is State.OK
        assert_well(bench)

    def test_locks_that_sqlite_waits_for_are_seldom_tried(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(bench)

        def waits(*_: object) -> None:
            bench.clock.pass_by(10)
            raise sqlite3.OperationalError("locking protocol")

        with monkeypatch.context() as untouched:
            untouched.setattr(engine(bench), "_cursor", SimpleNamespace(execute=waits))
            untouched.setattr(engine(bench), "_slices", waits)
            with pytest.raises(UnavailableError, match="not stored: locking protocol"):
                bench.write(operations.store, "k", 2)
            before = bench.clock.elapsed()
            assert ticks(bench) is State.DEGRADED
            assert bench.clock.elapsed() > before + 10
            untouched.setattr(engine(bench), "align", pytest.fail)
            for _ in range(3):
                assert ticks(bench, 15) is State.DEGRADED
                with pytest.raises(UnavailableError):
                    bench.write(operations.store, "k", 2)
        assert ticks(bench, 20) is State.OK
        bench.write(operations.store, "k", 3)
        assert_well(bench)

    def test_one_that_is_lost_is_not_made_by_writing_back_its_log(self, bench: Bench, path: Path) -> None:
        fill(bench)
        path.unlink()
        _write_back(str(path), threading.Event())
        assert not path.exists()

    def test_an_empty_one_without_its_log_is_left(self, bench: Bench, path: Path) -> None:
        fill(bench)
        # One that has read it holds a lock on that file.
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("SELECT count(*) FROM entries").fetchone()
            os.truncate(path, 0)
            Path(f"{path}-wal").unlink()
            bench.write(operations.store, "k", 2)
            assert engine(bench).state is State.OK
        assert_written_again(bench, path, State.OK)

    def test_one_that_was_lost_before_a_stop_is_written_before_it(self, bench: Bench, path: Path) -> None:
        fill(bench)
        items = bench.cache.items()
        path.unlink()
        bench.reopen()
        assert bench.cache.items() == items

    def test_one_that_was_lost_during_a_reload_is_written_at_its_end(self, bench: Bench, path: Path) -> None:
        fill(bench)
        engine(bench).close()
        path.unlink()
        assert engine(bench).open() is None
        assert_written_again(bench, path, State.OK)

    def test_one_that_is_as_it_was_is_opened_again_with_its_log(self, path: Path) -> None:
        place = Place(str(path))
        place.take(0o600, (-1, -1))
        log = Path(f"{path}-wal")
        log.write_text("a log")
        place.opened(tell=False)
        place.take(0o600, (-1, -1))
        assert log.read_text() == "a log"
        place.release()


class TestThePath:
    """Who may have files there, and what is set aside."""

    def test_two_that_are_set_aside_in_one_second_have_two_names(self, path: Path) -> None:
        place = Place(str(path))
        place.take(0o600, (-1, -1))
        names = []
        for number in range(3):
            path.write_text(str(number))
            names.append(place.set_aside(files.CORRUPT))
        assert [Path(name).read_text() for name in names] == ["0", "1", "2"]
        place.release()

    def test_the_log_of_a_file_that_was_replaced_is_not_applied_to_the_new_one(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        other = path.parent / "other"
        with closing(sqlite3.connect(other)) as theirs:
            theirs.execute("CREATE TABLE theirs (k)")
            theirs.commit()
        content = other.read_bytes()
        other.replace(path)
        bench.write(operations.store, "k", 2)
        assert_well(bench)
        aside = [found for found in path.parent.iterdir() if ".replaced-" in found.name]
        # With its own log: that of the file which was here before.
        assert [found.read_bytes() for found in aside if found.suffix != ".db" and "-wal" not in found.name] == [
            content
        ]

    @AS_ROOT
    def test_a_folder_of_somebody_else_is_refused(self, path: Path) -> None:
        os.chown(path.parent, 1234, -1)
        with pytest.raises(Trouble, match="the folder belongs to user 1234, neither to root nor to supervisord's"):
            Place(str(path)).take(0o600, (-1, -1))

    @AS_ROOT
    def test_files_are_given_to_who_is_named(self, bench: Bench, path: Path) -> None:
        bench.write(operations.store, "k", 1)
        bench.close()
        made = SqliteEngine(str(path), Options(mode=0o640, owner=(1234, 1235)), bench.clock, bench._content)
        assert made.open() is not None
        made.accept()
        for name in ("", "-wal", "-shm", generation.SUFFIX):
            found = Path(f"{path}{name}").stat()
            assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, 0o640)
        made.close()

    @pytest.mark.parametrize("platform", ["linux", "another"])
    def test_a_second_supervisord_is_told_who_has_it(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
    ) -> None:
        def taken(*_: Any) -> None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        Path(f"{path}{generation.SUFFIX}").write_bytes(bytes(8) + (4711).to_bytes(8, "little"))
        monkeypatch.setattr(fcntl, "lockf", taken)
        monkeypatch.setattr(sys, "platform", platform)
        with pytest.raises(Trouble, match=r"^in use by pid 4711$"):
            Place(str(path)).take(0o600, (-1, -1))

    def test_a_file_system_without_locks_is_refused_for_what_it_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(*_: Any) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "lockf", no_locks)
        with pytest.raises(OSError, match="No locks available"):
            Place(str(path)).take(0o600, (-1, -1))

    @pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
    def test_what_is_no_regular_file_is_refused(self, path: Path, kind: str) -> None:
        if kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        with pytest.raises((Trouble, OSError)):
            Place(str(path)).take(0o600, (-1, -1))


@pytest.mark.parametrize(
    ("text", "code"),
    [("database disk image is malformed", 11), ("file is not a database", 26), ("database is locked", 5), ("else", 0)],
)
def test_an_error_without_a_code_is_known_by_its_text(text: str, code: int) -> None:
    """Python 3.10 tells no code."""
    assert sqlite._code(sqlite3.OperationalError(text)) == code


def test_a_batch_is_refused_with_what_is_wrong_where_nothing_was_read_yet(bench: Bench, path: Path) -> None:
    bench.close()
    made = SqliteEngine(str(path), Options(), bench.clock, bench._content)
    bench.cache.engine = made
    with pytest.raises(UnavailableError, match=r"^not stored: not opened yet$"):
        bench.write(operations.store, "k", 1)
    assert made.retry() is False
    assert "it is another one, and has to be read" in made.detail
    made.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("database is locked", 5),
        ("disk I/O error", 10),
        ("database disk image is malformed", 11),
        ("database or disk is full", 13),
        ("file is not a database", 26),
        ("no such table: entries", 0),
    ],
)
def test_what_python_3_10_does_not_tell_is_read_from_the_text(text: str, code: int) -> None:
    assert sqlite._code(sqlite3.OperationalError(text)) == code

"""``storage = sqlite:PATH``: entries that outlive supervisord, in a database that any language reads.

What is in memory is the truth: the database is read once, when it is opened for the first time, and from then on
brought in line with memory, by each commit, and after trouble by what it lacks.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

from supervisor_cache.core import rows
from supervisor_cache.core.engine import Content, Refused, State
from supervisor_cache.core.entry import CLEAR, DRIFT, EXPIRE, RELEASE, RESET, Batch, Clock
from supervisor_cache.engines import files
from supervisor_cache.engines.files import Trouble
from supervisor_cache.errors import UnavailableError, UnknownOutcomeError

# What makes a database ours: "SvCh".
APPLICATION_ID = 0x53764368

_MIGRATIONS = (
    (
        """CREATE TABLE entries (
            key TEXT PRIMARY KEY NOT NULL,
            value TEXT NOT NULL,
            revision INTEGER NOT NULL,
            modified REAL NOT NULL,
            expires REAL NOT NULL,
            owner TEXT NOT NULL,
            pid INTEGER NOT NULL,
            note TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE changes (
            revision INTEGER NOT NULL,
            position INTEGER NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            time REAL NOT NULL,
            note TEXT NOT NULL,
            via TEXT NOT NULL,
            PRIMARY KEY (revision, position)
        ) WITHOUT ROWID""",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)

_DROP = """DELETE FROM changes WHERE revision <= (
    SELECT max(revision) FROM (SELECT revision FROM changes WHERE revision <= ? ORDER BY revision LIMIT ?))"""
_PUT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# With many rows as one statement each of them takes two thirds of the time.
_AT_A_TIME = 50
_PUT_MANY = _PUT + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (_AT_A_TIME - 1)
_DELETE = "DELETE FROM entries WHERE key = ?"
_END = "UPDATE entries SET expires = ? WHERE key = ?"
_CHANGE = "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)"

# What most commits do, as one statement: four would take twice as long.
_STORE = "INSERT INTO temp.store VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_STORE_SCHEMA = (
    """CREATE TEMP VIEW store AS
        SELECT key, value, revision, modified, expires, owner, pid, note,
            '' AS kind, 0.0 AS time, '' AS change_note, '' AS via
        FROM entries""",
    """CREATE TEMP TRIGGER store_one INSTEAD OF INSERT ON store BEGIN
        INSERT OR REPLACE INTO entries VALUES (
            NEW.key, NEW.value, NEW.revision, NEW.modified, NEW.expires, NEW.owner, NEW.pid, NEW.note);
        INSERT INTO changes VALUES (NEW.revision, 0, NEW.kind, NEW.key, NEW.time, NEW.change_note, NEW.via);
    END""",
)

# A smaller one would make a store faster by a few microseconds, and the writing of all of it take twice as long.
_PAGE_BYTES = 4096

# Seconds after a failure before the disk is tried again: each attempt may take long.
_RETRY = 1.0
# The same where somebody else had it locked: to ask again costs little.
_RETRY_BUSY = 0.05
# The same where an attempt took long, in times of that: SQLite waits 10 s for some locks that another program may hold.
_RETRY_TIMES = 6.0
# Changes after which what the history has dropped is dropped here, as many in one commit, and after which the log is
# written back: then the next commit has to wait for the disk once.
_TRIM = 500
_TRIM_AT_ONCE = 2500
_CHECKPOINT = 2000
# Seconds for which one goes on after the other: what is written meanwhile is written back by the next.
_WRITE_BACK = 1.0
# Seconds that the end of a generation of supervisord waits for the log to be written back.
_JOIN = 10.0
# What has to be free after the disk was full, or the next write would find it full again.
_ROOM_BYTES = 256 * 1024
# Bytes after which the log is written back though there were few commits, and to which it is cut when it begins anew.
_LARGE_LOG = files.LARGE_LOG
# Bytes of a log beside its pages: at its start, and before each page.
_LOG_HEADER = 32
_FRAME_HEADER = 24
# Entries that are written in one slice.
_AT_ONCE = 200
# Ends that are told anew in one round of the loop.
_ENDS_AT_ONCE = 2000
# Seconds between two signs of life in the generation file.
_HEARTBEAT = 5.0

_CORRUPT = frozenset({11, 26})  # SQLITE_CORRUPT, SQLITE_NOTADB
_BUSY = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED
_IO_ERROR = 10
# What it says of files that are shorter than they should be.
_HARMED = _CORRUPT | {_IO_ERROR}
_FULL = 13

_TROUBLE = (sqlite3.Error, OSError, OverflowError, Trouble)


class Options(NamedTuple):
    """How the database is kept.

    Attributes:
        synchronous: ``normal`` or ``full``.
        mode: Permissions of the database and its companions.
        owner: User and group, -1 for "as it is".
    """

    synchronous: str = "normal"
    mode: int = 0o600
    owner: tuple[int, int] = (-1, -1)


class SqliteEngine:
    """Keeps what is committed in a SQLite database.

    Args:
        path: Of the database, absolute.
        options: See `Options`.
        clock: The time. Revisions go on from the wall clock, in microseconds, or from the newest stored one.
        memory: Answers what is in memory, which the database is brought in line with.
    """

    kind = "sqlite"
    shared = False

    def __init__(self, path: str, options: Options, clock: Clock, memory: Callable[[], Content]) -> None:
        self.path = path
        self.revision = int(clock.wall() * 1_000_000)
        self.state = State.UNAVAILABLE
        self.detail = "not opened yet"
        self.log_bytes = 0
        self.is_new = False
        self.skipped: frozenset[str] = frozenset()
        self.options = options
        self._clock = clock
        self._memory = memory
        self._recovered = ""
        self._read = False
        self._behind = True
        self._not_before = 0.0
        self._next_try = 0.0
        self._beaten = 0.0
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor
        self._place = files.Place(path)
        self._was_full = False
        self._changes = 0
        self._trimmed = 0
        self._checkpointed = 0
        # Bytes that have gone into the log since it was written back last, roughly.
        self._logged = 0
        # By how much the clock that only grows is ahead of the wall clock, as the stored ends count it; and the keys of
        # those that are still to be told anew since the wall clock was set.
        self._ahead = clock.elapsed() - clock.wall()
        self._untold: list[str] = []
        self._checkpoint: threading.Thread | None = None
        self._closes = threading.Event()

    # Life

    def open(self) -> Content | None:
        """Attach to the database.

        Returns:
            What was in it, at the first time that it could be read; then it is to be taken into memory, or `keep`
            called to have memory written over it. None where memory is the truth already, and where there is trouble,
            which `state` and `detail` then tell.
        """
        content: Content | None = None
        try:
            self._attach()
            if not self._read:
                content = self._load()
            else:
                self._align()
        except _TROUBLE as error:
            self._fail(error)
        except Exception as error:
            # A defect of ours, most likely: it is told as a state, and with its traceback by the caller.
            self._fail(error)
            raise
        else:
            self._is_well()
        return content

    def keep(self) -> None:
        """Bring the database in line with memory, which is the truth from now on."""
        self._read = True
        self._behind = True
        self.retry()

    def accept(self) -> None:
        """Take note that memory holds what the database does."""
        self._read = True
        self._behind = False

    def fall_behind(self) -> None:
        """Take note that memory holds what the database does not."""
        self._behind = True

    def told(self) -> dict[str, Any]:
        """Answer what ``getStats`` says of it beside kind, state and detail."""
        return {"path": ascii(self.path)[1:-1], "skipped": len(self.skipped)}

    def close(self) -> None:
        """Let go of every descriptor and thread. It can be opened again."""
        try:
            if self._checkpoint is not None:
                self._closes.set()
                self._checkpoint.join(_JOIN)
            if self._read and self._place.is_taken and (self._connection is None or not self._place.is_whole()):
                # The files have been harmed since they were looked at last, and memory ends.
                self.retry()
        finally:
            self._detach(last=True)
            self._place.release()

    def tick(self) -> Content | None:
        """Do what is due, in each round of the loop: try again after trouble, write the log back, show life.

        Returns what `open` does.
        """
        now = self._clock.elapsed()
        if self._connection is None or self._behind or self.state is State.DEGRADED:
            if now < max(self._not_before, self._next_try):
                return None
            self._next_try = now + _RETRY
            if not self._read:
                return self.open()
            self.retry()
            if now - self._beaten >= _HEARTBEAT:
                self._beaten = now
                self._place.beat()
            return None
        self._see_checkpoint()
        if self._untold or abs(now - self._clock.wall() - self._ahead) > DRIFT:
            self._tell_ends()
        if self._changes - self._checkpointed >= _CHECKPOINT or self._logged > _LARGE_LOG:
            self._start_checkpoint()
        if now - self._beaten >= _HEARTBEAT:
            self._beaten = now
            if not self._place.is_whole():
                self.retry()
                return None
            self._place.beat()
            _, self.log_bytes = self._place.sizes()
            if self.log_bytes > _LARGE_LOG and self._changes != self._checkpointed:
                self._start_checkpoint()
        return None

    def retry(self) -> bool:
        """Bring the database in line with memory if it is not; answer whether it is."""
        slices = self.align()
        while True:
            try:
                next(slices)
            except StopIteration as end:
                return bool(end.value)

    def align(self) -> Generator[None, None, bool]:
        """Do as `retry`, in slices; between two of them others have their turn, but no other method is called."""
        began = self._clock.elapsed()
        try:
            self._let_go_of_harmed()
            if self._connection is not None and not self._behind and self.state is not State.DEGRADED:
                # Another program has written the log back, or touched the folder.
                self._is_well()
                return True
            self._attach()
            if not self._read:
                raise Trouble("it is another one, and has to be read")
            if self._was_full and self._place.free_bytes() < _ROOM_BYTES:
                raise Trouble("database or disk is full")
            yield from self._slices()
        except _TROUBLE as error:
            self._fail(error)
            now = self._clock.elapsed()
            self._not_before = max(self._not_before, now + _RETRY_TIMES * (now - began))
            return False
        self._was_full = False
        self._is_well()
        return True

    # Commits

    def commit(self, batch: Batch) -> int | Refused:
        """Write the batch in one transaction."""
        revision = self.revision + 1
        if not self._read:
            return self._not_taken(batch, revision, self.detail)
        is_attached = not self._behind and self._connection is not None and not self._place.has_moved()
        if not is_attached and (self._clock.elapsed() < self._not_before or not self.retry()):
            return self._not_taken(batch, revision, self.detail)
        try:
            self._write(batch, revision)
        except _TROUBLE as error:
            return self._failed(batch, revision, error)
        self.revision = revision
        self._changes += len(batch.mutations)
        self._logged += sum([entry.size for _, _, entry in batch.mutations if entry is not None])
        if self.skipped:
            self._forget_skipped(batch)
        if self.state is State.DEGRADED:
            self._is_well()
        if self._changes - self._trimmed >= _TRIM:
            self._trim()
        return revision

    def _failed(self, batch: Batch, revision: int, error: Exception) -> int | Refused:
        self._fail(error)
        why = self.detail
        if _code(error) in _BUSY:
            return self._not_taken(batch, revision, why)
        # Its number may have got onto the disk.
        self.revision = revision
        # A sync can fail after all was written: who opens the database then finds it, unless it is written over.
        is_unknown = _code(error) == _IO_ERROR and not self.retry()
        outcome = self._not_taken(batch, revision + 1, why)
        if is_unknown and isinstance(outcome, Refused):
            return Refused(UnknownOutcomeError(f"it may be stored or not: {why}"))
        return outcome

    def _forget_skipped(self, batch: Batch) -> None:
        """What has been written over is not skipped any more."""
        if batch.mutations[0][0] == CLEAR:
            self.skipped = frozenset()
        else:
            self.skipped -= {key for _, key, _ in batch.mutations}

    def _not_taken(self, batch: Batch, revision: int, why: str) -> int | Refused:
        if all(kind in {EXPIRE, RELEASE} for kind, _, _ in batch.mutations):
            self.revision = revision
            self._behind = True
            return revision
        return Refused(UnavailableError(f"not stored: {why}"))

    def _write(self, batch: Batch, revision: int) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - looked at by the caller
        execute = connection.execute
        mutations = batch.mutations
        kind, key, entry = mutations[0]
        if entry is not None and len(mutations) == 1:
            change = kind, batch.time, batch.note, batch.via
            self._cursor.execute(_STORE, rows.entry_row(key, entry, revision) + change)
            self._place.bump()
            return
        execute("BEGIN IMMEDIATE")
        try:
            if kind == CLEAR:  # alone in its batch
                execute("DELETE FROM entries")
            _put(connection, (rows.entry_row(key, entry, revision) for _, key, entry in mutations if entry is not None))
            connection.executemany(_DELETE, ((key,) for _, key, entry in mutations if entry is None))
            changes = [(kind, key) for kind, key, _ in mutations]
            connection.executemany(_CHANGE, rows.change_rows(revision, batch.time, batch.note, batch.via, changes))
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise
        self._place.bump()

    def _trim(self) -> None:
        """Drop what the history has dropped; never the newest commit, which tells the revision."""
        self._trimmed = self._changes
        dropped = min(self._memory().since, self.revision - 1)
        with suppress(sqlite3.Error):  # it is tried again
            self._cursor.execute(_DROP, (dropped, _TRIM_AT_ONCE))
            self._place.see_log()

    def _tell_ends(self) -> None:
        """Write when entries end as the wall clock counts it, which has been set: others know no other clock."""
        entries = self._memory().entries
        ahead = self._clock.elapsed() - self._clock.wall()
        if abs(ahead - self._ahead) > DRIFT:
            self._ahead = ahead
            self._untold = [key for key, entry in entries.items() if entry.expires]
        told = self._untold[-_ENDS_AT_ONCE:]
        ends = []
        for key in told:
            entry = entries.get(key)
            if entry is not None and entry.expires:
                entry.expires = entry.expires_by(self._clock)
                ends.append((entry.expires, key))
        connection = self._connection
        assert connection is not None  # noqa: S101 - looked at by the caller
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_END, ends)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            if _code(error) not in _BUSY:  # else in the next round
                self._fail(error)
            return
        del self._untold[-_ENDS_AT_ONCE:]
        if not self._untold:
            # Who has read them since the clock was set has counted them wrong, and no change tells of them.
            self._place.bump_epoch()

    # Trouble

    def _fail(self, error: Exception) -> None:
        code = _code(error)
        self.state = State.DEGRADED if self._read else State.UNAVAILABLE
        self.detail = _explain(error, self.path)
        if code in _BUSY:
            # Nothing was written, and to ask again costs little.
            self._not_before = self._clock.elapsed() + (_RETRY_BUSY if self._connection is None else 0)
            return
        self._behind = True
        self._was_full = code == _FULL or getattr(error, "errno", 0) == errno.ENOSPC or self._was_full
        self._not_before = self._clock.elapsed() + _RETRY
        if code in _CORRUPT:
            self._detach()

    def _is_well(self) -> None:
        self.state = State.RECOVERED if self._recovered else State.OK
        self.detail = self._recovered

    # Attaching

    def _attach(self) -> None:
        if self._connection is not None:
            return
        if self._checkpoint is not None and self._checkpoint.is_alive():
            raise Trouble("its log is being written back")
        self._place.take(self.options.mode, self.options.owner)
        if self._place.changed_hands:
            # Another supervisord has had it, and what it acknowledged counts.
            self._place.changed_hands = False
            self._read = False
        try:
            self._connect()
        except (sqlite3.DatabaseError, _CorruptError) as error:
            if not isinstance(error, _CorruptError) and _code(error) not in _CORRUPT:
                raise
            self._set_aside(_explain(error, self.path))
            self._behind = True
            self._place.take(self.options.mode, self.options.owner)
            self._connect()
        self._place.permit()
        # Where memory is the truth, readers look when the database has it.
        self._place.opened(tell=not self._read)

    def _connect(self) -> None:
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, cached_statements=32)
        try:
            execute = connection.execute
            connection.text_factory = rows.decoded
            execute("PRAGMA trusted_schema = OFF")
            self._check_schema(connection)
            found = execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _CorruptError(f"it is corrupt: {found}")
            execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            mode = execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise Trouble(f"no write-ahead log is possible there: journal_mode is {mode}")
            execute(f"PRAGMA synchronous = {self.options.synchronous}")
            execute("PRAGMA wal_autocheckpoint = 0")
            execute(f"PRAGMA journal_size_limit = {_LARGE_LOG}")
            if not self._read:
                execute("BEGIN IMMEDIATE")
                self._migrate(connection)
                execute("COMMIT")
            # Makes the log, if there is none, before its identity is looked at.
            execute("SELECT count(*) FROM sqlite_master").fetchone()
            for statement in _STORE_SCHEMA:
                execute(statement)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._cursor = connection.cursor()

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        ours = execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if tables and not ours:
            raise Trouble("it is the database of another program")
        if version > SCHEMA_VERSION:
            raise Trouble(f"its schema has version {version}, from a newer release; this one knows {SCHEMA_VERSION}")
        if not tables and not self._read and self._place.was_used():
            raise _CorruptError("it is empty, and was not")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                execute(statement)
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _let_go_of_harmed(self) -> None:
        """Detach from files that are not what they were: memory, which is the truth, is to be written to others."""
        connection = self._connection
        if connection is None:
            return
        if self._place.is_whole():
            if not self._behind or _has_own_tables(connection):
                return
            self._set_aside(ascii(f"its tables were changed while in use ({self.path})")[1:-1])
        elif not self._place.has_lost_files():
            if not self._is_cut(connection):
                self._place.see_sizes()
                return
            self._set_aside(ascii(f"it was cut while in use ({self.path})")[1:-1])
        self._detach()
        self._behind = True

    def _set_aside(self, why: str) -> None:
        aside = self._place.set_aside(files.CORRUPT)
        self._recovered = f"{why}; it was set aside as {ascii(aside)[1:-1]}"
        if self._read:
            self._recovered += ", and written again from memory: nothing is lost"

    def _is_cut(self, connection: sqlite3.Connection) -> bool:
        """Whether files that are shorter than before lack something; others may write the log back, too, and cut it."""
        size, log_size = self._place.sizes()
        try:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            if size < pages * page_bytes:
                return True
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if _code(error) in _HARMED:
                return True
            raise
        if frames < 0:
            raise Trouble("its log is being written back")
        return bool(frames and log_size < _LOG_HEADER + frames * (_FRAME_HEADER + page_bytes))

    def _detach(self, *, last: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(sqlite3.Error):
            connection.rollback()
            if last and self._place.is_whole():
                # Else a reader with read permission alone could not open what is left.
                connection.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.Error):
            connection.close()

    # Reading and writing all of it

    def _load(self) -> Content:
        connection = self._connection
        assert connection is not None  # noqa: S101 - attached by now
        execute = connection.execute
        execute("BEGIN")
        try:
            content, self.skipped = rows.read(
                execute("SELECT key, value, revision, modified, expires, owner, pid, note FROM entries"),
                execute("SELECT revision, position, kind, key, time, note, via FROM changes ORDER BY 1, 2"),
                self._clock,
            )
        finally:
            connection.rollback()
        self.revision = max(self.revision, content.revision)
        self.is_new = not (content.entries or content.commits or content.since or self.skipped)
        # Where nothing is known of changes, nobody can resume from before.
        return content if content.commits or content.since else content._replace(since=self.revision)

    def _align(self) -> None:
        """Write what the database lacks, take away what it has beyond memory, in one transaction."""
        for _ in self._slices():
            pass

    def _slices(self) -> Iterator[None]:
        """Do what `_align` does; between two slices memory may change: then it has to be done again."""
        connection = self._connection
        assert connection is not None  # noqa: S101 - attached by now
        content = self._memory()
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            # With what is written, that nobody finds it empty.
            self._migrate(connection)
            stored = {key: found for key, *found in execute("SELECT key, revision, modified FROM entries")}
            entries = dict(content.entries)
            commits = list(content.commits)
            gone = stored.keys() - entries.keys() - self.skipped
            connection.executemany(_DELETE, ((key,) for key in gone))
            # In another etcd, one revision may be that of another entry.
            lacking = [
                (key, entry) for key, entry in entries.items() if stored.get(key) != [entry.revision, entry.modified]
            ]
            for start in range(0, len(lacking), _AT_ONCE):
                part = lacking[start : start + _AT_ONCE]
                _put(connection, (rows.entry_row(key, entry, entry.revision) for key, entry in part))
                yield
            # So may a commit be.
            known = {commit[:2]: commit for commit in commits}
            told = set(execute("SELECT DISTINCT revision, time FROM changes"))
            connection.executemany("DELETE FROM changes WHERE revision = ? AND time = ?", told - known.keys())
            for revision, time in sorted(known.keys() - told):
                _, _, note, via, changes, _ = known[revision, time]
                connection.executemany(_CHANGE, rows.change_rows(revision, time, note, via, changes))
                if not revision % _AT_ONCE:
                    yield
            # What is here begins after this one; who has an older revision starts over.
            reset = (content.since, 0, RESET, "", self._clock.wall(), "", "")
            execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", reset)
            # Writes a page in any case: over what a commit that failed may have left in the log.
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise
        self._behind = False
        self._place.bump()

    # The write-ahead log

    def _see_checkpoint(self) -> None:
        if self._checkpoint is not None and not self._checkpoint.is_alive():
            self._checkpoint = None
            # It has made the database longer.
            self._place.has_shrunk()

    def _start_checkpoint(self) -> None:
        if (self._checkpoint is not None and self._checkpoint.is_alive()) or not self._place.is_whole():
            return
        self._checkpointed = self._changes
        self._logged = 0
        self._closes.clear()
        thread = threading.Thread(
            target=_write_back, args=(self.path, self._closes), name="supervisor_cache checkpoint", daemon=True
        )
        with suppress(RuntimeError):  # no more threads: later, then
            thread.start()
            self._checkpoint = thread


class _CorruptError(Exception):
    """The database is no database any more."""


def _put(connection: sqlite3.Connection, found: Iterator[rows.EntryRow]) -> None:
    """Write rows of ``entries``."""
    while len(part := list(islice(found, _AT_A_TIME))) == _AT_A_TIME:
        connection.execute(_PUT_MANY, [column for row in part for column in row])
    connection.executemany(_PUT, part)


def _has_own_tables(connection: sqlite3.Connection) -> bool:
    """Whether they are as this release makes them, or will be made with the first entries."""
    if not connection.execute("PRAGMA user_version").fetchone()[0]:
        return True
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")}
    return found.issuperset(statement for statements in _MIGRATIONS for statement in statements)


def _write_back(path: str, closes: threading.Event) -> None:
    """Copy the write-ahead log into the database; its waits for the disk must not be supervisord's.

    The log begins anew only where all of it has been copied at the next commit. Under steady writes there is always
    something that came while it was copied, but each round has less to copy and takes less time than the one before.
    """
    with suppress(sqlite3.Error, OSError):
        # Not to be made, where it has just been taken away.
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=0, isolation_level=None
        )
        try:
            before, end = 0, time.monotonic() + _WRITE_BACK
            while not closes.is_set() and time.monotonic() < end:
                _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if before and pages <= before:  # nothing has come, or it has begun anew
                    break
                before = pages
        finally:
            connection.close()


# What SQLite says with those of its result codes that make a difference here.
_TEXTS = {
    "is locked": 5,
    "disk I/O error": 10,
    "malformed": 11,
    "disk is full": 13,
    "not a database": 26,
}


def _code(error: Exception) -> int:
    """Answer SQLite's primary result code of ``error``; 0 where it has none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF
    text = str(error)  # Python 3.10 tells no code
    return next((code for part, code in _TEXTS.items() if part in text), 0)


def _explain(error: Exception, path: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = error.strerror
        path = os.fsdecode(error.filename) if error.filename else path
    else:
        what = str(error)
    return ascii(f"{what} ({path})")[1:-1]

"""Reading a cache from its database, without asking supervisord: for processes of the same host."""

import marshal
import math
import mmap
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar, overload
from urllib.parse import quote

from supervisor_cache.client.absence import elapsed
from supervisor_cache.client.records import Entry
from supervisor_cache.core import generation
from supervisor_cache.core.codec import from_json
from supervisor_cache.core.entry import CLEAR, KINDS
from supervisor_cache.core.rows import checked_value, decoded
from supervisor_cache.core.values import Value
from supervisor_cache.errors import CacheError, UnavailableError

T = TypeVar("T")

_NOT_READ: Final = -1
# Seconds between two looks for a file that is missing or was replaced, and between two attempts after a failure.
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.1
# What a writer holds for a moment only is waited for; in all less than supervisord's slowest step.
_ATTEMPTS: Final = 20
_PAUSE: Final = 0.005

_COLUMNS = "key, value, revision, modified, expires, owner, pid, note"
_ALL = f"SELECT {_COLUMNS} FROM entries"  # noqa: S608 - of constants
_CHANGED = f"SELECT {_COLUMNS} FROM entries WHERE key IN (SELECT key FROM changes WHERE revision > ?)"  # noqa: S608
# Each by its own index look-up; asked for together they would be looked for in all rows.
_BOUNDS = "SELECT (SELECT min(revision) FROM changes), (SELECT max(revision) FROM changes)"
_ABSENT = object()


class _Kept:
    """An entry in this process's memory: an array or struct as bytes, for each reader gets one of its own."""

    __slots__ = ("deadline", "packed", "row", "value")

    def __init__(self, row: tuple[Any, ...], ahead: float) -> None:
        value = checked_value(row)
        self.row = row
        self.value: Any = _ABSENT if isinstance(value, list | dict) else value
        self.packed = b""
        self.deadline = row[4] + ahead if row[4] else math.inf
        if self.value is _ABSENT:
            # Several times as fast as JSON, and it never leaves this process. It has no dates.
            with suppress(ValueError):
                self.packed = marshal.dumps(value)  # type: ignore[arg-type]  # which is told by the error

    def read(self) -> Value:
        if self.value is not _ABSENT:
            value: Value = self.value
        else:
            value = marshal.loads(self.packed) if self.packed else from_json(self.row[1])  # noqa: S302 - see above
        return value


def _living(kept: _Kept | None, default: Any) -> Any:
    if kept is None or (kept.deadline != math.inf and kept.deadline <= elapsed()):
        return default
    return kept.read()


def _take(row: tuple[Any, ...], ahead: float, plain: dict[str, Value], kept: dict[str, _Kept]) -> None:
    key = row[0]
    try:
        one = _Kept(row, ahead)
    except (CacheError, TypeError, ValueError):  # supervisord skips it as well
        plain.pop(key, None)
        kept.pop(key, None)
        return
    kept[key] = one
    if one.value is not _ABSENT and one.deadline == math.inf:
        plain[key] = one.value
    else:
        plain.pop(key, None)


class LocalCache(Mapping[str, Value]):
    """The entries of one cache, as supervisord has written them down; read-only.

    A lookup asks neither supervisord nor the disk: 8 bytes that supervisord shares tell whether anything has changed,
    and only then what has changed is read. It may be used by any number of threads, and goes on in a forked process.

    Where the database cannot be read, what was read last stays, and `age` grows. It is empty where there is no database
    yet.

    Args:
        path: What ``storage = sqlite:PATH`` names.

    Raises:
        UnavailableError: There is a database, and it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = "/" + os.path.abspath(os.fsdecode(path)).lstrip("/")
        self._lock = threading.RLock()
        self._plain: dict[str, Value] = {}
        self._kept: dict[str, _Kept] = {}
        self._revision = 0
        self._seen = _NOT_READ
        self._has_read = False
        self._closed = False
        self._map: mmap.mmap | None = None
        self._nothing = memoryview(bytes(generation.BYTES)).cast("Q")
        self._generation = self._nothing
        self._file: tuple[int, int] = (0, 0)
        self._epoch = b""
        self._database: object = None
        self._failing_since = math.inf
        self._connection: sqlite3.Connection | None = None
        self._next_look = 0.0
        self._next_attempt = 0.0
        _LIVING[id(self)] = self
        with self._lock:
            self._refresh(must=True)

    # A lookup

    @overload
    def get(self, key: str) -> "Value | None": ...
    @overload
    def get(self, key: str, default: T) -> "Value | T": ...
    def get(self, key: str, default: Any = None) -> Any:
        """Answer the value of ``key``, or ``default`` where there is no entry."""
        try:
            if self._generation[0] == self._seen:
                return self._plain[key]
        except KeyError:
            return _living(self._kept.get(key), default)
        return self._find(key, default)

    def __getitem__(self, key: str) -> Value:
        """Answer the value of ``key``; raises `KeyError` where there is no entry."""
        value: Any = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        found: Value = value
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key, _ABSENT) is not _ABSENT

    def entry(self, key: str) -> Entry:
        """Answer all that is known of ``key``; raises `KeyError` where there is no entry."""
        with self._lock:
            self._refresh()
            kept = self._kept.get(key)
            if kept is None or kept.deadline <= elapsed():
                raise KeyError(key)
            _, _, revision, modified, expires, owner, _, note = kept.row
            return Entry(key, kept.read(), revision, modified, expires, owner, note)

    def __iter__(self) -> Iterator[str]:
        """Go through the keys in code-point order, as they were at the start."""
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def snapshot(self, prefix: str = "") -> dict[str, Value]:
        """Answer keys and values at one moment, in code-point order, of those keys that start with ``prefix``."""
        with self._lock:
            return {key: self._kept[key].read() for key in self._keys() if key.startswith(prefix)}

    @property
    def revision(self) -> int:
        """The newest revision that has been read; 0 where there has been no database yet."""
        with self._lock:
            self._refresh()
            return self._revision

    @property
    def age(self) -> float:
        """Seconds since supervisord last showed that what is here is up to date.

        While it runs this stays below 6; infinite where there is no database.
        """
        with self._lock:
            self._refresh()
            failing = time.monotonic() - self._failing_since
        try:
            return max(0.0, failing, time.time() - os.stat(self.path + generation.SUFFIX).st_mtime)
        except OSError:
            return math.inf

    def close(self) -> None:
        """Let go of the files. Nothing can be looked up any more."""
        with self._lock:
            self._closed = True
            self._plain, self._kept = {}, {}
            self._unmap()
            self._disconnect()

    def __enter__(self) -> "LocalCache":  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalCache {self.path!r}>"

    # Keeping up

    def _find(self, key: str, default: Any) -> Any:
        with self._lock:
            self._refresh()
            return _living(self._kept.get(key), default)

    def _keys(self) -> list[str]:
        with self._lock:
            self._refresh()
            now = elapsed()
            return sorted(key for key, kept in self._kept.items() if kept.deadline > now)

    def _refresh(self, *, must: bool = False) -> None:
        if self._closed:
            raise ValueError("this LocalCache is closed")
        now = time.monotonic()
        if now >= self._next_look or self._generation[0] == generation.GONE:
            self._next_look = now + _LOOK_SECONDS
            self._look_for_generation()
        number = self._generation[0]
        if number == self._seen or (now < self._next_attempt and not must):
            return
        if self._map is None and not self._has_read and not self._is_there():
            return
        try:
            self._read_retrying(_ATTEMPTS if must else 1)
        except (sqlite3.Error, OSError, CacheError, TypeError, ValueError) as error:
            self._failing_since = min(self._failing_since, time.monotonic())
            self._next_attempt = time.monotonic() + _RETRY_SECONDS
            self._disconnect()
            if not self._has_read:
                raise UnavailableError(ascii(f"{self.path}: {error}")[1:-1]) from None
        else:
            self._has_read = True
            self._failing_since = math.inf
            # Read before the database was: what came in between is read again.
            self._seen = number if self._map is not None and number != generation.GONE else _NOT_READ

    def _is_there(self) -> bool:
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:  # what cannot be looked at must not look like nothing
            raise UnavailableError(ascii(f"{self.path}: {error.strerror}")[1:-1]) from None
        return True

    def _look_for_generation(self) -> None:
        try:
            descriptor = os.open(self.path + generation.SUFFIX, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            if self._map is not None and self._generation[0] == generation.GONE:
                self._unmap()
            return
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) == self._file or found.st_size < generation.BYTES:
                return
            self._unmap()
            self._map = mmap.mmap(descriptor, min(found.st_size, generation.EPOCH.stop), prot=mmap.PROT_READ)
            self._file = found.st_dev, found.st_ino
            self._seen = _NOT_READ
            self._generation = memoryview(self._map)[: generation.BYTES].cast("Q")
        except (OSError, ValueError):
            self._unmap()
        finally:
            os.close(descriptor)

    def _unmap(self) -> None:
        # Another thread may be looking at it just now: it is closed when nobody holds it any more.
        self._seen, self._generation, self._map = _NOT_READ, self._nothing, None
        self._file = (0, 0)

    def _read_retrying(self, attempts: int) -> None:
        for attempt in range(attempts):
            try:
                self._read()
            except sqlite3.OperationalError:
                # Supervisord opens or closes it just now.
                self._disconnect()
                if attempt == attempts - 1:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _read(self) -> None:
        files = _identity(self.path), _identity(self.path + "-wal")
        if self._connection is None or files != self._database:
            self._disconnect()
            self._connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self.path))}?mode=ro",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.text_factory = decoded
            self._database = files
            self._revision = 0
        # Before the database, which is written before it.
        epoch = b"" if self._map is None else self._map[generation.EPOCH]
        execute = self._connection.execute
        execute("BEGIN")
        try:
            first, newest = execute(_BOUNDS).fetchone()
            knows = self._revision and epoch == self._epoch
            if knows and first is not None and first <= self._revision <= newest:
                self._read_changes(self._connection)
            else:
                self._take_all(execute(_ALL).fetchall())
            self._revision = newest or 0
            self._epoch = epoch
        finally:
            self._connection.rollback()

    def _read_changes(self, connection: sqlite3.Connection) -> None:
        told = connection.execute("SELECT kind, key FROM changes WHERE revision > ?", (self._revision,)).fetchall()
        if any(kind == CLEAR or kind not in KINDS for kind, _ in told):
            self._take_all(connection.execute(_ALL).fetchall())
            return
        rows = {row[0]: row for row in connection.execute(_CHANGED, (self._revision,))}
        ahead = elapsed() - time.time()
        for _, key in told:
            row = rows.get(key)
            if row is None:
                self._plain.pop(key, None)
                self._kept.pop(key, None)
            else:
                _take(row, ahead, self._plain, self._kept)

    def _take_all(self, rows: list[tuple[Any, ...]]) -> None:
        ahead = elapsed() - time.time()
        plain: dict[str, Value] = {}
        kept: dict[str, _Kept] = {}
        for row in rows:
            _take(row, ahead, plain, kept)
        # Another thread that looks something up just now finds it in the old ones or in these.
        self._kept, self._plain = kept, plain

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._revision = 0
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _after_fork(self) -> None:
        # SQLite forbids to use, and even to close, in a child what its parent has opened. Another thread may have been
        # in the middle of reading.
        self._seen = _NOT_READ
        self._lock = threading.RLock()
        if self._connection is not None:
            _LEFT_TO_THE_PARENT.append(self._connection)
            self._connection = None
            self._revision = 0


# By identity: a mapping has no hash.
_LIVING: "weakref.WeakValueDictionary[int, LocalCache]" = weakref.WeakValueDictionary()
_LEFT_TO_THE_PARENT: list[sqlite3.Connection] = []


# Held from before a fork until after it.
_HELD: list[Any] = []


def _before_fork() -> None:
    # No other thread may be inside SQLite, whose own locks the child would inherit held.
    for _, cache in sorted(_LIVING.items()):
        cache._lock.acquire()  # noqa: SLF001 - of this module
        _HELD.append(cache._lock)  # noqa: SLF001 - likewise


def _in_parent() -> None:
    while _HELD:
        _HELD.pop().release()


def _in_child() -> None:
    _HELD.clear()
    for cache in list(_LIVING.values()):
        cache._after_fork()  # noqa: SLF001 - of this module


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def open_local(path: str | os.PathLike[str]) -> LocalCache:
    """Open the cache whose section says ``storage = sqlite:PATH``, for reading at the speed of memory.

    Read permission on the database, its companions (``-wal``, ``-shm``, ``-generation``) and search permission on the
    folder are enough. supervisord need not run.

    Raises:
        UnavailableError: There is a database, and it cannot be read.
    """
    return LocalCache(path)

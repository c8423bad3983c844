"""A cache without a supervisord, for the tests of those who use one.

    from supervisor_cache.testing import ManualClock, memory_cache

    clock = ManualClock()
    cache = memory_cache(clock=clock)
    cache.store("maintenance", True, ttl=3600)
    clock.advance(3601)
    assert "maintenance" not in cache

It is the client's interface over the core that runs inside ``supervisord``: the same answers, the same errors.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.entry import Batch, Clock, Entry, Owner
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.options import checked_revision, checked_timeout
from supervisor_cache.core.text import shown
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import InvalidArgumentsError, NoSuchNamespaceError

__all__ = ["ManualClock", "MemoryCache", "memory_cache"]

# Seconds between two looks at a clock that does not tell when it is turned.
_LOOK = 0.01
_START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc).timestamp()


class ManualClock:
    """A clock that stands still until it is turned.

    Args:
        now: Seconds since the epoch.
    """

    def __init__(self, now: float = _START) -> None:
        self._now = now
        self._elapsed = 0.0

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def elapsed(self) -> float:
        """Seconds that have gone by."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        if seconds < 0:
            raise ValueError("time does not go back: set the wall clock")
        self._now += seconds
        self._elapsed += seconds

    def set_wall(self, now: float) -> None:
        """Set the wall clock, back or forward: no time goes by."""
        self._now = now


class _HostClock:
    def wall(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.monotonic()


class _Core:
    """Calls the methods of a cache in this process."""

    url = "memory:"

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.processes: dict[str, int] = {}
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._waiting = 0
        self._started = clock.elapsed()
        self.cache = Cache(MemoryEngine(clock.wall()), limits, clock, self._owner, self._report)
        self.cache.observers = [self._tell]
        cache = self.cache
        self._methods: dict[str, Callable[..., Any]] = {
            "getAPIVersion": lambda: "2.0",
            "getKeys": cache.keys,
            "getCount": cache.__len__,
            "fetch": cache.fetch,
            "fetchMany": cache.fetch_many,
            "getItems": cache.items,
            "getEntry": lambda key: self._entry(key, cache.entry(key)),
            "getEntries": lambda *page: [self._entry(key, entry) for key, entry in cache.entries(*page)],
            "getRevision": lambda: str(cache.revision),
            "getChanges": lambda *which: [_change(change) for change in cache.changes(*which)],
            "wait": self._wait,
            "getStats": self._stats,
            "store": partial(self._write, operations.store),
            "storeMany": partial(self._write_revision, operations.store_many),
            "add": partial(self._write_revision, operations.add),
            "storeIf": partial(self._write_revision, operations.store_if),
            "increment": partial(self._write, operations.increment),
            "touch": partial(self._write_revision, operations.touch),
            "touchIf": partial(self._write_revision, operations.touch_if),
            "delete": partial(self._write, operations.delete),
            "deleteIf": partial(self._write, operations.delete_if),
            "deleteMany": partial(self._write, operations.delete_many),
            "deletePrefix": partial(self._write, operations.delete_prefix),
            "clear": partial(self._write, operations.clear),
        }

    def call(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:  # noqa: ARG002 - as `Caller`
        with self._changed:
            found = self._methods.get(method)
            if found is None:
                raise NoSuchNamespaceError(f"there is no {method}")
            return found(*args)

    def close(self) -> None:
        """There is nothing to let go of."""

    def end(self, name: str) -> None:
        with self._changed:
            self.cache.release(Owner(name, self.processes.pop(name)))

    def _write(self, operation: Any, *args: Any) -> Any:
        answer = self.cache.write(operation, "", *args)
        return answer.result() if isinstance(answer, Answer) else answer

    def _write_revision(self, operation: Any, *args: Any) -> str:
        revision = self._write(operation, *args)
        return "" if revision is None else str(revision)

    def _wait(self, since: object, timeout: object, prefix: object = "") -> dict[str, Any]:
        after, seconds, start = checked_revision(since), checked_timeout(timeout), checked_prefix(prefix)
        # Whichever comes first: a clock that is turned by hand may stand still.
        end, real_end = self._clock.elapsed() + seconds, time.monotonic() + seconds
        self._waiting += 1
        try:
            while True:
                revision = str(self.cache.revision)
                if self.cache.changed_since(after, start):
                    return {"changed": True, "revision": revision}
                if self._clock.elapsed() >= end or time.monotonic() >= real_end:
                    return {"changed": False, "revision": revision}
                self._changed.wait(_LOOK)
        finally:
            self._waiting -= 1

    def _stats(self) -> dict[str, Any]:
        cache, counters = self.cache, self.cache.counters
        return {
            "namespace": "cache",
            "identification": "testing",
            "entries": len(cache),
            "bytes": cache.size,
            "revision": str(cache.revision),
            "limits": cache.limits._asdict(),
            "storage": {"kind": "memory", "state": "ok"},
            **{name: float(value) for name, value in vars(counters).items()},
            "watchers": self._waiting,
            "history": {
                "changes": cache.history.changes,
                "bytes": cache.history.size,
                "since": str(cache.history.since),
            },
            "uptime": self._clock.elapsed() - self._started,
        }

    def _entry(self, key: str, entry: Entry) -> dict[str, Any]:
        return {
            "key": key,
            "value": entry.value,
            "revision": str(entry.revision),
            "modified": entry.modified,
            "expires": self.cache.expires(entry),
            "owner": entry.owner.name,
            "note": entry.note,
        }

    def _owner(self, name: str) -> Owner:
        full = name if ":" in name else f"{name}:{name}"
        if full not in self.processes:
            raise InvalidArgumentsError(f"owner {shown(name)} is not running")
        return Owner(full, self.processes[full])

    def _tell(self, _batch: Batch) -> None:
        self._changed.notify_all()

    def _report(self, error: Exception) -> None:
        raise error


def _change(change: Change) -> dict[str, Any]:
    return {**change._asdict(), "revision": str(change.revision)}


class MemoryCache(CacheClient):
    """A cache in this process, with the client's interface.

    Args:
        limits: What it admits.
        clock: The time.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._core = _Core(limits, clock)
        super().__init__(self._core)

    def start_process(self, name: str, pid: int = 0) -> None:
        """Have a process ``GROUP:NAME`` run, so that entries may name it as their owner."""
        full = name if ":" in name else f"{name}:{name}"
        self._core.processes[full] = pid or 1 + max(self._core.processes.values(), default=1000)

    def end_process(self, name: str) -> None:
        """Have a process end, and its entries with it; raises `KeyError` where it does not run."""
        self._core.end(name if ":" in name else f"{name}:{name}")


def memory_cache(*, clock: Clock | None = None, **limits: int) -> MemoryCache:
    """Make a cache without a supervisord.

    Args:
        clock: The time, as a `ManualClock`; by default the host's.
        **limits: Options of the section that set limits: ``max_entries``, ``max_key_bytes``, ``max_value_bytes``,
            ``max_total_bytes``, ``max_changes``.

    Raises:
        TypeError: There is no such limit.
    """
    return MemoryCache(Limits(**limits), clock or _HostClock())

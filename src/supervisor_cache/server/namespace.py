"""One cache with its name and its settings; it outlives reloads."""

import time
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from supervisor_cache.core.cache import Cache
from supervisor_cache.core.entry import Batch, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.text import shown
from supervisor_cache.core.values import MAX_INT
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import InvalidArgumentsError
from supervisor_cache.server.backlog import Backlog, Step
from supervisor_cache.server.clock import HostClock
from supervisor_cache.server.events import EventObserver
from supervisor_cache.server.log import Log, contain
from supervisor_cache.server.owners import Processes
from supervisor_cache.server.settings import Settings
from supervisor_cache.server.storage import Storage
from supervisor_cache.server.waiting import Waiting

# Sections of servers that can have any name; that of the unix socket has one.
_INET = "inet_http_server"


class Namespace:
    """What supervisord keeps for one section.

    Attributes:
        name: What stands after ``rpcinterface:``.
        settings: What the section says; after a reload with a wrong section, what it said before.
        settings_error: Why the settings are not those of the file; empty if they are.
        storage: Where its entries are kept.
        refusal: Why every call is refused: no section was right yet, or nobody can tell what is stored; else empty.
        cache: The entries.
        waiting: The clients that wait for a change.
        publications: How many messages of processes were applied.
        publications_dropped: How many were not.
        processes: Those of the running supervisord.
    """

    def __init__(self, name: str, settings: Settings, log: Log, backlog: Backlog) -> None:
        self.name = name
        self.settings = settings
        self.settings_error = ""
        self._servers: frozenset[str] = frozenset()
        self._log = log
        self._backlog = backlog
        self.refusal = ""
        self._unusable = ""
        self._started = time.monotonic()
        self.waiting = Waiting()
        self.publications = 0
        self.publications_dropped = 0
        self.processes: Processes | None = None
        self._events = EventObserver(name, log, backlog)
        clock = HostClock()
        self.cache = Cache(MemoryEngine(clock.wall()), settings.limits, clock, self._find_owner, self._report)
        self.storage = Storage(name, self.cache, clock, log, self.release_all, lambda: backlog.wake())  # noqa: PLW0108 - it is another one after a reload

    @classmethod
    def unusable(cls, name: str, error: str, log: Log, backlog: Backlog) -> "Namespace":
        """Make one whose first section, at a reload, was wrong: it refuses every call, and never guesses."""
        namespace = cls(name, Settings(), log, backlog)
        namespace.settings_error = error
        namespace._unusable = f"not configured: {error}"
        namespace._see_refusal()
        return namespace

    def configure(self, settings: Settings, servers: Collection[str] = ()) -> None:
        """Go by ``settings`` from now on, of which ``servers`` are known.

        What is over a limit stays, cannot grow, and is warned of once.
        """
        self.settings = settings
        self._servers = frozenset(servers)
        self.settings_error = ""
        self._unusable = ""
        self.cache.limits = settings.limits
        self.storage.use(settings)
        self._see_refusal()
        self.cache.observers = (self._events, self.waiting)
        if settings.log_changes:
            self.cache.observers += (self._log_changes,)
        if self.storage.mirror is not None:
            self.cache.observers += (self.storage.mirror,)
        if settings.etcd is not None:
            self.cache.observers += (self._see_owners,)
        for line in settings.excess():
            self._log.warning(f"{self.name}: {line}")

    def open(self) -> None:
        """Begin to work: supervisord is in its loop."""
        self.storage.open()
        self._see_refusal()
        self._warn_of_excess()
        self.release_all()

    def close(self) -> None:
        """Let go of what must not outlive a reload."""
        self.waiting.clear()
        self.storage.close()

    def _warn_of_excess(self) -> None:
        over = [] if len(self.cache) == 0 else self._over(self.settings.limits)
        if over:
            self._log.warning(f"{self.name}: {'; '.join(over)}: all of it is kept, and growth refused")

    def _over(self, limits: Limits) -> list[str]:
        over = []
        if len(self.cache) > limits.max_entries:
            over.append(f"{len(self.cache)} entries are stored, max_entries is {limits.max_entries}")
        if self.cache.size > limits.max_total_bytes:
            over.append(f"{self.cache.size} bytes are stored, max_total_bytes is {limits.max_total_bytes}")
        longest, largest = self.cache.largest()
        if longest > limits.max_key_bytes:
            over.append(f"a key of {longest} bytes is stored, max_key_bytes is {limits.max_key_bytes}")
        if largest > limits.max_value_bytes:
            over.append(f"a value of {largest} bytes is stored, max_value_bytes is {limits.max_value_bytes}")
        return over

    def keep_settings(self, error: str, servers: Collection[str]) -> None:
        """Go on with the settings there are: the section is wrong.

        Where they protect a server of inet, one of ``servers`` that they do not know may be that very one under
        another name: it is protected likewise.
        """
        self.settings_error = error
        new = frozenset(servers) - self._servers
        self.settings = self.settings._replace(
            confine=_with_new(self.settings.confine, new), read_only=_with_new(self.settings.read_only, new)
        )

    def describe(self) -> str:
        """One line for the log at start."""
        limits, database, etcd = self.settings.limits, self.settings.database, self.settings.etcd
        where = f"sqlite:{ascii(database)[1:-1]}" if database else "memory"
        if etcd is not None:
            # What is there has yet to come.
            most = f"at most {limits.max_entries} entries and {limits.max_total_bytes} bytes"
            return f"{self.name}: storage etcd://{','.join(etcd.members)}{etcd.prefix}, {most}"
        return (
            f"{self.name}: storage {where}, {len(self.cache)} entries, {self.cache.size} bytes, "
            f"revision {self.cache.revision}, at most {limits.max_entries} entries and {limits.max_total_bytes} bytes"
        )

    def stats(self, identification: str) -> dict[str, Any]:
        """Answer what ``getStats`` does. Counters are doubles: XML-RPC integers have 32 bits."""
        cache, counters = self.cache, self.cache.counters
        settings = self.settings
        limits = dict(
            settings.limits._asdict(), max_request_bytes=settings.max_request_bytes, max_watchers=settings.max_watchers
        )
        return {
            "namespace": self.name,
            "identification": identification,
            "entries": len(cache),
            "bytes": min(cache.size, MAX_INT),
            "revision": str(cache.revision),
            "limits": limits,
            "storage": self.storage.stats(),
            "settings_error": self.settings_error,
            "read_only": sorted(self.settings.read_only),
            "hits": float(counters.hits),
            "misses": float(counters.misses),
            "writes": float(counters.writes),
            "refused": float(counters.refused),
            "expired": float(counters.expired),
            "published": float(self.publications),
            "publications_dropped": float(self.publications_dropped),
            "watchers": len(self.waiting),
            "history": {
                "changes": cache.history.changes,
                "bytes": min(cache.history.size, MAX_INT),
                "since": str(cache.history.since),
            },
            "uptime": round(time.monotonic() - self._started, 3),
        }

    def tidy(self) -> None:
        """Do what is due between calls."""
        contain(self._log, "what is due in a namespace", None, self._do_what_is_due)

    def _do_what_is_due(self) -> None:
        self.storage.tick()
        self._see_refusal()
        self.cache.tidy()

    def _see_refusal(self) -> None:
        self.refusal = self._unusable or self.storage.refusal

    def release_all(self) -> None:
        """Take away what ends with a process: none has been started yet."""
        for owner in self.cache.owners():
            self.cache.release(owner)

    def _see_owners(self, batch: Batch) -> None:
        """Release what has been committed for a process that has ended meanwhile."""
        for _, _, entry in batch.mutations:
            if entry is not None and entry.owner.pid and not self._lives(entry.owner):
                self.cache.release(entry.owner)

    def _lives(self, owner: Owner) -> bool:
        return self.processes is not None and self.processes.lives(owner)

    def _find_owner(self, name: str) -> Owner:
        if self.processes is None:
            raise InvalidArgumentsError(f"owner {shown(name)}: supervisord has not started its processes yet")
        return self.processes.owner(name)

    def _log_changes(self, batch: Batch) -> None:
        self._backlog.run(self._log_lines(batch))

    def _log_lines(self, batch: Batch) -> Iterator[Step]:
        for kind, key, entry in batch.mutations:
            ttl = 0.0 if entry is None or not entry.expires else round(entry.expires - entry.modified, 3)
            owner = "" if entry is None else entry.owner.name
            yield partial(
                self._log.info,
                f"{self.name}: {kind} key={shown(key)} revision={batch.revision} ttl={ttl:g} "
                f"owner={shown(owner)} note={shown(batch.note)} via={shown(batch.via)}",
            )

    def _report(self, error: Exception) -> None:
        self._log.failure("an observer of changes", error)


def _with_new(protected: frozenset[str], new: frozenset[str]) -> frozenset[str]:
    if not any(server.startswith(_INET) for server in protected):
        return protected
    return protected | {server for server in new if server.startswith(_INET)}

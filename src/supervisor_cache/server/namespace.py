"""One cache with its name and its settings; it outlives reloads."""

import time
from typing import Any

from supervisor_cache.core.cache import Cache
from supervisor_cache.core.entry import Commit
from supervisor_cache.core.text import shown
from supervisor_cache.core.values import MAX_INT
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import UnavailableError
from supervisor_cache.server.events import EventObserver
from supervisor_cache.server.log import Log
from supervisor_cache.server.settings import Settings


class Namespace:
    """What supervisord keeps for one section.

    Attributes:
        name: What stands after ``rpcinterface:``.
        settings: What the section says; after a reload with a wrong section, what it said before.
        settings_error: Why the settings are not those of the file; empty if they are.
        cache: The entries.
    """

    def __init__(self, name: str, settings: Settings, log: Log) -> None:
        self.name = name
        self.settings = settings
        self.settings_error = ""
        self._log = log
        self._unusable = False
        self._started = time.monotonic()
        observers = (EventObserver(name, log), self._log_changes)
        self.cache = Cache(MemoryEngine(time.time()), settings.limits, time.time, observers, self._report)

    @classmethod
    def unusable(cls, name: str, error: str, log: Log) -> "Namespace":
        """Make one whose first section, at a reload, was wrong: it refuses every call, and never guesses."""
        namespace = cls(name, Settings(), log)
        namespace.settings_error = error
        namespace._unusable = True
        return namespace

    def configure(self, settings: Settings) -> None:
        """Go by ``settings`` from now on. What is over a limit stays, cannot grow, and is warned of once."""
        self.settings = settings
        self.settings_error = ""
        self._unusable = False
        self.cache.limits = settings.limits
        limits = settings.limits
        over = []
        if len(self.cache) > limits.max_entries:
            over.append(f"{len(self.cache)} entries are stored, max_entries is {limits.max_entries}")
        if self.cache.size > limits.max_total_bytes:
            over.append(f"{self.cache.size} bytes are stored, max_total_bytes is {limits.max_total_bytes}")
        if over:
            self._log.warning(f"{self.name}: {'; '.join(over)}: all of it is kept, and growth refused")

    def keep_settings(self, error: str) -> None:
        """Go on with the settings there are: the section is wrong."""
        self.settings_error = error

    def check_usable(self) -> None:
        """Raise `UnavailableError` if this namespace never had a section that was right."""
        if self._unusable:
            raise UnavailableError(f"not configured: {self.settings_error}")

    def describe(self) -> str:
        """One line for the log at start."""
        limits = self.settings.limits
        return (
            f"{self.name}: storage {self.settings.storage}, {len(self.cache)} entries, {self.cache.size} bytes, "
            f"revision {self.cache.revision}, at most {limits.max_entries} entries and {limits.max_total_bytes} bytes"
        )

    def stats(self, identification: str) -> dict[str, Any]:
        """Answer what ``getStats`` does. Counters are doubles: XML-RPC integers have 32 bits."""
        cache, counters = self.cache, self.cache.counters
        limits = dict(vars(self.settings.limits), max_request_bytes=self.settings.max_request_bytes)
        return {
            "namespace": self.name,
            "identification": identification,
            "entries": len(cache),
            "bytes": min(cache.size, MAX_INT),
            "revision": str(cache.revision),
            "limits": limits,
            "storage": {"kind": cache.engine.kind, "state": "ok", "detail": ""},
            "settings_error": self.settings_error,
            "read_only": sorted(self.settings.read_only),
            "hits": float(counters.hits),
            "misses": float(counters.misses),
            "writes": float(counters.writes),
            "refused": float(counters.refused),
            "expired": 0.0,
            "watchers": 0,
            "uptime": round(time.monotonic() - self._started, 3),
        }

    def _log_changes(self, commit: Commit) -> None:
        if not self.settings.log_changes:
            return
        batch = commit.batch
        for kind, key, entry in batch.mutations:
            ttl = 0.0 if entry is None or not entry.expires else round(entry.expires - entry.modified, 3)
            owner = "" if entry is None else entry.owner
            self._log.info(
                f"{self.name}: {kind} key={shown(key)} revision={commit.revision} ttl={ttl:g} "
                f"owner={shown(owner)} note={shown(batch.note)} via={shown(batch.via)}"
            )

    def _report(self, error: Exception) -> None:
        self._log.failure("an observer of changes", error)

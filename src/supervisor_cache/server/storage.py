"""Where one namespace keeps its entries: chosen by its section, opened with the loop, closed before a reload."""

from collections.abc import Callable
from typing import Any, TypeAlias

from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import Content, State
from supervisor_cache.core.entry import Clock
from supervisor_cache.engines.etcd import EtcdEngine
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.engines.sqlite import SqliteEngine
from supervisor_cache.server.log import Log
from supervisor_cache.server.mirror import Mirror
from supervisor_cache.server.settings import Settings

_LARGE_LOG = 16 * 1024 * 1024

# What is opened, has work to do between calls, and is closed.
_Keeper: TypeAlias = SqliteEngine | EtcdEngine


class Storage:
    """Keeps a cache in the engine that its section names.

    Args:
        name: Of the namespace.
        cache: Its cache.
        clock: The time.
        log: Where a change of state is said.
        on_loaded: Called when what was stored has been taken into memory, before anybody can ask.
        wake: Has the next round of the loop come at once, from any thread.

    Attributes:
        refusal: Why every call is refused as long as nobody can tell what is stored; else empty.
        mirror: The database that follows a shared cache; None for none.
    """

    def __init__(
        self,
        name: str,
        cache: Cache,
        clock: Clock,
        log: Log,
        on_loaded: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self.refusal = ""
        self.mirror: Mirror | None = None
        self._name = name
        self._cache = cache
        self._clock = clock
        self._log = log
        self._on_loaded = on_loaded
        self._wake = wake
        self._place: object = ("memory",)
        self._keeper: _Keeper | None = None
        self._carry = False
        self._served = False
        self._said_recovered = ""
        self._told: tuple[State, str] = (State.OK, "")
        self._log_bytes = 0

    def use(self, settings: Settings) -> None:
        """Go by ``settings`` from the next `open` on. What another storage held is taken over, or dropped, then."""
        self._use_mirror(settings)
        place = _place_of(settings)
        if place == self._place:
            if isinstance(self._keeper, SqliteEngine):
                self._keeper.options = settings.sqlite
            elif isinstance(self._keeper, EtcdEngine) and settings.etcd is not None:
                self._keeper.options = settings.etcd
            return
        self._place = place
        before = self._cache.engine.revision
        # What was in memory before stays there until the storage after it has been read.
        in_memory = self._keeper is None or self._carry
        self._carry = in_memory and self._served
        if settings.etcd is not None:
            self._keeper = EtcdEngine(settings.etcd, self._clock, self._cache, self._wake)
        elif settings.database:
            self._keeper = SqliteEngine(settings.database, settings.sqlite, self._clock, self._cache.content)
            self._keeper.revision = max(self._keeper.revision, before)
        else:
            self._keeper, self._carry = None, False
            memory = MemoryEngine(self._clock.wall())
            memory.revision = max(memory.revision, before)
            self._cache.engine = memory
            if not in_memory:
                self._replace(Content({}, (), memory.revision, memory.revision))
            self.refusal = ""
            return
        self._cache.engine = self._keeper
        self.refusal = self._keeper.detail

    def _use_mirror(self, settings: Settings) -> None:
        path = "" if self.mirror is None else self.mirror.path
        if not settings.mirror:
            self.mirror = None
        elif path != settings.mirror:
            self.mirror = Mirror(
                self._name, settings.mirror, settings.sqlite, self._clock, self._cache, self._log, self._wake
            )
        elif self.mirror is not None:
            self.mirror.use(settings.sqlite)

    def open(self) -> None:
        """Open what the settings name; supervisord is in its loop from now on."""
        if self._keeper is None:
            self._served = True
            return
        try:
            self._take(self._keeper.open())
            if self.mirror is not None:
                copy = self.mirror.open()
                if isinstance(self._keeper, EtcdEngine):
                    if copy is not None and self._keeper.begin_with(copy):
                        self._take(copy)
                    elif self._keeper.has_been_read:
                        # It goes on from where it was, and a mirror that is new has nothing of that.
                        self.mirror.follow()
        finally:
            self._look()

    def tick(self) -> None:
        """Do what is due between calls."""
        if self._keeper is None:
            return
        try:
            self._take(self._keeper.tick())
        finally:
            self._look()
        if self.mirror is not None:
            self.mirror.tick()
        if isinstance(self._keeper, SqliteEngine) and self._keeper.log_bytes != self._log_bytes:
            self._see_log(self._keeper.log_bytes)

    def _see_log(self, size: int) -> None:
        # It is looked at every few seconds, and this is called in each round of the loop.
        self._log_bytes = size
        if size > _LARGE_LOG:
            text = f"its log has {size} bytes: very many writes, or a reader in a transaction"
            self._log.repeated(f"{self._name}: log of the database", f"{self._name}: {text}")

    def close(self) -> None:
        """Let go of every descriptor and thread; supervisord closes its own next."""
        try:
            if self._keeper is not None:
                self._keeper.close()
        finally:
            if self.mirror is not None:
                self.mirror.close()

    def stats(self) -> dict[str, Any]:
        """Answer what ``getStats`` says of it."""
        engine = self._cache.engine
        told: dict[str, Any] = {"kind": engine.kind, "state": engine.state.value, "detail": engine.detail}
        if self._keeper is not None:
            told.update(self._keeper.told())
        if self.mirror is not None:
            told["mirror"] = self.mirror.stats()
        return told

    def _take(self, content: Content | None) -> None:
        engine = self._keeper
        if engine is None or content is None:
            return
        if (self._carry and engine.is_new) or self._replace(content):
            engine.keep()
        else:
            engine.accept()
        self._served = True
        if engine.skipped:
            self._log.warning(
                f"{self._name}: {len(engine.skipped)} stored entries can be none, and are left where they are"
            )
        self._carry = False
        self._on_loaded()

    def _replace(self, content: Content) -> bool:
        """Have ``content`` in memory; answer whether the storage is to be brought in line with it."""
        cache = self._cache
        is_same = isinstance(self._keeper, EtcdEngine) and self._keeper.has_been_read
        dropped = 0 if is_same else len(cache)
        if self._served and not cache.engine.shared:
            # Who follows the changes must start over: these are other entries.
            cache.engine.revision += 1
            content = content._replace(commits=(), since=cache.engine.revision, revision=cache.engine.revision)
        if self._served:
            cache.start_over(content)
        else:
            cache.load(content)
        if dropped:
            self._log.warning(f"{self._name}: the storage is another one; {dropped} entries of the former are dropped")
        if isinstance(self._keeper, EtcdEngine):
            self._keeper.has_been_read = True
            where = "etcd" if self._keeper.is_copied else "the mirror"
            self._log.info(f"{self._name}: read {len(content.entries)} entries of {where}, revision {content.revision}")
            if self.mirror is not None:
                self.mirror.start_over()
        return self._served

    def _look(self) -> None:
        """See how the storage does; say what has changed."""
        engine = self._cache.engine
        before, now = self._told, (engine.state, engine.detail)
        self.refusal = engine.detail if engine.state is State.UNAVAILABLE else ""
        if isinstance(self._keeper, EtcdEngine) and self._keeper.is_starting:
            return  # it takes a moment in any case
        if now != before:
            self._told = now
            self._tell(before[0], *now)

    def _tell(self, before: State, state: State, detail: str) -> None:
        if state is before and state is not State.OK:
            self._log.repeated(f"{self._name}: {detail}", f"{self._name}: now {detail}")
        elif state is State.OK:
            self._log.info(f"{self._name}: the storage is all right")
        elif state is State.RECOVERED and detail == self._said_recovered:
            self._log.info(f"{self._name}: the storage is all right again")
        elif state is State.RECOVERED:
            self._said_recovered = detail
            self._log.critical(f"{self._name}: began anew: {detail}")
        elif state is State.DEGRADED:
            self._log.warning(f"{self._name}: writes are refused, reads go on from memory: {detail}")
        else:
            self._log.warning(f"{self._name}: unavailable until it can be read: {detail}")


def _place_of(settings: Settings) -> object:
    """Answer what tells whether two sections mean the same storage."""
    if settings.etcd is not None:
        return "etcd", sorted(settings.etcd.members), settings.etcd.prefix
    return ("sqlite", settings.database) if settings.database else ("memory",)

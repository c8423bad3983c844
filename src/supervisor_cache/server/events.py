"""Changes as events for ``[eventlistener]`` sections.

The types are registered when this module is imported, which is before Supervisor resolves ``events=``.
"""

from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

from supervisor import events

from supervisor_cache.core.codec import to_ascii_json
from supervisor_cache.core.entry import CLEAR, DELETE, EXPIRE, RELEASE, STORE, TOUCH, Batch, Mutation
from supervisor_cache.server.backlog import Backlog, Step
from supervisor_cache.server.log import Log, contain

MAX_VALUE_BYTES = 8 * 1024


class CacheEvent(events.Event):
    """One change of one cache."""

    def __init__(self, log: Log, namespace: str, revision: int, seq: int, mutation: Mutation) -> None:
        self._log = log
        self._namespace = namespace
        self._revision = revision
        self._seq = seq
        self._mutation = mutation

    def payload(self) -> str:
        """The header line, then the value as ASCII JSON; what cannot be built is an empty event."""
        return contain(self._log, "an event's payload", "\n", self._payload)

    def _payload(self) -> str:
        _, key, entry = self._mutation
        tokens = {
            "namespace": self._namespace,
            "key": key,
            "revision": str(self._revision),
            "seq": str(self._seq),
            "expires": "0" if entry is None else f"{entry.expires:.3f}".removesuffix(".000"),
        }
        value = "" if entry is None else to_ascii_json(entry.value)
        if len(value) > MAX_VALUE_BYTES:
            value = ""
            tokens["value"] = "omitted"
        header = " ".join(f"{name}:{quote(token, safe='')}" for name, token in tokens.items())
        return f"{header}\n{value}"


class CacheStoreEvent(CacheEvent):
    """A value was stored."""


class CacheTouchEvent(CacheEvent):
    """The end of an entry was set anew."""


class CacheDeleteEvent(CacheEvent):
    """An entry was deleted."""


class CacheExpireEvent(CacheEvent):
    """The end of an entry has come."""


class CacheReleaseEvent(CacheEvent):
    """The process that owned an entry has ended."""


class CacheClearEvent(CacheEvent):
    """All entries were taken away."""


_TYPES: dict[str, type[CacheEvent]] = {
    STORE: CacheStoreEvent,
    TOUCH: CacheTouchEvent,
    DELETE: CacheDeleteEvent,
    EXPIRE: CacheExpireEvent,
    RELEASE: CacheReleaseEvent,
    CLEAR: CacheClearEvent,
}

events.register("CACHE", CacheEvent)
for _kind, _type in _TYPES.items():
    events.register(f"CACHE_{_kind.upper()}", _type)


class EventObserver:
    """Notifies Supervisor's event listeners of each change of one cache, if any listens.

    Attributes:
        seq: The number of the newest change; grows by 1 with each, whether anybody listens or not.
    """

    def __init__(self, namespace: str, log: Log, backlog: Backlog) -> None:
        self._namespace = namespace
        self._log = log
        self._backlog = backlog
        self.seq = 0
        self._last_callback: object = None
        self._callbacks = 0
        self._listened = False

    def __call__(self, batch: Batch) -> None:
        """Notify of the changes of ``batch``, in their order."""
        first = self.seq + 1
        self.seq += len(batch.mutations)
        # Subscribing appends, so that a look at the last one shows whether the list is still the same.
        callbacks = events.callbacks
        if not callbacks or callbacks[-1] is not self._last_callback or len(callbacks) != self._callbacks:
            self._look_for_listeners()
        if self._listened:
            self._backlog.run(self._notifications(batch, first))

    def _notifications(self, batch: Batch, first: int) -> Iterator[Step]:
        for seq, mutation in enumerate(batch.mutations, first):
            make = _TYPES.get(mutation[0])
            if make is None:
                continue  # nobody knows what has happened: the hole in seq says so
            yield partial(events.notify, make(self._log, self._namespace, batch.revision, seq, mutation))

    def _look_for_listeners(self) -> None:
        callbacks = events.callbacks
        self._last_callback, self._callbacks = callbacks[-1] if callbacks else None, len(callbacks)
        self._listened = any(wanted is events.Event or issubclass(wanted, CacheEvent) for wanted, _ in callbacks)

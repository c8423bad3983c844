"""Changes as events for ``[eventlistener]`` sections.

The types are registered when this module is imported, which is before Supervisor resolves ``events=``.
"""

from urllib.parse import quote

from supervisor import events

from supervisor_cache.core.entry import CLEAR, DELETE, STORE, Commit, Mutation
from supervisor_cache.core.values import to_ascii_json
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
            "expires": "0" if entry is None else repr(entry.expires),
        }
        value = "" if entry is None else to_ascii_json(entry.value)
        if len(value) > MAX_VALUE_BYTES:
            value = ""
            tokens["value"] = "omitted"
        header = " ".join(f"{name}:{quote(token, safe='')}" for name, token in tokens.items())
        return f"{header}\n{value}"


class CacheStoreEvent(CacheEvent):
    """A value was stored."""


class CacheDeleteEvent(CacheEvent):
    """An entry was deleted."""


class CacheClearEvent(CacheEvent):
    """All entries were taken away."""


_TYPES: dict[str, type[CacheEvent]] = {STORE: CacheStoreEvent, DELETE: CacheDeleteEvent, CLEAR: CacheClearEvent}

events.register("CACHE", CacheEvent)
for _kind, _type in _TYPES.items():
    events.register(f"CACHE_{_kind.upper()}", _type)


class EventObserver:
    """Notifies Supervisor's event listeners of each change of one cache, if any listens.

    Attributes:
        seq: The number of the newest change; grows by 1 with each, whether anybody listens or not.
    """

    def __init__(self, namespace: str, log: Log) -> None:
        self._namespace = namespace
        self._log = log
        self.seq = 0

    def __call__(self, commit: Commit) -> None:
        """Notify of the changes of ``commit``, in their order."""
        mutations = commit.batch.mutations
        first = self.seq + 1
        self.seq += len(mutations)
        if not _has_listener():
            return
        for seq, mutation in enumerate(mutations, first):
            event = _TYPES[mutation.kind](self._log, self._namespace, commit.revision, seq, mutation)
            events.notify(event)


def _has_listener() -> bool:
    # A list of a few; a pool that is added at run time appears in it.
    for wanted, _ in events.callbacks:  # noqa: SIM110 - any() takes three times as long, at each write
        if wanted is events.Event or issubclass(wanted, CacheEvent):
            return True
    return False

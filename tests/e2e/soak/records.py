"""What all clients have been told, and what the history makes of it."""

import datetime as dt
import hashlib
import json
import threading
import xmlrpc.client
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, final

# A value that no client of ours has chosen: what a process has published.
UNTOLD: Final = object()
_SHOWN = 20


class Outcome(Enum):
    """What a client knows of a write."""

    DONE = "acknowledged"
    # Nobody has answered, or the answer is the same whether something had to be changed or not.
    PERHAPS = "unclear"
    REFUSED = "refused"


class Add(NamedTuple):
    """An effect: so much more than before, where there was nothing counting as 0. Any other effect is the value."""

    delta: int


class _Write:
    __slots__ = ("effects", "outcome", "revision")

    def __init__(self, effects: Mapping[str, Any]) -> None:
        self.effects = effects
        self.outcome: Outcome | None = None
        # That its answer has named, and then that the history has.
        self.revision = ""


@final
class Records:
    """Each write from its being sent until both its answer and the history are known; so it takes little memory.

    A write is known by its note, ``NAME.NUMBER``, which nobody uses twice.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.counts: Counter[str] = Counter()
        self._writes: dict[str, _Write] = {}
        self._in_history: dict[str, str] = {}
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def complain(self, text: str) -> None:
        with self._lock:
            # What goes wrong at every turn is as clear after the first hundred.
            if len(self.complaints) < 100:
                self.complaints.append(text[:600])

    def begin(self, note: str, effects: Mapping[str, Any]) -> None:
        """Take note of a write before it is sent: ``effects`` are the values by key that it stores."""
        with self._lock:
            self._writes[note] = _Write(effects)

    def end(self, note: str, outcome: Outcome, revision: str = "") -> None:
        """Take note of what came of it, with the revision where the answer names it."""
        with self._lock:
            self.counts[outcome.value] += 1
            write = self._writes[note]
            write.outcome = outcome
            told = self._in_history.pop(note, "")
            if told:
                self._close(note, told, revision)
            elif outcome is Outcome.REFUSED:
                del self._writes[note]
            else:
                write.revision = revision

    def effects(self, note: str) -> Mapping[str, Any]:
        """Answer what a write that the history tells of stores; nothing where nobody has asked for it."""
        with self._lock:
            write = self._writes.get(note)
            return {} if write is None else write.effects

    def happened(self, note: str, revision: str) -> None:
        """Take note that the history has it, with all its changes."""
        with self._lock:
            write = self._writes.get(note)
            name, _, number = note.rpartition(".")
            if write is None or note in self._in_history:
                self._complain(
                    f"{note} at {revision}: nobody has asked for it, or it was refused, or it is there twice"
                )
                return
            if self._newest.get(name, 0) >= int(number):
                self._complain(f"{note} at {revision}: after {name}.{self._newest[name]}, which was sent later")
            self._newest[name] = int(number)
            if write.outcome is None:
                self._in_history[note] = revision
            else:
                self._close(note, revision, write.revision)

    def _close(self, note: str, told: str, answered: str) -> None:
        write = self._writes.pop(note)
        if write.outcome is Outcome.REFUSED:
            self._complain(f"{note} at {told}: it was refused, and happened")
        if answered and told != answered:
            self._complain(f"{note}: the answer says revision {answered}, the history {told}")

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def lost(self) -> list[str]:
        """Answer the acknowledged writes that the history does not have."""
        with self._lock:
            return [note for note, write in self._writes.items() if write.outcome is Outcome.DONE]


class Known(NamedTuple):
    """An entry, as far as a history tells: the value may be `UNTOLD`."""

    revision: str
    note: str
    value: Any


@final
class Digest:
    """What somebody was told, in short: who was told the same has an equal one."""

    def __init__(self) -> None:
        self.changes = 0
        self.revision = 0
        self._sum = hashlib.blake2b(digest_size=16)

    def add(self, revision: str, kind: str, key: str) -> None:
        self.changes += 1
        self.revision = int(revision)
        self._sum.update(f"{revision} {kind} {key}\n".encode())

    def told(self) -> tuple[int, int, str]:
        return self.changes, self.revision, self._sum.hexdigest()


@final
class Replay:
    """The cache, made from its changes alone and from what those who asked for them meant to store."""

    def __init__(self, records: Records) -> None:
        self.entries: dict[str, Known] = {}
        self.kinds: Counter[str] = Counter()
        self.digest = Digest()
        self._records = records

    def apply(self, changes: list[dict[str, Any]]) -> None:
        """Apply all changes of one revision."""
        revision, note = changes[0]["revision"], changes[0]["note"]
        effects = self._records.effects(note) if note else {}
        for change in changes:
            kind, key = change["kind"], change["key"]
            self.digest.add(revision, kind, key)
            self.kinds[kind] += 1
            if kind == "store":
                self._store(key, revision, note, effects.get(key, UNTOLD))
            elif kind == "touch":
                self.entries[key] = Known(revision, note, self.entries[key].value)
            elif kind == "clear":
                self.entries.clear()
            else:
                del self.entries[key]
        if note:
            self._records.happened(note, revision)

    def _store(self, key: str, revision: str, note: str, effect: Any) -> None:
        if note and effect is UNTOLD:
            self._records.complain(f"{note} at {revision}: it has stored {key}, which nobody asked for")
        if isinstance(effect, Add):
            effect = (self.entries[key].value if key in self.entries else 0) + effect.delta
        self.entries[key] = Known(revision, note, effect)


def plain(value: Any) -> Any:
    """Answer a value as JSON has it, whoever has read it."""
    if isinstance(value, xmlrpc.client.DateTime):
        return {"$dateTime": dt.datetime.strptime(value.value, "%Y%m%dT%H:%M:%S").isoformat()}  # noqa: DTZ007 - it has no zone
    if isinstance(value, dt.datetime):
        return {"$dateTime": value.isoformat()}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def text(value: Any) -> str:
    """Answer a value as text, which tells 1, 1.0 and true apart."""
    return json.dumps(plain(value), sort_keys=True)


def as_text(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Answer entries by key, each as text."""
    return {key: text({name: one for name, one in entry.items() if name != "key"}) for key, entry in entries.items()}


def difference(name: str, found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Say in what two views differ."""
    keys = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    return [f"{name}: {key}: {found.get(key)} instead of {expected.get(key)}" for key in keys[:_SHOWN]]

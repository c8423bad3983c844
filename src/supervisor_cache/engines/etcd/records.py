"""Entries and changes as they are kept in etcd, and back.

Below the prefix, ``e/KEY`` holds an entry as JSON, and ``c`` says of the newest transaction what etcd itself does not:
kinds, note, via. etcd's watch tells all keys of one transaction together, so ``c`` always comes with what it is about.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from supervisor_cache.core import rows
from supervisor_cache.core.codec import parse_json
from supervisor_cache.core.entry import (
    CLEAR,
    DELETE,
    EXPIRE,
    NOBODY,
    RELEASE,
    STORE,
    TOUCH,
    Batch,
    Clock,
    Entry,
    Mutation,
    Owner,
)
from supervisor_cache.core.keys import MAX_KEY_BYTES, checked_key, checked_note
from supervisor_cache.engines.etcd.gateway import Json, decoded, number
from supervisor_cache.errors import CacheError

ENTRIES = b"e/"
CHANGE = b"c"

# The kind of a mutation that etcd has made by itself, for a lease has ended: an entry with an owner is released, any
# other expires.
ENDED = ""

_PUT_KINDS = frozenset({STORE, TOUCH})
_GONE_KINDS = frozenset({DELETE, EXPIRE, RELEASE})


class Hold(NamedTuple):
    """What keeps an entry.

    Attributes:
        lease: It ends with this one; 0 for none.
        host: Whose process its owner is; empty for none.
        pid: Of that process, there.
    """

    lease: int = 0
    host: str = ""
    pid: int = 0


NO_HOLD = Hold()


class Update(Batch):
    """What one transaction, by whatever host, has changed.

    Attributes:
        holds: By key, for each entry that is there afterwards.
        job: The number of the write, if this host has asked for it; else empty.
        skipped: Keys of what is no entry.
    """

    __slots__ = ("holds", "job", "skipped")

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.mutations: Any = []
        self.note = self.via = self.job = ""
        self.time = 0.0
        self.relied: Mapping[str, int] = {}
        self.holds: dict[str, Hold] = {}
        self.skipped: set[str] = set()


def entry_record(entry: Entry, hold: Hold) -> bytes:
    """Write an entry that ``hold`` keeps."""
    value = rows.entry_row("", entry, 0)[1]
    # The value is JSON already.
    told = {"modified": entry.modified, "expires": entry.expires}
    if entry.owner.name:
        told.update(owner=entry.owner.name, pid=hold.pid, host=hold.host)  # type: ignore[call-overload]
    if entry.note:
        told["note"] = entry.note  # type: ignore[assignment]
    rest = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return f'{{"value":{value},{rest[1:]}'.encode()


class Reader:
    """Reads what is kept: checked as if it came from a client, for another program may have written it.

    Args:
        prefix: Of the cache, as bytes.
        host: This one.
        clock: The time.
    """

    def __init__(self, prefix: bytes, host: str, clock: Clock) -> None:
        self._start = prefix + ENTRIES
        self._change = prefix + CHANGE
        self._host = host
        self._clock = clock

    def entries(self, found: Iterable[Json]) -> tuple[dict[str, Entry], dict[str, Hold], set[str]]:
        """Read what a range answers: the entries, what keeps them, and the keys of what is none."""
        entries: dict[str, Entry] = {}
        holds: dict[str, Hold] = {}
        skipped: set[str] = set()
        for kv in found:
            key = self._key(decoded(kv["key"]))
            if key is None:
                continue
            try:
                entry, hold = self._entry(key, kv)
            except (CacheError, ValueError, TypeError, KeyError, OverflowError):
                skipped.add(key)
                continue
            entries[key] = entry
            if hold is not NO_HOLD:
                holds[key] = hold
        return entries, holds, skipped

    def behind(self, kv: Json) -> bytes:
        """Answer where a range goes on behind what it has answered last."""
        return decoded(kv["key"]) + b"\0"

    def updates(self, events: Iterable[Json]) -> list[Update]:
        """Read what a watch tells: one update for each transaction.

        Raises:
            ValueError: It is nothing that a watch tells.
        """
        updates: dict[int, Update] = {}
        changes: dict[int, bytes] = {}
        for event in events:
            kv = event["kv"]
            revision = number(kv, "mod_revision")
            name = decoded(kv["key"])
            if name == self._change:
                changes[revision] = decoded(kv.get("value", ""))
            update = updates.get(revision)
            if update is None:
                update = updates[revision] = Update(revision)
            key = self._key(name)
            if key is not None:
                self._add(update, key, event.get("type") == "DELETE", kv)
        for revision, update in updates.items():
            _explain(update, changes.get(revision), self._clock, self._host)
        return list(updates.values())

    def _add(self, update: Update, key: str, is_gone: bool, kv: Json) -> None:  # noqa: FBT001 - only asked for here
        if not is_gone:
            try:
                entry, hold = self._entry(key, kv)
            except (CacheError, ValueError, TypeError, KeyError, OverflowError):
                update.skipped.add(key)
            else:
                update.mutations.append((STORE, key, entry))
                update.holds[key] = hold
                return
        update.mutations.append((ENDED, key, None))

    def _key(self, name: bytes) -> str | None:
        """Answer the key that is meant; None for what is none."""
        if not name.startswith(self._start):
            return None
        try:
            return checked_key(name[len(self._start) :].decode(), MAX_KEY_BYTES)
        except (CacheError, UnicodeDecodeError):
            return None

    def _entry(self, key: str, kv: Json) -> tuple[Entry, Hold]:
        record: Any = parse_json(decoded(kv.get("value", "")).decode())
        if not isinstance(record, dict):
            raise ValueError("no object")  # noqa: TRY004 - one error for whatever is wrong
        value = record["value"]
        modified, expires = float(record["modified"]), float(record["expires"])
        if not (math.isfinite(modified) and math.isfinite(expires)):
            raise ValueError("a time is not finite")
        name, host = checked_note(record.get("owner", "")), checked_note(record.get("host", ""))
        pid = int(record.get("pid", 0))
        # The process of another host is none of ours, whatever its number.
        owner = Owner(name, pid if host == self._host else 0) if name else NOBODY
        entry = rows.entry_of(
            key,
            value,
            modified,
            expires,
            owner,
            checked_note(record.get("note", "")),
            self._clock.elapsed() - self._clock.wall(),
        )
        entry.revision = number(kv, "mod_revision")
        lease = number(kv, "lease")
        return entry, Hold(lease, host, pid) if lease or host else NO_HOLD


def change_record(batch: Batch, job: str, host: str) -> bytes:
    """Write what etcd does not tell of ``batch``."""
    kinds = {kind for kind, _, _ in batch.mutations}
    told = {
        "put": next(iter(kinds & _PUT_KINDS), STORE),
        "gone": next(iter(kinds & (_GONE_KINDS | {CLEAR})), DELETE),
        "time": batch.time,
        "note": batch.note,
        "via": batch.via,
        "host": host,
        "job": job,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _explain(update: Update, record: bytes | None, clock: Clock, host: str) -> None:
    update.time = clock.wall()
    if record is None:
        return
    try:
        told: Any = parse_json(record.decode())
        put, gone, time = told["put"], told["gone"], float(told["time"])
        note, via = checked_note(told["note"]), checked_note(told["via"])
        job = checked_note(told["job"]) if told["host"] == host else ""
    except (CacheError, ValueError, TypeError, KeyError, OverflowError):
        put, gone, time, note, via, job = STORE, DELETE, update.time, "", "", ""
    update.time, update.note, update.via, update.job = time if math.isfinite(time) else update.time, note, via, job
    if gone == CLEAR:
        update.mutations = [(CLEAR, "", None)]
        update.holds.clear()
        return
    put = put if put in _PUT_KINDS else STORE
    gone = gone if gone in _GONE_KINDS else DELETE
    mutations: list[Mutation] = update.mutations
    update.mutations = [(put if entry is not None else gone, key, entry) for _, key, entry in mutations]

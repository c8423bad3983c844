"""What a cache holds, and what happens to it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from supervisor_cache.core.values import Value

STORE = "store"
DELETE = "delete"
CLEAR = "clear"


class Entry:
    """One value with all that is known of it. Never changed once it is readable.

    Attributes:
        value: The value; see `supervisor_cache.core.values`.
        size: Bytes that count against ``max_total_bytes``: key, value as JSON, note and owner.
        reply_size: Bytes that key and value take in an XML-RPC reply, as a member of a struct.
        modified: When it was written, in seconds since the epoch.
        revision: Of the commit that wrote it; 0 until then.
        expires: When it ends, in seconds since the epoch; 0 for never.
        owner: The process that it ends with, as ``GROUP:NAME``; empty for none.
        note: Who wrote it and why, as the writer says.
    """

    __slots__ = ("expires", "modified", "note", "owner", "reply_size", "revision", "size", "value")

    def __init__(
        self,
        value: Value,
        *,
        size: int,
        reply_size: int,
        modified: float,
        expires: float = 0.0,
        owner: str = "",
        note: str = "",
    ) -> None:
        self.value = value
        self.size = size
        self.reply_size = reply_size
        self.modified = modified
        self.revision = 0
        self.expires = expires
        self.owner = owner
        self.note = note


class Mutation(NamedTuple):
    """One key's part of a batch.

    Attributes:
        kind: `STORE`, `DELETE` or `CLEAR`.
        key: The key; empty for `CLEAR`, which takes all entries away.
        entry: What is there afterwards; None where nothing is.
    """

    kind: str
    key: str
    entry: Entry | None


class Batch(NamedTuple):
    """What one call wants to change: all of it or nothing.

    Attributes:
        mutations: In the order in which they are announced; no key twice.
        time: When it was planned, in seconds since the epoch.
        note: Who and why.
        via: The server or process that it came through; empty for the cache itself.
        relied: For each key that the decision looked at, the revision it had; 0 where there was no entry.
    """

    mutations: Sequence[Mutation]
    time: float
    note: str
    via: str
    relied: Mapping[str, int]


class Commit(NamedTuple):
    """A batch that has happened, and the revision that all of its changes share."""

    revision: int
    batch: Batch

"""What a cache holds, and what happens to it."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from supervisor_cache.core.codec import Packed, unpack
from supervisor_cache.core.values import Value

STORE = "store"
TOUCH = "touch"
DELETE = "delete"
EXPIRE = "expire"
RELEASE = "release"
CLEAR = "clear"

# No kind of a change, but said in the place of one where changes are not known any more: who follows them starts over.
RESET = "reset"

KINDS = (STORE, TOUCH, DELETE, EXPIRE, RELEASE, CLEAR)

NEVER = math.inf

# Seconds by which the wall clock may drift before the end of an entry is told anew: one that is slewed, not set.
DRIFT = 1.0


class Owner(NamedTuple):
    """A supervised process in one of its lives.

    Attributes:
        name: ``GROUP:NAME``.
        pid: Its process id.
    """

    name: str
    pid: int


NOBODY = Owner("", 0)


class Clock(Protocol):
    """The time, on both clocks."""

    def wall(self) -> float:
        """Seconds since the epoch; may be set forward and back."""

    def elapsed(self) -> float:
        """Seconds that only grow, suspended machine included."""


class Entry:
    """One value with all that is known of it. Once it is readable, only ``expires`` is ever counted anew.

    Attributes:
        packed: The value as it is kept.
        size: Bytes that count against ``max_total_bytes``: key, value as JSON, note and owner.
        reply_size: Bytes that key and value take in an XML-RPC reply, as a member of a struct.
        modified: When it was written, in seconds since the epoch.
        note: Who wrote it and why, as the writer says.
        owner: The process that it ends with; `NOBODY` for none.
        expires: When it ends, in seconds since the epoch as they were counted when it was written, or written down
            anew after the wall clock had been set; 0 for never.
        deadline: When it ends, on the clock that only grows; `NEVER` where it does not.
        revision: Of the commit that wrote it; 0 until then.
    """

    __slots__ = ("deadline", "expires", "modified", "note", "owner", "packed", "reply_size", "revision", "size")

    def __init__(
        self,
        packed: Packed,
        size: int,
        reply_size: int,
        modified: float,
        note: str = "",
        owner: Owner = NOBODY,
        expires: float = 0.0,
        deadline: float = NEVER,
    ) -> None:
        self.packed = packed
        self.size = size
        self.reply_size = reply_size
        self.modified = modified
        self.note = note
        self.owner = owner
        self.expires = expires
        self.deadline = deadline
        self.revision = 0

    @property
    def value(self) -> Value:
        """The value; an array or struct is a new one each time."""
        return unpack(self.packed)

    def expires_by(self, clock: Clock) -> float:
        """Answer when it ends, in seconds since the epoch as the wall clock counts them now; 0 for never."""
        if self.deadline == NEVER:
            return 0.0
        counted = clock.wall() + self.deadline - clock.elapsed()
        return self.expires if abs(counted - self.expires) < DRIFT else counted


# One key's part of a batch: its kind, one of `KINDS`; the key, empty for `CLEAR`, which takes all entries away and
# stands alone; what is there afterwards, None where nothing is. A bare tuple, for one is made at each write.
Mutation: TypeAlias = tuple[str, str, Entry | None]


class Batch:
    """What one call wants to change: all of it or nothing.

    Attributes:
        mutations: In the order in which they are announced; no key twice.
        note: Who and why.
        relied: For each key that the decision looked at, the revision it had; 0 where there was no entry.
        time: When it was planned, in seconds since the epoch.
        via: The server or process that it came through; empty for the cache itself.
        revision: That all of its changes share, once it has been committed.
        prefix: That of all keys that the decision looked at beside ``relied``; None for none.
        seen: The newest revision when it was planned; only where the entries are shared.
        begun: When the call was planned first, on the clock that only grows; likewise.
    """

    __slots__ = ("begun", "mutations", "note", "prefix", "relied", "revision", "seen", "time", "via")

    mutations: Sequence[Mutation]
    note: str
    relied: Mapping[str, int]
    time: float
    via: str
    revision: int
    prefix: str | None
    seen: int
    begun: float

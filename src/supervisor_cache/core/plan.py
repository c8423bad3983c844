"""What a write is decided on, what comes of it, and the steps that several writes share.

All of it is pure: nothing here changes an entry.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from supervisor_cache.core.codec import QUOTES, Packed, pack
from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import NEVER, NOBODY, STORE, Batch, Clock, Entry, Mutation, Owner
from supervisor_cache.core.keys import checked_key
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.options import NONE, Options
from supervisor_cache.core.text import is_plain, shown, utf8_length, xml_growth
from supervisor_cache.core.values import MEMBER_MARKUP, STRING_MARKUP
from supervisor_cache.errors import FullError, InvalidArgumentsError, LimitExceededError

T = TypeVar("T")

# So many are looked at in any case.
_FEW = 10_000

_NOTHING: Mapping[str, int] = MappingProxyType({})


class View:
    """What a write is decided on.

    Attributes:
        entries: What is stored.
        limits: What is admitted.
        now: When it is decided, in seconds since the epoch.
        clock: For what depends on elapsed time.
        find_owner: Answers the process that a name means, as it runs now; raises `InvalidArgumentsError` where
            there is none, or where it does not run.
    """

    __slots__ = ("clock", "entries", "find_owner", "limits", "now")

    def __init__(self, entries: Entries, limits: Limits, clock: Clock, find_owner: Callable[[str], Owner]) -> None:
        self.entries = entries
        self.limits = limits
        self.now = 0.0
        self.clock = clock
        self.find_owner = find_owner


class Plan(Batch, Generic[T]):
    """What a call would do: a batch, without mutations where nothing has to change, and an answer.

    Attributes:
        answer: Makes the call's answer from the revision of its commit; from the newest one if nothing changes.
    """

    __slots__ = ("answer",)

    def __init__(
        self,
        answer: Callable[[int], T],
        mutations: Sequence[Mutation] = (),
        note: str = "",
        relied: Mapping[str, int] = _NOTHING,
        prefix: str | None = None,
    ) -> None:
        self.prefix = prefix
        self.answer = answer
        self.mutations = mutations
        self.note = note
        self.relied = relied


def check_number(number: int, what: str, view: View) -> None:
    """Refuse a call about far more entries than there can be, before it is looked at: that alone would take long.

    Raises:
        LimitExceededError: There are more than `_FEW`, more than ``max_entries``, and more than are stored.
    """
    most = max(_FEW, view.limits.max_entries, len(view.entries))
    if number > most:
        raise LimitExceededError(f"there are {number} {what}; at most {most} go into one call, by max_entries")


def key_of(view: View, key: object) -> str:
    """Answer ``key`` if it can be one, or is one."""
    # A key that is there stays reachable when a reload has lowered max_key_bytes below its length.
    if type(key) is str and key in view.entries.by_key:
        return key
    return checked_key(key, view.limits.max_key_bytes)


class Terms(NamedTuple):
    """What an entry has beside key and value, in the order in which `Entry` takes it."""

    note: str = ""
    owner: Owner = NOBODY
    expires: float = 0.0
    deadline: float = NEVER


NO_TERMS = Terms()


def terms_of(view: View, options: Options) -> Terms:
    """Answer what ``options`` ask for; raises `InvalidArgumentsError` for an owner that does not run."""
    if options is NONE:
        return NO_TERMS
    owner, expires, deadline = NOBODY, 0.0, NEVER
    if options.owner:
        owner = view.find_owner(options.owner)
        if options.pid not in {None, owner.pid}:
            raise InvalidArgumentsError(f"{owner.name} has pid {owner.pid}, not {options.pid}")
    if options.ttl is not None:
        expires, deadline = view.now + options.ttl, view.clock.elapsed() + options.ttl
    return Terms(options.note or "", owner, expires, deadline)


def kept_terms(terms: Terms, options: Options, old: Entry) -> Terms:
    """Answer ``terms`` with what ``options`` does not give as it is in ``old``."""
    return Terms(
        old.note if options.note is None else terms.note,
        old.owner if options.owner is None else terms.owner,
        old.expires if options.ttl is None else terms.expires,
        old.deadline if options.ttl is None else terms.deadline,
    )


def measured(view: View, key: str, value: object, terms: Terms) -> Entry:
    """Make the entry of a value that can be stored, within ``max_value_bytes``."""
    limit = view.limits.max_value_bytes
    if type(value) is str and is_plain(value) and is_plain(key):
        # Nothing in either is escaped, in JSON or in XML: in one piece, for it runs at most writes.
        length = len(value)
        if length + QUOTES > limit:
            _check_growth(view, key, length + QUOTES)
        size = len(key) + length
        in_reply = size + STRING_MARKUP + MEMBER_MARKUP
        if terms is NO_TERMS:
            return Entry(value, size + QUOTES, in_reply, view.now)
        size += utf8_length(terms.note) + utf8_length(terms.owner.name)
        return Entry(value, size + QUOTES, in_reply, view.now, *terms)
    if type(value) in {list, dict} and 2 * len(value) > limit:  # type: ignore[arg-type]  # has a length by now
        # An element takes two bytes at least: to look at all of them would take long.
        _check_growth(view, key, 2 * len(value), "at least ")  # type: ignore[arg-type]  # likewise
    packed = pack(value)
    if packed[1] > limit:
        _check_growth(view, key, packed[1])
    return sized(key, packed, view.now, terms)


def sized(key: str, packed: tuple[Packed, int, int], modified: float, terms: Terms) -> Entry:
    """Make the entry of what `pack` answers."""
    kept, as_json, in_reply = packed
    in_key = utf8_length(key)
    size, in_reply = in_key + as_json, in_key + in_reply + MEMBER_MARKUP + xml_growth(key)
    if terms is NO_TERMS:
        return Entry(kept, size, in_reply, modified)
    size += utf8_length(terms.note) + utf8_length(terms.owner.name)
    return Entry(kept, size, in_reply, modified, *terms)


def _check_growth(view: View, key: str, as_json: int, about: str = "") -> None:
    # A reload may have lowered the limit below the value that is there, which may stay as it is and shrink.
    old = view.entries.by_key.get(key)
    if old is None or as_json > pack(old.value)[1]:
        raise LimitExceededError(
            f"the value for {shown(key)} has {about}{as_json} bytes as JSON; "
            f"max_value_bytes is {view.limits.max_value_bytes}"
        )


def unchanged(view: View, key: str, new: Entry) -> bool:
    """Whether ``new`` says nothing new; what has a TTL always does."""
    old = view.entries.by_key.get(key)
    return (
        old is not None
        and old.owner == new.owner
        and old.note == new.note
        and old.deadline == new.deadline == NEVER
        and (old.packed is new.packed or _same(old.value, new.value))
    )


def _same(one: Any, other: Any) -> bool:
    # Python's == takes True for 1 and 1 for 1.0.
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(item, other[name]) for name, item in one.items())
    return bool(one == other)


def put(
    view: View,
    key: str,
    entry: Entry,
    answer: Callable[[int], T],
    relied: Mapping[str, int] = _NOTHING,
    note: str | None = None,
) -> Plan[T]:
    """Plan to store ``entry``; ``note`` is that of the change, by default that of the entry."""
    old = view.entries.by_key.get(key)
    if old is None:
        admit(view, 1, entry.size)
    elif entry.size > old.size:
        admit(view, 0, entry.size - old.size)
    return Plan(answer, ((STORE, key, entry),), entry.note if note is None else note, relied)


def admit_all(view: View, puts: Sequence[Mutation]) -> None:
    """Refuse growth past a limit by all ``puts`` together."""
    more_entries = more_bytes = 0
    by_key = view.entries.by_key
    for _, key, entry in puts:
        old = by_key.get(key)
        more_entries += (entry is not None) - (old is not None)
        more_bytes += (0 if entry is None else entry.size) - (0 if old is None else old.size)
    admit(view, more_entries, more_bytes)


def admit(view: View, more_entries: int, more_bytes: int) -> None:
    """Refuse growth past a limit. What is over one already, since a reload lowered it, may stay and shrink."""
    count = len(view.entries) + more_entries
    if more_entries > 0 and count > view.limits.max_entries:
        raise FullError(f"there would be {count} entries; max_entries is {view.limits.max_entries}")
    size = view.entries.size + more_bytes
    if more_bytes > 0 and size > view.limits.max_total_bytes:
        raise FullError(f"there would be {size} bytes; max_total_bytes is {view.limits.max_total_bytes}")

"""Each write as a pure function of the entries: what it would change, and what it would answer.

Every function takes the entries, the limits and the time (seconds since the epoch), then the caller's arguments,
unchecked, and answers a `Plan`. It changes nothing. Each raises

* `InvalidKeyError` for a key that can be none,
* `InvalidArgumentsError` for any other wrong argument, and
* `LimitExceededError` where the entries would pass a limit.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import CLEAR, DELETE, STORE, Entry, Mutation
from supervisor_cache.core.keys import checked_key, checked_prefix
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.options import (
    Options,
    checked_revision,
    delete_options,
    store_options,
)
from supervisor_cache.core.text import shown, utf8_length
from supervisor_cache.core.values import MAX_INT, MIN_INT, Value, json_size, member_size, reply_size
from supervisor_cache.errors import InvalidArgumentsError, LimitExceededError, WrongTypeError

T = TypeVar("T")

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Plan(Generic[T]):
    """What a call would do.

    Attributes:
        answer: Makes the call's answer from the revision of its commit; from the newest one if nothing changes.
        mutations: What changes; empty where nothing does, and then there is no commit.
        note: Who and why.
        relied: For each key that the decision looked at, the revision it had; 0 where there was no entry.
    """

    __slots__ = ("answer", "mutations", "note", "relied")

    def __init__(
        self,
        answer: Callable[[int], T],
        mutations: Sequence[Mutation] = (),
        note: str = "",
        relied: Mapping[str, int] = _NOTHING,
    ) -> None:
        self.answer = answer
        self.mutations = mutations
        self.note = note
        self.relied = relied


def _true(_revision: int) -> bool:
    return True


def _false(_revision: int) -> bool:
    return False


def _none(_revision: int) -> None:
    return None


def _revision(revision: int) -> int:
    return revision


def store(entries: Entries, limits: Limits, now: float, key: object, value: object, options: object = "") -> Plan[bool]:
    """Store ``value`` under ``key``, whatever was there."""
    chosen = store_options(options)
    name = _key(entries, limits, key)
    entry = _entry(limits, now, name, value, chosen)
    if chosen.if_changed and _unchanged(entries, name, entry):
        return Plan(_true, relied={name: entries.revision(name)})
    return _put(entries, limits, name, entry, _true)


def store_many(entries: Entries, limits: Limits, now: float, items: object, options: object = "") -> "Plan[int | None]":
    """Store each value of the struct ``items`` under its key, all or none.

    Answers the new revision; None where nothing had to be changed.
    """
    chosen = store_options(options)
    if not isinstance(items, dict):
        raise InvalidArgumentsError("items must be a struct")
    check_number(len(items), "items", entries, limits)
    relied: dict[str, int] = {}
    puts: list[Mutation] = []
    more_entries = more_bytes = 0
    for key, value in items.items():
        name = _key(entries, limits, key)
        entry = _entry(limits, now, name, value, chosen)
        if chosen.if_changed and _unchanged(entries, name, entry):
            relied[name] = entries.revision(name)
            continue
        puts.append(Mutation(STORE, name, entry))
        old = entries.get(name)
        more_entries += old is None
        more_bytes += entry.size - (0 if old is None else old.size)
    if not puts:
        return Plan(_none, relied=relied)
    _admit(entries, limits, more_entries, more_bytes)
    return Plan(_revision, puts, chosen.note or "", relied)


def add(
    entries: Entries, limits: Limits, now: float, key: object, value: object, options: object = ""
) -> "Plan[int | None]":
    """Store ``value`` under ``key`` if there is nothing. Answers the new revision, or None."""
    return store_if(entries, limits, now, key, value, "", options)


def store_if(
    entries: Entries,
    limits: Limits,
    now: float,
    key: object,
    value: object,
    revision: object,
    options: object = "",
) -> "Plan[int | None]":
    """Store ``value`` under ``key`` if its entry has ``revision``; if there is none, where that is empty.

    Answers the new revision, or None. Where ``if_changed`` finds nothing to do, the revision that it has.
    """
    chosen = store_options(options)
    expected = checked_revision(revision)
    name = _key(entries, limits, key)
    entry = _entry(limits, now, name, value, chosen)
    found = entries.revision(name)
    relied = {name: found}
    if found != expected:
        return Plan(_none, relied=relied)
    if chosen.if_changed and _unchanged(entries, name, entry):
        return Plan(lambda _newest: found, relied=relied)
    return _put(entries, limits, name, entry, _revision, relied)


def increment(
    entries: Entries, limits: Limits, now: float, key: object, delta: object = 1, options: object = ""
) -> Plan[int]:
    """Add ``delta`` to the integer under ``key``; a missing one counts as 0. Answers the new value.

    Raises:
        WrongTypeError: The value is no integer.
    """
    chosen = store_options(options)
    name = _key(entries, limits, key)
    if type(delta) is not int or not MIN_INT <= delta <= MAX_INT:
        raise InvalidArgumentsError("delta must be an integer of 32 bits")
    old = entries.get(name)
    number = 0 if old is None else old.value
    if type(number) is not int:
        raise WrongTypeError(f"the value of {shown(name)} is no integer")
    total = number + delta
    if not MIN_INT <= total <= MAX_INT:
        raise LimitExceededError(f"the value of {shown(name)} would pass 32 bits")
    if old is not None and chosen.note is None:
        chosen = chosen._replace(note=old.note)
    entry = _entry(limits, now, name, total, chosen)
    relied = {name: entries.revision(name)}
    if chosen.if_changed and _unchanged(entries, name, entry):
        return Plan(lambda _newest: total, relied=relied)
    return _put(entries, limits, name, entry, lambda _revision: total, relied)


def delete(entries: Entries, limits: Limits, now: float, key: object, options: object = "") -> Plan[bool]:
    """Delete the entry of ``key``; true also where there is none."""
    name, note = _deletion(entries, limits, key, options)
    if name not in entries:
        return Plan(_true)
    return Plan(_true, (Mutation(DELETE, name, None),), note)


def delete_if(
    entries: Entries, limits: Limits, now: float, key: object, revision: object, options: object = ""
) -> Plan[bool]:
    """Delete the entry of ``key`` if it has ``revision``. False where it is another, or where there is none."""
    expected = checked_revision(revision)
    name, note = _deletion(entries, limits, key, options)
    found = entries.revision(name)
    relied = {name: found}
    if found != expected:
        return Plan(_false, relied=relied)
    if not found:
        return Plan(_true, relied=relied)
    return Plan(_true, (Mutation(DELETE, name, None),), note, relied)


def delete_many(entries: Entries, limits: Limits, now: float, keys: object, options: object = "") -> Plan[int]:
    """Delete the entries of all ``keys``, an array. Answers how many there were."""
    note = delete_options(options).note or ""
    if not isinstance(keys, list):
        raise InvalidArgumentsError("keys must be an array")
    check_number(len(keys), "keys", entries, limits)
    names = dict.fromkeys([_key(entries, limits, key) for key in keys])
    return _delete_all([name for name in names if name in entries], note)


def delete_prefix(entries: Entries, limits: Limits, now: float, prefix: object, options: object = "") -> Plan[int]:
    """Delete all entries whose key starts with ``prefix``, which must not be empty. Answers how many there were."""
    note = delete_options(options).note or ""
    start = checked_prefix(prefix)
    if not start:
        raise InvalidArgumentsError("prefix must not be empty; clear takes all entries away")
    return _delete_all(entries.keys(start), note)


def clear(entries: Entries, limits: Limits, now: float, options: object = "") -> Plan[bool]:
    """Take all entries away."""
    note = delete_options(options).note or ""
    if not len(entries):
        return Plan(_true)
    return Plan(_true, (Mutation(CLEAR, "", None),), note)


def check_number(number: int, what: str, entries: Entries, limits: Limits) -> None:
    """Refuse a call about more entries than there can be, before it is looked at: that alone would take long.

    Raises:
        LimitExceededError: There are more than ``max_entries``, and more than the entries that there are.
    """
    if number > max(limits.max_entries, len(entries)):
        raise LimitExceededError(f"there are {number} {what}; max_entries is {limits.max_entries}")


def _key(entries: Entries, limits: Limits, key: object) -> str:
    # A key that is there stays reachable when a reload has lowered max_key_bytes below its length.
    if type(key) is str and key in entries:
        return key
    return checked_key(key, limits.max_key_bytes)


def _deletion(entries: Entries, limits: Limits, key: object, options: object) -> tuple[str, str]:
    note = delete_options(options).note or ""
    return _key(entries, limits, key), note


def _delete_all(names: list[str], note: str) -> Plan[int]:
    count = len(names)
    return Plan(lambda _revision: count, [Mutation(DELETE, name, None) for name in names], note)


def _entry(limits: Limits, now: float, key: str, value: object, options: Options) -> Entry:
    in_reply = reply_size(value)
    stored = cast("Value", value)  # reply_size has seen to it
    as_json = json_size(stored)
    if as_json > limits.max_value_bytes:
        raise LimitExceededError(
            f"the value for {shown(key)} has {as_json} bytes as JSON; max_value_bytes is {limits.max_value_bytes}"
        )
    note = options.note or ""
    return Entry(
        stored,
        size=utf8_length(key) + as_json + utf8_length(note),
        reply_size=in_reply + member_size(key),
        modified=now,
        note=note,
    )


def _unchanged(entries: Entries, key: str, new: Entry) -> bool:
    old = entries.get(key)
    return (
        old is not None
        and old.owner == new.owner
        and old.note == new.note
        and not old.expires
        and not new.expires
        and _same(old.value, new.value)
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


def _put(
    entries: Entries,
    limits: Limits,
    key: str,
    entry: Entry,
    answer: Callable[[int], T],
    relied: Mapping[str, int] | None = None,
) -> Plan[T]:
    old = entries.get(key)
    _admit(entries, limits, int(old is None), entry.size - (0 if old is None else old.size))
    return Plan(answer, (Mutation(STORE, key, entry),), entry.note, _NOTHING if relied is None else relied)


def _admit(entries: Entries, limits: Limits, more_entries: int, more_bytes: int) -> None:
    """Refuse growth past a limit. What is over one already, since a reload lowered it, may stay and shrink."""
    count = len(entries) + more_entries
    if more_entries > 0 and count > limits.max_entries:
        raise LimitExceededError(f"there would be {count} entries; max_entries is {limits.max_entries}")
    size = entries.size + more_bytes
    if more_bytes > 0 and size > limits.max_total_bytes:
        raise LimitExceededError(f"there would be {size} bytes; max_total_bytes is {limits.max_total_bytes}")

"""Each write as a pure function: what it would change, and what it would answer.

Every function takes a `View` of the cache, then the caller's arguments, unchecked, and answers a `Plan`. It changes
nothing. Each raises

* `InvalidKeyError` for a key that can be none,
* `InvalidArgumentsError` for any other wrong argument, and
* `LimitExceededError` where the entries would pass a limit.
"""

from supervisor_cache.core.entry import CLEAR, DELETE, EXPIRE, RELEASE, STORE, TOUCH, Entry, Mutation
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.options import (
    checked_revision,
    checked_ttl,
    delete_options,
    store_options,
    touch_options,
)
from supervisor_cache.core.plan import (
    NO_TERMS,
    Plan,
    View,
    admit,
    admit_all,
    check_number,
    kept_terms,
    key_of,
    measured,
    put,
    terms_of,
    unchanged,
)
from supervisor_cache.core.text import shown, utf8_length
from supervisor_cache.core.values import MAX_INT, MIN_INT
from supervisor_cache.errors import InvalidArgumentsError, OutOfRangeError, WrongTypeError

# What ends by itself goes in revisions that a reply of `getChanges` can hold: a larger one would reset the history.
_AT_ONCE = 500


def _true(_revision: int) -> bool:
    return True


def _false(_revision: int) -> bool:
    return False


def _none(_revision: int) -> None:
    return None


def _revision(revision: int) -> int:
    return revision


def store(view: View, key: object, value: object, options: object = "") -> Plan[bool]:
    """Store ``value`` under ``key``, whatever was there."""
    if options == "":
        return put(view, name := key_of(view, key), measured(view, name, value, NO_TERMS), _true)
    chosen = store_options(options)
    name = key_of(view, key)
    entry = measured(view, name, value, terms_of(view, chosen))
    if chosen.if_changed and unchanged(view, name, entry):
        return Plan(_true, relied={name: view.entries.revision(name)})
    return put(view, name, entry, _true)


def replace(view: View, key: object, value: object, options: object = "") -> "Plan[int | None]":
    """Do as `store`, but answer the new revision; None where ``if_changed`` finds nothing to do."""
    chosen = store_options(options)
    name = key_of(view, key)
    entry = measured(view, name, value, terms_of(view, chosen))
    if chosen.if_changed and unchanged(view, name, entry):
        return Plan(_none, relied={name: view.entries.revision(name)})
    return put(view, name, entry, _revision)


def store_many(view: View, items: object, options: object = "") -> "Plan[int | None]":
    """Store each value of the struct ``items`` under its key, all or none.

    Answers the new revision; None where nothing had to be changed.
    """
    chosen = store_options(options)
    if not isinstance(items, dict):
        raise InvalidArgumentsError("items must be a struct")
    check_number(len(items), "items", view)
    relied: dict[str, int] = {}
    puts: list[Mutation] = []
    terms = terms_of(view, chosen)
    for key, value in items.items():
        name = key_of(view, key)
        try:
            entry = measured(view, name, value, terms)
        except InvalidArgumentsError as error:
            raise InvalidArgumentsError(f"items[{shown(name, 40)}]{error.text.removeprefix('value')}") from None
        if chosen.if_changed and unchanged(view, name, entry):
            relied[name] = view.entries.revision(name)
        else:
            puts.append((STORE, name, entry))
    if not puts:
        return Plan(_none, relied=relied)
    admit_all(view, puts)
    return Plan(_revision, puts, chosen.note or "", relied)


def add(view: View, key: object, value: object, options: object = "") -> "Plan[int | None]":
    """Store ``value`` under ``key`` if there is nothing. Answers the new revision, or None."""
    return store_if(view, key, value, "", options)


def store_if(view: View, key: object, value: object, revision: object, options: object = "") -> "Plan[int | None]":
    """Store ``value`` under ``key`` if its entry has ``revision``; if there is none, where that is empty.

    Answers the new revision, or None. Where ``if_changed`` finds nothing to do, the revision that it has.
    """
    chosen = store_options(options)
    expected = checked_revision(revision)
    name = key_of(view, key)
    entry = measured(view, name, value, terms_of(view, chosen))
    found = view.entries.revision(name)
    relied = {name: found}
    if found != expected:
        return Plan(_none, relied=relied)
    if chosen.if_changed and unchanged(view, name, entry):
        return Plan(lambda _newest: found, relied=relied)
    return put(view, name, entry, _revision, relied)


def increment(view: View, key: object, delta: object = 1, options: object = "") -> Plan[int]:
    """Add ``delta`` to the integer under ``key``; a missing one counts as 0. Answers the new value.

    What ``options`` does not give stays as it is; a TTL runs on.

    Raises:
        WrongTypeError: The value is no integer.
    """
    chosen = store_options(options)
    name = key_of(view, key)
    if type(delta) is not int or not MIN_INT <= delta <= MAX_INT:
        raise InvalidArgumentsError("delta must be an integer of 32 bits")
    old = view.entries.by_key.get(name)
    number = 0 if old is None else old.packed
    if type(number) is not int:
        raise WrongTypeError(f"the value of {shown(name)} is no integer")
    total = number + delta
    if not MIN_INT <= total <= MAX_INT:
        raise OutOfRangeError(f"the value of {shown(name)} would pass 32 bits")
    terms = terms_of(view, chosen)
    entry = measured(view, name, total, terms if old is None else kept_terms(terms, chosen, old))
    relied = {name: view.entries.revision(name)}
    if chosen.if_changed and unchanged(view, name, entry):
        return Plan(lambda _newest: total, relied=relied)
    return put(view, name, entry, lambda _revision: total, relied, chosen.note or "")


def touch(view: View, key: object, ttl: object, options: object = "") -> "Plan[int | None]":
    """Have the entry of ``key`` end ``ttl`` seconds from now, with 0 never. Answers the new revision, or None.

    What ``options`` does not give stays as it is.
    """
    return _touch(view, key, ttl, None, options)


def touch_if(view: View, key: object, ttl: object, revision: object, options: object = "") -> "Plan[int | None]":
    """Do as `touch` if the entry of ``key`` has ``revision``. Answers the new revision, or None."""
    return _touch(view, key, ttl, checked_revision(revision), options)


def _touch(view: View, key: object, ttl: object, expected: int | None, options: object) -> "Plan[int | None]":
    chosen = touch_options(options)
    seconds = checked_ttl(ttl, may_be_zero=True)
    name = key_of(view, key)
    terms = terms_of(view, chosen._replace(ttl=seconds or None))
    old = view.entries.by_key.get(name)
    relied = {name: view.entries.revision(name)}
    if old is None or (expected is not None and old.revision != expected):
        return Plan(_none, relied=relied)
    kept = kept_terms(terms, chosen._replace(ttl=seconds), old)
    more = utf8_length(kept.note) + utf8_length(kept.owner.name) - utf8_length(old.note) - utf8_length(old.owner.name)
    entry = Entry(old.packed, old.size + more, old.reply_size, view.now, *kept)
    admit(view, 0, more)
    return Plan(_revision, ((TOUCH, name, entry),), chosen.note or "", relied)


def delete(view: View, key: object, options: object = "") -> Plan[bool]:
    """Delete the entry of ``key``; true also where there is none."""
    note = delete_options(options).note or ""
    name = key_of(view, key)
    if name not in view.entries.by_key:
        return Plan(_true, relied={name: 0})
    return Plan(_true, ((DELETE, name, None),), note)


def delete_if(view: View, key: object, revision: object, options: object = "") -> Plan[bool]:
    """Delete the entry of ``key`` if it has ``revision``. False where it is another, or where there is none."""
    expected = checked_revision(revision)
    note = delete_options(options).note or ""
    name = key_of(view, key)
    found = view.entries.revision(name)
    relied = {name: found}
    if found != expected:
        return Plan(_false, relied=relied)
    if not found:
        return Plan(_true, relied=relied)
    return Plan(_true, ((DELETE, name, None),), note, relied)


def delete_many(view: View, keys: object, options: object = "") -> Plan[int]:
    """Delete the entries of all ``keys``, an array. Answers how many there were."""
    note = delete_options(options).note or ""
    if not isinstance(keys, list):
        raise InvalidArgumentsError("keys must be an array")
    check_number(len(keys), "keys", view)
    names = dict.fromkeys([key_of(view, key) for key in keys])
    found = [name for name in names if name in view.entries.by_key]
    relied = {name: view.entries.revision(name) for name in names}
    return Plan(lambda _revision: len(found), [(DELETE, name, None) for name in found], note, relied)


def delete_prefix(view: View, prefix: object, options: object = "") -> Plan[int]:
    """Delete all entries whose key starts with ``prefix``, which must not be empty. Answers how many there were."""
    note = delete_options(options).note or ""
    start = checked_prefix(prefix)
    if not start:
        raise InvalidArgumentsError("prefix must not be empty; clear takes all entries away")
    return _delete_all(view, view.entries.keys(start), note, prefix=start)


def batch(
    view: View, items: object, keys: object, conditions: object, options: object = ""
) -> "Plan[int | list[str] | None]":
    """Store each value of the struct ``items``, delete the entries of all ``keys``, an array: all or nothing.

    Args:
        view: What is there.
        items: Values by key.
        keys: No key of ``items``.
        conditions: Revisions by key; where one is not that of the key's entry (``''``: there must be none), nothing
            is done.
        options: Of what is stored.

    Answers the new revision; None where nothing had to be changed; the keys whose condition does not hold.
    """
    stored = store_many(view, items, options)
    if not isinstance(keys, list):
        raise InvalidArgumentsError("keys must be an array")
    if not isinstance(conditions, dict):
        raise InvalidArgumentsError("conditions must be a struct")
    check_number(len(keys) + len(conditions) + len(stored.mutations), "keys", view)
    names = dict.fromkeys([key_of(view, key) for key in keys])
    both = names.keys() & set(items)  # type: ignore[call-overload]  # a struct by now
    if both:
        raise InvalidArgumentsError(f"key {shown(min(both))} is to be stored and deleted")
    expected = {key_of(view, key): checked_revision(revision) for key, revision in conditions.items()}
    relied = {**stored.relied, **{name: view.entries.revision(name) for name in (*expected, *names)}}
    failed: int | list[str] | None = [name for name, revision in expected.items() if relied[name] != revision]
    if failed:
        return Plan(lambda _revision: failed, relied=relied)
    gone: list[Mutation] = [(DELETE, name, None) for name in names if name in view.entries.by_key]
    mutations = [*stored.mutations, *gone]
    if not mutations:
        return Plan(_none, relied=relied)
    return Plan(_revision, mutations, store_options(options).note or "", relied)


def clear(view: View, options: object = "") -> Plan[bool]:
    """Take all entries away."""
    note = delete_options(options).note or ""
    if not len(view.entries):
        return Plan(_true, prefix="")
    return Plan(_true, ((CLEAR, "", None),), note)


def expire(view: View) -> Plan[int]:
    """Take away the entries whose end has come, `_AT_ONCE` at most. Answers how many there were."""
    return _delete_all(view, view.entries.due(view.clock.elapsed(), _AT_ONCE), "", EXPIRE)


def release(view: View, pid: int) -> Plan[int]:
    """Take away the entries that end with the process ``pid``, `_AT_ONCE` at most. Answers how many there were."""
    return _delete_all(view, view.entries.owned_by(pid, _AT_ONCE), "", RELEASE)


def _delete_all(view: View, names: list[str], note: str, kind: str = DELETE, prefix: str | None = None) -> Plan[int]:
    count = len(names)
    by_key = view.entries.by_key
    relied = {name: by_key[name].revision for name in names}
    return Plan(lambda _revision: count, [(kind, name, None) for name in names], note, relied, prefix)

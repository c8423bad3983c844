"""The client: one cache of one supervisord, as a mapping, and with all that its interface has beyond one."""

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, TypeVar

from supervisor_cache.client.caller import Caller
from supervisor_cache.client.records import Entry, Waited
from supervisor_cache.client.views import Items, Values, paged
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_key, checked_prefix
from supervisor_cache.core.options import checked_limit, checked_timeout, checked_ttl, store_options
from supervisor_cache.core.text import shown
from supervisor_cache.core.values import MAX_INT, MIN_INT, Value, check_value
from supervisor_cache.errors import (
    InvalidArgumentsError,
    InvalidKeyError,
    InvalidReplyError,
    LimitExceededError,
    NoSuchKeyError,
    UnknownOutcomeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor_cache.client.locking import Lock
    from supervisor_cache.client.watching import Watch

T = TypeVar("T")

# A key's length is the server's to judge: the limit is an option there.
_ANY_LENGTH = sys.maxsize
# Pages of the history start with so many changes.
_PAGE = 500
_MOST_DIGITS = 20
# Of what an entry or a change has; all else is text.
_KINDS: dict[str, Any] = {"value": object, "modified": int | float, "expires": int | float}


class CacheClient(MutableMapping[str, Value]):
    """One cache of a supervisord: a mapping whose every operation asks it, once.

    Any number of threads may share it. Values are strings, booleans, integers of 32 bits, finite floats, `datetime`
    without zone and fraction, lists and dicts with string keys, at most 32 deep. A value that is read is a copy.

    Each method raises what the interface's fault says, an error of its own under `CacheError`; an `UnreachableError`
    where supervisord cannot be asked; and an `UnknownOutcomeError` where a write was sent and its answer did not
    arrive: it may have happened, and is never sent again by itself. A read whose connection was cut is asked once more.

    Revisions are integers that only grow. Where none was taken, since nothing had to be changed or a condition did not
    hold, a method answers None.

    Args:
        caller: Calls the methods.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    # A mapping

    def __getitem__(self, key: str) -> Value:
        """Answer the value of ``key``; raises `NoSuchKeyError`, a `KeyError`, where there is none."""
        return self.fetch(key)

    def __setitem__(self, key: str, value: Value) -> None:
        """Store ``value`` under ``key``, whatever was there."""
        self.store(key, value)

    def __delitem__(self, key: str) -> None:
        """Delete the entry of ``key``; raises `NoSuchKeyError` where there is none."""
        if not self.delete_many([key]):
            raise NoSuchKeyError(f"no such key: {key!a}")

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        try:
            return key in self.fetch_many([key])
        except InvalidKeyError:
            return False

    def __iter__(self) -> Iterator[str]:
        """Go through the keys in code-point order, as they were at the start."""
        return iter(self.get_keys())

    def __len__(self) -> int:
        return self.get_count()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._caller.url!r}>"

    def values(self) -> Values:
        """Answer a view of the values, which asks for many at once."""
        return Values(self)

    def items(self) -> Items:
        """Answer a view of keys and values, which asks for many at once."""
        return Items(self)

    def setdefault(self, key: str, default: Any = None) -> Value:
        """Answer the value of ``key``; where there is none, store ``default``, unless somebody else does just then."""
        while True:
            try:
                return self.fetch(key)
            except NoSuchKeyError:
                if self.add(key, default) is not None:
                    value: Value = default
                    return value

    def pop(self, key: str, *default: Any) -> Any:
        """Take the entry of ``key`` away and answer its value; of several who try, one gets it."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        while True:
            try:
                entry = self.get_entry(key)
            except NoSuchKeyError:
                if default:
                    return default[0]
                raise
            if self.delete_if(key, entry.revision):
                return entry.value

    def popitem(self) -> tuple[str, Value]:
        """Take the first entry away and answer key and value; of several who try, one gets it."""
        while True:
            found = self._entries("", "", 1)
            if not found:
                raise NoSuchKeyError("the cache is empty")
            entry = found[0]
            if self.delete_if(entry.key, entry.revision):
                return entry.key, entry.value

    def update(self, other: Any = (), /, **more: Value) -> None:
        """Store all that ``other``, a mapping or pairs, and the keyword arguments hold: in one call, all or none."""
        items = dict(other, **more)
        if items:
            self.store_many(items)

    # Reads

    def get_api_version(self) -> str:
        """Answer the version of the interface; ``2.0``, or ``0.2`` for release 1.1.0."""
        return self._text(self._caller.call("getAPIVersion"))

    def get_keys(self, prefix: str = "", after: str = "", limit: int = 0) -> list[str]:
        """List keys in code-point order.

        Args:
            prefix: Only those that start so.
            after: Only those beyond this one.
            limit: Only so many; 0 for all, in several calls where they are too many for one.
        """
        start, beyond, most = checked_prefix(prefix), checked_prefix(after, "after"), checked_limit(limit)
        if most:
            keys = self._texts(self._caller.call("getKeys", (start, beyond, most)))
            return self._refuse() if keys and keys[-1] <= beyond else keys
        arguments = (start, beyond) if beyond else (start,) if start else ()
        try:
            return self._texts(self._caller.call("getKeys", arguments))
        except LimitExceededError:
            pages = paged(lambda last, size: self.get_keys(start, last, size), str, beyond)
            return [key for page in pages for key in page]

    def get_count(self) -> int:
        """Answer how many entries there are."""
        return self._integer(self._caller.call("getCount"))

    def fetch(self, key: str) -> Value:
        """Answer the value of ``key``; raises `NoSuchKeyError`, a `KeyError`, where there is none."""
        value: Value | None = self._caller.call("fetch", (_key(key),))
        return self._refuse() if value is None else value

    def fetch_many(self, keys: "list[str] | tuple[str, ...]") -> dict[str, Value]:
        """Answer the values of those ``keys`` that have an entry."""
        return self._struct(self._caller.call("fetchMany", ([_key(key) for key in _keys(keys)],)))

    def get_items(self, prefix: str = "", after: str = "", limit: int = 0) -> dict[str, Value]:
        """Answer values by key, in code-point order; arguments as for `get_keys`.

        Where there are more than one reply holds, each page is of its own moment.
        """
        return {entry.key: entry.value for entry in self.get_entries(prefix, after, limit)}

    def get_entry(self, key: str) -> Entry:
        """Answer all that is known of ``key``; raises `NoSuchKeyError` where there is none."""
        return self._entry(self._caller.call("getEntry", (_key(key),)))

    def get_entries(self, prefix: str = "", after: str = "", limit: int = 0) -> list[Entry]:
        """Answer entries in code-point order of their keys; arguments as for `get_keys`, pages as for `get_items`."""
        start, beyond, most = checked_prefix(prefix), checked_prefix(after, "after"), checked_limit(limit)
        found: list[Entry] = []
        for page in paged(lambda last, size: self._entries(start, last, size), lambda entry: entry.key, beyond, most):
            found += page
        return found

    def get_revision(self) -> int:
        """Answer the newest revision."""
        return self._revision(self._caller.call("getRevision"))

    def get_changes(self, since: int, prefix: str = "", limit: int = 0) -> list[Change]:
        """List the changes after a revision, oldest first, always whole revisions.

        Args:
            since: The revision.
            prefix: Only of keys that start so.
            limit: End before the revision that would pass so many; 0 for all, in several calls where needed.

        Raises:
            HistoryGoneError: They are not known any more, or ``since`` is newer than the newest.
        """
        start, most = checked_prefix(prefix), checked_limit(limit)
        if most:
            return self._changes(since, start, most)
        found: list[Change] = []
        size = _PAGE
        while True:
            try:
                page = self._changes(since, start, size)
            except LimitExceededError:
                if size == 1:
                    raise
                size //= 2
                continue
            if not page:
                return found
            found += page
            since = page[-1].revision

    def wait(self, since: int, timeout: float, prefix: str = "") -> Waited:
        """Answer as soon as something has changed after a revision, or when the time is over.

        Args:
            since: The revision.
            timeout: Seconds to wait at most, from 0 to 1500.
            prefix: Only changes of keys that start so.

        Raises:
            LimitExceededError: ``max_watchers`` clients wait already.
        """
        seconds = checked_timeout(timeout)
        arguments = _revision(since), seconds, checked_prefix(prefix)
        answer = self._struct(self._caller.call("wait", arguments, patience=seconds))
        return Waited(self._boolean(answer.get("changed")), self._revision(answer.get("revision")))

    def get_stats(self) -> dict[str, Any]:
        """Answer size, limits, storage and its state, and counters, as ``getStats`` does."""
        stats = self._struct(self._caller.call("getStats"))
        return stats if {"entries", "revision", "limits", "history"} <= stats.keys() else self._refuse()

    # Writes

    def store(
        self,
        key: str,
        value: Value,
        *,
        ttl: float | None = None,
        owner: str = "",
        pid: int = 0,
        note: str = "",
        if_changed: bool = False,
    ) -> bool:
        """Store ``value`` under ``key``, whatever was there.

        Args:
            key: The key.
            value: The value.
            ttl: Seconds after which the entry ends; None for never.
            owner: The supervised process that it ends with, ``GROUP:NAME``; empty for none.
            pid: The pid that this process must have; 0 for any.
            note: One line of at most 1 KiB: who and why.
            if_changed: Do nothing where value, owner and note are the same already, and there is no TTL.

        Returns:
            True.
        """
        return self._write(
            "store", (_key(key), _value(value)), _options(ttl, owner, pid, note, if_changed), self._boolean
        )

    def store_many(
        self,
        items: Mapping[str, Value],
        *,
        ttl: float | None = None,
        owner: str = "",
        pid: int = 0,
        note: str = "",
        if_changed: bool = False,
    ) -> int | None:
        """Store each value of ``items`` under its key, all or none; options as for `store`.

        Returns:
            The new revision; None where nothing had to be changed.
        """
        given = {_key(key): _item(key, value) for key, value in dict(items).items()}
        return self._write("storeMany", (given,), _options(ttl, owner, pid, note, if_changed), self._taken)

    def add(
        self,
        key: str,
        value: Value,
        *,
        ttl: float | None = None,
        owner: str = "",
        pid: int = 0,
        note: str = "",
    ) -> int | None:
        """Store ``value`` under ``key`` if there is none; options as for `store`.

        Returns:
            The new revision; None where the key exists.
        """
        return self._write("add", (_key(key), _value(value)), _options(ttl, owner, pid, note), self._taken)

    def store_if(
        self,
        key: str,
        value: Value,
        revision: int | None,
        *,
        ttl: float | None = None,
        owner: str = "",
        pid: int = 0,
        note: str = "",
        if_changed: bool = False,
    ) -> int | None:
        """Store ``value`` under ``key`` if its entry has this revision; options as for `store`.

        Args:
            key: The key.
            value: The value.
            revision: That the entry must have; None where there must be none.
            ttl: See `store`, as the others.
            owner: Likewise.
            pid: Likewise.
            note: Likewise.
            if_changed: Likewise.

        Returns:
            The new revision (with ``if_changed`` the entry's own, where it is equal already); None where the entry has
            another.
        """
        options = _options(ttl, owner, pid, note, if_changed)
        return self._write("storeIf", (_key(key), _value(value), _revision(revision)), options, self._taken)

    def increment(
        self,
        key: str,
        delta: int = 1,
        *,
        ttl: float | None = None,
        owner: str = "",
        pid: int = 0,
        note: str = "",
        if_changed: bool = False,
    ) -> int:
        """Add ``delta`` to the integer under ``key``; a missing one counts as 0. Options as for `store`.

        TTL, owner and note that are not given stay as they are.

        Returns:
            The new value.

        Raises:
            WrongTypeError: There is something else under ``key``.
            LimitExceededError: The sum has more than 32 bits.
        """
        if type(delta) is not int or not MIN_INT <= delta <= MAX_INT:
            raise InvalidArgumentsError("delta must be an integer of 32 bits")
        options = _options(ttl, owner, pid, note, if_changed)
        return self._write("increment", (_key(key), delta), options, self._integer)

    def touch(self, key: str, ttl: float, *, owner: str = "", pid: int = 0, note: str = "") -> int | None:
        """Have the entry of ``key`` end in ``ttl`` seconds from now; 0: not by itself.

        Returns:
            The new revision; None where there is no entry.
        """
        seconds = checked_ttl(ttl, may_be_zero=True)
        return self._write("touch", (_key(key), seconds), _options(None, owner, pid, note), self._taken)

    def touch_if(
        self, key: str, ttl: float, revision: int, *, owner: str = "", pid: int = 0, note: str = ""
    ) -> int | None:
        """Do what `touch` does if the entry has this revision; None where there is none, or one with another."""
        arguments = _key(key), checked_ttl(ttl, may_be_zero=True), _revision(revision)
        return self._write("touchIf", arguments, _options(None, owner, pid, note), self._taken)

    def delete(self, key: str, *, note: str = "") -> bool:
        """Delete the entry of ``key``; true also where there is none."""
        return self._write("delete", (_key(key),), _options(note=note), self._boolean)

    def delete_if(self, key: str, revision: int, *, note: str = "") -> bool:
        """Delete the entry of ``key`` if it has this revision; false where it has another."""
        return self._write("deleteIf", (_key(key), _revision(revision)), _options(note=note), self._boolean)

    def delete_many(self, keys: "list[str] | tuple[str, ...]", *, note: str = "") -> int:
        """Delete the entries of several keys, all at once; answer how many there were."""
        given = [_key(key) for key in _keys(keys)]
        return self._write("deleteMany", (given,), _options(note=note), self._integer)

    def delete_prefix(self, prefix: str, *, note: str = "") -> int:
        """Delete all entries whose key starts with ``prefix``, all at once; answer how many there were."""
        return self._write("deletePrefix", (checked_prefix(prefix),), _options(note=note), self._integer)

    def clear(self, *, note: str = "") -> None:
        """Delete all entries."""
        self._write("clear", (), _options(note=note), self._boolean)

    # Following and holding

    def watch(self, prefix: str = "", since: int | None = None, *, timeout: float | None = None) -> "Watch":
        """Go through changes as they happen: see `Watch`.

        Args:
            prefix: Only of keys that start so.
            since: Begin after this revision; None for now.
            timeout: End once nothing has changed for so many seconds; None for never.
        """
        from supervisor_cache.client.watching import Watch  # noqa: PLC0415 - seldom needed

        return Watch(self, prefix, since, timeout)

    def lock(
        self,
        key: str,
        *,
        ttl: float = 30.0,
        note: str = "",
        owner: str = "",
        wait: float | None = None,
    ) -> "Lock":
        """Make a lock that nobody else holds at the same time: see `Lock`.

        Args:
            key: Where the holder's marker is.
            ttl: Seconds after which it is free if the holder is no longer there.
            note: Who holds it and why.
            owner: The supervised process with which it ends at once; empty for none.
            wait: Seconds to wait for it; None for as long as it takes, 0 for not at all.
        """
        from supervisor_cache.client.locking import Lock  # noqa: PLC0415 - seldom needed

        return Lock(self, key, ttl, note, owner, wait)

    def close(self) -> None:
        """Let go of all connections."""
        self._caller.close()

    def __enter__(self) -> "CacheClient":  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Calls and what they answer

    def _write(self, method: str, args: tuple[Any, ...], options: dict[str, Any], understand: Callable[[Any], T]) -> T:
        # Release 1.1.0 takes no options.
        answer = self._caller.call(method, (*args, options) if options else args, write=True)
        try:
            return understand(answer)
        except InvalidReplyError as error:
            raise UnknownOutcomeError(f"it may be stored or not: {error.text}") from None

    def _entries(self, prefix: str, after: str, size: int) -> list[Entry]:
        answer = self._list(self._caller.call("getEntries", (prefix, after, size)))
        entries = [self._entry(struct) for struct in answer]
        # Else there would be no end to the pages.
        return self._refuse() if entries and entries[-1].key <= after else entries

    def _changes(self, since: int, prefix: str, size: int) -> list[Change]:
        answer = self._list(self._caller.call("getChanges", (_revision(since), prefix, size)))
        changes = [Change(**self._fields(struct, Change._fields)) for struct in answer]
        return self._refuse() if changes and changes[-1].revision <= since else changes

    def _entry(self, struct: Any) -> Entry:
        return Entry(**self._fields(struct, Entry._fields))

    def _fields(self, struct: Any, names: tuple[str, ...]) -> dict[str, Any]:
        # A newer release may tell more.
        found = {name: value for name, value in self._struct(struct).items() if name in names}
        if len(found) < len(names) or not all(isinstance(found[name], _KINDS.get(name, str)) for name in names):
            raise self._nonsense()
        return {**found, "revision": self._revision(found["revision"])}

    def _taken(self, answer: Any) -> int | None:
        return None if answer == "" else self._revision(answer)

    def _revision(self, answer: Any) -> int:
        is_one = isinstance(answer, str) and answer.isascii() and answer.isdecimal() and len(answer) <= _MOST_DIGITS
        return int(answer) if is_one else self._refuse()

    def _boolean(self, answer: Any) -> bool:
        return answer if isinstance(answer, bool) else self._refuse()

    def _integer(self, answer: Any) -> int:
        return answer if type(answer) is int else self._refuse()

    def _text(self, answer: Any) -> str:
        return answer if isinstance(answer, str) else self._refuse()

    def _texts(self, answer: Any) -> list[str]:
        texts = self._list(answer)
        return texts if all(isinstance(text, str) for text in texts) else self._refuse()

    def _list(self, answer: Any) -> list[Any]:
        return answer if isinstance(answer, list) else self._refuse()

    def _struct(self, answer: Any) -> dict[str, Any]:
        return answer if isinstance(answer, dict) else self._refuse()

    def _refuse(self) -> Any:
        raise self._nonsense()

    def _nonsense(self) -> InvalidReplyError:
        return InvalidReplyError(self._caller.url, "unreadable reply: it is of another kind than was asked for")


def _key(key: object) -> str:
    return checked_key(key, _ANY_LENGTH)


def _keys(keys: object) -> "list[str] | tuple[str, ...]":
    # A string has letters, which would be taken for keys.
    if not isinstance(keys, list | tuple):
        raise InvalidArgumentsError("keys must be a list")
    return keys


def _value(value: Value) -> Value:
    check_value(value)
    return value


def _item(key: str, value: Value) -> Value:
    try:
        check_value(value)
    except InvalidArgumentsError as error:
        raise InvalidArgumentsError(f"items[{shown(key, 40)}]{error.text.removeprefix('value')}") from None
    return value


def _revision(revision: int | None) -> str:
    if revision is None:
        return ""
    if type(revision) is not int or revision < 0:
        raise InvalidArgumentsError("revision must be an integer of at least 0, or None for no entry")
    return str(revision)


def _options(
    ttl: float | None = None,
    owner: str = "",
    pid: int = 0,
    note: str = "",
    if_changed: bool = False,  # noqa: FBT001, FBT002 - as the options are
) -> dict[str, Any]:
    given = {"ttl": ttl, "owner": owner or None, "pid": pid or None, "note": note or None}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if if_changed:
        options["if_changed"] = True
    if options:
        # What cannot be sent is refused here; what else is wrong, there.
        store_options(options)
    return options

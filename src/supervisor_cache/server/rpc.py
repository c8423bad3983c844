"""The XML-RPC methods: check, delegate, translate.

Supervisor recognises a method by its being in the class itself, and reads its docstring as the description that
``system.methodHelp`` and ``system.methodSignature`` answer.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from supervisor.http import NOT_DONE_YET
from supervisor.xmlrpc import Faults, RPCError

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Operation
from supervisor_cache.core.entry import Entry
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.options import checked_revision, checked_timeout
from supervisor_cache.errors import CacheError, ReadOnlyError, ShutdownError, UnavailableError
from supervisor_cache.server.log import Log
from supervisor_cache.server.namespace import Namespace

API_VERSION = "2.0"

# Supervisor looks at a deferred reply this often, in seconds, if nothing wakes it.
_DEFERRED_DELAY = 0.5

P = ParamSpec("P")
T = TypeVar("T")
Struct: TypeAlias = dict[str, Any]


class Host(Protocol):
    """What the methods ask of the running supervisord."""

    def shutting_down(self) -> bool:
        """Whether it is on its way out; a reload does not count."""

    def identification(self) -> str:
        """The fixed string of its configuration file."""

    def wake_deferred(self) -> None:
        """Have it look at all deferred replies now."""

    def hold_deferred(self) -> None:
        """Keep it from reading on where the reply to a request is deferred, this one among them."""


class CacheFault(RPCError):  # noqa: N818 - Supervisor's word
    """An error of this package as Supervisor sends it. Its own class, for `RPCError` knows no texts but its own."""

    def __init__(self, error: CacheError) -> None:
        super().__init__(error.code)
        self.text = error.fault_string


class CacheNamespaceRPCInterface:
    """Small runtime markers, kept in supervisord as key/value pairs: one namespace as seen through one server."""

    def __init__(self, namespace: Namespace, server: str, host: Host, log: Log) -> None:
        self._namespace = namespace
        self._cache = namespace.cache
        self._server = server
        self._host = host
        self._log = log

    def getAPIVersion(self) -> str:
        """Return the version of the RPC interface

        @return string  The version, as 2.0
        """
        return self._read_always(lambda: API_VERSION)

    def getKeys(self, prefix: object = "", after: object = "", limit: object = 0) -> list[str]:
        """Return the keys of the entries, sorted by code point

        @param  string prefix  Only keys that start so; '' for all
        @param  string after   Only keys beyond this one; '' for all
        @param  int    limit   Only so many keys; 0 for all
        @return array          An array of strings
        """
        return self._read(self._cache.keys, prefix, after, limit)

    def getCount(self) -> int:
        """Return the number of entries

        @return int  The number of entries
        """
        return self._read(self._cache.__len__)

    def fetch(self, key: object) -> Any:
        """Return the value stored under key; fault BAD_NAME if there is none

        @param  string key  The key
        @return any         The value, of whatever type was stored
        """
        return self._read(self._cache.fetch, key)

    def fetchMany(self, keys: object) -> Struct:
        """Return the values of those keys that have an entry

        @param  array keys  An array of keys
        @return struct      Values by key
        """
        return self._read(self._cache.fetch_many, keys)

    def getItems(self, prefix: object = "", after: object = "", limit: object = 0) -> Struct:
        """Return keys and values, at most 2000 entries and 1 MB

        @param  string prefix  Only keys that start so; '' for all
        @param  string after   Only keys beyond this one; '' for all
        @param  int    limit   Only so many entries; 0 for all
        @return struct         Values by key
        """
        return self._read(self._cache.items, prefix, after, limit)

    def getEntry(self, key: object) -> Struct:
        """Return the entry of key with all that is known of it; fault BAD_NAME if there is none

        @param  string key  The key
        @return struct      key, value, revision, modified, expires, owner, note
        """
        # In this order: a key is text once it has been found.
        return self._read(lambda: self._entry_struct(self._cache.entry(key), str(key)))

    def getEntries(self, prefix: object = "", after: object = "", limit: object = 0) -> list[Struct]:
        """Return entries with all that is known of them, sorted by key, at most 2000 and 1 MB

        @param  string prefix  Only keys that start so; '' for all
        @param  string after   Only keys beyond this one; '' for all
        @param  int    limit   Only so many entries; 0 for all
        @return array          Structs of key, value, revision, modified, expires, owner, note
        """
        return self._read(
            lambda: [self._entry_struct(entry, name) for name, entry in self._cache.entries(prefix, after, limit)]
        )

    def getRevision(self) -> str:
        """Return the newest revision, a decimal number as a string

        @return string  The newest revision
        """
        return self._read(lambda: str(self._cache.revision))

    def getChanges(self, since: object, prefix: object = "", limit: object = 0) -> list[Struct]:
        """Return the changes after a revision, oldest first; fault HISTORY_GONE if they are not known any more

        @param  string since   The revision after which to begin
        @param  string prefix  Only changes of keys that start so; '' for all
        @param  int    limit   End before the revision that would pass so many changes; 0 for all
        @return array          Structs of revision, kind, key, modified, note, via
        """
        return self._read(lambda: [_change_struct(change) for change in self._cache.changes(since, prefix, limit)])

    def wait(self, since: object, timeout: object, prefix: object = "") -> Any:
        """Return as soon as something has changed after a revision, or when the time is over

        @param  string since    The revision after which a change counts
        @param  double timeout  Seconds to wait at most, from 0 to 1500
        @param  string prefix   Only changes of keys that start so; '' for all
        @return struct          changed, revision
        """
        return self._read(self._wait, since, timeout, prefix)

    def getStats(self) -> Struct:
        """Return what is known of this cache: its size, its limits, its storage, and what has been asked of it

        @return struct  namespace, identification, entries, bytes, revision, limits, storage, and counters
        """
        return self._read_always(lambda: self._namespace.stats(self._host.identification()))

    def store(self, key: object, data: object, options: object = "") -> Any:
        """Store a value under key, whatever was there

        @param  string key      The key
        @param  any    data     The value
        @param  struct options  ttl, owner, pid, note, if_changed; '' for none
        @return boolean         Always true unless error
        """
        return self._write(_as_is, operations.store, key, data, options)

    def storeMany(self, items: object, options: object = "") -> Any:
        """Store several values, all or none

        @param  struct items    Values by key
        @param  struct options  ttl, owner, pid, note, if_changed; '' for none
        @return string          The new revision; '' where nothing had to be changed
        """
        return self._write(_as_revision, operations.store_many, items, options)

    def add(self, key: object, data: object, options: object = "") -> Any:
        """Store a value under key if there is none

        @param  string key      The key
        @param  any    data     The value
        @param  struct options  ttl, owner, pid, note, if_changed; '' for none
        @return string          The new revision; '' where the key exists
        """
        return self._write(_as_revision, operations.add, key, data, options)

    def storeIf(self, key: object, data: object, revision: object, options: object = "") -> Any:
        """Store a value under key if its entry has this revision

        @param  string key       The key
        @param  any    data      The value
        @param  string revision  The revision; '' where there must be no entry
        @param  struct options   ttl, owner, pid, note, if_changed; '' for none
        @return string           The new revision; '' where the entry has another
        """
        return self._write(_as_revision, operations.store_if, key, data, revision, options)

    def increment(self, key: object, delta: object = 1, options: object = "") -> Any:
        """Add to the integer under key; a missing one counts as 0

        @param  string key      The key
        @param  int    delta    What to add; may be negative
        @param  struct options  ttl, owner, pid, note, if_changed; '' for none
        @return int             The new value
        """
        return self._write(_as_is, operations.increment, key, delta, options)

    def touch(self, key: object, ttl: object, options: object = "") -> Any:
        """Store a new TTL for an entry, whatever it was before

        @param  string key      The key
        @param  double ttl      Seconds; 0 for an entry that does not end by itself
        @param  struct options  owner, pid, note; '' for none
        @return string          The new revision; '' where there is no entry
        """
        return self._write(_as_revision, operations.touch, key, ttl, options)

    def touchIf(self, key: object, ttl: object, revision: object, options: object = "") -> Any:
        """Store a new TTL for an entry if it has this revision

        @param  string key       The key
        @param  double ttl       Seconds; 0 for an entry that does not end by itself
        @param  string revision  The revision
        @param  struct options   owner, pid, note; '' for none
        @return string           The new revision; '' where there is no entry, or one with another
        """
        return self._write(_as_revision, operations.touch_if, key, ttl, revision, options)

    def delete(self, key: object, options: object = "") -> Any:
        """Delete the entry of key

        @param  string key      The key
        @param  struct options  note; '' for none
        @return boolean         Always true unless error, also where there is no entry
        """
        return self._write(_as_is, operations.delete, key, options)

    def deleteIf(self, key: object, revision: object, options: object = "") -> Any:
        """Delete the entry of key if it has this revision

        @param  string key       The key
        @param  string revision  The revision
        @param  struct options   note; '' for none
        @return boolean          False where the entry has another revision
        """
        return self._write(_as_is, operations.delete_if, key, revision, options)

    def deleteMany(self, keys: object, options: object = "") -> Any:
        """Delete the entries of several keys, all at once

        @param  array  keys     An array of keys
        @param  struct options  note; '' for none
        @return int             How many there were
        """
        return self._write(_as_is, operations.delete_many, keys, options)

    def deletePrefix(self, prefix: object, options: object = "") -> Any:
        """Delete all entries whose key starts with prefix, all at once

        @param  string prefix   The prefix, which must not be empty
        @param  struct options  note; '' for none
        @return int             How many there were
        """
        return self._write(_as_is, operations.delete_prefix, prefix, options)

    def clear(self, options: object = "") -> Any:
        """Delete all entries

        @param  struct options  note; '' for none
        @return boolean         Always true unless error
        """
        return self._write(_as_is, operations.clear, options)

    def _entry_struct(self, entry: Entry, key: str) -> Struct:
        return {
            "key": key,
            "value": entry.value,
            "revision": str(entry.revision),
            "modified": entry.modified,
            "expires": self._cache.expires(entry),
            "owner": entry.owner.name,
            "note": entry.note,
        }

    def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            self._check()
            return function(*args, **kwargs)
        except Exception as error:
            raise self._fault(error) from None

    def _read_always(self, function: Callable[[], T]) -> T:
        """Answer also where nobody can tell what is stored."""
        try:
            self._check_running()
            return function()
        except Exception as error:
            raise self._fault(error) from None

    def _write(self, translate: Callable[[T], Any], operation: Operation[T], *args: object) -> Any:
        try:
            self._check()
            if self._server in self._namespace.settings.read_only:
                self._cache.counters.refused += 1
                raise ReadOnlyError(f"{self._server} only reads {self._namespace.name}; option read_only names it")
            answer = self._cache.write(operation, self._server, *args)
            return self._later(translate, answer) if isinstance(answer, Answer) else translate(answer)
        except Exception as error:
            raise self._fault(error) from None

    def _later(self, translate: Callable[[T], Any], answer: Answer[T]) -> Callable[[], Any]:
        """Make a deferred reply. What it answers must be ASCII: Supervisor counts its characters, not its bytes."""

        def poll() -> Any:
            try:
                return translate(answer.result()) if answer.done else NOT_DONE_YET
            except Exception as error:
                raise self._fault(error) from None

        answer.when_done(self._host.wake_deferred)
        self._host.hold_deferred()
        return _deferred(poll)

    def _wait(self, since: object, timeout: object, prefix: object) -> Any:
        after, seconds, start = checked_revision(since), checked_timeout(timeout), checked_prefix(prefix)
        if not seconds or self._cache.changed_since(after, start):
            return self._waited(after, start)
        waiting = self._namespace.waiting
        limit = self._namespace.settings.max_watchers
        waiter = waiting.add(start, self._server, self._host.wake_deferred, limit)
        end = waiter.seen + seconds

        def poll() -> Any:
            try:
                now = waiting.look(waiter)
                if not waiter.changed and now < end and not self._host.shutting_down():
                    return NOT_DONE_YET
                waiting.remove(waiter)
                self._check()
                return self._waited(after, start)
            except Exception as error:
                raise self._fault(error) from None

        self._host.hold_deferred()
        return _deferred(poll)

    def _waited(self, after: int, prefix: str) -> Struct:
        # In this order: to ask for the revision can make entries expire, and what it includes must not go untold.
        revision = str(self._cache.revision)
        return {"changed": self._cache.changed_since(after, prefix), "revision": revision}

    def _check_running(self) -> None:
        if self._host.shutting_down():
            raise ShutdownError("supervisord is shutting down")

    def _check(self) -> None:
        self._check_running()
        if self._namespace.refusal:
            raise UnavailableError(self._namespace.refusal)

    def _fault(self, error: Exception) -> RPCError:
        """Translate ``error``. Only a wrong number of arguments may leave a method as a `TypeError`."""
        if isinstance(error, CacheError):
            return CacheFault(error)
        self._log.failure("an RPC method", error)
        return RPCError(Faults.FAILED, "internal error; supervisord's log has it")


def _deferred(poll: Callable[[], Any]) -> Callable[[], Any]:
    """Make a function a deferred reply, by what Supervisor takes for one."""
    poll.delay = _DEFERRED_DELAY  # type: ignore[attr-defined]  # where Supervisor looks for it
    return poll


def _change_struct(change: Change) -> Struct:
    return {**change._asdict(), "revision": str(change.revision)}


def _as_is(value: T) -> T:
    return value


def _as_revision(revision: int | None) -> str:
    return "" if revision is None else str(revision)

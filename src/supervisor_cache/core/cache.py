"""One cache: reads of its entries, and the one way in which all writes go.

A write is planned, committed by the engine, applied to the entries in memory, and then shown to the observers.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Engine, Outcome, Refused
from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import NEVER, Batch, Clock, Entry, Owner
from supervisor_cache.core.history import Change, History
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.limits import MAX_REPLY_BYTES, MAX_REPLY_ENTRIES, Limits
from supervisor_cache.core.options import checked_limit, checked_revision
from supervisor_cache.core.plan import Plan, View, check_number, key_of
from supervisor_cache.core.text import shown, utf8_length, xml_text_size
from supervisor_cache.core.values import Value
from supervisor_cache.errors import CacheError, InvalidArgumentsError, LimitExceededError, NoSuchKeyError

T = TypeVar("T")

# A function of a `View` and of the caller's arguments, which it checks itself.
Operation: TypeAlias = Callable[..., Plan[T]]
Observer: TypeAlias = Callable[[Batch], None]

# Bytes of an element of getKeys beside the key, and of getEntries beside key, value, note and owner; at most.
_KEY_MARKUP = len("<value><string></string></value>\n")
_ENTRY_MARKUP = 530


class Counters:
    """What has been asked of a cache since supervisord started.

    Attributes:
        hits: Keys that were asked for by name and found.
        misses: Keys that were asked for by name and not found.
        writes: Commits.
        refused: Writes that ended in an error.
        expired: Entries whose end has come.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.refused = 0
        self.expired = 0


class Cache:
    """The entries of one namespace.

    Args:
        engine: Where they are kept.
        limits: What is admitted.
        clock: The time.
        find_owner: See `View`.
        report: Takes what an observer raised.

    Attributes:
        engine: As given.
        counters: What has been asked of it.
        history: The changes so far.
        observers: Called after each commit, in this order. What one raises is passed to ``report``: the write
            stands, and the others are called all the same.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        clock: Clock,
        find_owner: Callable[[str], Owner],
        report: Callable[[Exception], None],
    ) -> None:
        self.engine = engine
        self.counters = Counters()
        self.history = History(engine.revision)
        self.observers: Sequence[Observer] = ()
        self._clock = clock
        self._report = report
        self._entries = Entries()
        self._view = View(self._entries, limits, clock, find_owner)
        self._expiring = False
        self._telling = False
        self._untold: deque[Batch] = deque()

    @property
    def limits(self) -> Limits:
        """What is admitted. What is over a new limit stays, and cannot grow; the history is cut."""
        return self._view.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._view.limits = limits
        self.history.trim(limits.max_changes, limits.max_total_bytes - self._entries.size)

    # Reads

    @property
    def revision(self) -> int:
        """The newest revision."""
        self._expire()
        return self.engine.revision

    @property
    def size(self) -> int:
        """Bytes that count against ``max_total_bytes``, beside the history."""
        self._expire()
        return self._entries.size

    def __len__(self) -> int:
        self._expire()
        return len(self._entries)

    def largest(self) -> tuple[int, int]:
        """Answer the bytes of the longest key, and of the largest value as JSON."""
        sizes = [
            (utf8_length(key), entry.size - utf8_length(entry.note) - utf8_length(entry.owner.name))
            for key, entry in self._entries.by_key.items()
        ]
        return max((key for key, _ in sizes), default=0), max((size - key for key, size in sizes), default=0)

    def fetch(self, key: object) -> Value:
        """Answer the value of ``key``.

        Raises:
            InvalidKeyError: ``key`` can be none.
            NoSuchKeyError: There is no entry.
        """
        return self.entry(key).value

    def entry(self, key: object) -> Entry:
        """Answer the entry of ``key``; raises as `fetch` does."""
        if self._entries.next_deadline != NEVER:
            self._expire()
        name = key_of(self._view, key)
        entry = self._entries.by_key.get(name)
        if entry is None:
            self.counters.misses += 1
            raise NoSuchKeyError(f"no such key: {shown(name)}")
        self.counters.hits += 1
        return entry

    def fetch_many(self, keys: object) -> dict[str, Value]:
        """Answer the values of those ``keys``, an array, that have an entry.

        Raises:
            InvalidArgumentsError: ``keys`` is no array.
            InvalidKeyError: One of them can be none.
            LimitExceededError: There are more keys than ``max_entries``, or the reply would be too large.
        """
        if not isinstance(keys, list):
            raise InvalidArgumentsError("keys must be an array")
        self._expire()
        check_number(len(keys), "keys", self._view)
        names = dict.fromkeys([key_of(self._view, key) for key in keys])
        found = [(name, entry) for name in names if (entry := self._entries.by_key.get(name)) is not None]
        self.counters.hits += len(found)
        self.counters.misses += len(names) - len(found)
        _check_reply(len(found), sum(entry.reply_size for _, entry in found), "ask for fewer keys at once")
        return {name: entry.value for name, entry in found}

    def keys(self, prefix: object = "", after: object = "", limit: object = 0) -> list[str]:
        """List keys in code-point order; raises as `entries` does, save that their number has no limit."""
        names = self._select(prefix, after, limit)
        size = sum(map(xml_text_size, names)) + len(names) * _KEY_MARKUP
        if size > MAX_REPLY_BYTES and len(names) > 1:
            raise _too_large(f"{size} bytes; at most {MAX_REPLY_BYTES} are allowed", _PAGE)
        return names

    def items(self, prefix: object = "", after: object = "", limit: object = 0) -> dict[str, Value]:
        """Answer keys and values, in code-point order; raises as `entries` does."""
        found = self._page(prefix, after, limit, 0)
        return {name: entry.value for name, entry in found}

    def entries(self, prefix: object = "", after: object = "", limit: object = 0) -> list[tuple[str, Entry]]:
        """Answer keys and entries, in code-point order.

        Args:
            prefix: Only those whose key starts so.
            after: Only those beyond this key.
            limit: Only so many; 0 for all.

        Raises:
            InvalidArgumentsError: An argument is wrong.
            LimitExceededError: The reply would be too large. A page of one entry never is.
        """
        return self._page(prefix, after, limit, _ENTRY_MARKUP)

    def changes(self, since: object, prefix: object = "", limit: object = 0) -> list[Change]:
        """List changes; see `History.changes_after`.

        Raises:
            InvalidArgumentsError: An argument is wrong.
            HistoryGoneError: They are not known any more, or ``since`` is newer than the newest revision.
            LimitExceededError: The reply would be too large.
        """
        after, start, most = checked_revision(since), checked_prefix(prefix), checked_limit(limit)
        return self.history.changes_after(after, self.revision, start, most)

    def changed_since(self, since: int, prefix: str) -> bool:
        """Whether a key with ``prefix`` has changed after ``since``; true also where that is not known."""
        return not self.history.knows(since, self.revision) or self.history.has_changed(since, prefix)

    def expires(self, entry: Entry) -> float:
        """Answer when ``entry`` ends, in seconds since the epoch; 0 for never."""
        return 0.0 if entry.deadline == NEVER else entry.expires_by(self._clock)

    def _page(self, prefix: object, after: object, limit: object, markup: int) -> list[tuple[str, Entry]]:
        names = self._select(prefix, after, limit)
        if len(names) > MAX_REPLY_ENTRIES:
            _check_reply(len(names), 0, _PAGE)
        found = [(name, entry) for name in names if (entry := self._entries.by_key.get(name)) is not None]
        size = sum(entry.reply_size for _, entry in found) + markup * len(found)
        if markup:
            size += sum(xml_text_size(entry.note) + len(entry.owner.name) for _, entry in found)
        _check_reply(len(found), size, _PAGE)
        return found

    def _select(self, prefix: object, after: object, limit: object) -> list[str]:
        self._expire()
        return self._entries.keys(checked_prefix(prefix), checked_prefix(after, "after"), checked_limit(limit))

    # Writes

    def write(self, operation: Operation[T], via: str, *args: object) -> T | Answer[T]:
        """Plan ``operation`` with its arguments, commit and apply it, and tell the observers.

        Args:
            operation: One of `supervisor_cache.core.operations`.
            via: The server or process that it comes through.
            *args: The caller's arguments, unchecked.

        Returns:
            What it answers; where the engine answers later, an `Answer` that will be told.

        Raises:
            CacheError: What it ended in; an `Answer` is told likewise.
        """
        if self._entries.next_deadline != NEVER:
            self._expire()
        view = self._view
        while True:
            view.now = self._clock.wall()
            try:
                plan = operation(view, *args)
            except CacheError:
                self.counters.refused += 1
                raise
            if not plan.mutations:
                return plan.answer(self.engine.revision)
            plan.time = view.now
            plan.via = via
            outcome = self.engine.commit(plan)
            if type(outcome) is int:
                self._apply(plan, outcome)
                return plan.answer(outcome)
            if isinstance(outcome, Answer):
                return self._follow(outcome, plan, partial(self.write, operation, via, *args))
            if isinstance(outcome, Refused):
                self.counters.refused += 1
                raise outcome.error

    def _follow(self, pending: Answer[Outcome], plan: Plan[T], again: Callable[[], T | Answer[T]]) -> Answer[T]:
        answer: Answer[T] = Answer()

        def settle() -> None:
            try:
                outcome = pending.result()
                if isinstance(outcome, int):
                    self._apply(plan, outcome)
            except Exception as error:  # noqa: BLE001 - or the caller would wait without end
                self._report(error)
                answer.reject(CacheError("internal error; supervisord's log has it"))
                return
            if isinstance(outcome, int):
                answer.resolve(plan.answer(outcome))
            elif isinstance(outcome, Refused):
                self.counters.refused += 1
                answer.reject(outcome.error)
            else:
                answer.follow(again)

        pending.when_done(settle)
        return answer

    def release(self, owner: Owner) -> None:
        """Take away what ends with ``owner``, which has ended."""
        while self._entries.owned_by(owner.pid):
            released = self.write(operations.release, owner.name, owner.pid)
            if isinstance(released, Answer):
                return

    def owners(self) -> set[Owner]:
        """Answer every owner of an entry."""
        return self._entries.owners()

    def tidy(self) -> None:
        """Do what is due between calls; to be called at least once a second."""
        self._expire()

    def _expire(self) -> None:
        """Take away what has ended, before anybody reads or writes."""
        while self._entries.next_deadline <= self._clock.elapsed() and not self._expiring:
            self._expire_some()

    def _expire_some(self) -> None:
        self._expiring = True
        try:
            gone = self.write(operations.expire, "")
        except BaseException:
            self._expiring = False
            raise
        if isinstance(gone, Answer):
            gone.when_done(lambda: self._expired(gone.result()))
        else:
            self._expired(gone)

    def _expired(self, count: int) -> None:
        self._expiring = False
        self.counters.expired += count

    def _apply(self, batch: Batch, revision: int) -> None:
        batch.revision = revision
        entries = self._entries
        entries.apply(batch)
        limits = self._view.limits
        self.history.append(batch, limits.max_changes, limits.max_total_bytes - entries.size)
        self.counters.writes += 1
        self._untold.append(batch)
        if not self._telling:
            self._tell()

    def _tell(self) -> None:
        # One observer may write: the others still hear of one commit after the other.
        self._telling = True
        try:
            while self._untold:
                batch = self._untold.popleft()
                for observer in self.observers:
                    try:
                        observer(batch)
                    except Exception as error:  # noqa: BLE001 - the write stands whatever an observer does
                        self._report(error)
        finally:
            self._telling = False


_PAGE = "page with prefix, after and limit"


def _check_reply(entries: int, size: int, remedy: str) -> None:
    # One entry alone always gets out, or it could be stored and not read.
    if entries > MAX_REPLY_ENTRIES:
        raise _too_large(f"{entries} entries; at most {MAX_REPLY_ENTRIES} are allowed", remedy)
    if size > MAX_REPLY_BYTES and entries > 1:
        raise _too_large(f"{size} bytes; at most {MAX_REPLY_BYTES} are allowed", remedy)


def _too_large(what: str, remedy: str) -> LimitExceededError:
    return LimitExceededError(f"the reply would have {what}: {remedy}")

"""One cache: reads of its entries, and the one way in which all writes go.

A write is planned, committed by the engine, applied to the entries in memory, and then shown to the observers.
"""

import gc
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Content, Engine, Outcome, Refused, SharedEngine, Told
from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import EXPIRE, NEVER, RELEASE, RESET, STORE, Batch, Clock, Entry, Owner
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
# Entries of a shared storage whose end is looked after at once.
_DUE_AT_ONCE = 500


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

    # All of it

    def content(self) -> Content:
        """Answer all that is kept, as it is: not a copy."""
        history = self.history
        return Content(self._entries.by_key, history.commits, history.since, self.engine.revision)

    def load(self, content: Content) -> None:
        """Begin anew with ``content``, which a storage has handed over. Nobody is told of it as of changes."""
        self._entries.load(content.entries)
        limits = self._view.limits
        self.history.load(
            content.commits, content.since, limits.max_changes, limits.max_total_bytes - self._entries.size
        )

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
        _check_number(len(found), _FEWER)
        _check_size(len(found), sum(entry.reply_size for _, entry in found), _FEWER)
        return {name: entry.value for name, entry in found}

    def keys(self, prefix: object = "", after: object = "", limit: object = 0) -> list[str]:
        """List keys in code-point order; raises as `entries` does, save that their number has no limit."""
        names = self._select(prefix, after, limit)
        size = xml_text_size("".join(names)) + len(names) * _KEY_MARKUP
        _check_size(len(names), size, _PAGE)
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

    def page(self, prefix: object, after: object, limit: int, room: int) -> tuple[list[tuple[str, Entry]], bool]:
        """Answer keys and entries, in code-point order, and whether there are more.

        Args:
            prefix: Only those whose key starts so.
            after: Only those beyond this key.
            limit: Only so many.
            room: Only so many bytes, but one entry in any case.

        Raises:
            InvalidArgumentsError: An argument is wrong.
        """
        names = self._select(prefix, after, limit + 1)
        found: list[tuple[str, Entry]] = []
        by_key = self._entries.by_key
        for name in names[:limit]:
            entry = by_key[name]
            room -= entry.size
            if room < 0 and found:
                break
            found.append((name, entry))
        return found, len(found) < len(names)

    def peek(self, key: str) -> Entry | None:
        """Answer the entry of ``key``, None where there is none; it counts for no statistics."""
        self._expire()
        return self._entries.by_key.get(key)

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
        return entry.expires_by(self._clock)

    def _page(self, prefix: object, after: object, limit: object, markup: int) -> list[tuple[str, Entry]]:
        names = self._select(prefix, after, limit)
        _check_number(len(names), _PAGE)
        by_key = self._entries.by_key
        found = [(name, by_key[name]) for name in names]
        size = sum(entry.reply_size for _, entry in found) + markup * len(found)
        if markup:
            size += sum(xml_text_size(entry.note) + len(entry.owner.name) for _, entry in found)
        _check_size(len(found), size, _PAGE)
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
        if self.engine.shared:
            return self._write_shared(operation, via, args, self._clock.elapsed())
        # What a large write makes is no garbage, and to look through all of it would take a third of its time again.
        collects = gc.isenabled()
        gc.disable()
        try:
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
        finally:
            if collects:
                gc.enable()

    def _write_shared(self, operation: Operation[T], via: str, args: tuple[object, ...], begun: float) -> T | Answer[T]:
        view = self._view
        view.now = self._clock.wall()
        try:
            plan = operation(view, *args)
        except CacheError:
            self.counters.refused += 1
            raise
        if not plan.mutations and not plan.relied and plan.prefix is None:
            return plan.answer(self.engine.revision)
        plan.time = view.now
        plan.via = via
        plan.begun = begun
        shared: SharedEngine = self.engine  # type: ignore[assignment]  # it says so
        outcome = shared.commit(plan)
        if isinstance(outcome, Answer):
            return self._follow(outcome, plan, partial(self._write_shared, operation, via, args, begun))
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
            elif isinstance(outcome, Told):
                answer.resolve(plan.answer(outcome.revision))
            elif isinstance(outcome, Refused):
                self.counters.refused += 1
                answer.reject(outcome.error)
            else:
                answer.follow(again)

        pending.when_done(settle)
        return answer

    def release(self, owner: Owner) -> None:
        """Take away what ends with ``owner``, which has ended."""
        if self.engine.shared:
            keys = self._entries.owned_by(owner.pid)
            if keys:
                shared: SharedEngine = self.engine  # type: ignore[assignment]  # it says so
                shared.end(RELEASE, owner.name, keys)
                self.hide(keys)
            return
        while self._entries.owned_by(owner.pid, 1):
            released = self.write(operations.release, owner.name, owner.pid)
            if isinstance(released, Answer):
                return

    def owners(self) -> set[Owner]:
        """Answer every owner of an entry."""
        return self._entries.owners()

    def tidy(self) -> None:
        """Do what is due between calls; to be called at least once a second."""
        self._expire()

    # A copy of what is shared

    def receive(self, batch: Batch, *, own: bool) -> None:
        """Take over a change that a shared storage tells of; ``own`` where this cache has asked for it."""
        self._apply(batch, batch.revision)
        if not own:
            self.counters.writes -= 1
        self.counters.expired += sum(1 for kind, _, _ in batch.mutations if kind == EXPIRE)

    def hide(self, keys: Sequence[str]) -> None:
        """Have the entries of ``keys`` not be read any more, without a change: that is told when it is committed."""
        gone = Batch()
        gone.mutations = [(RELEASE, key, None) for key in keys]
        self._entries.apply(gone)

    def show(self, entries: Mapping[str, Entry]) -> None:
        """Have ``entries``, which were hidden, be read again."""
        for key, entry in entries.items():
            back = Batch()
            back.mutations = ((STORE, key, entry),)
            back.revision = entry.revision
            self._entries.apply(back)

    def due(self, elapsed: float) -> list[str]:
        """List the keys of entries whose end has come at ``elapsed``."""
        if self._entries.next_deadline > elapsed:
            return []
        return self._entries.due(elapsed, _DUE_AT_ONCE)

    def start_over(self, content: Content) -> None:
        """Do as `load`, and tell all who follow the changes that they have to begin anew."""
        self.load(content)
        reset = Batch()
        reset.mutations = ((RESET, "", None),)
        reset.note = reset.via = ""
        reset.time = self._clock.wall()
        reset.revision = content.revision
        self._untold.append(reset)
        if not self._telling:
            self._tell()

    def _expire(self) -> None:
        """Take away what has ended, before anybody reads or writes."""
        while self._entries.next_deadline <= self._clock.elapsed() and not self._expiring:
            if self.engine.shared:
                return
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


# What helps against a reply that is too large.
_PAGE = "page with prefix, after and limit"
_FEWER = "ask for fewer keys at once"


def _check_number(entries: int, remedy: str) -> None:
    if entries > MAX_REPLY_ENTRIES:
        raise _too_large(f"{entries} entries; at most {MAX_REPLY_ENTRIES} are allowed", remedy)


def _check_size(entries: int, size: int, remedy: str) -> None:
    # One entry alone always gets out, or it could be stored and not read.
    if size > MAX_REPLY_BYTES and entries > 1:
        raise _too_large(f"{size} bytes; at most {MAX_REPLY_BYTES} are allowed", remedy)


def _too_large(what: str, remedy: str) -> LimitExceededError:
    return LimitExceededError(f"the reply would have {what}: {remedy}")

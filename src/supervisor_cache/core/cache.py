"""One cache: reads of its entries, and the one way in which all writes go.

A write is planned, committed by the engine, applied to the entries in memory, and then shown to the observers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Committed, Conflict, Engine, Outcome
from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import Batch, Commit, Entry
from supervisor_cache.core.keys import checked_key, checked_prefix
from supervisor_cache.core.limits import MAX_REPLY_BYTES, MAX_REPLY_ENTRIES, Limits
from supervisor_cache.core.operations import Plan, check_number
from supervisor_cache.core.options import checked_limit
from supervisor_cache.core.text import shown, xml_text_size
from supervisor_cache.core.values import Value
from supervisor_cache.errors import CacheError, InvalidArgumentsError, LimitExceededError, NoSuchKeyError

P = ParamSpec("P")
T = TypeVar("T")

Operation: TypeAlias = Callable[Concatenate[Entries, Limits, float, P], Plan[T]]
Observer: TypeAlias = Callable[[Commit], None]

# Bytes that an element of getKeys, and of getEntries beside key, value and note, takes in a reply at most.
_KEY_MARKUP = len("<value><string></string></value>\n")
_ENTRY_MARKUP = 700


@dataclass
class Counters:
    """What has been asked of a cache since supervisord started.

    Attributes:
        hits: Keys that were asked for by name and found.
        misses: Keys that were asked for by name and not found.
        writes: Commits.
        refused: Writes that ended in an error.
    """

    hits: int = 0
    misses: int = 0
    writes: int = 0
    refused: int = 0


class Cache:
    """The entries of one namespace.

    Args:
        engine: Where they are kept.
        limits: What is admitted. May be replaced at any time: what is over a new limit stays, and cannot grow.
        clock: Answers the seconds since the epoch.
        observers: Called after each commit, in this order. What one raises is passed to ``report``: the write
            stands, and the others are called all the same.
        report: Takes what an observer raised.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        clock: Callable[[], float],
        observers: Sequence[Observer],
        report: Callable[[Exception], None],
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.counters = Counters()
        self._clock = clock
        self._observers = tuple(observers)
        self._report = report
        self._entries = Entries()

    # Reads

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.engine.revision

    @property
    def size(self) -> int:
        """Bytes that count against ``max_total_bytes``."""
        return self._entries.size

    def __len__(self) -> int:
        return len(self._entries)

    def fetch(self, key: object) -> Value:
        """Answer the value of ``key``.

        Raises:
            InvalidKeyError: ``key`` can be none.
            NoSuchKeyError: There is no entry.
        """
        return self.entry(key).value

    def entry(self, key: object) -> Entry:
        """Answer the entry of ``key``; raises as `fetch` does."""
        name = self._key(key)
        entry = self._entries.get(name)
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
        check_number(len(keys), "keys", self._entries, self.limits)
        names = dict.fromkeys([self._key(key) for key in keys])
        found = [(name, entry) for name in names if (entry := self._entries.get(name)) is not None]
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

    def _page(self, prefix: object, after: object, limit: object, markup: int) -> list[tuple[str, Entry]]:
        names = self._select(prefix, after, limit)
        if len(names) > MAX_REPLY_ENTRIES:
            _check_reply(len(names), 0, _PAGE)
        found = [(name, entry) for name in names if (entry := self._entries.get(name)) is not None]
        size = sum(entry.reply_size for _, entry in found) + markup * len(found)
        if markup:
            size += sum(xml_text_size(entry.note) for _, entry in found)
        _check_reply(len(found), size, _PAGE)
        return found

    def _select(self, prefix: object, after: object, limit: object) -> list[str]:
        return self._entries.keys(checked_prefix(prefix), checked_prefix(after, "after"), checked_limit(limit))

    def _key(self, key: object) -> str:
        if type(key) is str and key in self._entries:
            return key
        return checked_key(key, self.limits.max_key_bytes)

    # Writes

    def write(self, operation: Operation[P, T], via: str, *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Plan ``operation`` with its arguments, commit and apply it, and tell the observers.

        Args:
            operation: One of `supervisor_cache.core.operations`.
            via: The server or process that it comes through.
            *args: The caller's arguments, unchecked.
            **kwargs: Likewise.

        Returns:
            What it answers, or the error that it ended in; done already unless the engine answers later.
        """
        answer: Answer[T] = Answer()

        def make_plan(now: float) -> Plan[T]:
            return operation(self._entries, self.limits, now, *args, **kwargs)

        self._attempt(make_plan, via, answer)
        return answer

    # Nothing here refers to itself: what a write replaces is freed at once, not when the garbage collector comes.
    def _attempt(self, make_plan: Callable[[float], Plan[T]], via: str, answer: Answer[T]) -> None:
        now = self._clock()
        try:
            plan = make_plan(now)
        except CacheError as error:
            self._refuse(answer, error)
            return
        if not plan.mutations:
            answer.resolve(plan.answer(self.revision))
            return
        batch = Batch(plan.mutations, now, plan.note, via, plan.relied)

        def settle(outcome: Outcome) -> None:
            if isinstance(outcome, Committed):
                self._apply(Commit(outcome.revision, batch))
                answer.resolve(plan.answer(outcome.revision))
            elif isinstance(outcome, Conflict):
                self._attempt(make_plan, via, answer)
            else:
                self._refuse(answer, outcome.error)

        self.engine.commit(batch, settle)

    def _refuse(self, answer: Answer[T], error: CacheError) -> None:
        self.counters.refused += 1
        answer.reject(error)

    def _apply(self, commit: Commit) -> None:
        self._entries.apply(commit)
        self.counters.writes += 1
        for observer in self._observers:
            try:
                observer(commit)
            except Exception as error:  # noqa: BLE001 - the write stands whatever an observer does
                self._report(error)


_PAGE = "page with prefix, after and limit"


def _check_reply(entries: int, size: int, remedy: str) -> None:
    # One entry alone always gets out, or it could be stored and not read.
    if entries > MAX_REPLY_ENTRIES:
        raise _too_large(f"{entries} entries; at most {MAX_REPLY_ENTRIES} are allowed", remedy)
    if size > MAX_REPLY_BYTES and entries > 1:
        raise _too_large(f"{size} bytes; at most {MAX_REPLY_BYTES} are allowed", remedy)


def _too_large(what: str, remedy: str) -> LimitExceededError:
    return LimitExceededError(f"the reply would have {what}: {remedy}")

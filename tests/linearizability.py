"""Whether a history of the cache has an order that explains it: each call at one moment between its start and its end.

Key by key, after Wing and Gong, "Testing and verifying concurrent objects"; and as in Lowe, "Testing for
linearizability", calls are put in order only when a reply demands it, and what has been tried is remembered.

The history goes by, and with it the configurations that are possible: a state of the key, and which of the calls that
are under way have taken effect. At each reply those remain in which that call has, with that result. Where none does,
the history is wrong. A configuration goes, too, where another one allows whatever it does.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from tests.key_model import MISSING, REFUSED, START, UNKNOWN, UNSEEN, State, encoded, step


@final
@dataclass(frozen=True)
class Operation:
    """One call of the cache.

    Arguments and results are those of the RPC methods: ``store(value)``, ``fetch()``, ``add(value)``,
    ``storeIf(value, revision)``, ``delete()``, ``deleteIf(revision)``, ``increment(delta)``, ``getEntry()``, which
    answers the value and its revision, ``touch(ttl)``, ``touchIf(ttl, revision)``. Reads of what is not there answer
    `MISSING`; what was refused is left out of the check; what ends an entry by itself, TTL or owner, is a ``delete``
    of which nothing is known.

    Args:
        process: Who calls: a sequence of calls, and of what a copy has shown to it.
        call: When.
        returned: When the reply came; None where it did not: it may have taken effect at any time since, or never.
        key: Of the cache.
        kind: The method.
        arguments: Those after the key.
        result: What it answered.
        stale: Whether this read may have come from a copy: it saw what was current at some moment before its reply,
            but at none before those that calls of this process for this key have shown already.
    """

    process: str
    call: float
    returned: float | None
    key: str
    kind: str
    arguments: tuple[Any, ...] = ()
    result: Any = None
    stale: bool = False

    def named(self) -> str:
        """Write it without its result."""
        return f"{'stale ' * self.stale}{self.kind}({', '.join(map(repr, self.arguments))})"

    def __str__(self) -> str:
        if self.returned is None:
            return f"{self.call:.6f}, no reply, {self.process}: {self.named()}"
        return f"{self.call:.6f} to {self.returned:.6f}, {self.process}: {self.named()} -> {self.result!r}"


__all__ = ["MISSING", "REFUSED", "Operation", "Violation", "check"]

_READS = {"fetch", "getEntry"}
_PUTS = {"store", "add", "storeIf"}
# What they do has nothing to do with what was there.
_BLIND = {"store", "delete"}


def _changes(operation: Operation) -> bool:
    """Whether it may change the key, given its result."""
    if operation.kind in _READS:
        return False
    return operation.returned is None or not (operation.result == "" or operation.result is False)


def _told_apart(operations: Sequence[Operation]) -> list[tuple[Any, ...]]:
    """Answer the arguments of each operation, without those that make no difference: values that nobody has read."""
    seen = {
        encoded(operation.result[0] if isinstance(operation.result, tuple) else operation.result)
        for operation in operations
        if operation.kind in _READS
    }
    has_sums = any(operation.kind == "increment" for operation in operations)
    return [
        (UNSEEN, *operation.arguments[1:])
        if operation.returned is None
        and operation.kind in _PUTS
        and encoded(operation.arguments[0]) not in seen
        and not (has_sums and type(operation.arguments[0]) is int)
        else operation.arguments
        for operation in operations
    ]


@final
class _Configuration(NamedTuple):
    """What may be: a state, and the operations under way that have taken effect, as bits of their numbers."""

    state: State
    written: int = 0
    observed: int = 0
    unknown: int = 0

    def allows(self, other: "_Configuration") -> bool:
        """Whether whatever can follow ``other`` can follow this, too, where both have written the same.

        What only observed has no say any more, and what may never happen can be left out.
        """
        return (
            self.unknown & ~other.unknown == 0
            and other.observed & ~self.observed == 0
            and self.state.allows(other.state)
        )


@final
class _Configurations:
    """Those of which none allows all that another one does."""

    def __init__(self) -> None:
        self._alike: dict[tuple[str | None, int], list[_Configuration]] = {}

    def add(self, new: _Configuration) -> bool:
        """Add one; answer whether it allows anything new."""
        alike = self._alike.setdefault((new.state.value, new.written), [])
        if any(each.allows(new) for each in alike):
            return False
        alike[:] = [each for each in alike if not new.allows(each)]
        alike.append(new)
        return True

    def __iter__(self) -> Iterator[_Configuration]:
        for alike in self._alike.values():
            yield from alike


@final
class _Search:
    """The search over the operations of one key, in the order of their calls."""

    def __init__(self, operations: Sequence[Operation], start: State) -> None:
        self._operations = operations
        self._changes = [_changes(operation) for operation in operations]
        self._is_known = [operation.returned is not None for operation in operations]
        self._is_blind = [operation.kind in _BLIND for operation in operations]
        self._arguments = _told_apart(operations)
        self._apply = [
            step(each.kind, arguments, UNKNOWN if each.returned is None else each.result)
            for each, arguments in zip(operations, self._arguments, strict=True)
        ]
        # Of each, the stale read that may take effect as soon as it has, and of those that can right away.
        self._next: dict[int, int] = {}
        self._ready: set[int] = set()
        self._under_way: set[int] = set()
        self._unknown: list[int] = []
        self._twins: dict[int, int] = {}
        self._last_alike: dict[tuple[str, str], int] = {}
        self._link_stale_reads()
        self.configurations: list[_Configuration] = [self._settled(_Configuration(start))]
        # The last time at which no operation was under way, and all that it could be.
        self.since: float | None = None
        self.certain = _Configuration(start)

    def _link_stale_reads(self) -> None:
        last: dict[str, int] = {}
        for number, operation in enumerate(self._operations):
            if operation.stale:
                assert operation.kind in _READS
                if operation.process in last:
                    self._next[last[operation.process]] = number
                else:
                    self._ready.add(number)
            if self._is_known[number]:
                last[operation.process] = number

    def run(self) -> int | None:
        """Answer the first operation whose reply nothing explains."""
        events = [(operation.call, 0, number) for number, operation in enumerate(self._operations)]
        events += [
            (operation.returned, 1, number)
            for number, operation in enumerate(self._operations)
            if operation.returned is not None
        ]
        for time, is_return, number in sorted(events):
            if is_return:
                before = self.configurations
                self.configurations = self._returned(number)
                if not self.configurations:
                    self.configurations = before
                    return number
                if len(self.configurations) == 1 and not self._under_way and not self.configurations[0].observed:
                    self.since, self.certain = time, self.configurations[0]
            elif not self._is_known[number]:
                self._called_without_reply(number)
            elif not self._operations[number].stale:
                self._under_way.add(number)
                self.configurations = [self._settled(each) for each in self.configurations]
        return None

    def _called_without_reply(self, number: int) -> None:
        # Of those that would do the same, the first does.
        what = (self._operations[number].kind, encoded(self._arguments[number]))
        if what in self._last_alike:
            self._twins[number] = self._last_alike[what]
        self._last_alike[what] = number
        self._unknown.append(number)

    def _returned(self, number: int) -> list[_Configuration]:
        """Answer what may be now that an operation has returned."""
        bit = 1 << number
        found, tried = _Configurations(), _Configurations()
        for each in self.configurations:
            tried.add(each)
        queue = deque((each, False) for each in tried)
        while queue:
            one, is_vain = queue.popleft()
            if (one.written | one.observed) & bit:
                found.add(one._replace(written=one.written & ~bit, observed=one.observed & ~bit))
                continue
            queue.extend(new for new in self._steps(one, is_vain=is_vain) if tried.add(new[0]))
        self._under_way.discard(number)
        self._ready.discard(number)
        if number in self._next:
            self._ready.add(self._next[number])
        return list(found)

    def _candidates(self, one: _Configuration) -> Iterator[int]:
        """Those with known results that can take effect next."""
        done = one.written | one.observed
        for start in (*self._under_way, *self._ready):
            number: int | None = start
            while number is not None and done >> number & 1:
                number = self._next.get(number)
            if number is not None:
                yield number

    def _steps(self, one: _Configuration, *, is_vain: bool) -> Iterator[tuple[_Configuration, bool]]:
        """What may be once one more operation has taken effect; and whether in vain, unless the next one heeds it.

        Where the next one only writes over what a call without a reply has written, that may as well not have been.
        """
        candidates = list(self._candidates(one))
        for number in candidates:
            if not (is_vain and self._is_blind[number]):
                state = self._apply[number](one.state)
                if state is not None:
                    yield self._settled(self._with(one, number, state)), False
        if all(self._is_blind[number] for number in candidates):
            return
        for number in self._unknown:
            twin = self._twins.get(number)
            is_no_choice = one.unknown >> number & 1 or (twin is not None and not one.unknown >> twin & 1)
            if is_no_choice or (is_vain and self._is_blind[number]):
                continue
            state = self._apply[number](one.state)
            if state is not None and state != one.state:
                new = self._settled(one._replace(state=state, unknown=one.unknown | 1 << number))
                yield new, new.observed == one.observed

    def _with(self, one: _Configuration, number: int, state: State) -> _Configuration:
        if self._changes[number]:
            return one._replace(state=state, written=one.written | 1 << number)
        return one._replace(state=state, observed=one.observed | 1 << number)

    def _settled(self, one: _Configuration) -> _Configuration:
        """Have happened what only observes, and sees just this: nothing is gained by waiting."""
        while True:
            for number in self._candidates(one):
                if not self._changes[number] and self._apply[number](one.state) == one.state:
                    one = self._with(one, number, one.state)
                    break
            else:
                return one


@final
@dataclass(frozen=True)
class Violation:
    """A history that nothing explains.

    Args:
        key: Where.
        operation: The first whose reply is wrong, whatever happened.
        since: When it was certain what the key is; None at the start.
        start: What it was then.
        operations: Those that have no order from there on. Without any of the observations among them, they have.
        possible: What the key may have been before that reply.
    """

    key: str
    operation: Operation
    since: float | None
    start: State
    operations: tuple[Operation, ...]
    possible: tuple[State, ...]

    def __str__(self) -> str:
        since = "at the start" if self.since is None else f"{self.since:.6f}"
        possible = "; or ".join(sorted({str(state) for state in self.possible})[:10])
        answered = f"{self.operation.process} answered at {self.operation.returned:.6f}"
        lines = [
            f"no order of these calls for {self.key!r} explains what {self.operation.named()} of {answered}",
            f"{since}: {self.start}",
            *map(str, self.operations),
            f"before that reply: {possible}",
        ]
        return "\n  ".join(lines)


def check(history: Iterable[Operation]) -> Violation | None:
    """Answer the first key whose operations have no order that explains them, and why; None where all have one.

    In the beginning there is no entry. Times are of one clock, whichever.
    """
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        if operation.result is not REFUSED and (operation.returned is not None or _changes(operation)):
            keys.setdefault(operation.key, []).append(operation)
    for _, operations in sorted(keys.items()):
        violation = _check_key(sorted(operations, key=lambda operation: operation.call))
        if violation is not None:
            return violation
    return None


def _check_key(operations: Sequence[Operation]) -> Violation | None:
    search = _Search(operations, START)
    number = search.run()
    if number is None:
        return None
    wrong = operations[number]
    since, start = search.since, search.certain.state
    left = [
        operation
        for number, operation in enumerate(operations)
        if operation.call <= (wrong.returned or 0)
        and not search.certain.unknown >> number & 1
        and (operation.returned is None or since is None or operation.returned > since)
    ]
    possible = tuple(each.state for each in search.configurations)
    return Violation(wrong.key, wrong, since, start, _necessary(left, wrong, start), possible)


def _necessary(operations: list[Operation], wrong: Operation, start: State) -> tuple[Operation, ...]:
    """Leave out each observation without which ``wrong`` is still wrong; a write left out might make it so itself."""
    for operation in list(operations):
        if operation is not wrong and not _changes(operation):
            rest = [each for each in operations if each is not operation]
            number = _Search(rest, start).run()
            if number is not None and rest[number] is wrong:
                operations = rest
    return tuple(operations)

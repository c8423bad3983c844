"""What each call of the cache makes of a key, and which results it can have there: as far as those can tell."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, final


@final
class _Name:
    """A result that is no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISSING: Final = _Name("missing")  # there is no such key
REFUSED: Final = _Name("refused")  # it certainly changed nothing, and told nothing
UNKNOWN: Final = _Name("unknown")
UNSEEN: Final = _Name("unseen")  # a value that nobody has read: one is like the other


@final
class State(NamedTuple):
    """A key, as far as it can be known from what was answered.

    A write that does not tell its revision takes one all the same: later than what was before, earlier than what
    comes after, and none of those at which a condition has failed.
    """

    value: str | None  # as JSON, for what is equal in Python is not always equal here; None where there is no entry
    revision: int | None  # 0 where there is no entry, None where it is not known
    least: int  # which the last change took at least
    excluded: frozenset[int] = frozenset()

    def __str__(self) -> str:
        if self.value is None:
            return "missing"
        return f"{self.value} at {f'{self.least} or later' if self.revision is None else self.revision}"

    def newest(self) -> int:
        """The least revision that the last change can have taken."""
        least = self.least
        while least in self.excluded:
            least += 1
        return least

    def may_be_at(self, revision: int) -> bool:
        """Whether that may be its revision."""
        if self.revision is None:
            return revision >= self.least and revision not in self.excluded
        return revision == self.revision

    def changed(self, value: str | None, revision: int | None = None) -> "State | None":
        """Answer what it is after a write; None where that cannot have taken ``revision``."""
        before = self.newest()
        if value is None:
            return State(None, 0, before + 1)
        if revision is None:
            return State(value, None, before + 1)
        return State(value, revision, revision) if revision > before else None

    def at(self, revision: int) -> "State | None":
        """Answer what it is where its revision turns out to be that."""
        if self.revision is not None or not self.may_be_at(revision):
            return self if self.revision == revision else None
        return State(self.value, revision, revision)

    def not_at(self, revision: int) -> "State | None":
        """Answer what it is where its revision turns out not to be that."""
        if self.revision is not None or not self.may_be_at(revision):
            return self if self.revision != revision else None
        return self._replace(excluded=self.excluded | {revision})

    def allows(self, other: "State") -> bool:
        """Whether whatever can follow ``other`` can follow this, too."""
        if self.revision is not None:
            return self.revision == other.revision and self.least <= other.least
        if other.revision is not None:
            return self.may_be_at(other.revision)
        return self.least <= other.least and all(other.least > each or each in other.excluded for each in self.excluded)


START: Final = State(None, 0, 0)


Step = Callable[[State], State | None]


def encoded(value: Any) -> str:
    """Write a value so that what differs differs."""
    text = json.dumps(value, sort_keys=True, default=repr)
    # As no value is written that there can be.
    return f" {text}" if value is UNSEEN else text


def step(kind: str, arguments: tuple[Any, ...], result: Any) -> Step:
    """Answer what makes of a state what it is afterwards, or None where the call cannot have had that result there.

    With `UNKNOWN` as the result, it makes what comes of the call where it takes effect; where it does not, it might as
    well never have been.
    """
    return _STEPS[kind](arguments, result)


def _number(revision: Any) -> int:
    return int(revision) if revision else 0


def _never(_state: State) -> State | None:
    return None


def _store(arguments: tuple[Any, ...], result: Any) -> Step:
    value = encoded(arguments[0])
    return (lambda state: state.changed(value)) if result is True or result is UNKNOWN else _never


def _delete(_arguments: tuple[Any, ...], result: Any) -> Step:
    if result is not True and result is not UNKNOWN:
        return _never
    return lambda state: state if state.value is None else state.changed(None)


def _fetch(_arguments: tuple[Any, ...], result: Any) -> Step:
    value = None if result is MISSING else encoded(result)
    return lambda state: state if state.value == value else None


def _get_entry(_arguments: tuple[Any, ...], result: Any) -> Step:
    if result is MISSING:
        return _fetch((), result)
    value, revision = encoded(result[0]), _number(result[1])
    return lambda state: state.at(revision) if state.value == value else None


def _put(state: State, value: str | None, result: Any) -> State | None:
    """Where a write that answers its revision has taken place."""
    if result is UNKNOWN:
        return state.changed(value)
    return state.changed(value, int(result)) if isinstance(result, str) else None


def _put_if(expected: int, result: Any, value: str) -> Step:
    if result == "":
        return lambda state: state.not_at(expected)

    def put(state: State) -> State | None:
        matching = state.at(expected)
        return None if matching is None else _put(matching, value, result)

    return put


def _add(arguments: tuple[Any, ...], result: Any) -> Step:
    return _put_if(0, result, encoded(arguments[0]))


def _store_if(arguments: tuple[Any, ...], result: Any) -> Step:
    return _put_if(_number(arguments[1]), result, encoded(arguments[0]))


def _touch(_arguments: tuple[Any, ...], result: Any) -> Step:
    if result == "":
        return lambda state: state if state.value is None else None
    return lambda state: None if state.value is None else _put(state, state.value, result)


def _touch_if(arguments: tuple[Any, ...], result: Any) -> Step:
    expected = _number(arguments[1])

    def touch(state: State) -> State | None:
        if result == "":
            return state if state.value is None else state.not_at(expected)
        matching = None if state.value is None else state.at(expected)
        return None if matching is None else _put(matching, matching.value, result)

    return touch


def _delete_if(arguments: tuple[Any, ...], result: Any) -> Step:
    expected, remove = _number(arguments[0]), _delete((), result)

    def delete(state: State) -> State | None:
        if result is False:
            return state if state.value is None else state.not_at(expected)
        matching = None if state.value is None else state.at(expected)
        return None if matching is None else remove(matching)

    return delete


def _increment(arguments: tuple[Any, ...], result: Any) -> Step:
    delta = arguments[0] if arguments else 1
    expected = encoded(result)

    def increment(state: State) -> State | None:
        number = 0 if state.value is None else json.loads(state.value)
        if type(number) is not int:
            return None
        total = encoded(number + delta)
        return state.changed(total) if result is UNKNOWN or expected == total else None

    return increment


_STEPS: dict[str, Callable[[tuple[Any, ...], Any], Step]] = {
    "store": _store,
    "fetch": _fetch,
    "add": _add,
    "storeIf": _store_if,
    "deleteIf": _delete_if,
    "delete": _delete,
    "increment": _increment,
    "getEntry": _get_entry,
    "touch": _touch,
    "touchIf": _touch_if,
}

"""The checker knows right histories from wrong ones: those told here, and whatever trying every order says."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.linearizability import MISSING, REFUSED, Operation, check

# A history is told as lines: process, call, reply (None where there is none), method, arguments, result.
Line = tuple[Any, ...]


def history(*lines: Line, key: str = "k") -> list[Operation]:
    """What the lines tell; the method of a stale read begins with a ``~``."""
    return [
        Operation(process, call, returned, key, kind.removeprefix("~"), arguments, result, stale=kind.startswith("~"))
        for process, call, returned, kind, arguments, result in lines
    ]


RIGHT: dict[str, list[Line]] = {
    "nothing": [],
    "one after the other": [
        ("a", 0, 1, "fetch", (), MISSING),
        ("a", 2, 3, "store", ("x",), True),
        ("b", 4, 5, "fetch", (), "x"),
        ("b", 6, 7, "getEntry", (), ("x", "7")),
        ("a", 8, 9, "storeIf", ("y", "7"), "9"),
        ("b", 10, 11, "touch", (60,), "11"),
        ("a", 12, 13, "touchIf", (60, "9"), ""),
        ("a", 14, 15, "touchIf", (60, "11"), "12"),
        ("a", 16, 17, "deleteIf", ("11",), False),
        ("a", 18, 19, "deleteIf", ("12",), True),
        ("b", 20, 21, "getEntry", (), MISSING),
        ("b", 22, 23, "touch", (60,), ""),
        ("b", 24, 25, "increment", (5,), 5),
        ("b", 26, 27, "add", (1,), ""),
        ("a", 28, 29, "delete", (), True),
        ("a", 30, 31, "delete", (), True),
    ],
    "two reads during a write": [
        ("a", 0, 9, "store", ("x",), True),
        ("b", 1, 2, "fetch", (), MISSING),
        ("b", 3, 4, "fetch", (), "x"),
    ],
    "of two writes at once the one or the other is the last": [
        ("a", 0, 9, "store", ("x",), True),
        ("b", 0, 9, "store", ("y",), True),
        ("c", 10, 11, "fetch", (), "x"),
    ],
    "of two adds at once one wins": [
        ("a", 0, 9, "add", ("x",), ""),
        ("b", 0, 9, "add", ("y",), "5"),
    ],
    "an unknown write that never happens": [
        ("a", 0, None, "store", ("x",), None),
        ("b", 1, 2, "fetch", (), MISSING),
        ("b", 3, 4, "add", ("y",), "4"),
    ],
    "an unknown write that happens late": [
        ("a", 0, None, "store", ("x",), None),
        ("b", 1, 2, "fetch", (), MISSING),
        ("b", 3, 4, "store", ("y",), True),
        ("b", 5, 6, "fetch", (), "y"),
        ("b", 7, 8, "fetch", (), "x"),
    ],
    "an unknown write of what is counted up": [
        ("a", 0, None, "store", (5,), None),
        ("b", 1, 2, "increment", (1,), 6),
    ],
    "an unknown write in between, which nobody reads": [
        ("b", 0, 1, "add", ("y",), "4"),
        ("a", 2, None, "store", ("x",), None),
        ("b", 3, 4, "storeIf", ("z", "4"), ""),
    ],
    "an unknown write undone before it was seen": [
        ("b", 0, 1, "add", ("y",), "4"),
        ("a", 2, None, "delete", (), None),
        ("b", 3, 4, "add", ("y",), "6"),
    ],
    "an unknown write that is read before it is written over": [
        ("a", 0, None, "store", ("x",), None),
        ("b", 1, 9, "fetch", (), "x"),
        ("c", 2, 3, "store", ("y",), True),
        ("c", 10, 11, "fetch", (), "y"),
    ],
    "unknown writes of what nobody reads": [
        ("a", 0, 1, "add", ("x",), "1"),
        ("b", 2, None, "store", ("y",), None),
        ("b", 3, None, "store", ("z",), None),
        ("a", 4, 5, "storeIf", ("x", "1"), ""),
        ("a", 6, 7, "store", ("x",), True),
        ("a", 8, 9, "getEntry", (), ("x", "4")),
        ("a", 10, 11, "storeIf", ("x", "4"), ""),
    ],
    "what was refused has not happened": [
        ("a", 0, 1, "store", ("x",), REFUSED),
        ("b", 2, 3, "fetch", (), MISSING),
    ],
    "a revision that is learned late": [
        ("a", 0, 1, "store", ("x",), True),
        ("b", 2, 3, "storeIf", ("y", "5"), ""),
        ("b", 4, 5, "storeIf", ("y", "6"), "7"),
    ],
    "a copy behind, and then no more": [
        ("a", 0, 1, "store", (1,), True),
        ("a", 2, 3, "store", (2,), True),
        ("a", 4, 5, "store", (3,), True),
        ("b", 6, 7, "~fetch", (), 1),
        ("b", 8, 9, "~fetch", (), 1),
        ("b", 10, 11, "~fetch", (), 3),
        ("c", 12, 13, "~fetch", (), MISSING),
        ("c", 14, 15, "~fetch", (), 2),
        ("c", 16, 17, "fetch", (), 3),
    ],
    "a copy behind after a write whose outcome its process does not know": [
        ("a", 0, 1, "store", (1,), True),
        ("a", 2, None, "store", (2,), None),
        ("a", 3, 4, "~fetch", (), 1),
        ("b", 5, 6, "fetch", (), 2),
    ],
}
WRONG: dict[str, list[Line]] = {
    "a lost update": [
        ("a", 0, 9, "increment", (1,), 1),
        ("b", 0, 9, "increment", (1,), 1),
    ],
    "a lost write": [
        ("a", 0, 1, "store", ("x",), True),
        ("a", 2, 3, "fetch", (), MISSING),
    ],
    "a stale read": [
        ("a", 0, 1, "store", ("x",), True),
        ("a", 2, 3, "store", ("y",), True),
        ("b", 4, 5, "fetch", (), "x"),
    ],
    "a read that goes back": [
        ("a", 0, 9, "store", ("x",), True),
        ("b", 1, 2, "fetch", (), "x"),
        ("c", 3, 4, "fetch", (), MISSING),
    ],
    "a read before the write": [
        ("a", 0, 1, "fetch", (), "x"),
        ("b", 2, 3, "store", ("x",), True),
    ],
    "a dirty read of a failed write": [
        ("a", 0, 5, "storeIf", ("x", "3"), ""),
        ("b", 1, 6, "fetch", (), "x"),
    ],
    "a dirty read of a refused write": [
        ("a", 0, 5, "store", ("x",), REFUSED),
        ("b", 1, 6, "fetch", (), "x"),
    ],
    "an unknown write before its call": [
        ("a", 0, 1, "fetch", (), "x"),
        ("b", 2, None, "store", ("x",), None),
    ],
    "an unknown write that happens twice": [
        ("a", 0, None, "store", ("x",), None),
        ("b", 1, 2, "fetch", (), "x"),
        ("b", 3, 4, "store", ("y",), True),
        ("b", 5, 6, "fetch", (), "x"),
    ],
    "an unknown increment that happens twice": [
        ("a", 0, None, "increment", (1,), None),
        ("b", 1, 2, "fetch", (), 2),
    ],
    "one unknown write of what nobody reads that happens twice": [
        ("a", 0, 1, "add", ("x",), "1"),
        ("b", 2, None, "store", ("y",), None),
        ("a", 4, 5, "storeIf", ("x", "1"), ""),
        ("a", 6, 7, "store", ("x",), True),
        ("a", 8, 9, "getEntry", (), ("x", "4")),
        ("a", 10, 11, "storeIf", ("x", "4"), ""),
    ],
    "an unknown write of what is counted up, one too far": [
        ("a", 0, None, "store", (5,), None),
        ("b", 1, 2, "increment", (1,), 7),
    ],
    "two unknown writes, of which one happens twice": [
        ("a", 0, None, "increment", (1,), None),
        ("c", 0, None, "increment", (2,), None),
        ("b", 1, 2, "fetch", (), 4),
    ],
    "two adds that both won": [
        ("a", 0, 9, "add", ("x",), "5"),
        ("b", 0, 9, "add", ("y",), "6"),
    ],
    "two storeIf at one revision": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("a", 2, 9, "storeIf", ("y", "5"), "6"),
        ("b", 2, 9, "storeIf", ("z", "5"), "7"),
    ],
    "a condition that held and failed": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("b", 2, 3, "storeIf", ("y", "5"), ""),
    ],
    "a revision that goes back": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("a", 2, 3, "touch", (60,), "4"),
    ],
    "a revision that does not grow": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("a", 2, 3, "touch", (60,), "5"),
    ],
    "a revision that is used twice": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("a", 2, 3, "delete", (), True),
        ("a", 4, 5, "add", ("x",), "5"),
    ],
    "no room for the revision of a write in between": [
        ("a", 0, 1, "add", ("x",), "5"),
        ("a", 2, 3, "store", ("y",), True),
        ("a", 4, 5, "storeIf", ("z", "5"), "7"),
    ],
    "a revision that is learned and then another": [
        ("a", 0, 1, "store", ("x",), True),
        ("a", 2, 3, "getEntry", (), ("x", "5")),
        ("a", 4, 5, "getEntry", (), ("x", "6")),
    ],
    "a revision at which a condition has failed": [
        ("a", 0, 1, "store", ("x",), True),
        ("a", 2, 3, "touchIf", (60, "5"), ""),
        ("a", 4, 5, "getEntry", (), ("x", "5")),
    ],
    "what is equal in Python alone": [
        ("a", 0, 1, "store", (1,), True),
        ("a", 2, 3, "fetch", (), True),
    ],
    "an increment of what is no integer": [
        ("a", 0, 1, "store", ("1",), True),
        ("a", 2, 3, "increment", (1,), 2),
    ],
    "a delete that finds what is not there": [
        ("a", 0, 1, "deleteIf", ("3",), True),
    ],
    "a touch that finds what is not there": [
        ("a", 0, 1, "touch", (60,), "3"),
    ],
    "a copy that goes back": [
        ("a", 0, 1, "store", (1,), True),
        ("a", 2, 3, "store", (2,), True),
        ("b", 4, 5, "~fetch", (), 2),
        ("b", 6, 7, "~fetch", (), 1),
    ],
    "a copy that goes back behind a write of the same process": [
        ("a", 0, 1, "store", (1,), True),
        ("a", 2, 3, "~fetch", (), MISSING),
    ],
    "a copy that goes back behind what its process knows": [
        ("a", 0, 1, "store", (1,), True),
        ("b", 2, 3, "getEntry", (), (1, "4")),
        ("b", 4, 5, "~fetch", (), MISSING),
    ],
    "a copy of what never was": [
        ("a", 0, 1, "store", (1,), True),
        ("b", 4, 5, "~fetch", (), 2),
    ],
    "a copy of what comes later": [
        ("b", 0, 1, "~fetch", (), 1),
        ("a", 2, 3, "store", (1,), True),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_can_be_explained_is_right(name: str) -> None:
    operations = history(*RIGHT[name])
    assert check(operations) is None
    assert check(reversed(operations)) is None


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_explained_is_wrong(name: str) -> None:
    operations = history(*WRONG[name])
    found = check(operations)
    assert found is not None
    assert found.key == "k"
    assert check(reversed(operations)) is not None


def test_what_was_equal_at_two_keys_does_not_mix() -> None:
    right = [*history(*RIGHT["one after the other"], key="a"), *history(*RIGHT["a copy behind, and then no more"])]
    assert check(right) is None
    found = check([*right, *history(*WRONG["a lost update"], key="z")])
    assert found is not None
    assert found.key == "z"


def test_a_violation_tells_what_it_takes_to_see_it_and_no_more() -> None:
    found = check(
        history(
            ("a", 0, 1, "store", ("w",), True),
            ("a", 2, 3, "storeIf", ("x", "8"), "9"),
            ("b", 4, 5, "fetch", (), "x"),
            ("c", 6, 12, "fetch", (), "x"),
            ("a", 6, 11, "store", ("y",), True),
            ("b", 7, 8, "fetch", (), "y"),
            ("b", 9, 10, "fetch", (), "y"),
            ("d", 9, 10, "getEntry", (), ("x", "9")),
            ("d", 13, 14, "fetch", (), MISSING),
        )
    )
    assert found is not None
    assert str(found).splitlines() == [
        "no order of these calls for 'k' explains what getEntry() of d answered at 10.000000",
        '  5.000000: "x" at 9',
        "  6.000000 to 11.000000, a: store('y') -> True",
        "  7.000000 to 8.000000, b: fetch() -> 'y'",
        "  9.000000 to 10.000000, d: getEntry() -> ('x', '9')",
        '  before that reply: "y" at 10 or later',
    ]


# What follows knows nothing of the checker: a cache in which one call comes after the other, and every order of calls.


class Entry(NamedTuple):
    value: Any = MISSING
    revision: int = 0


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def performed(kind: str, arguments: tuple[Any, ...], entry: Entry, taken: int) -> tuple[Any, Entry]:
    """Answer what a call answers and leaves behind, where its revision would be ``taken``."""
    exists = entry.revision > 0
    own = str(entry.revision) if exists else ""
    if kind == "fetch":
        return entry.value, entry
    if kind == "getEntry":
        return ((entry.value, own) if exists else MISSING), entry
    if kind == "delete":
        return True, Entry()
    if kind == "deleteIf":
        return (True, Entry()) if exists and own == arguments[0] else (False, entry)
    if kind == "increment":
        total = (entry.value if exists else 0) + arguments[0]
        return total, Entry(total, taken)
    if kind == "store":
        return True, Entry(arguments[0], taken)
    if kind in {"touch", "touchIf"}:
        value, holds = entry.value, exists and (kind == "touch" or own == arguments[1])
    else:
        value, holds = arguments[0], own == (arguments[1] if kind == "storeIf" else "")
    return (str(taken), Entry(value, taken)) if holds else ("", entry)


def precedes(one: Operation, other: Operation) -> bool:
    if one.returned is None:
        return False
    if other.stale:
        return one.process == other.process and one.call < other.call
    return one.returned < other.call


def mentioned(operations: list[Operation]) -> Iterator[int]:
    for operation in operations:
        told = operation.result[1:] if isinstance(operation.result, tuple) else (operation.result,)
        yield from (int(text) for text in (*operation.arguments, *told) if isinstance(text, str) and text.isdecimal())


def has_an_order(operations: list[Operation]) -> bool:
    """Try every order, and every revision that a write may have taken."""
    highest = max(mentioned(operations), default=0) + len(operations)

    def follows(left: list[Operation], entry: Entry, newest: int) -> bool:
        if all(operation.returned is None for operation in left):
            return True
        for operation in left:
            if any(precedes(other, operation) for other in left if other is not operation):
                continue
            rest = [other for other in left if other is not operation]
            for taken in range(newest + 1, highest + 1):
                result, after = performed(operation.kind, operation.arguments, entry, taken)
                is_change = after != entry
                fits = operation.returned is None or same(result, operation.result)
                if fits and follows(rest, after, taken if is_change else newest):
                    return True
                if not is_change:
                    break
        return False

    return follows(operations, Entry(), 0)


VALUES = st.integers(0, 2)
CALLS = st.one_of(
    st.tuples(st.sampled_from(["fetch", "getEntry", "delete"]), st.just(())),
    st.tuples(st.sampled_from(["store", "add", "increment"]), st.tuples(VALUES)),
    st.tuples(st.just("touch"), st.just((60,))),
    st.tuples(st.just("storeIf"), st.tuples(VALUES, st.none())),
    st.tuples(st.just("touchIf"), st.tuples(st.just(60), st.none())),
    st.tuples(st.just("deleteIf"), st.tuples(st.none())),
)
FATES = st.sampled_from(["answered"] * 5 + ["stale", "lost", "lost before"])
DELAYS = st.floats(0.1, 40, allow_nan=False)


@st.composite
def histories(draw: st.DrawFn, most: int) -> list[Operation]:
    """Calls that were made one after the other, told as if they had overlapped."""
    states = [Entry()]
    newest, known = 0, [""]
    made: list[Operation] = []
    busy: dict[str, float] = {}
    seen: dict[str, int] = {}
    for number in range(draw(st.integers(1, most))):
        moment = 10.0 * (number + 1)
        kind, given_arguments = draw(CALLS)
        arguments = tuple(draw(st.sampled_from(known)) if each is None else each for each in given_arguments)
        free = [process for process in "abc" if busy.get(process, 0) < moment] or [f"p{number}"]
        process = draw(st.sampled_from(free))
        call = max(moment - draw(DELAYS), busy.get(process, 0) + 0.01)
        end = moment + draw(DELAYS)
        fate = draw(FATES)
        is_stale = fate == "stale" and kind in {"fetch", "getEntry"}
        taken = newest + draw(st.integers(1, 2))
        if is_stale:
            at = draw(st.integers(seen.get(process, 0), len(states) - 1))
            result, _ = performed(kind, arguments, states[at], taken)
        else:
            result, after = performed(kind, arguments, states[-1], taken)
            at = len(states)
            if fate != "lost before":
                newest = taken if after != states[-1] else newest
                states.append(after)
        if fate.startswith("lost"):
            result = None
            busy[process] = moment
        else:
            seen[process] = at
            busy[process] = end
            known += [
                text for text in (result, result[1] if isinstance(result, tuple) else None) if isinstance(text, str)
            ]
        returned = None if fate.startswith("lost") else end
        made.append(Operation(process, call, returned, "k", kind, arguments, result, stale=is_stale))
    return made


RESULTS = st.one_of(VALUES, st.sampled_from(["", "1", "2", "3", "4", True, False, MISSING, REFUSED]))
ENTRIES = st.tuples(VALUES, st.sampled_from(["1", "2", "3", "4"]))


@st.composite
def mutations(draw: st.DrawFn, most: int) -> list[Operation]:
    """Histories of which something is not as it was."""
    made = draw(histories(most))
    for _ in range(draw(st.integers(1, 2))):
        number = draw(st.integers(0, len(made) - 1))
        one = made[number]
        what = draw(st.sampled_from(["result", "result", "time", "stale", "reply", "lost"]))
        if what == "result" and one.returned is not None:
            one = replace(one, result=draw(ENTRIES if one.kind == "getEntry" else RESULTS))
        elif what == "time" and one.returned is not None:
            one = replace(one, call=(call := draw(st.floats(0, 80))), returned=call + draw(DELAYS))
        elif what == "stale" and one.kind in {"fetch", "getEntry"}:
            one = replace(one, stale=not one.stale)
        elif what == "lost":
            one = replace(one, returned=None, result=None)
        made[number] = one
    return made


def crowd(chance: random.Random) -> list[Operation]:
    """Thousands of calls for some dozens of keys, some of them without a reply."""
    entries: dict[str, Entry] = {}
    made: list[Operation] = []
    for number in range(4000):
        key = f"k{chance.randrange(30)}"
        entry = entries.get(key, Entry())
        value, own = f"v{number}", str(entry.revision or "")
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("fetch", ()), ("getEntry", ()), ("store", (value,)), ("add", (value,)), ("storeIf", (value, own)),
            ("storeIf", (value, "1")), ("touch", (60,)), ("delete", ()), ("deleteIf", (own,)),
        ]  # fmt: skip
        kind, arguments = chance.choice(calls)
        result, after = performed(kind, arguments, entry, number + 1)
        is_lost = chance.random() < 0.03
        if not is_lost or chance.random() < 0.5:
            entries[key] = after
        call, returned = number - 40 * chance.random(), None if is_lost else number + 40 * chance.random()
        made.append(Operation(f"p{number}", call, returned, key, kind, arguments, None if is_lost else result))
    return made


def test_thousands_of_calls_for_dozens_of_keys_are_looked_through_in_seconds() -> None:
    operations = crowd(random.Random(7))
    began = time.process_time()
    assert check(operations) is None
    wrong = next(
        number
        for number in range(3500, 4000)
        if operations[number].kind == "fetch" and operations[number].returned is not None
    )
    operations[wrong] = replace(operations[wrong], result="v0")
    found = check(operations)
    assert time.process_time() - began < 10
    assert found is not None
    assert found.operation == operations[wrong]
    assert len(found.operations) < 30


MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(histories(40))
@MANY
def test_whatever_happened_in_an_order_is_right(operations: list[Operation]) -> None:
    assert check(operations) is None


@given(mutations(5))
@MANY
def test_what_is_wrong_is_what_no_order_explains(operations: list[Operation]) -> None:
    found = check(operations)
    expected = has_an_order([operation for operation in operations if operation.result is not REFUSED])
    assert (found is None) is expected, found
    if found is not None:
        assert found.operation in found.operations
        if found.since is None:
            again = check(found.operations)
            assert again is not None
            assert again.operation == found.operation

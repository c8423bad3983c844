"""What is read from a database, in which another program may have written whatever it likes."""

from typing import Any

import pytest

from supervisor_cache.core import rows
from supervisor_cache.core.entry import CLEAR, DELETE, NEVER, NOBODY, RESET, STORE, Entry, Owner
from supervisor_cache.core.rows import MAX_REVISION, change_rows, decoded, entry_row, read
from tests.model import START, FakeClock

GOOD = ("k", '"v"', 5, START, 0.0, "", 0, "")


def row(**other: Any) -> tuple[Any, ...]:
    names = ("key", "value", "revision", "modified", "expires", "owner", "pid", "note")
    return tuple({**dict(zip(names, GOOD, strict=True)), **other}.values())


def change(revision: Any, kind: Any = STORE, key: Any = "k", position: int = 0, **other: Any) -> tuple[Any, ...]:
    more = {"time": START, "note": "", "via": "", **other}
    return (revision, position, kind, key, *more.values())


def test_an_entry_comes_back_as_it_was_written() -> None:
    clock = FakeClock()
    entry = Entry(b'{"a":[1]}', 20, 100, START - 5, "who", Owner("web:0", 7), START + 60, clock.up + 60)
    content, skipped = read([entry_row("k", entry, 9)], [], clock)
    found = content.entries["k"]
    assert (found.value, found.note, found.owner, found.revision) == ({"a": [1]}, "who", ("web:0", 7), 9)
    assert (found.modified, found.expires, found.deadline) == (START - 5, START + 60, clock.up + 60)
    # Key, value as JSON, note and owner.
    assert found.size == 1 + 9 + 3 + 5
    assert (content.revision, content.since, skipped) == (9, 9, frozenset())


@pytest.mark.parametrize(
    ("packed", "text"),
    [("plain", '"plain"'), ('a"b', '"a\\"b"'), ("ä", '"ä"'), (b"[1]", "[1]"), (True, "true"), (5, "5"), (1.0, "1.0")],
)
def test_a_value_is_written_as_json(packed: Any, text: str) -> None:
    assert entry_row("k", Entry(packed, 1, 1, START), 5) == ("k", text, 5, START, 0.0, "", 0, "")


def test_an_entry_without_end_or_owner_has_none() -> None:
    content, _ = read([GOOD], [], FakeClock())
    found = content.entries["k"]
    assert (found.deadline, found.expires, found.owner is NOBODY) == (NEVER, 0.0, True)


def test_a_process_of_another_host_has_no_pid_here() -> None:
    content, _ = read([row(owner="web:0", pid=-3), row(key="mine", owner="web:1", pid=3)], [], FakeClock())
    assert content.entries["k"].owner == ("web:0", 0)
    assert content.entries["mine"].owner == ("web:1", 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": "a\nb"},
        {"key": "x" * 70_000},
        {"key": None},
        {"key": b"k"},
        {"value": ""},
        {"value": "null"},
        {"value": None},
        {"value": b"\xff"},
        {"value": "[" * 40 + "]" * 40},
        {"revision": 0},
        {"revision": -1},
        {"revision": MAX_REVISION},
        {"revision": 5.0},
        {"revision": "5"},
        {"revision": None},
        {"modified": float("inf")},
        {"modified": None},
        {"modified": "now"},
        {"expires": float("nan")},
        {"expires": None},
        {"owner": 5},
        {"owner": "a\nb"},
        {"pid": "7"},
        {"pid": 7.0},
        {"note": None},
        {"note": "a\nb"},
        {"note": "n" * 1025},
    ],
)
def test_what_is_no_entry_is_left_out_and_its_key_told(wrong: dict[str, Any]) -> None:
    content, skipped = read([row(**wrong), row(key="good", revision=7)], [], FakeClock())
    assert list(content.entries) == ["good"]
    assert skipped == {wrong.get("key", "k")}
    assert content.revision == 7


@pytest.mark.parametrize("revision", [1, MAX_REVISION - 1])
def test_the_first_and_the_last_revision_are_some(revision: int) -> None:
    content, skipped = read([row(revision=revision)], [change(revision)], FakeClock())
    assert (content.entries["k"].revision, skipped) == (revision, frozenset())
    assert content.revision == revision
    assert [commit[0] for commit in content.commits] == [revision]


def test_what_is_no_utf8_becomes_what_no_entry_may_have() -> None:
    content, skipped = read([row(key=decoded(b"\xff"))], [], FakeClock())
    assert not content.entries
    assert skipped == {"\udcff"}
    assert decoded("ä".encode()) == "ä"


def test_changes_come_back_as_they_were_written() -> None:
    made = [
        *change_rows(5, START, "who", "web", [(STORE, "a"), (DELETE, "b")]),
        *change_rows(7, 8.0, "", "", [(CLEAR, "")]),
    ]
    content, _ = read([], made, FakeClock())
    assert list(content.commits) == [
        (5, START, "who", "web", [(STORE, "a"), (DELETE, "b")], 64 + 3 + 17 + 17),
        (7, 8.0, "", "", [(CLEAR, "")], 64 + 16),
    ]
    assert (content.since, content.revision) == (4, 7)


def test_more_changes_than_a_reply_holds_are_written_as_a_new_beginning() -> None:
    fit = list(change_rows(5, START, "", "", [(STORE, str(number)) for number in range(2000)]))
    assert [(one[1], one[3]) for one in fit] == [(number, str(number)) for number in range(2000)]
    many = list(change_rows(5, START, "who", "web", [(STORE, str(number)) for number in range(2001)]))
    assert many == [(5, 0, RESET, "", START, "who", "web")]


def test_what_was_reset_is_known_from_there_on() -> None:
    content, _ = read([], [change(4), change(5, RESET, ""), change(6), change(8)], FakeClock())
    assert ([commit[0] for commit in content.commits], content.since, content.revision) == ([6, 8], 5, 8)
    alone, _ = read([row(revision=3)], [change(5, RESET, "")], FakeClock())
    assert (list(alone.commits), alone.since, alone.revision) == ([], 5, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "other"},
        {"kind": None},
        {"key": ""},
        {"key": None},
        {"note": "a\nb"},
        {"via": 5},
        {"time": float("inf")},
        {"time": None},
        {"time": "now"},
    ],
)
def test_after_a_change_that_is_none_all_are_told_to_start_over(wrong: dict[str, Any]) -> None:
    content, _ = read([], [change(4), change(5, **wrong), change(6)], FakeClock())
    assert ([commit[0] for commit in content.commits], content.since) == ([6], 5)


@pytest.mark.parametrize("wrong", [None, "5", 5.0, 0, -1, MAX_REVISION])
def test_a_change_without_a_revision_forgets_those_before_it(wrong: Any) -> None:
    content, _ = read([], [change(4), change(wrong), change(6)], FakeClock())
    assert ([commit[0] for commit in content.commits], content.since, content.revision) == ([6], 4, 6)
    first, _ = read([], [change(wrong), change(6)], FakeClock())
    assert ([commit[0] for commit in first.commits], first.revision) == ([6], 6)
    only, _ = read([], [change(wrong)], FakeClock())
    assert (list(only.commits), only.revision) == ([], 0)


def test_a_clear_has_no_key() -> None:
    content, _ = read([], [change(5, CLEAR, "")], FakeClock())
    assert [commit[4] for commit in content.commits] == [[(CLEAR, "")]]


def test_the_newest_revision_is_that_of_an_entry_a_change_or_a_new_beginning() -> None:
    assert read([row(revision=9)], [change(5)], FakeClock())[0].revision == 9
    assert read([row(revision=5)], [change(9)], FakeClock())[0].revision == 9
    assert read([row(revision=5)], [change(9, RESET, "")], FakeClock())[0].revision == 9
    first, _ = read([], [change(1)], FakeClock())
    assert (first.revision, first.since) == (1, 0)
    later, _ = read([row(revision=9)], [change(5, RESET, "")], FakeClock())
    assert (later.revision, later.since) == (9, 5)
    empty, _ = read([], [], FakeClock())
    assert (empty.revision, empty.since, list(empty.commits)) == (0, 0, [])


def test_a_value_is_checked_by_itself() -> None:
    assert rows.checked_value(row(value="[1]")) == [1]
    with pytest.raises(ValueError, match=r"^a column has a wrong type$"):
        rows.checked_value(row(revision="5"))
    with pytest.raises(ValueError, match=r"^a time is not finite$"):
        rows.checked_value(row(expires=float("inf")))

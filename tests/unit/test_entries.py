"""What reads look at: order, ends and owners stay right whatever comes and goes."""

import sys

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.entries import Entries
from supervisor_cache.core.entry import DELETE, NEVER, NOBODY, STORE, Batch, Entry, Owner
from tests.model import START, Bench, FakeClock

FIRST, SECOND = Owner("web:0", 7), Owner("web:1", 8)


def made(deadline: float = NEVER, owner: Owner = NOBODY, size: int = 5) -> Entry:
    return Entry("v", size, 100, START, "", owner, 0.0 if deadline == NEVER else deadline, deadline)


@pytest.fixture
def entries() -> Entries:
    return Entries()


def put(entries: Entries, revision: int, **given: Entry | None) -> None:
    batch = Batch()
    batch.mutations = [(DELETE if entry is None else STORE, key, entry) for key, entry in given.items()]
    batch.revision = revision
    entries.apply(batch)


def test_keys_are_paged_in_the_order_of_their_code_points(entries: Entries) -> None:
    put(entries, 1, **{key: made() for key in ("b", "a/2", "a", "a/1", "ä", "a/3", "a0")})
    assert entries.keys() == ["a", "a/1", "a/2", "a/3", "a0", "b", "ä"]
    assert entries.keys("a/") == ["a/1", "a/2", "a/3"]
    assert entries.keys("a/", "a/1") == ["a/2", "a/3"]
    assert entries.keys("a/", "a/1", 1) == ["a/2"]
    assert entries.keys("a/", "0") == ["a/1", "a/2", "a/3"]
    assert entries.keys("a/", "b") == []
    assert entries.keys("", "a/2", 2) == ["a/3", "a0"]
    assert entries.keys("", "a/11") == ["a/2", "a/3", "a0", "b", "ä"]
    assert entries.keys(limit=2) == ["a", "a/1"]
    assert entries.keys("b", limit=5) == ["b"]


def test_the_first_end_is_known_whatever_is_replaced_or_deleted(entries: Entries) -> None:
    put(entries, 1, a=made(50), b=made(30), c=made())
    assert entries.next_deadline == 30
    put(entries, 2, b=made(60))
    assert entries.next_deadline == 50
    put(entries, 3, a=None)
    assert entries.next_deadline == 60
    put(entries, 4, b=made())
    assert entries.next_deadline == NEVER


def test_ends_are_listed_in_their_order_and_as_many_as_asked_for(entries: Entries) -> None:
    assert entries.due(1000, 500) == []
    ends = {f"k{number}": made(100 + (number * 37) % 50) for number in range(50)}
    put(entries, 1, **ends)
    expected = sorted(ends, key=lambda key: ends[key].deadline)
    assert entries.due(99.9, 500) == []
    assert entries.due(100, 500) == expected[:1]
    assert entries.due(119, 500) == expected[:20]
    assert entries.due(1000, 7) == expected[:7]
    # They stay until they are deleted.
    assert entries.due(1000, 500) == expected
    put(entries, 2, **dict.fromkeys(expected[:10]))
    assert entries.due(1000, 500) == expected[10:]


def test_an_end_that_was_put_off_is_not_listed_before_the_new_one(entries: Entries) -> None:
    put(entries, 1, first=made(30), k=made(40), gone=made(41))
    put(entries, 2, k=made(60), gone=None)
    assert entries.due(50, 9) == ["first"]
    assert entries.due(60, 9) == ["first", "k"]


def test_an_entry_that_is_renewed_without_end_leaves_nothing_behind(entries: Entries) -> None:
    """A heartbeat does that: memory must not grow by it, and no end be lost."""
    put(entries, 1, other=made(10_000_000))
    for number in range(2, 5000):
        put(entries, number, beat=made(float(number)))
    assert len(entries._deadlines.heap) < 200
    assert entries.next_deadline == 4999
    assert entries.due(20_000_000, 9) == ["beat", "other"]
    put(entries, 6000, beat=None)
    assert entries.next_deadline == 10_000_000


def test_an_entry_that_is_renewed_behind_one_that_ends_first_leaves_nothing_behind(entries: Entries) -> None:
    put(entries, 1, first=made(5))
    for number in range(2, 5000):
        put(entries, number, beat=made(10_000.0 + number))
    assert len(entries._deadlines.heap) < 200
    assert entries.next_deadline == 5
    assert entries.due(20_000, 9) == ["first", "beat"]


def test_many_renewed_entries_all_keep_their_ends(entries: Entries) -> None:
    for revision in range(1, 20):
        put(entries, revision, **{f"k{number}": made(1000 * revision + number) for number in range(100)})
    assert entries.due(10**9, 500) == [f"k{number}" for number in range(100)]
    assert entries.next_deadline == 19_000
    assert len(entries._deadlines.heap) < 600


def test_owners_are_known_as_long_as_they_own_something(entries: Entries) -> None:
    put(entries, 1, b=made(owner=FIRST), a=made(owner=FIRST), c=made(owner=SECOND), d=made())
    assert entries.owned_by(7) == ["a", "b"]
    assert entries.owners() == {FIRST, SECOND}
    put(entries, 2, a=made(owner=SECOND), c=None)
    assert (entries.owned_by(7), entries.owned_by(8)) == (["b"], ["a"])
    put(entries, 3, b=made())
    assert entries.owned_by(7) == []
    assert entries.owners() == {SECOND}
    # Who has no pid here is none of ours.
    put(entries, 4, e=made(owner=Owner("web:2", 0)))
    assert entries.owners() == {SECOND}


def test_the_bytes_of_all_are_the_sum_of_each(entries: Entries) -> None:
    put(entries, 1, a=made(size=5), b=made(size=7))
    assert entries.size == 12
    put(entries, 2, a=made(size=1), c=None)
    assert (entries.size, len(entries), entries.revision("a"), entries.revision("b")) == (8, 2, 2, 1)
    put(entries, 3, b=None)
    assert (entries.size, entries.revision("b")) == (1, 0)


def test_what_is_loaded_replaces_all_with_order_ends_owners_and_bytes(entries: Entries) -> None:
    put(entries, 1, old=made(5, FIRST))
    entries.load({"b": made(60), "a": made(70, SECOND), "c": made(), "d": made(owner=FIRST)})
    assert entries.keys() == ["a", "b", "c", "d"]
    assert (entries.size, entries.next_deadline) == (20, 60)
    assert entries.owners() == {FIRST, SECOND}
    assert (entries.due(65, 9), entries.due(75, 9)) == (["b"], ["b", "a"])
    entries.load({"a": made()})
    assert (entries.next_deadline, entries.owners(), entries.size) == (NEVER, set(), 5)


@pytest.mark.parametrize("number", [64, 65, 66])
def test_order_is_kept_however_many_come_and_go_together(entries: Entries, number: int) -> None:
    names = [f"k{(place * 29) % number:03}" for place in range(number)]
    put(entries, 1, middle=made(), k0305=made(), z=made())
    put(entries, 2, **{name: made() for name in names})
    assert entries.keys() == sorted([*names, "middle", "k0305", "z"])
    put(entries, 3, **dict.fromkeys(names))
    assert entries.keys() == ["k0305", "middle", "z"]


def test_what_goes_and_comes_again_by_the_hundred_is_listed_once_and_in_order(entries: Entries) -> None:
    names = [f"k{number:03}" for number in range(300)]
    put(entries, 1, **{name: made() for name in reversed(names)})
    put(entries, 2, **dict.fromkeys(names[:200]))
    put(entries, 3, **{name: made() for name in names[50:250]})
    put(entries, 4, k100=None, zz=made())
    put(entries, 5, **dict.fromkeys(names[:60]))
    expected = [*(name for name in names[60:] if name != "k100"), "zz"]
    assert entries.keys() == expected
    put(entries, 6, k100=made())
    assert entries.keys() == [*names[60:], "zz"]
    assert entries.keys("k10", "k100", 3) == ["k101", "k102", "k103"]


def test_of_what_a_process_owns_only_some_are_listed_where_that_is_asked_for(entries: Entries) -> None:
    put(entries, 1, **{f"k{number}": made(owner=FIRST) for number in range(9)})
    assert len(entries.owned_by(7, 4)) == 4
    assert len(entries.owned_by(7, 20)) == 9


def test_an_end_is_told_by_the_wall_clock_of_now_if_that_was_set() -> None:
    clock = FakeClock()
    entry = Entry("v", 5, 100, START, "", NOBODY, clock.now + 60, clock.up + 60)
    assert entry.expires_by(clock) == START + 60
    clock.now += 0.9  # slewed, not set
    assert entry.expires_by(clock) == START + 60
    clock.now += 0.2
    assert entry.expires_by(clock) == clock.now + 60
    clock.now = START + 1
    assert entry.expires_by(clock) == START + 61
    clock.now = START - 1
    assert entry.expires_by(clock) == START + 59
    clock.pass_by(10)
    assert entry.expires_by(clock) == clock.now + 50
    assert made().expires_by(clock) == 0.0


def test_an_entry_that_is_not_stored_yet_has_no_revision() -> None:
    assert made().revision == 0


def test_the_largest_key_and_value_are_measured_without_note_and_owner() -> None:
    bench = Bench()
    assert bench.cache.largest() == (0, 0)
    bench.pids["p:0"] = 7
    bench.write(operations.store, "ä", "1234", {"note": "n" * 100, "owner": "p:0"})
    bench.write(operations.store, "a long key", 1)
    assert bench.cache.largest() == (10, 6)


def test_a_page_ends_where_its_room_does_with_one_entry_in_any_case() -> None:
    bench = Bench()
    bench.write(operations.store_many, dict.fromkeys(("a", "b", "c", "d"), "12345"))  # 8 bytes each
    page = bench.cache.page

    def names(*arguments: object) -> tuple[list[str], bool]:
        found, more = page(*arguments)  # type: ignore[arg-type]
        return [name for name, _ in found], more

    assert names("", "", 10, 1000) == (["a", "b", "c", "d"], False)
    assert names("", "", 4, 32) == (["a", "b", "c", "d"], False)
    assert names("", "", 3, 1000) == (["a", "b", "c"], True)
    assert names("", "", 10, 16) == (["a", "b"], True)
    assert names("", "", 10, 15) == (["a"], True)
    assert names("", "", 10, 1) == (["a"], True)
    assert names("", "c", 10, 1) == (["d"], False)
    assert names("x", "", 10, 1) == ([], False)
    assert page("", "", 1, 100)[0][0][1] is bench.cache.peek("a")


def test_a_look_counts_for_no_statistics_and_sees_nothing_that_is_over() -> None:
    bench = Bench()
    bench.write(operations.store, "k", 1, {"ttl": 5})
    assert bench.cache.peek("k") is not None
    assert bench.cache.peek("missing") is None
    bench.clock.pass_by(5)
    assert bench.cache.peek("k") is None
    counters = bench.cache.counters
    assert (counters.hits, counters.misses, counters.expired) == (0, 0, 1)


def test_keys_that_come_and_go_while_nobody_lists_leave_nothing_behind(entries: Entries) -> None:
    put(entries, 1, **{f"k{number:03}": made() for number in range(100)})
    for revision in range(2, 5000, 2):
        put(entries, revision, lock=made())
        put(entries, revision + 1, lock=None)
    assert sys.getsizeof(entries._sorted) < 100 * sys.getsizeof(1)
    put(entries, 5000, lock=made())
    assert entries.keys() == [*(f"k{number:03}" for number in range(100)), "lock"]

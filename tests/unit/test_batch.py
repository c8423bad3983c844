"""Several entries in one call, and what a call answers that changes nothing."""

from typing import Any

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.cache import Operation
from supervisor_cache.core.entry import DELETE, STORE
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.values import reply_size
from supervisor_cache.errors import InvalidArgumentsError, InvalidKeyError, LimitExceededError
from tests.model import Bench


@pytest.fixture
def bench() -> Bench:
    """A cache with ``a`` and ``b``."""
    bench = Bench()
    bench.write(operations.store, "a", 1)
    bench.write(operations.store, "b", 2)
    bench.commits.clear()
    return bench


def revision(bench: Bench, key: str) -> str:
    return str(bench.cache.entry(key).revision)


def test_a_batch_stores_and_deletes_in_one_revision(bench: Bench) -> None:
    before = bench.cache.revision
    options = {"note": "who", "ttl": 5}
    made = bench.write(operations.batch, {"c": 3}, ["a", "missing"], {"b": revision(bench, "b")}, options)
    assert made == before + 1
    assert bench.cache.items() == {"b": 2, "c": 3}
    assert [(kind, key) for kind, key, _ in bench.commits[-1].mutations] == [(STORE, "c"), (DELETE, "a")]
    assert bench.commits[-1].note == "who"
    assert bench.cache.expires(bench.cache.entry("c")) == bench.clock.now + 5


def test_a_batch_tells_which_conditions_do_not_hold_and_does_nothing(bench: Bench) -> None:
    conditions = {"a": revision(bench, "a"), "b": "1", "c": "1", "d": ""}
    assert bench.write(operations.batch, {"d": 4}, ["a"], conditions) == ["b", "c"]
    assert bench.cache.items() == {"a": 1, "b": 2}
    assert bench.commits == []


def test_a_batch_with_nothing_to_change_takes_no_revision(bench: Bench) -> None:
    before = bench.cache.revision
    assert bench.write(operations.batch, {}, ["missing"], {"a": revision(bench, "a")}) is None
    assert bench.write(operations.batch, {"a": 1}, [], {}, {"if_changed": True}) is None
    assert bench.cache.revision == before


def test_a_batch_relies_on_all_that_it_has_looked_at(bench: Bench) -> None:
    view = bench.cache._view
    plan = operations.batch(view, {"a": 1}, ["b"], {"c": ""}, {"if_changed": True})
    assert plan.relied == {"a": int(revision(bench, "a")), "b": int(revision(bench, "b")), "c": 0}
    failed = operations.batch(view, {}, ["b"], {"c": "5"})
    idle = operations.batch(view, {}, ["missing"], {"a": revision(bench, "a")})
    assert (list(idle.mutations), idle.relied) == ([], {"a": int(revision(bench, "a")), "missing": 0})
    assert failed.relied == {"b": int(revision(bench, "b")), "c": 0}
    assert list(failed.mutations) == []


@pytest.mark.parametrize(
    ("items", "keys", "conditions", "text"),
    [
        ([], [], {}, "items must be a struct"),
        ({}, "a", {}, "keys must be an array"),
        ({}, [], ["a"], "conditions must be a struct"),
        ({"x": 1, "a": 1}, ["b", "a"], {}, "key 'a' is to be stored and deleted"),
        ({}, [], {"a": 5}, "revision must be a string"),
        ({}, [], {"a": "1x"}, "revision '1x' is no decimal number"),
    ],
)
def test_a_wrong_batch_says_what_is_wrong(bench: Bench, items: Any, keys: Any, conditions: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=f"^{text}$"):
        bench.write(operations.batch, items, keys, conditions)
    assert bench.commits == []


@pytest.mark.parametrize(("keys", "conditions"), [([""], {}), ([], {"": ""})])
def test_a_batch_takes_no_wrong_keys(bench: Bench, keys: Any, conditions: Any) -> None:
    with pytest.raises(InvalidKeyError):
        bench.write(operations.batch, {"c": 1}, keys, conditions)


def test_a_deletion_of_many_says_what_it_cannot_take(bench: Bench) -> None:
    wrong: tuple[object, ...] = ("a", {}, None, ("a",))
    for keys in wrong:
        with pytest.raises(InvalidArgumentsError, match=r"^keys must be an array$"):
            bench.write(operations.delete_many, keys)
    with pytest.raises(InvalidArgumentsError, match=r"^prefix must not be empty; clear takes all entries away$"):
        bench.write(operations.delete_prefix, "")
    assert bench.cache.items() == {"a": 1, "b": 2}


def test_a_batch_is_limited_as_a_whole() -> None:
    bench = Bench(Limits(max_entries=2))
    names = [f"k{number}" for number in range(5000)]
    conditions = dict.fromkeys((f"c{number}" for number in range(5000)), "")
    # Keys that are not there, and conditions that hold: nothing to change, and as many as go into one call.
    assert bench.write(operations.batch, {}, names, conditions) is None
    text = "there are 10001 keys; at most 10000 go into one call"
    with pytest.raises(LimitExceededError, match=text):
        bench.write(operations.batch, {}, [*names, "one"], conditions)
    with pytest.raises(LimitExceededError, match=text):
        bench.write(operations.batch, {"one": 1}, names, conditions)


def test_a_store_can_answer_its_revision(bench: Bench) -> None:
    before = bench.cache.revision
    options = {"note": "who", "if_changed": True}
    assert bench.write(operations.replace, "a", "new", options) == before + 1
    assert bench.write(operations.replace, "a", "new", options) is None
    assert bench.write(operations.replace, "a", "newer", options) == before + 2
    assert bench.write(operations.replace, "a", "newer") == before + 3
    assert bench.cache.fetch("a") == "newer"
    assert [commit.note for commit in bench.commits] == ["who", "who", ""]


def test_what_finds_nothing_to_change_relies_on_what_it_has_seen(bench: Bench) -> None:
    """Where others write, too, that is asked for: else a call would be answered by what is over."""
    view, options = bench.cache._view, {"if_changed": True}
    a = int(revision(bench, "a"))
    for plan in (
        operations.store(view, "a", 1, options),
        operations.replace(view, "a", 1, options),
        operations.store_many(view, {"a": 1}, options),
        operations.store_if(view, "a", 1, str(a), options),
        operations.increment(view, "a", 0, options),
        operations.store_if(view, "a", 5, "1"),
        operations.add(view, "a", 5),
        operations.touch_if(view, "a", 5, "1"),
        operations.delete_if(view, "a", "1"),
    ):
        assert (list(plan.mutations), dict(plan.relied)) == ([], {"a": a})
    for missing in (
        operations.delete(view, "c"),
        operations.delete_if(view, "c", ""),
        operations.delete_if(view, "c", "1"),
        operations.delete_many(view, ["c"]),
        operations.touch(view, "c", 5),
        operations.store_if(view, "c", 5, "1"),
    ):
        assert (list(missing.mutations), dict(missing.relied)) == ([], {"c": 0})
    assert operations.delete_prefix(view, "x").prefix == "x"


def test_what_changes_an_entry_that_it_has_looked_at_relies_on_that(bench: Bench) -> None:
    view = bench.cache._view
    a, b = int(revision(bench, "a")), int(revision(bench, "b"))
    for plan in (
        operations.store_if(view, "a", 5, str(a)),
        operations.increment(view, "a"),
        operations.touch(view, "a", 5),
        operations.touch_if(view, "a", 5, str(a)),
        operations.delete_if(view, "a", str(a)),
        operations.delete_many(view, ["a"]),
        operations.delete_prefix(view, "a"),
    ):
        assert len(plan.mutations) == 1
        assert dict(plan.relied) == {"a": a}
    assert operations.delete_many(view, ["a", "b", "a", "c"]).relied == {"a": a, "b": b, "c": 0}
    # What is written whatever was there relies on nothing.
    for blind in (operations.store(view, "a", 5), operations.delete(view, "a"), operations.clear(view)):
        assert len(blind.mutations) == 1
        assert dict(blind.relied) == {}


def test_a_deletion_says_whether_it_was_of_that_revision(bench: Bench) -> None:
    assert bench.write(operations.delete_if, "a", "1") is False
    assert bench.write(operations.delete_if, "c", "1") is False
    assert bench.write(operations.delete_if, "a", "") is False
    assert bench.write(operations.delete_if, "c", "") is True
    assert bench.write(operations.delete_if, "a", revision(bench, "a")) is True
    assert bench.write(operations.delete, "a") is True
    assert bench.write(operations.delete, "b") is True
    assert bench.write(operations.clear) is True
    bench.write(operations.store, "a", 1)
    assert bench.write(operations.clear) is True
    assert bench.cache.keys() == []


def test_the_note_of_a_change_is_that_of_the_call(bench: Bench) -> None:
    bench.write(operations.store, "a", 1, {"note": "of the entry"})
    calls: list[tuple[Operation[Any], tuple[object, ...]]] = [
        (operations.increment, ("a", 1)),
        (operations.touch, ("a", 5)),
        (operations.touch_if, ("a", 5, None)),
        (operations.delete_if, ("a", None)),
    ]
    for operation, arguments in calls:
        given = [revision(bench, "a") if argument is None else argument for argument in arguments]
        bench.write(operation, *given, {"note": "of the call"})
        assert bench.commits[-1].note == "of the call"
    bench.write(operations.store_many, {"a": 1, "c": 2}, {"note": "many"})
    bench.write(operations.batch, {"d": 1}, [], {})
    assert bench.commits.pop().note == ""
    bench.write(operations.delete_many, ["a"], {"note": "some"})
    bench.write(operations.delete_prefix, "c", {"note": "below"})
    bench.write(operations.delete, "b", {"note": "one"})
    bench.write(operations.store, "b", 1)
    bench.write(operations.clear, {"note": "all"})
    assert [commit.note for commit in bench.commits[-6:]] == ["many", "some", "below", "one", "", "all"]


def test_without_a_note_a_change_has_none(bench: Bench) -> None:
    bench.write(operations.delete, "a")
    bench.write(operations.delete_if, "b", revision(bench, "b"))
    bench.write(operations.store_many, {"a": 1, "b": 2, "c/1": 3})
    bench.write(operations.store_if, "d", 1, "")
    bench.write(operations.delete_many, ["a"])
    bench.write(operations.delete_prefix, "c/")
    bench.write(operations.touch, "b", 5, {"owner": ""})
    bench.write(operations.increment, "b")
    bench.write(operations.replace, "b", 1)
    bench.write(operations.clear)
    assert [commit.note for commit in bench.commits] == [""] * 10


def test_a_call_that_keeps_a_note_tells_none(bench: Bench) -> None:
    bench.write(operations.store, "a", 1, {"note": "of the entry"})
    bench.write(operations.increment, "a")
    bench.write(operations.touch, "a", 5)
    assert [commit.note for commit in bench.commits[-2:]] == ["", ""]
    assert bench.cache.entry("a").note == "of the entry"
    assert bench.cache.fetch("a") == 2


def test_a_sum_has_32_bits() -> None:
    bench = Bench()
    least, most = -(2**31), 2**31 - 1
    assert bench.write(operations.increment, "n", least) == least
    with pytest.raises(LimitExceededError, match=r"^the value of 'n' would pass 32 bits$"):
        bench.write(operations.increment, "n", -1)
    assert bench.write(operations.increment, "n", most) == -1
    for delta in (least - 1, most + 1, 1.0, True, "1", None):
        with pytest.raises(InvalidArgumentsError, match=r"^delta must be an integer of 32 bits$"):
            bench.write(operations.increment, "n", delta)
    before = bench.cache.revision
    assert bench.write(operations.increment, "n", 0, {"if_changed": True}) == -1
    assert bench.cache.revision == before
    assert bench.write(operations.increment, "n", 0) == -1
    assert bench.write(operations.increment, "n", 1, {"if_changed": True}) == 0
    assert (bench.cache.revision, bench.cache.fetch("n")) == (before + 2, 0)


def test_what_is_incremented_ends_when_it_would_have() -> None:
    bench = Bench()
    bench.write(operations.store, "n", 1, {"ttl": 10})
    bench.clock.pass_by(4)
    bench.write(operations.increment, "n")
    entry = bench.cache.entry("n")
    assert (entry.expires, entry.deadline) == (bench.clock.now + 6, bench.clock.up + 6)
    bench.write(operations.increment, "n", 1, {"ttl": 20})
    assert bench.cache.entry("n").deadline == bench.clock.up + 20


def test_a_touch_of_what_is_not_there_changes_nothing(bench: Bench) -> None:
    before = bench.cache.revision
    assert bench.write(operations.touch, "c", 5) is None
    assert bench.write(operations.touch_if, "c", 5, "") is None
    assert bench.write(operations.touch_if, "a", 5, "1") is None
    assert bench.cache.revision == before
    assert bench.write(operations.touch_if, "a", 5, revision(bench, "a")) == before + 1


def test_a_full_cache_can_be_touched() -> None:
    bench = Bench(Limits(max_entries=1))
    bench.write(operations.store, "k", 1)
    assert bench.write(operations.touch, "k", 5, {"note": "longer than before"}) == bench.cache.revision


def test_what_ends_by_itself_has_no_note_and_no_origin() -> None:
    bench = Bench()
    bench.write(operations.store, "k", 1, {"ttl": 5, "note": "of the entry"})
    bench.clock.pass_by(5)
    bench.cache.tidy()
    assert [(commit.note, commit.via) for commit in bench.commits[1:]] == [("", "")]


def test_touch_without_options_changes_the_end_alone(bench: Bench) -> None:
    bench.pids["p:0"] = 7
    bench.write(operations.store, "a", [1], {"note": "who", "owner": "p:0"})
    size, in_reply = bench.cache.size, bench.cache.entry("a").reply_size
    bench.clock.pass_by(1)
    assert bench.write(operations.touch, "a", 5) == bench.cache.revision
    entry = bench.cache.entry("a")
    assert (entry.value, entry.note, entry.owner, entry.reply_size) == ([1], "who", ("p:0", 7), in_reply)
    assert (entry.modified, entry.expires, entry.deadline) == (
        bench.clock.now,
        bench.clock.now + 5,
        bench.clock.up + 5,
    )
    assert bench.cache.size == size
    bench.write(operations.touch, "a", 0, {"note": "", "owner": ""})
    entry = bench.cache.entry("a")
    assert (entry.note, entry.owner.name, entry.expires) == ("", "", 0.0)
    assert bench.cache.size == size - len("who") - len("p:0")


def test_a_note_that_makes_an_entry_too_large_is_refused_by_touch() -> None:
    bench = Bench(Limits(max_total_bytes=10))
    bench.write(operations.store, "k", 1)
    bench.write(operations.touch, "k", 0, {"note": "12345678"})
    with pytest.raises(LimitExceededError, match="there would be 11 bytes"):
        bench.write(operations.touch, "k", 0, {"note": "123456789"})
    assert bench.cache.size == 10


def test_all_entries_of_a_call_count_together_and_what_they_replace_does_not() -> None:
    bench = Bench(Limits(max_entries=3, max_total_bytes=30))
    bench.write(operations.store_many, {"a": "1234567", "b": "1234567"})  # 10 bytes each
    bench.write(operations.store_many, {"a": "12345678", "b": "12345678", "c": "12345"})  # 11, 11, 8
    assert bench.cache.size == 30
    with pytest.raises(LimitExceededError, match="there would be 31 bytes"):
        bench.write(operations.store_many, {"a": "123456789", "c": "12345"})
    with pytest.raises(LimitExceededError, match="there would be 31 bytes"):
        bench.write(operations.store_many, {"c": "12345", "a": "123456789"})
    with pytest.raises(LimitExceededError, match="there would be 5 entries"):
        bench.write(operations.store_many, {"d": 1, "a": 1, "e": 1})
    bench.cache.limits = Limits(max_entries=3, max_total_bytes=10)
    # Over a limit by now, and it does not grow.
    assert bench.write(operations.store_many, {"a": "87654321", "b": "87654321"}) == bench.cache.revision
    assert bench.write(operations.touch, "a", 5) == bench.cache.revision


def test_as_many_as_there_can_be_go_into_one_call() -> None:
    names = [str(number) for number in range(10_001)]
    assert Bench(Limits(max_entries=10_001)).write(operations.delete_many, names) == 0
    bench = Bench(Limits(max_entries=20_000, max_total_bytes=2**30))
    bench.write(operations.store_many, dict.fromkeys(names, 1))
    bench.cache.limits = Limits(max_entries=1)
    assert bench.write(operations.delete_many, names) == 10_001


@pytest.mark.parametrize("value", ["plain", "ä", [1], 5])
def test_an_entry_knows_when_it_was_written_and_its_bytes(value: Any) -> None:
    bench = Bench(Limits(max_value_bytes=7))
    for key in ("k", "&"):
        bench.write(operations.store, key, value)
        entry = bench.cache.entry(key)
        assert entry.modified == bench.clock.now
        member = len("<member>\n<name></name>\n</member>\n") + len(key) + (4 if key == "&" else 0)
        assert entry.reply_size == member + reply_size(value)
    with pytest.raises(LimitExceededError, match="max_value_bytes is 7"):
        bench.write(operations.store, "k", "äaaaa")
    assert bench.write(operations.store, "k", "äaaa") is True


def test_new_entries_of_a_call_fit_to_the_last_byte() -> None:
    items = {"a": "1234567", "b": "1234567"}  # 10 bytes each
    assert Bench(Limits(max_total_bytes=20)).write(operations.store_many, items) is not None
    with pytest.raises(LimitExceededError, match="there would be 20 bytes"):
        Bench(Limits(max_total_bytes=19)).write(operations.store_many, items)

"""What the state machine seldom reaches: each limit exactly, and the words of the errors."""

import gc
from typing import Any

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.entry import Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.errors import (
    CacheError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    WrongTypeError,
)
from tests.model import Bench


def test_the_number_of_entries_is_limited_exactly() -> None:
    bench = Bench(Limits(max_entries=2))
    bench.write(operations.store_many, {"a": 1, "b": 1})
    with pytest.raises(LimitExceededError, match="there would be 3 entries; max_entries is 2"):
        bench.write(operations.store, "c", 1)
    with pytest.raises(LimitExceededError, match="there would be 3 entries"):
        bench.write(operations.store_many, {"a": 2, "c": 1})
    assert bench.cache.items() == {"a": 1, "b": 1}
    assert bench.write(operations.store, "a", 2) is True


def test_the_total_is_limited_exactly() -> None:
    bench = Bench(Limits(max_total_bytes=10))
    bench.write(operations.store, "ä", "1234", {"note": "xy"})  # 2 + 6 + 2
    assert bench.cache.size == 10
    with pytest.raises(LimitExceededError, match="there would be 11 bytes; max_total_bytes is 10"):
        bench.write(operations.store, "ä", "12345", {"note": "xy"})
    with pytest.raises(LimitExceededError, match="there would be 12 bytes"):
        bench.write(operations.store, "b", 1)


def test_one_value_is_limited_exactly() -> None:
    bench = Bench(Limits(max_value_bytes=6))
    bench.write(operations.store, "k", "1234")
    with pytest.raises(LimitExceededError, match="the value for 'k' has 7 bytes as JSON; max_value_bytes is 6"):
        bench.write(operations.store, "k", "12345")


def test_one_key_is_limited_exactly_in_bytes() -> None:
    bench = Bench(Limits(max_key_bytes=4))
    bench.write(operations.store, "ää", 1)
    with pytest.raises(InvalidKeyError, match=r"key 'a\\xe4\\xe4' has 5 bytes; max_key_bytes is 4"):
        bench.write(operations.store, "aää", 1)


def test_what_is_over_a_lowered_limit_can_shrink_and_be_read_and_deleted() -> None:
    bench = Bench()
    bench.write(operations.store_many, {"long-key": "x" * 50, "b": 1, "c": 1})
    bench.cache.limits = Limits(max_entries=1, max_key_bytes=1, max_value_bytes=60, max_total_bytes=20)
    assert bench.write(operations.store, "long-key", "x" * 40) is True
    assert bench.write(operations.store, "long-key", "x" * 40) is True
    with pytest.raises(LimitExceededError, match="max_total_bytes is 20"):
        bench.write(operations.store, "long-key", "x" * 41)
    with pytest.raises(LimitExceededError, match="max_entries is 1"):
        bench.write(operations.store, "d", 1)
    assert bench.cache.fetch("long-key") == "x" * 40
    assert bench.cache.fetch_many(["long-key"]) == {"long-key": "x" * 40}
    assert bench.write(operations.delete_many, ["long-key", "b"]) == 2
    with pytest.raises(InvalidKeyError):
        bench.write(operations.store, "long-key", 1)


def test_a_refused_batch_changes_nothing_wherever_the_mistake_stands() -> None:
    bench = Bench()
    bench.write(operations.store, "a", "old")
    revision = bench.cache.revision
    items: dict[str, Any] = {"a": "new", "b": 1, "c": None}
    with pytest.raises(CacheError, match=r"items\['c'\]: nil cannot be stored"):
        bench.write(operations.store_many, items)
    assert bench.cache.items() == {"a": "old"}
    assert bench.cache.revision == revision
    assert len(bench.commits) == 1


def test_increment_says_what_it_cannot_add_to() -> None:
    bench = Bench()
    bench.write(operations.store, "k", True)  # noqa: FBT003 - a value
    with pytest.raises(WrongTypeError, match="the value of 'k' is no integer"):
        bench.write(operations.increment, "k")
    assert bench.write(operations.increment, "n", 2**31 - 1, {"note": "who"}) == 2**31 - 1
    with pytest.raises(LimitExceededError, match="the value of 'n' would pass 32 bits"):
        bench.write(operations.increment, "n")
    assert bench.write(operations.increment, "n", -1) == 2**31 - 2
    assert bench.cache.entry("n").note == "who"
    assert bench.write(operations.increment, "n", -1, {"note": ""}) == 2**31 - 3
    assert bench.cache.entry("n").note == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (5, "options must be a struct"),
        ([], "options must be a struct"),
        ({"tll": 5}, "unknown option 'tll'; this call knows ttl, owner, pid, note, if_changed"),
        ({"note": 5}, "note must be a string"),
        ({"note": "a\tb"}, r"note has character U\+0009 at position 1, which notes may not have"),
        ({"note": "ä" * 513}, "note has 1026 bytes; at most 1024 are allowed"),
        ({"if_changed": 1}, "option if_changed must be a boolean"),
    ],
)
def test_a_wrong_option_is_named(options: object, text: str) -> None:
    with pytest.raises(CacheError, match=text):
        Bench().write(operations.store, "k", "v", options)


@pytest.mark.parametrize("ttl", [-0.5, -1, -2])
def test_no_entry_is_touched_into_the_past(ttl: float) -> None:
    bench = Bench()
    bench.write(operations.store, "k", "v", {"ttl": 60})
    for touch in ((operations.touch, "k", ttl), (operations.touch_if, "k", ttl, str(bench.cache.revision))):
        with pytest.raises(InvalidArgumentsError, match="ttl must be a number of seconds of at least 0"):
            bench.write(*touch)
    assert bench.cache.entry("k").expires == bench.clock.now + 60
    assert len(bench.commits) == 1


def test_of_many_items_the_wrong_one_is_named_and_cut() -> None:
    with pytest.raises(InvalidArgumentsError, match=r"^items\['x{36}\.\.\.\]: nil cannot be stored$"):
        Bench().write(operations.store_many, {"good": 1, "x" * 60: None})


def test_what_ends_by_itself_or_with_its_process_has_no_note() -> None:
    bench = Bench()
    bench.pids["web:web"] = 7
    bench.write(operations.store, "k", "v", {"ttl": 5, "note": "who"})
    bench.write(operations.store, "l", "v", {"owner": "web:web", "note": "who"})
    bench.clock.pass_by(5)
    bench.cache.tidy()
    bench.cache.release(Owner("web:web", 7))
    assert [(commit.mutations[0][0], commit.note) for commit in bench.commits[2:]] == [("expire", ""), ("release", "")]


def test_a_delete_knows_no_options_of_a_store() -> None:
    with pytest.raises(CacheError, match="unknown option 'if_changed'; this call knows note"):
        Bench().write(operations.delete, "k", {"if_changed": True})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (5, "a key must be a string"),
        ("", "a key must not be empty"),
        ("a\nb", r"key 'a\\nb' has character U\+000A at position 1"),
        ("\ud800", r"key '\\ud800' has character U\+D800 at position 0"),
        ("x" * 2000, "^key 'x{196}... has 2000 bytes; max_key_bytes is 1024"),
    ],
)
def test_a_wrong_key_is_shown_in_ascii_and_cut(key: object, text: str) -> None:
    with pytest.raises(InvalidKeyError, match=text) as caught:
        Bench().write(operations.store, key, "v")
    assert caught.value.fault_string.isascii()
    assert len(caught.value.fault_string) < 300


def test_if_changed_takes_no_revision_where_all_is_equal() -> None:
    bench = Bench()
    options = {"note": "who", "if_changed": True}
    bench.write(operations.store, "k", {"a": [1, 2.0]}, options)
    bench.clock.now += 100
    revision, modified = bench.cache.revision, bench.cache.entry("k").modified
    assert bench.write(operations.store, "k", {"a": [1, 2.0]}, options) is True
    assert bench.write(operations.store_many, {"k": {"a": [1, 2.0]}}, options) is None
    assert bench.write(operations.store_if, "k", {"a": [1, 2.0]}, str(revision), options) == revision
    assert (bench.cache.revision, bench.cache.entry("k").modified) == (revision, modified)
    for other in ({"a": [1, 2]}, {"a": [1.0, 2.0]}, {"a": [1, 2.0, 3]}, {"b": [1, 2.0]}, [1]):
        before = bench.cache.revision
        assert bench.write(operations.store_many, {"k": other}, options) == before + 1
    assert bench.write(operations.store_many, {"k": [1]}, {"if_changed": True}) == bench.cache.revision


def test_all_changes_of_one_call_share_their_revision_and_time() -> None:
    bench = Bench()
    revision = bench.write(operations.store_many, {"a": 1, "b": 2})
    assert {(entry.revision, entry.modified) for _, entry in bench.cache.entries()} == {(revision, bench.clock.now)}


def test_an_observer_that_fails_keeps_neither_the_write_nor_the_others_from_happening() -> None:
    bench = Bench()
    error = RuntimeError("observer")

    def fail(_commit: object) -> None:
        raise error

    bench.cache.observers = (fail, bench.commits.append)
    assert bench.write(operations.store, "k", "v") is True
    assert bench.failures == [error]
    assert len(bench.commits) == 1


def test_large_batches_keep_the_order_of_keys() -> None:
    bench = Bench()
    numbers = [(number * 7919) % 1000 for number in range(1000)]
    bench.write(operations.store_many, {f"k{number:04}": number for number in numbers})
    assert bench.cache.keys() == [f"k{number:04}" for number in range(1000)]
    bench.write(operations.delete_many, [f"k{number:04}" for number in numbers if number % 3])
    assert bench.cache.keys() == [f"k{number:04}" for number in range(0, 1000, 3)]
    assert bench.write(operations.delete_prefix, "k0") == 334
    assert bench.cache.keys() == []
    assert bench.cache.size == 0


def test_a_call_about_more_entries_than_there_can_be_is_refused_unread() -> None:
    bench = Bench(Limits(max_entries=2))
    text = "there are 10001 {}; at most 10000 go into one call"
    with pytest.raises(LimitExceededError, match=text.format("items")):
        bench.write(operations.store_many, dict.fromkeys(map(str, range(10_001))))
    with pytest.raises(LimitExceededError, match=text.format("keys")):
        bench.write(operations.delete_many, [""] * 10_001)
    with pytest.raises(LimitExceededError, match=text.format("keys")):
        bench.cache.fetch_many([""] * 10_001)


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_after_a_write_as_before_it(collects: bool) -> None:
    bench = Bench()
    seen = []
    bench.cache.observers = (lambda _: seen.append(gc.isenabled()),)
    if not collects:
        gc.disable()
    try:
        bench.write(operations.store, "k", 1)
        assert gc.isenabled() is collects
        with pytest.raises(InvalidKeyError):
            bench.write(operations.store, "", 1)
        assert gc.isenabled() is collects
    finally:
        gc.enable()
    assert seen == [False]

"""How much one reply may hold, and that nothing is stored that could not be read."""

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.limits import Limits
from supervisor_cache.errors import InvalidArgumentsError, LimitExceededError, NoSuchKeyError
from tests.model import Bench

MANY = Limits(max_entries=100_000, max_total_bytes=2**30, max_value_bytes=2**24)


def full(entries: int, value: object = 1) -> Bench:
    bench = Bench(MANY)
    bench.write(operations.store_many, {f"k{number:05}": value for number in range(entries)})
    return bench


def test_two_thousand_entries_are_one_reply_and_one_more_is_not() -> None:
    assert len(full(2000).cache.items()) == 2000
    bench = full(2001)
    for read in (bench.cache.items, bench.cache.entries):
        with pytest.raises(LimitExceededError, match="2001 entries; at most 2000 are allowed: page with prefix, after"):
            read()
    assert len(bench.cache.keys()) == 2001
    with pytest.raises(LimitExceededError, match="ask for fewer keys at once"):
        bench.cache.fetch_many(bench.cache.keys())
    assert len(bench.cache.items(limit=2000)) == 2000
    assert list(bench.cache.items(after="k01999")) == ["k02000"]


def test_what_is_missing_does_not_count_for_a_reply() -> None:
    bench = full(3)
    assert len(bench.cache.fetch_many([*bench.cache.keys(), *(f"missing{number}" for number in range(3000))])) == 3


def test_a_reply_of_more_than_a_megabyte_must_be_paged() -> None:
    bench = full(20, "x" * 60_000)
    for read in (bench.cache.items, bench.cache.entries):
        with pytest.raises(LimitExceededError, match="bytes; at most 1048576 are allowed"):
            read()
        assert len(read("", "", 17)) == 17
    with pytest.raises(LimitExceededError):
        bench.cache.fetch_many(bench.cache.keys())


def test_keys_of_more_than_a_megabyte_must_be_paged() -> None:
    bench = Bench(MANY)
    bench.write(operations.store_many, {f"{number:04}" + "&" * 1000: 1 for number in range(300)})
    with pytest.raises(LimitExceededError, match="bytes; at most 1048576 are allowed"):
        bench.cache.keys()
    assert len(bench.cache.keys(limit=200)) == 200


def test_one_entry_alone_can_always_be_read() -> None:
    bench = Bench(MANY)
    bench.write(operations.store, "k", "&" * 2_000_000)
    assert list(bench.cache.items()) == ["k"]
    assert [key for key, _ in bench.cache.entries(limit=1)] == ["k"]
    assert list(bench.cache.fetch_many(["k", "k", "missing"])) == ["k"]
    assert bench.cache.fetch("k") == "&" * 2_000_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((5,), "prefix must be a string"),
        (("a\n",), r"prefix 'a\\n' has character U\+000A"),
        (("", 5), "after must be a string"),
        (("", "", "5"), "limit must be an integer"),
        (("", "", True), "limit must be an integer"),
        (("", "", -1), "limit must be an integer of at least 0"),
        (("", "", 1.0), "limit must be an integer"),
    ],
)
def test_wrong_bounds_are_named(arguments: tuple[object, ...], text: str) -> None:
    cache = Bench().cache
    for read in (cache.keys, cache.items, cache.entries):
        with pytest.raises(InvalidArgumentsError, match=text):
            read(*arguments)


def test_a_missing_key_is_a_key_error_that_names_it() -> None:
    with pytest.raises(KeyError) as caught:
        Bench().cache.fetch("ä")
    assert str(caught.value) == "no such key: '\\xe4'"
    assert isinstance(caught.value, NoSuchKeyError)


def test_hits_misses_writes_and_refusals_are_counted() -> None:
    bench = full(3)
    bench.cache.fetch("k00000")
    bench.cache.fetch_many(["k00000", "k00001", "missing"])
    with pytest.raises(KeyError):
        bench.cache.entry("missing")
    with pytest.raises(LimitExceededError):
        bench.write(operations.store, "k", "x" * 2**24)
    bench.write(operations.delete, "missing")
    counters = bench.cache.counters
    assert (counters.hits, counters.misses, counters.writes, counters.refused) == (3, 2, 1, 1)

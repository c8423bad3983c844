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
    counters = bench.cache.counters
    for times in (1, 2):
        bench.cache.fetch("k00000")
        bench.cache.fetch_many(["k00000", "k00001", "missing"])
        with pytest.raises(KeyError):
            bench.cache.entry("missing")
        with pytest.raises(LimitExceededError):
            bench.write(operations.store, "k", "x" * 2**24)
        bench.write(operations.delete, "missing")
        assert (counters.hits, counters.misses, counters.refused) == (3 * times, 2 * times, times)
    assert counters.writes == 1
    bench.write(operations.store, "k00000", 2)
    assert counters.writes == 2


def test_all_is_listed_where_nothing_is_said() -> None:
    bench = Bench()
    bench.write(operations.store_many, {"!": 1, "X": 2, "XXXX": 3, "a": 4})
    names = ["!", "X", "XXXX", "a"]
    cache = bench.cache
    assert (cache.keys(), list(cache.items()), [key for key, _ in cache.entries()]) == (names, names, names)


@pytest.mark.parametrize("keys", ["k", {}, 5, None])
def test_only_an_array_is_keys(keys: object) -> None:
    with pytest.raises(InvalidArgumentsError, match=r"^keys must be an array$"):
        Bench().cache.fetch_many(keys)


def test_what_has_expired_is_counted() -> None:
    bench = full(3)
    for times in (2, 4):
        bench.write(operations.store_many, {"a": 1, "b": 2}, {"ttl": 5})
        bench.clock.pass_by(5)
        assert len(bench.cache) == 3
        assert bench.cache.counters.expired == times


def test_what_has_expired_is_not_found_by_whoever_asks_first() -> None:
    for ask in ("entry", "fetch"):
        bench = Bench()
        bench.write(operations.store, "k", 1, {"ttl": 5})
        bench.clock.pass_by(5)
        with pytest.raises(NoSuchKeyError):
            getattr(bench.cache, ask)("k")
    bench = Bench()
    bench.write(operations.store, "k", 1, {"ttl": 5})
    bench.clock.pass_by(5)
    assert bench.write(operations.add, "k", 2) is not None
    assert [commit.mutations[0][0] for commit in bench.commits] == ["store", "expire", "store"]
    assert [commit.via for commit in bench.commits] == ["test", "", "test"]


NOTE = "a & b"
# Note as XML, owner, and what an element of getEntries takes beside; of two entries.
BESIDE = 2 * (len("a &amp; b") + len("web:web") + 530)


def two_of(room: int) -> Bench:
    """Have two entries that take ``room`` bytes in a reply of keys and values."""
    bench = Bench(MANY)
    bench.pids["web:web"] = 7
    options = {"note": NOTE, "owner": "web:web"}
    bench.write(operations.store, "a", "x" * 500_000, options)
    bench.write(operations.store, "b", "", options)
    left = room - sum(entry.reply_size for _, entry in bench.cache.entries())
    bench.write(operations.store, "b", "x" * left, options)
    return bench


def test_a_reply_may_have_a_megabyte_and_not_a_byte_more() -> None:
    for read, room in (("items", 2**20), ("entries", 2**20 - BESIDE)):
        assert len(getattr(two_of(room).cache, read)()) == 2
        text = "the reply would have 1048577 bytes; at most 1048576 are allowed: page with prefix, after and limit"
        with pytest.raises(LimitExceededError, match=f"^{text}$"):
            getattr(two_of(room + 1).cache, read)()
    assert len(two_of(2**20).cache.fetch_many(["a", "b"])) == 2
    text = "the reply would have 1048577 bytes; at most 1048576 are allowed: ask for fewer keys at once"
    with pytest.raises(LimitExceededError, match=f"^{text}$"):
        two_of(2**20 + 1).cache.fetch_many(["a", "b"])


def test_keys_may_have_a_megabyte_in_a_reply_and_not_a_byte_more() -> None:
    # An element takes 33 bytes beside the key.
    for more in (0, 1):
        bench = Bench(MANY._replace(max_key_bytes=2**20))
        first, second = "a" * 2**19, "b" * (2**19 - 66 + more)
        bench.write(operations.store_many, {first: 1, second: 2})
        if more:
            text = "the reply would have 1048577 bytes; at most 1048576 are allowed: page with prefix, after and limit"
            with pytest.raises(LimitExceededError, match=f"^{text}$"):
                bench.cache.keys()
        else:
            assert bench.cache.keys() == [first, second]


def test_one_key_alone_can_always_be_listed() -> None:
    bench = Bench(MANY._replace(max_key_bytes=2**21))
    bench.write(operations.store, "k" * 2**21, 1)
    assert len(bench.cache.keys()) == 1


def test_content_is_all_that_is_kept_and_is_loaded_within_the_limits() -> None:
    bench = Bench(Limits(max_changes=3, max_total_bytes=1000))
    for number in range(5):
        bench.write(operations.store, "k", number)
    content = bench.cache.content()
    first = bench.commits[0].revision
    assert (content.revision, content.since) == (first + 4, first + 1)
    assert [commit[0] for commit in content.commits] == [first + 2, first + 3, first + 4]
    assert content.entries["k"].value == 4

    other = Bench(Limits(max_changes=2, max_total_bytes=1000))
    other.cache.load(content)
    assert [commit[0] for commit in other.cache.history.commits] == [first + 3, first + 4]
    assert (other.cache.history.since, other.cache.fetch("k")) == (first + 2, 4)
    # The history gives way to the entries: of each commit it counts 64 bytes, 16 and the key.
    wide = Bench()
    wide.write(operations.store, "k", "x" * 500)
    for number in range(5):
        wide.write(operations.store, "l", number)
    small = Bench(Limits(max_total_bytes=wide.cache.size + 2 * 81))
    small.cache.load(wide.cache.content())
    assert len(small.cache.history.commits) == 2


def test_the_history_gives_way_to_the_entries_at_each_write() -> None:
    bench = Bench(Limits(max_total_bytes=1000))
    for _ in range(20):
        bench.write(operations.store, "k", 1)
    assert len(bench.cache.history.commits) == (1000 - bench.cache.size) // 81
    bench.write(operations.store, "l", "x" * 700)
    assert len(bench.cache.history.commits) == (1000 - bench.cache.size) // 81

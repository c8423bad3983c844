"""The client's interface, over a real supervisord and over memory: the same answers, the same errors."""

import datetime as dt
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from test import mapping_tests  # type: ignore[import-not-found, unused-ignore]

import supervisor_cache
from supervisor_cache import CacheError, connect
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.errors import (
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    NoSuchKeyError,
    WrongTypeError,
)
from supervisor_cache.testing import ManualClock, MemoryCache, memory_cache
from tests.harness import PASSWORD, STORAGE, USER, Supervisord, parts, program, ttl, until

VALUES: list[Any] = [
    "",
    "text",
    "two\nlines\t",
    "ä雪\U0001f98a",
    "<&>",
    True,
    False,
    0,
    -(2**31),
    2**31 - 1,
    0.1,
    -1e300,
    dt.datetime(2026, 11, 3, 12),  # noqa: DTZ001 - XML-RPC's has no zone
    [],
    {},
    [1, [2, {"a": [True, "b", 0.5]}]],
    {"": "", "a b": {"c": []}},
]
REFUSED: list[Any] = [
    None,
    2**31,
    math.nan,
    math.inf,
    "\x00",
    "\ud800",
    "a\rb",
    (1, 2),
    b"bytes",
    {1: 2},
    {"$dateTime": 1},
    ...,
    dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc),
]


@pytest.fixture(scope="module")
def owners() -> Iterator[Supervisord]:
    supervisord = Supervisord({"cache": {"max_changes": "3000"}}, more=program("worker")).start()
    yield supervisord
    log = supervisord.log
    supervisord.close()
    assert "Traceback" not in log


@pytest.fixture(params=["unix", "inet", "memory"])
def cache(request: pytest.FixtureRequest, owners: Supervisord) -> Iterator[CacheClient]:
    if request.param == "memory":
        made: CacheClient = memory_cache(max_changes=3000)
        assert isinstance(made, MemoryCache)
        made.start_process("worker:worker")
    elif request.param == "unix":
        made = connect(owners.unix_url)
    else:
        made = connect(owners.inet_url, user=USER, password=PASSWORD)
    with made:
        made.clear()
        yield made


class TestMapping(mapping_tests.BasicTestMappingProtocol):  # type: ignore[misc, unused-ignore]
    """CPython's own tests of a mapping."""

    supervisord: Supervisord

    @classmethod
    def setUpClass(cls) -> None:
        cls.supervisord = Supervisord().start()

    @classmethod
    def tearDownClass(cls) -> None:
        log = cls.supervisord.log
        cls.supervisord.close()
        assert "Traceback" not in log

    def _reference(self) -> dict[str, Any]:
        # Lists, where the original has a tuple.
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

    def _empty_mapping(self) -> CacheClient:
        made = connect(self.supervisord.unix_url)
        made.clear()
        return made

    def _full_mapping(self, data: dict[str, Any]) -> CacheClient:
        made = self._empty_mapping()
        made.update(data)
        return made

    def test_bool(self) -> None:
        assert not self._empty_mapping()
        assert self._full_mapping({"x": "y"})

    def test_fromkeys(self) -> None:
        """A cache is not made of its keys."""

    def test_read(self) -> None:
        # The original looks at two mappings at once, which are one cache here.
        p = self._full_mapping(self._reference())
        for key, value in self._reference().items():
            assert p[key] == value
            assert key in p
            assert p.get(key, "other") == value
        assert "nothing" not in p
        with pytest.raises(KeyError):
            p["nothing"]
        assert len(p) == 3
        assert p == self._reference()
        assert p != {}


class TestMemoryMapping(mapping_tests.BasicTestMappingProtocol):  # type: ignore[misc, unused-ignore]
    """The same over memory, where two mappings are two caches."""

    def _reference(self) -> dict[str, Any]:
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

    def _empty_mapping(self) -> CacheClient:
        return memory_cache()

    def _full_mapping(self, data: dict[str, Any]) -> CacheClient:
        made = memory_cache()
        made.update(data)
        return made


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_went(cache: CacheClient, value: Any) -> None:
    cache["k"] = value
    for found in (cache["k"], cache.fetch_many(["k"])["k"], cache.get_items()["k"], cache.get_entry("k").value):
        assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("value", REFUSED, ids=ascii)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(cache: CacheClient, value: Any) -> None:
    before = cache.get_revision()
    for write in (
        lambda: cache.store("k", value),
        lambda: cache.store_many({"k": value}),
        lambda: cache.add("k", value),
        lambda: cache.store_if("k", value, None),
        lambda: cache.setdefault("k", value),
        lambda: cache.update({"j": 1, "k": value}),
    ):
        with pytest.raises(InvalidArgumentsError):
            write()
    assert cache.get_revision() == before


@pytest.mark.parametrize("key", ["", "a\tb", "a\nb", "\x00", "\ud800", "k" * 1025, 1, None], ids=ascii)
def test_what_can_be_no_key_is_refused(cache: CacheClient, key: Any) -> None:
    for call in (cache.fetch, cache.get_entry, lambda key: cache.store(key, 1), cache.delete, cache.increment):
        with pytest.raises(InvalidKeyError):
            call(key)
    assert key not in cache
    assert not issubclass(InvalidKeyError, KeyError)


def test_a_missing_key_is_a_key_error(cache: CacheClient) -> None:
    for call in (cache.fetch, cache.get_entry, cache.__getitem__, cache.__delitem__, cache.pop):
        with pytest.raises(NoSuchKeyError) as caught:
            call("nothing")
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, CacheError)
        assert str(caught.value) == "no such key: 'nothing'"
    assert cache.get("nothing") is None
    assert cache.pop("nothing", 5) == 5
    assert cache.delete("nothing") is True


def test_conditions(cache: CacheClient) -> None:
    first = cache.add("k", 1)
    assert first is not None
    assert cache.add("k", 2) is None
    assert cache.store_if("k", 2, None) is None
    second = cache.store_if("k", 2, first)
    assert second is not None
    assert second > first
    assert cache.store_if("k", 3, first) is None
    assert cache.touch_if("k", 60, first) is None
    third = cache.touch_if("k", 60, second)
    assert third is not None
    assert cache.delete_if("k", second) is False
    assert cache.delete_if("k", third) is True
    assert "k" not in cache
    assert cache.store_if("k", 1, None) is not None


def test_options_of_a_write(cache: CacheClient) -> None:
    assert cache.store("k", 1, ttl=60, owner="worker", note="ops: why") is True
    entry = cache.get_entry("k")
    assert (entry.value, entry.owner, entry.note) == (1, "worker:worker", "ops: why")
    assert entry.expires == pytest.approx(entry.modified + 60, abs=1)
    revision = cache.store_many({"a": 1, "b": 2}, note="both")
    assert {cache.get_entry(key).revision for key in ("a", "b")} == {revision}
    assert cache.store_many({"a": 1, "b": 2}, note="both", if_changed=True) is None
    assert cache.increment("n", 5, note="count") == 5
    assert cache.increment("n", -7) == -2
    assert cache.get_entry("n").note == "count"
    assert cache.touch("n", 60) is not None
    assert cache.get_entry("n").expires > 0
    assert cache.touch("n", 0) is not None
    assert cache.get_entry("n").expires == 0
    assert cache.touch("nothing", 60) is None


@pytest.mark.parametrize(
    "options",
    [{"ttl": 0}, {"ttl": -1}, {"ttl": True}, {"ttl": "5"}, {"note": "a\nb"}, {"note": "x" * 1025}, {"owner": "nobody"}],
    ids=str,
)
def test_a_wrong_option_is_refused(cache: CacheClient, options: Any) -> None:
    with pytest.raises(InvalidArgumentsError):
        cache.store("k", 1, **options)
    assert "k" not in cache


def test_an_integer_is_wanted(cache: CacheClient) -> None:
    cache["k"] = "text"
    with pytest.raises(WrongTypeError):
        cache.increment("k")
    cache["k"] = 2**31 - 1
    with pytest.raises(LimitExceededError):
        cache.increment("k")
    for delta in (2**31, 0.5, True, "1"):
        with pytest.raises(InvalidArgumentsError):
            cache.increment("n", delta)  # type: ignore[arg-type]


def test_deletions_are_counted(cache: CacheClient) -> None:
    cache.update({"a/1": 1, "a/2": 2, "b": 3})
    assert cache.delete_many(["a/1", "zzz"]) == 1
    assert cache.delete_prefix("a/") == 1
    assert dict(cache) == {"b": 3}
    with pytest.raises(InvalidArgumentsError):
        cache.delete_prefix("")
    with pytest.raises(InvalidArgumentsError):
        cache.delete_many("b")  # type: ignore[arg-type]
    assert "b" in cache


def test_listings_come_in_as_many_pages_as_it_takes(cache: CacheClient) -> None:
    items: dict[str, Any] = {f"key/{number:05}": number for number in range(4500)}
    for start in range(0, 4500, 1500):
        for part in parts(dict(list(items.items())[start : start + 1500])):
            cache.update(part)
    cache["other"] = 1
    assert cache.get_items("key/") == items
    assert list(cache.get_items("key/")) == sorted(items)
    assert [entry.key for entry in cache.get_entries("key/")] == sorted(items)
    assert cache.get_keys("key/") == sorted(items)
    assert cache.get_keys("key/", "key/04498") == ["key/04499"]
    assert cache.get_keys("key/", "key/00001", 2) == ["key/00002", "key/00003"]
    assert list(cache.get_items("key/", "key/00001", 2)) == ["key/00002", "key/00003"]
    assert len(cache.get_entries(limit=2500)) == 2500
    assert dict(cache.items()) == {**items, "other": 1}
    assert len(list(cache.values())) == 4501
    assert len(cache) == cache.get_count() == 4501


def test_large_values_come_in_smaller_pages(cache: CacheClient) -> None:
    for number in range(40):
        cache.store(f"{number:02}", "x" * 60_000)
    assert list(cache.get_items()) == [f"{number:02}" for number in range(40)]


def test_changes_are_told_whole(cache: CacheClient) -> None:
    start = cache.get_revision()
    cache.update({"a/1": 1, "a/2": 2})
    cache.store("b", 3, note="why")
    cache.clear(note="all")
    changes = cache.get_changes(start)
    assert [(change.kind, change.key, change.note) for change in changes] == [
        ("store", "a/1", ""),
        ("store", "a/2", ""),
        ("store", "b", "why"),
        ("clear", "", "all"),
    ]
    assert changes[0].revision == changes[1].revision < changes[2].revision
    assert [change.key for change in cache.get_changes(start, "b")] == ["b", ""]
    assert [change.key for change in cache.get_changes(start, limit=1)] == ["a/1", "a/2"]
    assert cache.get_changes(cache.get_revision()) == []


def test_changes_that_are_gone_are_said_to_be(cache: CacheClient) -> None:
    start = cache.get_revision()
    calls = list(parts({f"k{number}": 1 for number in range(1500)}))
    for call in calls * 3:
        cache.update(call)
    with pytest.raises(HistoryGoneError):
        cache.get_changes(start)
    with pytest.raises(HistoryGoneError):
        cache.get_changes(cache.get_revision() + 1)
    assert len(cache.get_changes(start + len(calls))) == 3000


def test_waiting(cache: CacheClient) -> None:
    revision = cache.get_revision()
    assert cache.wait(revision, 0) == (False, revision)
    assert cache.wait(revision, 0.2, "a/") == (False, revision)
    writer = threading.Timer(0.3, lambda: cache.update({"a/1": 1}))
    writer.start()
    answer = cache.wait(revision, 30, "a/")
    writer.join()
    assert answer == (True, revision + 1)
    for timeout in (-1, 1501, math.nan, True, "5"):
        with pytest.raises(InvalidArgumentsError):
            cache.wait(revision, timeout)  # type: ignore[arg-type]


def test_time_to_live(cache: CacheClient) -> None:
    cache.store("k", 1, ttl=ttl(0.5))
    assert cache["k"] == 1
    revision = cache.get_revision()
    assert cache.wait(revision, 30).changed
    assert "k" not in cache
    assert [change.kind for change in cache.get_changes(revision)] == ["expire"]


def test_setdefault_pop_and_popitem_are_safe_against_others(cache: CacheClient) -> None:
    cache.update({f"{number:02}": number for number in range(40)})
    taken: list[Any] = []
    first: list[Any] = []

    def take() -> None:
        first.append(cache.setdefault("winner", threading.current_thread().name))
        for _ in range(10):
            taken.append(cache.pop(f"{len(taken) % 40:02}", None))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [value for value in taken if value is not None]
    assert len(got) == len(set(got))
    assert len(set(first)) == 1
    rest = set()
    while cache:
        rest.add(cache.popitem()[0])
    assert len(rest) == 41 - len(got)
    with pytest.raises(KeyError):
        cache.popitem()


def test_a_mapping_answers_as_one(cache: CacheClient) -> None:
    cache.update({"a": 1, "b": [2]})
    assert 1 in cache.values()
    assert [2] in cache.values()
    assert 3 not in cache.values()
    assert ("a", 1) in cache.items()
    assert repr(cache).startswith(f"<{type(cache).__name__} '")
    with pytest.raises(TypeError, match="pop expected at most 2 arguments, got 3"):
        cache.pop("a", 1, 2)
    assert cache["a"] == 1


def test_statistics(cache: CacheClient) -> None:
    cache["k"] = 1
    stats = cache.get_stats()
    assert stats["entries"] == 1
    assert int(stats["revision"]) == cache.get_revision()
    assert stats["limits"]["max_changes"] == 3000
    assert stats["storage"]["kind"] in {"memory", STORAGE}
    assert cache.get_api_version() == "2.0"


def test_watching(cache: CacheClient) -> None:
    watch = cache.watch("a/", timeout=3)
    seen: list[tuple[str, str]] = []
    reader = threading.Thread(target=lambda: seen.extend((change.kind, change.key) for change in watch))
    reader.start()
    cache.update({"a/1": 1, "a/2": 2, "b": 3})
    time.sleep(0.2)
    cache.delete("a/1")
    cache.clear()
    reader.join()
    assert seen == [("store", "a/1"), ("store", "a/2"), ("delete", "a/1"), ("clear", "")]
    assert [change.kind for change in cache.watch("a/", watch.revision - 2, timeout=0)] == ["delete", "clear"]


def test_a_lock_is_held_by_one_at_a_time(cache: CacheClient) -> None:
    with cache.lock("l", note="first") as first:
        with pytest.raises(supervisor_cache.LockTimeoutError), cache.lock("l", wait=0.2):
            pass
        first.check()
        assert cache.get_entry("l").note == "first"
    assert "l" not in cache
    with cache.lock("l") as second:
        assert second.revision > first.revision


# What only supervisord has, and only memory


def test_an_owner_that_ends_takes_its_entries_with_it(owners: Supervisord) -> None:
    cache = connect(owners.unix_url)
    cache.store("mine", 1, owner="worker:worker", pid=owners.process("worker")["pid"])
    owners.unix().supervisor.signalProcess("worker", "KILL")
    until(lambda: "mine" not in cache, "it is released")
    memory = memory_cache()
    memory.start_process("web:web-1", 77)
    memory.store("mine", 1, owner="web:web-1", pid=77)
    with pytest.raises(InvalidArgumentsError):
        memory.store("other", 1, owner="web:web-1", pid=78)
    memory.end_process("web:web-1")
    assert "mine" not in memory
    assert memory.get_changes(memory.get_revision() - 1)[0].kind == "release"


def test_a_clock_is_turned_by_hand() -> None:
    clock = ManualClock(1_000_000_000)
    cache = memory_cache(clock=clock)
    cache.store("k", 1, ttl=60)
    assert cache.get_entry("k").modified == 1_000_000_000
    assert cache.get_entry("k").expires == 1_000_000_060
    clock.set_wall(0)
    assert "k" in cache
    clock.advance(59)
    assert "k" in cache
    clock.advance(1)
    assert "k" not in cache
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_wait_over_memory_ends_when_the_clock_is_turned() -> None:
    clock = ManualClock()
    cache = memory_cache(clock=clock)
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(cache.wait(cache.get_revision(), 1000)))
    waiter.start()
    until(lambda: cache.get_stats()["watchers"] == 1, "it waits")
    clock.advance(1000)
    waiter.join(30)
    assert [answer.changed for answer in answers] == [False]


def test_limits_are_those_that_were_given() -> None:
    cache = memory_cache(max_entries=2, max_value_bytes=10)
    cache.update({"a": 1, "b": 2})
    with pytest.raises(LimitExceededError):
        cache["c"] = 3
    with pytest.raises(LimitExceededError):
        cache["a"] = "x" * 11
    assert dict(cache) == {"a": 1, "b": 2}
    with pytest.raises(TypeError):
        memory_cache(max_everything=1)


def test_two_memory_caches_know_nothing_of_each_other() -> None:
    one, other = memory_cache(), memory_cache()
    one["k"] = 1
    assert "k" not in other


@pytest.mark.parametrize("namespace", ["", "a b", "a.b", "1a", "ä", "a\nb"])
def test_a_namespace_that_can_be_none_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        connect("http://localhost:1", namespace=namespace)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgumentsError):
        connect("http://localhost:1", timeout=timeout)

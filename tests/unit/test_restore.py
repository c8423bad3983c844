"""``import`` at its worst moments: what ends, fails, or is interrupted while a piece of it is being stored."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from supervisor_cache.cli import restore
from supervisor_cache.cli.restore import Item
from supervisor_cache.commands.failures import FailureError
from supervisor_cache.errors import UnknownOutcomeError, UnreachableError
from supervisor_cache.testing import ManualClock, MemoryCache, memory_cache

Step = Callable[[Callable[..., Any], Any, Any], Any]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(time, "time", clock.wall)
    return clock


@pytest.fixture
def cache(clock: ManualClock) -> MemoryCache:
    return memory_cache(clock=clock)


def items(*keys: str, expires: float = 0.0, first: int = 2) -> list[Item]:
    """Items that are stored one by one, for each has a note of its own."""
    return [Item(first + number, key, f"new {key}", expires, f"note {key}") for number, key in enumerate(keys)]


def at(monkeypatch: pytest.MonkeyPatch, cache: MemoryCache, number: int, step: Step) -> None:
    """Have ``step`` in the place of the call of ``store_many`` with this number."""
    own = cache.store_many
    calls: list[object] = []

    def store_many(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return step(own, args, kwargs) if len(calls) == number else own(*args, **kwargs)

    monkeypatch.setattr(cache, "store_many", store_many)


def answer_is_lost(store_many: Callable[..., Any], args: Any, kwargs: Any) -> None:
    store_many(*args, **kwargs)
    raise UnknownOutcomeError("it may be stored or not: no answer")


def request_is_lost(*_: Any) -> None:
    raise UnknownOutcomeError("it may be stored or not: no answer")


def store_all(cache: MemoryCache, given: list[Item]) -> int:
    return restore._store_all(cache, given, lambda _: None, "cache")


def test_what_ends_while_others_are_stored_counts_as_expired(
    monkeypatch: pytest.MonkeyPatch, cache: MemoryCache, clock: ManualClock
) -> None:
    def later(store_many: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        clock.advance(10)
        return store_many(*args, **kwargs)

    at(monkeypatch, cache, 1, later)
    given = [*items("a"), *items("b", expires=clock.wall() + 5), *items("c")]
    assert store_all(cache, given) == 2
    assert dict(cache) == {"a": "new a", "c": "new c"}
    wrong: list[str] = []
    assert restore._store_each(cache, items("d", expires=clock.wall()), wrong, lambda _: None) == 0
    assert (wrong, "d" in cache) == ([], False)


@pytest.mark.parametrize("lost", [answer_is_lost, request_is_lost])
def test_after_a_write_that_nobody_knows_of_all_is_as_before(
    monkeypatch: pytest.MonkeyPatch, cache: MemoryCache, lost: Step
) -> None:
    cache.store("a", "old a", note="ops")
    cache.store("b", "old b")
    at(monkeypatch, cache, 2, lost)
    with pytest.raises(FailureError) as raised:
        store_all(cache, items("a", "b", "c"))
    assert raised.value.reason.startswith("nothing stored: UNKNOWN_OUTCOME: it may be stored or not")
    assert dict(cache) == {"a": "old a", "b": "old b"}
    assert cache.get_entry("a").note == "ops"


@pytest.mark.parametrize("lost", [answer_is_lost, request_is_lost])
def test_a_new_key_is_gone_again_after_a_write_that_nobody_knows_of(
    monkeypatch: pytest.MonkeyPatch, cache: MemoryCache, lost: Step
) -> None:
    at(monkeypatch, cache, 2, lost)
    with pytest.raises(FailureError):
        store_all(cache, items("a", "b"))
    assert dict(cache) == {}


def test_what_somebody_else_has_written_in_the_meantime_stays(
    monkeypatch: pytest.MonkeyPatch, cache: MemoryCache
) -> None:
    def others_write(*_: Any) -> None:
        cache.store("a", "theirs")
        cache.store("b", "theirs")
        raise UnknownOutcomeError("it may be stored or not: no answer")

    cache.store("b", "old b")
    at(monkeypatch, cache, 2, others_write)
    with pytest.raises(FailureError):
        store_all(cache, items("a", "b"))
    assert dict(cache) == {"a": "theirs", "b": "theirs"}


def test_who_interrupts_it_finds_all_as_before(monkeypatch: pytest.MonkeyPatch, cache: MemoryCache) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    cache.store("a", "old a")
    at(monkeypatch, cache, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        store_all(cache, items("a", "b"))
    assert dict(cache) == {"a": "old a"}


def test_what_would_have_ended_by_now_is_not_put_back(
    monkeypatch: pytest.MonkeyPatch, cache: MemoryCache, clock: ManualClock
) -> None:
    def later(*_: Any) -> None:
        clock.advance(10)
        raise KeyboardInterrupt

    cache.store("a", "old a", ttl=5)
    cache.start_process("web:web")
    cache.store("b", "old b", owner="web:web")
    cache.store("c", "old c", ttl=60)
    at(monkeypatch, cache, 4, later)
    with pytest.raises(KeyboardInterrupt):
        store_all(cache, items("a", "b", "c", "d"))
    assert {key: cache.get_entry(key).owner for key in cache} == {"b": "web:web", "c": ""}
    assert cache.get_entry("c").expires == clock.wall() + 50


def test_what_a_process_owned_that_has_ended_is_gone(monkeypatch: pytest.MonkeyPatch, cache: MemoryCache) -> None:
    def it_ends(*_: Any) -> None:
        cache.end_process("web:web")
        raise KeyboardInterrupt

    cache.start_process("web:web")
    cache.store("b", "old b", owner="web:web")
    at(monkeypatch, cache, 2, it_ends)
    with pytest.raises(KeyboardInterrupt):
        store_all(cache, items("b", "c"))
    assert dict(cache) == {}


def test_what_cannot_be_taken_back_is_counted(monkeypatch: pytest.MonkeyPatch, cache: MemoryCache) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise UnreachableError("unix:///x", "no answer")

    def vanish(*_: Any) -> None:
        monkeypatch.setattr(cache, "delete_if", gone)
        raise UnreachableError("unix:///x", "no answer")

    at(monkeypatch, cache, 3, vanish)
    with pytest.raises(FailureError, match="2 of 3 stay stored"):
        store_all(cache, items("a", "b", "c"))


def test_of_a_piece_that_is_refused_all_but_the_wrong_ones_are_stored(cache: MemoryCache) -> None:
    piece = [Item(number, f"k{number}", "x" * 70_000 if number in {3, 7} else 1, 0.0, "") for number in range(2, 9)]
    wrong: list[str] = []
    assert restore._store_each(cache, piece, wrong, lambda _: None) == 5
    assert [line.partition(":")[0] for line in wrong] == ["line 3", "line 7"]
    assert sorted(cache) == ["k2", "k4", "k5", "k6", "k8"]

"""A watch goes on whatever supervisord answers, and tells each change once."""

from typing import Any, cast

import pytest

from supervisor_cache.client import watching
from supervisor_cache.client.watching import Watch
from supervisor_cache.core.history import Change
from supervisor_cache.errors import (
    CacheError,
    HistoryGoneError,
    InvalidArgumentsError,
    LimitExceededError,
    UnreachableError,
)

AWAY = UnreachableError("http://x", "connection refused")


def change(revision: int, key: str = "k") -> Change:
    return Change(revision, "store", key, 0.0, "", "")


class Waited:
    """What a wait answers."""

    def __init__(self, revision: int, *, changed: bool) -> None:
        self.revision, self.changed = revision, changed


class Script:
    """A cache that answers by a script: what to answer or to raise, in the order in which it is asked."""

    def __init__(self, *told: Any) -> None:
        self.told = list(told)
        self.asked: list[tuple[Any, ...]] = []

    def _next(self, *asked: Any) -> Any:
        self.asked.append(asked)
        one = self.told.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    def get_revision(self) -> Any:
        return self._next("revision")

    def wait(self, since: int, _timeout: float, prefix: str) -> Any:
        return self._next("wait", since, prefix)

    def get_changes(self, since: int, prefix: str, limit: int) -> Any:
        return self._next("changes", since, prefix, limit)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE", 0.001)
    monkeypatch.setattr(watching, "_LONGEST_PAUSE", 0.001)


def watch(script: Script, **more: Any) -> Watch:
    return Watch(cast("Any", script), **more)


def test_a_change_is_waited_for_then_taken() -> None:
    script = Script(10, Waited(11, changed=False), Waited(12, changed=True), [change(12)])
    found = watch(script, prefix="k")
    assert next(found) == change(12)
    assert found.revision == 12
    assert script.asked == [("revision",), ("wait", 10, "k"), ("wait", 11, "k"), ("changes", 11, "k", watching._PAGE)]


def test_where_too_many_wait_already_changes_are_asked_for_now_and_then() -> None:
    script = Script(10, LimitExceededError("too many"), [], Waited(11, changed=True), [change(11)])
    assert next(watch(script)) == change(11)


def test_what_is_too_large_for_one_reply_is_asked_for_in_smaller_parts() -> None:
    large = LimitExceededError("the reply would have 2000000 bytes")
    script = Script(large, large, [change(11)])
    found = watch(script, since=10)
    assert next(found) == change(11)
    page = watching._PAGE
    assert [asked[3] for asked in script.asked] == [page, page // 2, page // 4]


def test_a_single_change_that_is_too_large_does_not_spin() -> None:
    script = Script(*[LimitExceededError("too large")] * 20, [change(11)])
    found = watch(script, since=10)
    assert next(found) == change(11)
    # At last one by one, with a pause between.
    assert script.asked[-1][3] == 1


def test_what_cannot_be_known_any_more_is_told_as_a_reset() -> None:
    script = Script(HistoryGoneError("gone"), 20, [change(21)])
    found = watch(script, since=10)
    reset = next(found)
    assert (reset.kind, reset.revision, reset.key) == ("reset", 20, "")
    assert next(found) == change(21)


def test_a_reset_while_supervisord_goes_away_is_told_later() -> None:
    script = Script(HistoryGoneError("gone"), AWAY, HistoryGoneError("gone"), 20)
    found = watch(script, since=10)
    assert next(found).kind == "reset"
    # What is no absence is raised, here as everywhere.
    refused = watch(Script(HistoryGoneError("gone"), InvalidArgumentsError("no")), since=10)
    with pytest.raises(InvalidArgumentsError):
        next(refused)


def test_an_absence_is_told_once_and_its_end_too() -> None:
    script = Script(10, AWAY, AWAY, AWAY, [change(11)])
    found = watch(script)
    told: list[CacheError | None] = []
    found.on_contact = told.append
    assert next(found) == change(11)
    assert told == [AWAY, None]


def test_what_is_no_absence_is_raised() -> None:
    found = watch(Script(InvalidArgumentsError("no")), since=10)
    with pytest.raises(InvalidArgumentsError, match="no"):
        next(found)


def test_a_watch_without_time_tells_what_has_changed_before_and_ends() -> None:
    script = Script([change(11, "a"), change(11, "b"), change(12)], Waited(12, changed=False))
    found = watch(script, since=10, timeout=0)
    assert [next(found).key, found.revision] == ["a", 10]
    assert [next(found).key, found.revision] == ["b", 11]
    assert [next(found).key, found.revision] == ["k", 12]
    assert list(found) == []

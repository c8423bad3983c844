"""Thousands of random sequences of all methods, against a plain dictionary."""

import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from supervisor_cache.core import operations
from supervisor_cache.core.entry import NEVER, Owner
from supervisor_cache.core.history import Change
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.text import utf8_length
from supervisor_cache.errors import (
    CacheError,
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    NoSuchKeyError,
    WrongTypeError,
)
from tests.database import assert_agreement, assert_integrity
from tests.model import Bench, json_size

LIMITS = Limits(max_entries=6, max_key_bytes=8, max_value_bytes=40, max_total_bytes=1000, max_changes=20)
LOWER = Limits(max_entries=4, max_key_bytes=3, max_value_bytes=20, max_total_bytes=60, max_changes=5)

# What is usual stands several times, so that sequences go on about the same few entries.
KEYS: st.SearchStrategy[Any] = st.sampled_from(
    ["a", "b", "ab"] * 5
    + ["abc", "a/b", "ä", "z", "\U0010ffff", "a\U0010ffff"]
    + ["", "a\n", "x" * 9, "ä" * 5, "\ud800", "\ufffe", 5, None, True, ["a"]],
)
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    ["v", 1] * 8
    + ["", "w", "x" * 30, True, False, 0, -1, 2**31 - 1, 1.0, [], [1], [True], {"n": 1.0}]
    + [None, "x" * 60, 2**31, float("nan"), "a\r", {"$dateTime": "x"}, [[None]], (1,)],
)
NOTE = "ops: deploy"
OPTIONS: st.SearchStrategy[Any] = st.sampled_from(
    [""] * 6
    + [{"if_changed": True}, {"note": NOTE}, {"note": NOTE, "if_changed": True}] * 2
    + [{"ttl": 5}, {"ttl": 0.5, "note": NOTE}, {"owner": "p:0"}, {"owner": "p:1", "ttl": 60, "if_changed": True}] * 2
    + [{}, {"note": ""}, {"if_changed": False}, {"owner": ""}, {"owner": "p:0", "pid": 100}]
    + [{"tll": 5}, {"note": 5}, {"note": "a\n"}, {"if_changed": 1}, 5]
    + [{"ttl": 0}, {"ttl": True}, {"ttl": -1}, {"ttl": 4e8}, {"ttl": float("nan")}, {"ttl": "5"}]
    + [{"owner": "p:9"}, {"owner": 5}, {"pid": 100}, {"owner": "p:0", "pid": 1}, {"owner": "p:0", "pid": True}],
)
PREFIXES = st.sampled_from(["a", "ab", "z", "ä", "\U0010ffff", "nothing"])

PROCESSES = ("p:0", "p:1")

MEMORY = Path("/dev/shm")  # a folder that no disk slows down


class Stored(NamedTuple):
    """What the model knows of an entry; ``end`` on the clock that only grows."""

    value: Any
    note: str = ""
    owner: str = ""
    pid: int = 0
    end: float = NEVER
    revision: int = 0


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


class Machine(RuleBasedStateMachine):
    """The model: a dictionary, the processes that run, and every change. What a call refuses must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = self.make_bench()
        self.limits = LIMITS
        self.model: dict[str, Stored] = {}
        self.revision = self.bench.cache.revision
        self.changes: list[tuple[int, str, str, str]] = []
        self.replayed: dict[str, int] = {}
        self.seen = str(self.revision)
        self.pid = 100
        for process in PROCESSES:
            self.spawn(process)

    def make_bench(self) -> Bench:
        return Bench(LIMITS)

    def spawn(self, process: str) -> None:
        self.bench.pids[process] = self.pid
        self.pid += 1

    def attempt(self, operation: Any, *args: Any) -> Any:
        """Write; answer the result, or the error, which must be one of those that are promised."""
        try:
            return self.bench.write(operation, *args)
        except (InvalidKeyError, InvalidArgumentsError, LimitExceededError, WrongTypeError) as error:
            note(f"{operation.__name__}{args!r}: {error.fault_string}")
            return error

    def commit(self, kind: str, keys: Iterable[str], struct: Any = "") -> int:
        """Take the next revision for a change of ``keys``."""
        self.revision += 1
        text = struct.get("note", "") if isinstance(struct, dict) else ""
        self.changes += [(self.revision, kind, key, text) for key in keys]
        return self.revision

    # What the model expects

    def key_error(self, key: Any) -> "type[CacheError] | None":
        if isinstance(key, str) and key in self.model:
            return None
        bad = not isinstance(key, str) or not key or key in {"a\n", "\ud800", "\ufffe"}
        too_long = isinstance(key, str) and utf8_length(key) > self.limits.max_key_bytes
        return InvalidKeyError if bad or too_long else None

    def value_error(self, key: str, value: Any) -> "type[CacheError] | None":
        refused = [None, 2**31, "a\r", {"$dateTime": "x"}, [[None]], (1,)]
        if any(same(value, one) for one in refused) or value != value:  # noqa: PLR0124 - not a number
            return InvalidArgumentsError
        there = json_size(self.model[key].value) if key in self.model else 0
        return LimitExceededError if json_size(value) > max(self.limits.max_value_bytes, there) else None

    def options_error(self, struct: Any, known: str = "ttl owner pid note if_changed") -> "type[CacheError] | None":
        if struct == "":
            return None
        wrong = (
            struct == 5
            or not struct.keys() <= set(known.split())
            or struct.get("note") in {5, "a\n"}
            or type(struct.get("if_changed", False)) is not bool
            or type(struct.get("ttl", 1)) not in {int, float}
            or not 0 < struct.get("ttl", 1) < 4e8
            or type(struct.get("owner", "")) is not str
            or ("pid" in struct and (type(struct["pid"]) is not int or not struct.get("owner")))
        )
        return InvalidArgumentsError if wrong else None

    def owner_error(self, struct: Any) -> "type[CacheError] | None":
        if struct == "" or not struct.get("owner"):
            return None
        pid = self.bench.pids.get(struct["owner"])
        return None if pid is not None and struct.get("pid", pid) == pid else InvalidArgumentsError

    def stored(self, value: Any, struct: Any, old: "Stored | None" = None) -> Stored:
        """What storing ``value`` leads to; what ``struct`` does not give is as in ``old``."""
        given = struct or {}
        before = old or Stored(None)
        owner = given.get("owner", before.owner)
        return Stored(
            value,
            given.get("note", before.note),
            owner,
            (self.bench.pids[owner] if owner else 0) if "owner" in given else before.pid,
            self.bench.clock.up + given["ttl"] if "ttl" in given else before.end,
        )

    def size(self, model: dict[str, Stored]) -> int:
        return sum(
            utf8_length(key) + json_size(one.value) + utf8_length(one.note) + len(one.owner)
            for key, one in model.items()
        )

    def growth_error(self, model: dict[str, Stored]) -> "type[CacheError] | None":
        too_many = len(model) > max(self.limits.max_entries, len(self.model))
        too_large = self.size(model) > max(self.limits.max_total_bytes, self.size(self.model))
        return LimitExceededError if too_many or too_large else None

    def store_error(self, items: dict[Any, Any], struct: Any) -> "type[CacheError] | None":
        """The error of storing ``items`` blindly, in the order in which they are looked at."""
        wrong = self.options_error(struct)
        if wrong:
            return wrong
        owner = self.owner_error(struct)
        for key, value in items.items():
            wrong = self.key_error(key) or owner or self.value_error(key, value)
            if wrong:
                return wrong
        return None

    def is_unchanged(self, key: str, new: Stored) -> bool:
        old = self.model.get(key)
        return old is not None and new.end == old.end == NEVER and same(old[:4], new[:4])

    def expect_stored(self, result: Any, new: dict[str, Stored], struct: Any, expected: Any) -> None:
        """Check the ``result`` of storing ``new``, and store it in the model; ``expected`` may ask a revision."""
        if struct and struct.get("if_changed"):
            new = {key: one for key, one in new.items() if not self.is_unchanged(key, one)}
        if new and self.growth_error({**self.model, **new}):
            assert isinstance(result, LimitExceededError)
            return
        if new:
            revision = self.commit("store", new, struct)
            self.model.update({key: one._replace(revision=revision) for key, one in new.items()})
        assert result == (expected(bool(new)) if callable(expected) else expected)

    # The calls

    @rule(key=KEYS, value=VALUES, struct=OPTIONS)
    def store(self, key: Any, value: Any, struct: Any) -> None:
        result = self.attempt(operations.store, key, value, struct)
        wrong = self.store_error({key: value} if isinstance(key, str) else {str(key) + "?" * 9: value}, struct)
        if wrong or not isinstance(key, str):
            assert isinstance(result, wrong or InvalidKeyError)
        else:
            self.expect_stored(result, {key: self.stored(value, struct)}, struct, expected=True)

    @rule(items=st.dictionaries(KEYS.filter(lambda key: isinstance(key, str)), VALUES, max_size=4), struct=OPTIONS)
    def store_many(self, items: dict[str, Any], struct: Any) -> None:
        result = self.attempt(operations.store_many, items, struct)
        wrong = self.options_error(struct) or self.owner_error(struct) or self.store_error(items, struct)
        if wrong:
            assert isinstance(result, wrong)
        else:
            new = {key: self.stored(value, struct) for key, value in items.items()}
            self.expect_stored(result, new, struct, lambda changed: self.revision if changed else None)

    @rule(key=st.sampled_from(["a", "b", "ab"]), value=VALUES, struct=OPTIONS)
    def add(self, key: str, value: Any, struct: Any) -> None:
        result = self.attempt(operations.add, key, value, struct)
        wrong = self.store_error({key: value}, struct)
        if wrong:
            assert isinstance(result, wrong)
        elif key in self.model:
            assert result is None
        else:
            self.expect_stored(result, {key: self.stored(value, struct)}, struct, lambda _changed: self.revision)

    @rule(
        key=st.sampled_from(["a", "b", "ab"]),
        value=VALUES,
        revision=st.sampled_from(["", "right", "1"]),
        struct=OPTIONS,
    )
    def store_if(self, key: str, value: Any, revision: str, struct: Any) -> None:
        found = self.model[key].revision if key in self.model else 0
        asked = str(found or "") if revision == "right" else revision
        result = self.attempt(operations.store_if, key, value, asked, struct)
        wrong = self.store_error({key: value}, struct)
        if wrong:
            assert isinstance(result, wrong)
        elif asked != str(found or ""):
            assert result is None
        else:
            new = {key: self.stored(value, struct)}
            self.expect_stored(result, new, struct, lambda changed: self.revision if changed else found)

    @rule(
        key=st.sampled_from(["a", "n", "ä"]),
        delta=st.sampled_from([1, -1, 0, 2**31 - 1, 2**31, True, "1"]),
        struct=OPTIONS,
    )
    def increment(self, key: str, delta: Any, struct: Any) -> None:
        result = self.attempt(operations.increment, key, delta, struct)
        wrong = self.options_error(struct) or self.key_error(key)
        if not wrong and (type(delta) is not int or delta == 2**31):
            wrong = InvalidArgumentsError
        old = self.model.get(key)
        before = 0 if old is None else old.value
        if not wrong and type(before) is not int:
            wrong = WrongTypeError
        if not wrong and not -(2**31) <= before + delta < 2**31:
            wrong = LimitExceededError
        wrong = wrong or self.owner_error(struct)
        if wrong:
            assert isinstance(result, wrong)
        else:
            total = before + delta
            self.expect_stored(result, {key: self.stored(total, struct, old)}, struct, total)

    @rule(
        key=KEYS,
        ttl=st.sampled_from([5, 0.5, 60, 0, 0, -1, True, "5", 4e8]),
        revision=st.sampled_from([None, None, "right", "1", "x"]),
        struct=OPTIONS,
    )
    def touch(self, key: Any, ttl: Any, revision: Any, struct: Any) -> None:
        old = self.model.get(key) if isinstance(key, str) else None
        asked = str(old.revision if old else "2") if revision == "right" else revision
        if revision is None:
            result = self.attempt(operations.touch, key, ttl, struct)
        else:
            result = self.attempt(operations.touch_if, key, ttl, asked, struct)
        wrong = InvalidArgumentsError if revision == "x" else self.options_error(struct, "owner pid note")
        if type(ttl) not in {int, float} or not 0 <= ttl < 4e8:
            wrong = wrong or InvalidArgumentsError
        wrong = wrong or self.key_error(key) or self.owner_error(struct)
        if wrong:
            assert isinstance(result, wrong)
            return
        if old is None or (asked is not None and asked != str(old.revision)):
            assert result is None
            return
        end = self.bench.clock.up + ttl if ttl else NEVER
        new = {key: self.stored(old.value, struct, old)._replace(end=end)}
        if self.growth_error({**self.model, **new}):
            assert isinstance(result, LimitExceededError)
            return
        assert result == self.commit("touch", [key], struct)
        self.model[key] = new[key]._replace(revision=self.revision)

    def expect_gone(self, kind: str, keys: Iterable[str], struct: Any = "") -> None:
        gone = [key for key in keys if key in self.model]
        if gone:
            self.commit(kind, gone if kind != "clear" else [""], struct)
        for key in gone:
            del self.model[key]

    @rule(key=KEYS, struct=OPTIONS)
    def delete(self, key: Any, struct: Any) -> None:
        result = self.attempt(operations.delete, key, struct)
        wrong = self.options_error(struct, "note") or self.key_error(key)
        if wrong:
            assert isinstance(result, wrong)
        else:
            assert result is True
            self.expect_gone("delete", [key], struct)

    @rule(key=st.sampled_from(["a", "b", "ab"]), revision=st.sampled_from(["", "right", "1", "x", 5]), struct=OPTIONS)
    def delete_if(self, key: str, revision: Any, struct: Any) -> None:
        found = self.model[key].revision if key in self.model else 0
        asked = str(found or "") if revision == "right" else revision
        result = self.attempt(operations.delete_if, key, asked, struct)
        if asked in {"x", 5} or self.options_error(struct, "note"):
            assert isinstance(result, InvalidArgumentsError)
            return
        assert result is (asked == str(found or ""))
        if result:
            self.expect_gone("delete", [key], struct)

    @rule(keys=st.lists(KEYS, max_size=4), struct=OPTIONS)
    def delete_many(self, keys: list[Any], struct: Any) -> None:
        result = self.attempt(operations.delete_many, keys, struct)
        wrong = self.options_error(struct, "note") or next(filter(None, map(self.key_error, keys)), None)
        if wrong:
            assert isinstance(result, wrong)
            return
        assert result == len({key for key in keys if key in self.model})
        self.expect_gone("delete", dict.fromkeys(keys), struct)

    @rule(prefix=PREFIXES, struct=OPTIONS)
    def delete_prefix(self, prefix: str, struct: Any) -> None:
        result = self.attempt(operations.delete_prefix, prefix, struct)
        if self.options_error(struct, "note"):
            assert isinstance(result, InvalidArgumentsError)
            return
        keys = sorted(key for key in self.model if key.startswith(prefix))
        assert result == len(keys)
        self.expect_gone("delete", keys, struct)

    @rule(prefix=st.sampled_from(["", "a\n", 5, None]))
    def delete_a_prefix_that_is_none(self, prefix: Any) -> None:
        assert isinstance(self.attempt(operations.delete_prefix, prefix), InvalidArgumentsError)

    @rule(struct=OPTIONS)
    def clear(self, struct: Any) -> None:
        result = self.attempt(operations.clear, struct)
        if self.options_error(struct, "note"):
            assert isinstance(result, InvalidArgumentsError)
            return
        assert result is True
        self.expect_gone("clear", list(self.model), struct)

    # What happens by itself

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 5.0, 100.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.bench.clock.pass_by(seconds)
        now = self.bench.clock.up
        ended = [key for key, one in self.model.items() if one.end <= now]
        self.expect_gone("expire", sorted(ended, key=lambda key: (self.model[key].end, self.model[key].revision, key)))

    @rule(seconds=st.sampled_from([-1e6, -3600.0, 0.5, 3600.0, 1e6]))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    @rule(process=st.sampled_from(PROCESSES))
    def a_process_is_reaped_and_started_again(self, process: str) -> None:
        pid = self.bench.pids[process]
        self.bench.cache.release(Owner(process, pid))
        self.expect_gone("release", sorted(key for key, one in self.model.items() if one.pid == pid))
        self.spawn(process)

    @rule()
    def a_round_of_the_loop(self) -> None:
        self.bench.cache.tidy()

    @rule(limits=st.sampled_from([LIMITS, LOWER]))
    def reload(self, limits: Limits) -> None:
        self.limits = self.bench.cache.limits = limits

    # Reads

    @rule(prefix=st.one_of(st.just(""), PREFIXES), after=st.one_of(st.just(""), PREFIXES), limit=st.integers(0, 4))
    def page(self, prefix: str, after: str, limit: int) -> None:
        expected = sorted(key for key in self.model if key.startswith(prefix) and (not after or key > after))
        expected = expected[: limit or None]
        cache = self.bench.cache
        assert cache.keys(prefix, after, limit) == expected
        assert [key for key, _ in cache.entries(prefix, after, limit)] == expected
        assert list(cache.items(prefix, after, limit)) == expected

    @rule(key=KEYS)
    def fetch(self, key: Any) -> None:
        cache = self.bench.cache
        wrong = self.key_error(key) or (NoSuchKeyError if key not in self.model else None)
        if wrong:
            with pytest.raises(wrong):
                cache.fetch(key)
        else:
            assert same(cache.fetch(key), self.model[key].value)

    @rule(keys=st.lists(KEYS, max_size=5))
    def fetch_many(self, keys: list[Any]) -> None:
        wrong = next(filter(None, map(self.key_error, keys)), None)
        if wrong:
            with pytest.raises(wrong):
                self.bench.cache.fetch_many(keys)
        else:
            expected = {key: self.model[key].value for key in keys if key in self.model}
            assert same(self.bench.cache.fetch_many(keys), expected)

    @rule(back=st.integers(0, 30), prefix=st.one_of(st.just(""), PREFIXES), limit=st.integers(0, 4))
    def changes_since(self, back: int, prefix: str, limit: int) -> None:
        """What is not told is not known any more; what is told is whole, in order, and each change once."""
        cache = self.bench.cache
        since = self.revision - back
        known = cache.history.since <= since
        assert cache.changed_since(since, prefix) is (not known or bool(self.expected_changes(since, prefix)))
        if not known:
            with pytest.raises(HistoryGoneError):
                cache.changes(str(since), prefix, limit)
            return
        expected = self.expected_changes(since, prefix)
        told = [(one.revision, one.kind, one.key, one.note) for one in cache.changes(str(since), prefix, limit)]
        assert told == expected[: len(told)]
        rest = expected[len(told) :]
        assert not rest or not told or rest[0][0] != told[-1][0]
        if not limit:
            assert not rest
        elif rest:
            following = [change for change in rest if change[0] == rest[0][0]]
            assert told
            assert len(told) + len(following) > limit or len(told) == limit

    def expected_changes(self, since: int, prefix: str) -> list[tuple[int, str, str, str]]:
        return [one for one in self.changes if one[0] > since and (one[2].startswith(prefix) or one[1] == "clear")]

    @rule(since=st.sampled_from(["", "0", "1", "99999999999999999999", "x", 5, None]))
    def changes_of_no_revision_that_was(self, since: Any) -> None:
        with pytest.raises(InvalidArgumentsError if since in {"x", 5, None} else HistoryGoneError):
            self.bench.cache.changes(since)

    # What always holds

    @invariant()
    def the_cache_equals_the_model(self) -> None:
        cache = self.bench.cache
        entries = dict(cache.entries())
        assert list(entries) == sorted(self.model) == cache.keys()
        clock = self.bench.clock
        for key, one in self.model.items():
            entry = entries[key]
            assert same(entry.value, one.value)
            assert (entry.note, entry.revision, entry.owner.name, entry.owner.pid) == (
                one.note,
                one.revision,
                one.owner,
                one.pid,
            )
            left = cache.expires(entry) - clock.now
            assert cache.expires(entry) == 0 if one.end == NEVER else math.isclose(left, one.end - clock.up, abs_tol=1)
        assert len(cache) == len(self.model)
        assert cache.size == self.size(self.model)
        assert cache.revision == self.revision
        assert cache.owners() == {Owner(one.owner, one.pid) for one in self.model.values() if one.pid}
        assert cache.history.changes <= self.limits.max_changes
        assert cache.history.size <= max(0, self.limits.max_total_bytes - cache.size)

    @invariant()
    def a_follower_of_the_changes_knows_the_same_entries(self) -> None:
        """By `getChanges` from where it was; by a copy of everything where that has gone."""
        cache = self.bench.cache
        newest = str(cache.revision)
        try:
            for change in cache.changes(self.seen):
                self.follow(change)
        except HistoryGoneError:
            self.replayed = {key: entry.revision for key, entry in cache.entries()}
        self.seen = newest
        assert self.replayed == {key: one.revision for key, one in self.model.items()}

    def follow(self, change: Change) -> None:
        if change.kind == "clear":
            self.replayed.clear()
        elif change.kind in {"store", "touch"}:
            self.replayed[change.key] = change.revision
        else:
            del self.replayed[change.key]

    @invariant()
    def observers_are_shown_each_change_once_and_in_order(self) -> None:
        shown = [
            (batch.revision, kind, key, batch.note) for batch in self.bench.commits for kind, key, _ in batch.mutations
        ]
        assert shown == self.changes


class SqliteMachine(Machine):
    """The same over a database, which is closed and opened in between, and agrees with memory after each step."""

    def make_bench(self) -> Bench:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        return Bench(LIMITS, Path(self.folder.name) / "cache.db")

    @rule()
    def restart(self) -> None:
        cache, clock = self.bench.cache, self.bench.clock
        ends = {key: entry.expires for key, entry in cache.content().entries.items() if entry.expires}
        self.bench.limits = self.limits
        self.bench.reopen()
        # From now on they are counted from the wall clock of this moment.
        for key, end in ends.items():
            self.model[key] = self.model[key]._replace(end=end + clock.up - clock.now)
        self.revision = self.bench.engine.revision
        self.time_goes_by(0)

    @invariant()
    def the_database_agrees_with_memory(self) -> None:
        path = self.bench.path
        assert path is not None
        assert_agreement(path, self.bench.cache.content())

    def teardown(self) -> None:
        self.bench.close()
        assert self.bench.path is not None
        assert_integrity(self.bench.path)
        self.folder.cleanup()


EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "2000"))
Machine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
SqliteMachine.TestCase.settings = settings(Machine.TestCase.settings, max_examples=EXAMPLES // 10)
TestMachine = Machine.TestCase
TestSqliteMachine = SqliteMachine.TestCase

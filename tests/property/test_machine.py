"""Thousands of random sequences of all methods, against a plain dictionary."""

import os
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from supervisor_cache.core import operations
from supervisor_cache.core.entry import CLEAR, Commit
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.options import Options
from supervisor_cache.core.text import utf8_length
from supervisor_cache.core.values import Value, json_size
from supervisor_cache.errors import (
    CacheError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    NoSuchKeyError,
    WrongTypeError,
)
from tests.model import Bench

LIMITS = Limits(max_entries=6, max_key_bytes=8, max_value_bytes=40, max_total_bytes=160)
LOWER = Limits(max_entries=4, max_key_bytes=3, max_value_bytes=20, max_total_bytes=30)

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
    [""] * 5
    + [{"if_changed": True}, {"note": NOTE}, {"note": NOTE, "if_changed": True}] * 3
    + [{}, {"note": ""}, {"if_changed": False}]
    + [{"ttl": 5}, {"note": 5}, {"note": "a\n"}, {"if_changed": 1}, 5],
)
PREFIXES = st.sampled_from(["a", "ab", "z", "ä", "\U0010ffff", "nothing"])

Stored = tuple[Any, str, int]


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


class Machine(RuleBasedStateMachine):
    """The model: key to value, note and revision. What a call refuses must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(LIMITS)
        self.limits = LIMITS
        self.model: dict[str, Stored] = {}
        self.replayed: dict[str, Any] = {}
        self.seen = 0
        self.revision = self.bench.cache.revision

    def attempt(self, operation: Any, *args: Any) -> Any:
        """Write; answer the result, or the error, which must be one of those that are promised."""
        try:
            return self.bench.write(operation, *args)
        except (InvalidKeyError, InvalidArgumentsError, LimitExceededError, WrongTypeError) as error:
            note(f"{operation.__name__}{args!r}: {error.fault_string}")
            return error

    def committed(self) -> int:
        """The revision that the next commit takes."""
        self.revision += 1
        return self.revision

    # What the model expects

    def key_error(self, key: Any) -> "type[CacheError] | None":
        if isinstance(key, str) and key in self.model:
            return None
        bad = not isinstance(key, str) or not key or key in {"a\n", "\ud800", "\ufffe"}
        too_long = isinstance(key, str) and utf8_length(key) > self.limits.max_key_bytes
        return InvalidKeyError if bad or too_long else None

    def value_error(self, value: Any) -> "type[CacheError] | None":
        refused = [None, 2**31, "a\r", {"$dateTime": "x"}, [[None]], (1,)]
        if any(same(value, one) for one in refused) or value != value:  # noqa: PLR0124 - not a number
            return InvalidArgumentsError
        return LimitExceededError if json_size(value) > self.limits.max_value_bytes else None

    def options(self, struct: Any, *, delete: bool = False) -> "Options | type[CacheError]":
        if struct == "":
            return Options()
        if struct == 5 or "ttl" in struct or struct.get("note") in {5, "a\n"}:
            return InvalidArgumentsError
        if type(struct.get("if_changed", False)) is not bool or (delete and "if_changed" in struct):
            return InvalidArgumentsError
        return Options(struct.get("note"), struct.get("if_changed", False))

    def size(self, model: dict[str, Stored]) -> int:
        return sum(utf8_length(key) + json_size(value) + utf8_length(text) for key, (value, text, _) in model.items())

    def growth_error(self, model: dict[str, Stored]) -> "type[CacheError] | None":
        too_many = len(model) > max(self.limits.max_entries, len(self.model))
        too_large = self.size(model) > max(self.limits.max_total_bytes, self.size(self.model))
        return LimitExceededError if too_many or too_large else None

    def store_error(self, items: dict[Any, Any], struct: Any) -> "type[CacheError] | None":
        """The error of storing ``items`` blindly, in the order in which they are looked at."""
        chosen = self.options(struct)
        if not isinstance(chosen, Options):
            return chosen
        for key, value in items.items():
            wrong = self.key_error(key) or self.value_error(value)
            if wrong:
                return wrong
        return None

    def expect_stored(self, result: Any, items: dict[str, Any], struct: Any, expected: Any) -> None:
        """Check the ``result`` of storing ``items``, and store them in the model; ``expected`` may ask a revision."""
        chosen = self.options(struct)
        assert isinstance(chosen, Options)
        text = chosen.note or ""
        changed = {
            key: value
            for key, value in items.items()
            if not (chosen.if_changed and key in self.model and same(self.model[key][:2], (value, text)))
        }
        after = {**self.model, **{key: (value, text, 0) for key, value in changed.items()}}
        if changed and self.growth_error(after):
            assert isinstance(result, LimitExceededError)
            return
        if changed:
            revision = self.committed()
            self.model = {**after, **{key: (value, text, revision) for key, value in changed.items()}}
        assert result == (expected(bool(changed)) if callable(expected) else expected)

    # The calls

    @rule(key=KEYS, value=VALUES, struct=OPTIONS)
    def store(self, key: Any, value: Any, struct: Any) -> None:
        result = self.attempt(operations.store, key, value, struct)
        wrong = self.store_error({key: value} if isinstance(key, str) else {str(key) + "?" * 9: value}, struct)
        if wrong or not isinstance(key, str):
            assert isinstance(result, wrong or InvalidKeyError)
        else:
            self.expect_stored(result, {key: value}, struct, expected=True)

    @rule(items=st.dictionaries(KEYS.filter(lambda key: isinstance(key, str)), VALUES, max_size=4), struct=OPTIONS)
    def store_many(self, items: dict[str, Any], struct: Any) -> None:
        result = self.attempt(operations.store_many, items, struct)
        wrong = self.store_error(items, struct)
        if wrong:
            assert isinstance(result, wrong)
        else:
            self.expect_stored(result, items, struct, lambda changed: self.revision if changed else None)

    @rule(key=st.sampled_from(["a", "b", "ab"]), value=VALUES, struct=OPTIONS)
    def add(self, key: str, value: Any, struct: Any) -> None:
        result = self.attempt(operations.add, key, value, struct)
        wrong = self.store_error({key: value}, struct)
        if wrong:
            assert isinstance(result, wrong)
        elif key in self.model:
            assert result is None
        else:
            self.expect_stored(result, {key: value}, struct, lambda _changed: self.revision)

    @rule(
        key=st.sampled_from(["a", "b", "ab"]),
        value=VALUES,
        revision=st.sampled_from(["", "right", "1"]),
        struct=OPTIONS,
    )
    def store_if(self, key: str, value: Any, revision: str, struct: Any) -> None:
        found = self.model[key][2] if key in self.model else 0
        asked = str(found or "") if revision == "right" else revision
        result = self.attempt(operations.store_if, key, value, asked, struct)
        wrong = self.store_error({key: value}, struct)
        if wrong:
            assert isinstance(result, wrong)
        elif asked != str(found or ""):
            assert result is None
        else:
            self.expect_stored(result, {key: value}, struct, lambda changed: self.revision if changed else found)

    @rule(
        key=st.sampled_from(["a", "n", "ä"]),
        delta=st.sampled_from([1, -1, 0, 2**31 - 1, 2**31, True, "1"]),
        struct=OPTIONS,
    )
    def increment(self, key: str, delta: Any, struct: Any) -> None:
        result = self.attempt(operations.increment, key, delta, struct)
        chosen = self.options(struct)
        if not isinstance(chosen, Options):
            assert isinstance(result, chosen)
            return
        wrong = self.key_error(key)
        if wrong:
            assert isinstance(result, wrong)
            return
        if type(delta) is not int or delta == 2**31:
            assert isinstance(result, InvalidArgumentsError)
            return
        before, text, _ = self.model.get(key, (0, "", 0))
        if type(before) is not int:
            assert isinstance(result, WrongTypeError)
            return
        total = before + delta
        if not -(2**31) <= total < 2**31:
            assert isinstance(result, LimitExceededError)
            return
        struct = {"note": text if chosen.note is None else chosen.note, "if_changed": chosen.if_changed}
        self.expect_stored(result, {key: total}, struct, total)

    def expect_deleted(self, keys: list[str]) -> None:
        gone = [key for key in keys if key in self.model]
        if gone:
            self.committed()
        for key in gone:
            del self.model[key]

    @rule(key=KEYS, struct=OPTIONS)
    def delete(self, key: Any, struct: Any) -> None:
        result = self.attempt(operations.delete, key, struct)
        chosen = self.options(struct, delete=True)
        wrong = self.key_error(key)
        if not isinstance(chosen, Options):
            assert isinstance(result, chosen)
        elif wrong:
            assert isinstance(result, wrong)
        else:
            assert result is True
            self.expect_deleted([key])

    @rule(key=st.sampled_from(["a", "b", "ab"]), revision=st.sampled_from(["", "right", "1", "x", 5]))
    def delete_if(self, key: str, revision: Any) -> None:
        found = self.model[key][2] if key in self.model else 0
        asked = str(found or "") if revision == "right" else revision
        result = self.attempt(operations.delete_if, key, asked)
        if asked in {"x", 5}:
            assert isinstance(result, InvalidArgumentsError)
            return
        assert result is (asked == str(found or ""))
        if result:
            self.expect_deleted([key])

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete_many(self, keys: list[Any]) -> None:
        result = self.attempt(operations.delete_many, keys)
        wrong = next(filter(None, map(self.key_error, keys)), None)
        if wrong:
            assert isinstance(result, wrong)
            return
        assert result == len({key for key in keys if key in self.model})
        self.expect_deleted(list(dict.fromkeys(keys)))

    @rule(prefix=PREFIXES)
    def delete_prefix(self, prefix: str) -> None:
        keys = [key for key in self.model if key.startswith(prefix)]
        assert self.attempt(operations.delete_prefix, prefix) == len(keys)
        self.expect_deleted(keys)

    @rule(prefix=st.sampled_from(["", "a\n", 5, None]))
    def delete_a_prefix_that_is_none(self, prefix: Any) -> None:
        assert isinstance(self.attempt(operations.delete_prefix, prefix), InvalidArgumentsError)

    @rule()
    def clear(self) -> None:
        assert self.attempt(operations.clear) is True
        self.expect_deleted(list(self.model))

    @rule(limits=st.sampled_from([LIMITS, LOWER]))
    def reload(self, limits: Limits) -> None:
        self.limits = self.bench.cache.limits = limits

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
            assert same(cache.fetch(key), self.model[key][0])

    # What always holds

    @invariant()
    def the_cache_equals_the_model(self) -> None:
        cache = self.bench.cache
        entries = dict(cache.entries())
        assert list(entries) == sorted(self.model) == cache.keys()
        for key, (value, text, revision) in self.model.items():
            assert same(entries[key].value, value)
            assert (entries[key].note, entries[key].revision) == (text, revision)
        assert len(cache) == len(self.model)
        assert cache.size == self.size(self.model)
        assert cache.revision == self.revision

    @invariant()
    def what_was_observed_leads_to_the_same_entries(self) -> None:
        for commit in self.bench.commits[self.seen :]:
            self.replay(commit)
        self.seen = len(self.bench.commits)
        assert self.replayed.keys() == self.model.keys()
        assert all(same(value, self.model[key][0]) for key, value in self.replayed.items())

    def replay(self, commit: Commit) -> None:
        for kind, key, entry in commit.batch.mutations:
            if kind == CLEAR:
                self.replayed.clear()
            elif entry is None:
                del self.replayed[key]
            else:
                value: Value = entry.value
                self.replayed[key] = value


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("MACHINE_EXAMPLES", "400")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestMachine = Machine.TestCase

"""What a process may say of itself, and what it may change by it."""

import datetime as dt
import json
from typing import Any

import pytest

from supervisor_cache.core import operations, publication
from supervisor_cache.core.entry import DELETE, STORE, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.publication import MAX_BYTES, MAX_ENTRIES, Publication
from supervisor_cache.errors import CacheError, InvalidArgumentsError, InvalidKeyError, LimitExceededError
from tests.model import Bench

OWNER = Owner("web:0", 7)
PREFIX = "process/web:0/"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def publish(bench: Bench, store: dict[str, Any] | None = None, delete: list[Any] | None = None) -> int | None:
    return bench.write(publication.publish, OWNER, Publication(store or {}, delete or []))


def test_a_message_is_read_as_it_was_written() -> None:
    text = publication.message("cache", {"a/b": [1, "<ä>"], "c": True}, ["d"])
    namespace, _, body = text.partition(" ")
    assert namespace == "cache"
    assert body.isascii()
    # Supervisor's marks begin so.
    assert "<" not in body
    assert publication.read(body.encode()) == Publication({"a/b": [1, "<ä>"], "c": True}, ["d"])


@pytest.mark.parametrize(
    ("store", "delete", "body"),
    [
        ({"a": 1}, [], {"store": {"a": 1}}),
        ({}, ["a"], {"delete": ["a"]}),
        ({}, ["a", "b"], {"delete": ["a", "b"]}),
    ],
)
def test_what_is_not_given_is_not_said(store: Any, delete: Any, body: object) -> None:
    assert json.loads(publication.message("cache", store, iter(delete)).partition(" ")[2]) == body


@pytest.mark.parametrize(
    ("body", "store", "delete"),
    [
        (b'{"store": {"a": 1}}', {"a": 1}, []),
        (b'{"delete": ["a"]}', {}, ["a"]),
        (b'{"store": {}}', {}, []),
        # A key that is called as a date is.
        (b'{"store": {"$dateTime": "x"}, "delete": ["$dateTime"]}', {"$dateTime": "x"}, ["$dateTime"]),
        (
            b'{"store": {"$dateTime": {"$dateTime": "2026-11-03T12:00:00"}}}',
            {"$dateTime": dt.datetime(2026, 11, 3, 12)},  # noqa: DTZ001 - XML-RPC has no zone
            [],
        ),
        (
            rb'{"store": {"\u0024dateTime": [{"$dateTim\u0065": "2026-11-03T12:00:00"}, {"$dateTime": 1, "x": 2}]}}',
            {"$dateTime": [dt.datetime(2026, 11, 3, 12), {"$dateTime": 1, "x": 2}]},  # noqa: DTZ001 - likewise
            [],
        ),
    ],
)
def test_each_part_may_be_left_out(body: bytes, store: object, delete: object) -> None:
    assert publication.read(body) == (store, delete)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"store": {"a": "\xff"}}', "not UTF-8"),
        (b"", "value: not JSON: "),
        (b'{"store": null}', '"store" must be an object and "delete" an array'),
        (b'{"store": {"a": {"b": null}}}', r"store\['a'\]\['b'\]: nil cannot be stored"),
        (b'{"store": {"a": {"$dateTime": "now"}}}', r"store\['a'\]: \$dateTime must be a date"),
        (b'{"store": {"a": %s}}' % (b"[" * 40 + b"]" * 40), r"store\['a'\](\[0\])+: nested deeper than 32$"),
        (b'{"store": {"a": %s"$dateTime"%s}}' % (b"[" * 40, b"]" * 40), r"store\['a'\]: nested deeper than 32$"),
        (b'{"store": {"a": 1, "a": 2}}', "value: a name stands twice in one object"),
        (b'{"$dateTime": "2026-11-03T12:00:00"}', "a publication is an object"),
        (b"[]", 'a publication is an object with "store", "delete" or both'),
        (b'"store"', "a publication is an object"),
        (b"{}", "a publication is an object"),
        (b'{"store": {}, "other": 1}', "a publication is an object"),
        (b'{"store": []}', '"store" must be an object and "delete" an array'),
        (b'{"delete": {}}', '"store" must be an object and "delete" an array'),
    ],
)
def test_what_is_no_publication_says_why(body: bytes, text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=f"^{text}"):
        publication.read(body)


def test_a_process_owns_what_it_publishes_below_its_own_prefix(bench: Bench) -> None:
    before = bench.cache.revision
    assert publish(bench, {"state": "up", "n": 1}) == before + 1
    assert bench.cache.items() == {f"{PREFIX}n": 1, f"{PREFIX}state": "up"}
    assert bench.cache.entry(f"{PREFIX}n").owner == OWNER
    assert publish(bench, {"n": 2}, ["state", "missing", "state"]) == before + 2
    assert [(kind, key) for kind, key, _ in bench.commits[-1].mutations] == [
        (STORE, f"{PREFIX}n"),
        (DELETE, f"{PREFIX}state"),
    ]
    bench.cache.release(OWNER)
    assert bench.cache.keys() == []


def test_what_changes_nothing_takes_no_revision(bench: Bench) -> None:
    before = bench.cache.revision
    assert publish(bench, {}, ["missing"]) is None
    assert publish(bench) is None
    assert bench.cache.revision == before


@pytest.mark.parametrize(
    ("store", "delete", "error", "text"),
    [
        ({"../x": 1}, [], InvalidKeyError, r"key '\.\./x' has a segment that is empty, \. or \.\."),
        ({"a/./b": 1}, [], InvalidKeyError, "has a segment"),
        ({"a/": 1}, [], InvalidKeyError, "has a segment"),
        ({"": 1}, [], InvalidKeyError, "key '' has a segment"),
        ({}, ["/a"], InvalidKeyError, "has a segment"),
        ({}, [5], InvalidKeyError, r"^a key must be a string$"),
        ({"a\nb": 1}, [], InvalidKeyError, "which keys may not have"),
        ({"x" * 1024: 1}, [], InvalidKeyError, "has 1038 bytes; max_key_bytes is 1024"),
        ({"x" * 70_000: 1}, [], InvalidKeyError, "has 70000 bytes; max_key_bytes is 65536"),
        ({"a": None}, [], InvalidArgumentsError, "nil cannot be stored"),
        ({"b": 1, "a": 1}, ["a"], InvalidArgumentsError, r"^a key is to be stored and deleted at once$"),
    ],
)
def test_a_wrong_publication_changes_nothing(
    bench: Bench, store: Any, delete: Any, error: type[CacheError], text: str
) -> None:
    with pytest.raises(error, match=text):
        publish(bench, store, delete)
    assert bench.cache.keys() == []


def test_a_process_has_so_many_entries_and_no_more(bench: Bench) -> None:
    bench.write(operations.store_many, {f"process/web:1/{number}": 1 for number in range(50)})
    publish(bench, {str(number): 1 for number in range(MAX_ENTRIES)})
    text = "the process would have 101 entries; at most 100 are allowed"
    with pytest.raises(LimitExceededError, match=text):
        publish(bench, {"one more": 1})
    # What it deletes in the same message makes room, what it replaces takes none.
    publish(bench, {"one more": 1, "5": 2}, ["7"])
    with pytest.raises(LimitExceededError, match=text):
        publish(bench, {"7": 1}, ["missing"])


def test_a_process_has_so_many_bytes_and_no_more(bench: Bench) -> None:
    # Key, owner, and the two quotes of JSON.
    beside = len(PREFIX) + 1 + len(OWNER.name) + 2
    half = MAX_BYTES // 2
    publish(bench, {"a": "x" * (half - beside), "b": "x" * (half - beside)})
    assert bench.cache.size == MAX_BYTES
    text = f"the process would have {MAX_BYTES + 1} bytes; at most {MAX_BYTES} are allowed"
    with pytest.raises(LimitExceededError, match=text):
        publish(bench, {"b": "x" * (half - beside + 1)})
    publish(bench, {"c": "x" * (half - beside)}, ["a"])
    assert bench.cache.size == MAX_BYTES


def test_what_a_process_publishes_counts_for_the_whole_cache() -> None:
    bench = Bench(Limits(max_total_bytes=100))
    with pytest.raises(LimitExceededError, match="max_total_bytes is 100"):
        publish(bench, {"a": "x" * 80})
    bench = Bench(Limits(max_value_bytes=10))
    with pytest.raises(LimitExceededError, match="the value for 'process/web:0/a' has 11 bytes"):
        publish(bench, {"a": "x" * 9})


def test_a_message_is_checked_before_it_is_printed() -> None:
    with pytest.raises(InvalidArgumentsError, match=r"^store must be a mapping$"):
        publication.message("cache", "text", ())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentsError, match=r"^delete must be several keys, not one string$"):
        publication.message("cache", {}, "letters")

"""Changes as events for event listeners."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.listening import listening, received
from tests.harness import Supervisord, program, settle, ttl, until

# So many entries that one call which stores or deletes them is told of in many slices.
MANY = [f"many/{number:04}" for number in range(10_000)]
MANY_SECONDS = 90.0


SLOW_FOLLOWER = Path(__file__).with_name("slow_follower.py")


def change_much(cache: Any) -> None:
    """Make changes of each kind, far more than a listener's buffer holds."""
    for number in range(60):
        cache.store(f"single/{number % 7}", {"number": number})
        cache.storeMany({f"batch/{number}": number, "batch/last": number, "\u00e9 :%": [number]})
        cache.increment("count", number)
        cache.store("ends", number, {"ttl": ttl(0.01)})
        cache.touch("count", 1000)
        if number % 10 == 3:
            cache.deletePrefix("batch/")
            cache.store("owned", number, {"owner": "worker"})
        if number == 30:
            cache.clear()


def test_each_change_is_an_event_with_its_value(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE")
    cache = supervisord.unix().cache
    first = cache.storeMany({"a b:c": "ö\n", "n": 1})
    cache.delete("n")
    cache.clear()
    expected = {"namespace": "cache", "expires": "0"}
    assert received(supervisord, 4) == [
        ("CACHE_STORE", {**expected, "key": "a b:c", "revision": first, "seq": "1"}, '"\\u00f6\\n"'),
        ("CACHE_STORE", {**expected, "key": "n", "revision": first, "seq": "2"}, "1"),
        (
            "CACHE_DELETE",
            {"namespace": "cache", "key": "n", "revision": str(int(first) + 1), "seq": "3", "expires": "0"},
            "",
        ),
        (
            "CACHE_CLEAR",
            {"namespace": "cache", "key": "", "revision": str(int(first) + 2), "seq": "4", "expires": "0"},
            "",
        ),
    ]


def test_a_listener_hears_only_the_types_that_it_names(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE_DELETE")
    supervisord.unix().cache.store("k", "v")
    supervisord.unix().cache.delete("k")
    assert [(name, header["seq"]) for name, header, _ in received(supervisord, 1)] == [("CACHE_DELETE", "2")]


def test_a_large_value_is_left_out_and_the_header_says_so(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE_STORE")
    supervisord.unix().cache.store("fits", "x" * (8 * 1024 - 2))
    supervisord.unix().cache.store("too-large", "x" * (8 * 1024 - 1))
    (_, fits, value), (_, too_large, nothing) = received(supervisord, 2)
    assert ("value" in fits, len(value)) == (False, 8 * 1024)
    assert (too_large["value"], nothing) == ("omitted", "")


def test_seq_goes_on_over_a_reload(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE")
    supervisord.unix().cache.store("k", 1)
    received(supervisord, 1)
    supervisord.reload()
    supervisord.unix().cache.store("k", 2)
    assert [header["seq"] for _, header, _ in received(supervisord, 2)] == ["1", "2"]


@pytest.mark.local("no call changes more than a hundred entries")
def test_ten_thousand_changes_of_one_call_arrive_all_in_order_and_without_a_hole(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE", buffer_size=20_000)
    cache = supervisord.unix().cache
    stored = cache.storeMany({key: number for number, key in enumerate(MANY)})
    assert cache.deletePrefix("many/") == len(MANY)
    deleted = cache.getRevision()
    events = received(supervisord, 2 * len(MANY), MANY_SECONDS)
    assert [name for name, _, _ in events] == ["CACHE_STORE"] * len(MANY) + ["CACHE_DELETE"] * len(MANY)
    headers = [header for _, header, _ in events]
    assert [int(header["seq"]) for header in headers] == list(range(1, 2 * len(MANY) + 1))
    assert [header["key"] for header in headers] == MANY * 2
    assert [header["revision"] for header in headers] == [stored] * len(MANY) + [deleted] * len(MANY)
    assert [value for _, _, value in events] == [*map(str, range(len(MANY))), *[""] * len(MANY)]
    assert "are dropped" not in supervisord.log


@pytest.mark.local("no call changes more than a hundred entries")
def test_ten_thousand_changes_of_one_call_are_logged_all_in_order(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"log_changes": "true", "max_entries": "20000"}})
    cache = supervisord.unix().cache
    cache.storeMany(dict.fromkeys(MANY, 1))
    cache.store("between", 1)
    cache.deletePrefix("many/")
    cache.delete("between")
    expected = [f"store {key!r}" for key in [*MANY, "between"]] + [f"delete {key!r}" for key in [*MANY, "between"]]
    until(lambda: len(logged(supervisord)) >= len(expected), "all is logged")
    assert logged(supervisord) == expected
    assert "are dropped" not in supervisord.log


def logged(supervisord: Supervisord) -> list[str]:
    return [f"{kind} {key}" for kind, key in re.findall(r" cache: ([a-z]+) key=('.*?') revision=", supervisord.log)]


@pytest.mark.local("no call changes more than a hundred entries")
def test_what_is_still_to_be_told_is_told_before_a_reload_ends_it(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"log_changes": "true"}})
    cache = supervisord.unix().cache
    cache.storeMany(dict.fromkeys(MANY, 1))
    supervisord.reload()
    assert logged(supervisord) == [f"store {key!r}" for key in MANY]


@pytest.mark.parametrize("max_changes", [10_000, 20], ids=["by the changes", "from the start"])
def test_a_listener_that_is_slower_than_the_changes_sees_the_hole_and_catches_up(
    start: StartSupervisord, max_changes: int
) -> None:
    command = f"{sys.executable} {SLOW_FOLLOWER} %(here)s/known 0.1"
    supervisord = start(
        {"cache": {"max_changes": str(max_changes)}},
        program("worker") + f"\n[eventlistener:follower]\ncommand={command}\nevents=CACHE\n",
    )
    cache = supervisord.unix().cache
    path = supervisord.folder / "known"
    cache.store("first", 1)
    until(path.exists, "the listener listens")
    since = cache.getRevision()
    change_much(cache)
    supervisord.unix().supervisor.stopProcess("worker")
    until(lambda: "ends" not in cache.getKeys(), "it ends")
    settle(cache)
    cache.store("last", 1)
    until(lambda: json.loads(path.read_text())["newest"] == "last", "the listener hears of the last change")
    known = json.loads(path.read_text())
    assert known["state"] == cache.getItems()
    assert known["holes"] > 0
    assert (known["fresh_starts"] > 0) == (max_changes < 100)
    assert "event buffer overflowed, discarding event" in supervisord.log
    if max_changes > 100:
        changes = cache.getChanges(since)
        assert {change["kind"] for change in changes} == {"store", "touch", "delete", "expire", "release", "clear"}
        # Each change has been counted, whether the listener heard of it or not.
        assert known["seq"] == len(changes) + 1

"""Entries that end by themselves, on a real supervisord."""

import time
from collections.abc import Callable
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.listening import listening, received
from tests.harness import LATE_SECONDS, MOST_AT_ONCE, STORAGE, Supervisord, parts, ttl, until

# The clock of the test is the server's, read in another process: what they may differ by.
CLOCKS = 0.25
ANNOUNCED_SECONDS = 2.0 + LATE_SECONDS
MANY = 10_000
# As many as share one revision, so that a reply can hold it.
AT_ONCE = min(500, MOST_AT_ONCE)


def unless_missing(read: Callable[[str], object]) -> object:
    """Answer what ``read`` does; None where it says that there is no such key, and only there."""
    try:
        return read("k")
    except Fault as fault:
        if fault.faultString != "BAD_NAME: no such key: 'k'":
            raise
        return None


READERS: dict[str, Callable[[Any], object]] = {
    "fetch": lambda cache: unless_missing(cache.fetch),
    "fetchMany": lambda cache: cache.fetchMany(["k", "other"]),
    "getEntry": lambda cache: unless_missing(cache.getEntry),
    "getEntries": lambda cache: cache.getEntries(),
    "getEntries of a prefix": lambda cache: cache.getEntries("k"),
    "getItems": lambda cache: cache.getItems(),
    "getKeys": lambda cache: cache.getKeys(),
    "getKeys of a page": lambda cache: cache.getKeys("", "j", 5),
    "getCount": lambda cache: cache.getCount(),
    "getStats": lambda cache: cache.getStats()["entries"],
}


def kinds(cache: Any, since: str) -> list[tuple[str, str]]:
    return [(change["kind"], change["key"]) for change in cache.getChanges(since)]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_an_entry_is_there_until_its_moment_and_not_after_it(cache: Any, read: Callable[[Any], object]) -> None:
    cache.store("k", "v", {"ttl": ttl(0.4)})
    expires = cache.getEntry("k")["expires"]
    present = 0
    while True:
        asked = time.time()
        if not read(cache):
            assert time.time() > expires - CLOCKS
            break
        assert asked < expires + CLOCKS + LATE_SECONDS
        present += 1
    assert present > 1


def test_an_expiry_is_announced_even_when_nobody_asks(start: StartSupervisord) -> None:
    cache = start().unix().cache
    since = cache.add("k", "v", {"ttl": ttl(0.5), "note": "not that of the expiry"})
    expires = cache.getEntry("k")["expires"]
    # Reading announces an expiry too. So late, it could not pass for one that came by itself.
    time.sleep(expires + ANNOUNCED_SECONDS + 1.5 - time.time())
    (change,) = cache.getChanges(since)
    assert expires - CLOCKS < change.pop("modified") < expires + ANNOUNCED_SECONDS
    assert change == {"kind": "expire", "key": "k", "revision": str(int(since) + 1), "note": "", "via": ""}


@pytest.mark.local("an entry is there until its lease ends")
def test_an_expiry_is_announced_before_any_write_to_that_key(cache: Any) -> None:
    since = cache.getRevision()
    for number in range(30):
        cache.store("k", number, {"ttl": 0.01})
        time.sleep(0.02)
    cache.increment("k")
    assert kinds(cache, since) == [("store", "k"), ("expire", "k")] * 30 + [("store", "k")]
    assert cache.fetch("k") == 1


def test_a_key_is_free_for_add_and_store_if_once_its_entry_is_over(cache: Any) -> None:
    first = cache.add("k", "first", {"ttl": ttl(0.4)})
    expires = cache.getEntry("k")["expires"]
    assert cache.add("k", "second") == cache.storeIf("k", "second", "") == ""
    added: list[str] = []

    def is_added() -> bool:
        added.append(cache.add("k", "second"))
        return added[-1] != ""

    until(is_added, "the key is free")
    assert time.time() > expires - CLOCKS
    assert int(added[-1]) == int(first) + 2
    assert cache.storeIf("k", "third", first) == ""
    assert cache.fetch("k") == "second"


def test_get_entry_says_when_an_entry_ends(cache: Any) -> None:
    asked = time.time()
    cache.store("k", 1, {"ttl": 90})
    entry = cache.getEntry("k")
    assert asked - CLOCKS < entry["modified"] < time.time() + CLOCKS
    assert entry["expires"] == pytest.approx(entry["modified"] + 90, abs=CLOCKS)
    cache.increment("k")
    assert cache.getEntry("k")["expires"] == entry["expires"]
    cache.increment("k", 1, {"ttl": 500})
    assert cache.getEntries()[0]["expires"] == pytest.approx(entry["modified"] + 500, abs=30)
    cache.store("k", 1)
    assert cache.getEntry("k")["expires"] == 0


def test_touch_lets_the_time_run_anew(cache: Any) -> None:
    since = cache.add("k", ["v"], {"ttl": ttl(0.6), "note": "ops: deploy"})
    before = cache.getEntry("k")
    touched = cache.touch("k", 60)
    assert int(touched) == int(since) + 1
    entry = cache.getEntry("k")
    assert entry["expires"] == pytest.approx(entry["modified"] + 60, abs=CLOCKS)
    assert entry["revision"] == touched
    assert {**entry, "expires": 0, "modified": 0, "revision": ""} == {
        **before,
        "expires": 0,
        "modified": 0,
        "revision": "",
    }
    time.sleep(before["expires"] + LATE_SECONDS + 1.2 - time.time())
    assert kinds(cache, since) == [("touch", "k")]
    assert cache.fetch("k") == ["v"]


def test_touch_shortens_and_removes_a_time_too(cache: Any) -> None:
    cache.storeMany({"short": 1, "endless": 2}, {"ttl": ttl(0.5)})
    moment = cache.getEntry("endless")["expires"]
    cache.touch("endless", 0)
    assert cache.getEntry("endless")["expires"] == 0
    cache.store("long", 3, {"ttl": 3600})
    cache.touch("long", ttl(0.1))
    until(lambda: cache.getKeys() == ["endless"], "the others end", 10)
    assert time.time() > moment - CLOCKS


def test_touch_if_asks_for_a_revision(cache: Any) -> None:
    revision = cache.add("k", "v")
    assert cache.touchIf("k", 60, str(int(revision) - 1)) == ""
    assert cache.touchIf("k", 60, "") == ""
    assert cache.getEntry("k")["expires"] == 0
    assert cache.getRevision() == revision
    touched = cache.touchIf("k", 60, revision)
    assert int(touched) == int(revision) + 1
    assert cache.touchIf("k", 0, revision) == ""
    assert cache.getEntry("k")["expires"] > 0


def test_what_is_not_there_cannot_be_touched(cache: Any) -> None:
    cache.store("k", "v", {"ttl": ttl(0.05)})
    until(lambda: not cache.getCount(), "the entry ends", 10)
    revision = cache.getRevision()
    assert cache.touch("k", 60) == cache.touchIf("k", 60, revision) == cache.touch("never", 60) == ""
    assert (cache.getRevision(), cache.getKeys()) == (revision, [])


@pytest.mark.parametrize("wrong", [0, -1, True, "60", 10 * 366 * 86_400 + 1, [60]])
def test_a_wrong_ttl_is_refused_and_changes_nothing(cache: Any, wrong: object) -> None:
    cache.store("k", "old")
    revision = cache.getRevision()
    with pytest.raises(Fault, match="BAD_ARGUMENTS: ttl must be a number of seconds above 0"):
        cache.store("k", "new", {"ttl": wrong})
    if wrong != 0 or isinstance(wrong, bool):
        with pytest.raises(Fault, match="BAD_ARGUMENTS: ttl must be a number of seconds of at least 0"):
            cache.touch("k", wrong)
    assert (cache.fetch("k"), cache.getRevision()) == ("old", revision)


def test_a_ttl_runs_on_over_a_reload(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    since = cache.add("meanwhile", 1, {"ttl": ttl(0.05)})
    cache.store("k", "v", {"ttl": 5})
    entry = cache.getEntry("k")
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getEntry("k") == entry
    until(lambda: cache.getKeys() == ["k"], "the other one ends", 4)
    until(lambda: not cache.getCount(), "the entry ends", 15)
    assert time.time() > entry["expires"] - CLOCKS
    changes = cache.getChanges(since)
    assert sorted((change["kind"], change["key"]) for change in changes) == [
        ("expire", "k"),
        ("expire", "meanwhile"),
        ("store", "k"),
    ]
    assert changes[-1]["key"] == "k"
    assert changes[-1]["modified"] < entry["expires"] + ANNOUNCED_SECONDS


def test_ten_thousand_that_end_together_are_told_of_in_parts_and_supervisord_answers(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    calls = list(parts({f"k{number}": number for number in range(MANY)}))
    # Many calls take longer than one, and none of it may end before all is there.
    revisions = [cache.storeMany(part, {"ttl": 1.5 if len(calls) == 1 else 10}) for part in calls]
    stored = revisions[-1]
    assert cache.getCount() == MANY
    waits = []
    while cache.getCount():
        asked = time.monotonic()
        assert supervisord.unix().supervisor.getState()["statename"] == "RUNNING"
        waits.append(time.monotonic() - asked)
    assert max(waits) < 2
    gone = cache.getRevision()
    assert int(gone) == int(stored) + MANY // AT_ONCE
    stats = cache.getStats()
    # It is etcd itself that takes away what has ended there.
    writes = len(calls) + (0 if STORAGE == "etcd" else MANY // AT_ONCE)
    assert (stats["writes"], stats["expired"], stats["entries"], stats["bytes"]) == (writes, MANY, 0, 0)
    told: list[str] = []
    seen = stored
    while page := cache.getChanges(seen, "", AT_ONCE):
        told += [change["key"] for change in page]
        seen = page[-1]["revision"]
    assert (sorted(told), seen) == (sorted(f"k{number}" for number in range(MANY)), gone)
    assert cache.store("k1", "again") is True


def test_so_many_that_end_together_share_one_revision(cache: Any) -> None:
    stored = cache.storeMany({f"k{number:03}": number for number in range(AT_ONCE)}, {"ttl": ttl(0.3)})
    until(lambda: not cache.getCount(), "the entries end", 10)
    changes = cache.getChanges(stored)
    assert {(change["kind"], change["revision"]) for change in changes} == {("expire", str(int(stored) + 1))}
    assert [change["key"] for change in changes] == [f"k{number:03}" for number in range(AT_ONCE)]


def test_touches_and_expiries_reach_a_listener(start: StartSupervisord) -> None:
    supervisord: Supervisord = listening(start, "CACHE_TOUCH,CACHE_EXPIRE")
    cache = supervisord.unix().cache
    stored = int(cache.add("k", {"a": 1}))
    cache.touch("k", ttl(0.3))
    expires = cache.getEntry("k")["expires"]
    # Nobody asks: the event comes by itself.
    (touched, touch, value), (expired, expiry, nothing) = received(supervisord, 2)
    assert (touched, expired) == ("CACHE_TOUCH", "CACHE_EXPIRE")
    assert (touch["key"], touch["revision"], touch["seq"], value) == ("k", str(stored + 1), "2", '{"a":1}')
    assert float(touch["expires"]) == pytest.approx(expires, abs=0.01)
    assert expiry == {"namespace": "cache", "key": "k", "revision": str(stored + 2), "seq": "3", "expires": "0"}
    assert nothing == ""

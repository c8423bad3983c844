"""`watch` of the client: every change once, in order, whatever happens to supervisord, or a `reset` that says so."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor_cache import (
    AccessDeniedError,
    CacheError,
    InvalidArgumentsError,
    UnknownOutcomeError,
    UnreachableError,
    connect,
)
from supervisor_cache.client import watching
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.watching import Watch
from supervisor_cache.core.history import Change
from tests.conftest import StartSupervisord
from tests.database import assert_serves
from tests.harness import Supervisord, parts, program, running, ttl, until

# Reloads, and as many kills.
ROUNDS = int(os.environ.get("WATCH_ROUNDS", "3"))
WRITERS = 8
PATIENCE = 30.0
# Beyond what any reply holds, and what a watch asks for at once.
MANY = 900


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a watch ask again soon, or several reloads and kills would go by during one pause of it."""
    monkeypatch.setattr(watching, "_LONGEST_PAUSE", watching._PAUSE)


@pytest.fixture(scope="module")
def host() -> Iterator[Supervisord]:
    """One supervisord for all, with a cache for each way of keeping what has changed."""
    sections = {
        "cache": {},
        "kept": {"storage": "sqlite:kept.db", "max_changes": "200000"},
        "memory": {"storage": "memory"},
        "ten": {"max_changes": "10"},
        "nothing": {"max_changes": "0"},
        "nobody": {"max_watchers": "0"},
        "closed": {},
    }
    with running(sections, login=False) as supervisord:
        yield supervisord
        assert_serves(supervisord.folder / "kept.db", supervisord.unix().kept)
        assert "Traceback" not in supervisord.log


@pytest.fixture
def client(host: Supervisord) -> Iterator[CacheClient]:
    with connect(host.unix_url) as cache:
        cache.clear()
        yield cache


def told(watch: Watch, number: int) -> list[tuple[str, str]]:
    """Kind and key of so many changes that come next."""
    return [(change.kind, change.key) for change in itertools.islice(watch, number)]


def kill(supervisord: Supervisord) -> None:
    """Kill it, and only then close what connections to it the test itself has."""
    os.kill(supervisord.pid, signal.SIGKILL)
    until(lambda: not supervisord.is_alive(), "it is killed")
    supervisord.stop()


class Writer(threading.Thread):
    """Stores two keys at once, again and again; remembers which revision each acknowledged write has."""

    def __init__(self, cache: CacheClient, number: int) -> None:
        super().__init__()
        self.key = f"writer/{number}"
        self.acknowledged: dict[int, int] = {}
        self.unclear: set[int] = set()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._cache = cache

    def run(self) -> None:
        for number in itertools.count(1):
            if self.stop.is_set():
                return
            items = {self.key: number, f"{self.key}/twin": number}
            try:
                revision = self._cache.store_many(items, note=str(number))
            except UnknownOutcomeError:
                self.unclear.add(number)
            except UnreachableError:
                self.stop.wait(0.01)
            except CacheError as error:
                self.wrong.append(repr(error))
            else:
                assert revision is not None
                self.acknowledged[revision] = number


class Follower(threading.Thread):
    """Follows all that is written below ``writer/`` until the end is told."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self.resets = 0
        self.contacts: list[CacheError | None] = []
        self.error: Exception | None = None
        self._watch = watch
        watch.on_contact = self.contacts.append

    def run(self) -> None:
        try:
            for change in self._watch:
                if change.kind == "reset":
                    self.resets += 1
                elif change.key == "writer/end":
                    return
                else:
                    self.changes.append(change)
        except Exception as error:  # noqa: BLE001 - for the test to judge
            self.error = error


@pytest.mark.usefixtures("impatient")
def test_every_acknowledged_write_is_told_once_and_in_order_over_reloads_and_kills(host: Supervisord) -> None:
    cache = connect(host.unix_url, namespace="kept")
    followers = [Follower(cache.watch("writer/")) for _ in range(2)]
    writers = [Writer(cache, number) for number in range(WRITERS)]

    def each_writes() -> None:
        before = [len(writer.acknowledged) for writer in writers]
        until(lambda: all(len(one.acknowledged) > had for one, had in zip(writers, before, strict=True)), "each writes")
        # Those who follow are there when the next thing happens.
        newest = cache.get_revision()
        until(lambda: all(one.changes and one.changes[-1].revision > newest for one in followers), "they follow")

    for thread in (*followers, *writers):
        thread.start()
    try:
        for _ in range(ROUNDS):
            each_writes()
            host.reload()
            each_writes()
            kill(host)
            host.start()
        each_writes()
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join()
        cache.store("writer/end", 1)
        for follower in followers:
            follower.join(PATIENCE * 2)
    assert [writer.wrong for writer in writers] == [[]] * WRITERS
    acknowledged = {(revision, one.key, number) for one in writers for revision, number in one.acknowledged.items()}
    assert len(acknowledged) > ROUNDS * 3 * WRITERS
    possible = {(one.key, number) for one in writers for number in {*one.acknowledged.values(), *one.unclear}}
    for follower in followers:
        assert not follower.is_alive()
        assert (follower.error, follower.resets) == (None, 0)
        found = [(change.revision, change.key, int(change.note)) for change in follower.changes]
        assert [revision for revision, _, _ in found] == sorted(revision for revision, _, _ in found)
        assert len(set(found)) == len(found)
        mains = {one for one in found if not one[1].endswith("/twin")}
        twins = {(revision, f"{key}/twin", number) for revision, key, number in mains}
        assert {*mains, *twins} == set(found)
        assert acknowledged <= mains
        assert {one[1:] for one in mains} <= possible
        assert len({one[1:] for one in mains}) == len(mains)
        # Each time that it is away is told, and that it is back.
        assert [contact is None for contact in follower.contacts] == [False, True] * (len(follower.contacts) // 2)
        assert len(follower.contacts) >= 2 * ROUNDS
    assert followers[0].changes == followers[1].changes
    cache.close()


def test_with_memory_each_restart_is_a_reset_and_a_reload_is_none(host: Supervisord) -> None:
    with connect(host.unix_url, namespace="memory") as cache:
        watch = cache.watch()
        for number in range(3):
            cache.store("before", number)
            host.reload()
            cache.store("after", number)
            assert told(watch, 2) == [("store", "before"), ("store", "after")]
            cache.store("gone", number)
            kill(host)
            host.start()
            cache.store("not told", number)
            # What was stored before it was asked is among what is read anew.
            reset = next(watch)
            assert (reset.kind, reset.key, reset.revision) == ("reset", "", cache.get_revision())
            assert watch.revision == reset.revision
            cache.store("told", number)
            assert told(watch, 1) == [("store", "told")]


def test_it_begins_now_or_after_a_revision(client: CacheClient) -> None:
    client.store("before", 1)
    since = client.get_revision()
    client.store("a", 1)
    client.delete("a")
    now, later, newest = client.watch(), client.watch(since=since), client.get_revision()
    assert (now.revision, later.revision) == (newest, since)
    client.touch("before", 100, note="why")
    assert told(later, 3) == [("store", "a"), ("delete", "a"), ("touch", "before")]
    change = next(now)
    assert (change.kind, change.key, change.note, change.via) == ("touch", "before", "why", "unix_http_server")
    assert change.revision == newest + 1 == client.get_revision() == now.revision == later.revision
    assert abs(change.modified - time.time()) < PATIENCE
    # Of another time, or of a supervisord that is another one.
    for unknown in (0, newest + 1000):
        assert told(client.watch(since=unknown), 1) == [("reset", "")]
    for wrong in (-1, "5", 1.0):
        with pytest.raises(InvalidArgumentsError):
            next(client.watch(since=wrong))  # type: ignore[arg-type]


def test_a_revision_of_many_changes_is_resumed_from_its_beginning(client: CacheClient) -> None:
    since = client.get_revision()
    keys = [f"k/{number}" for number in range(10)]
    for _ in range(2):
        client.store_many(dict.fromkeys(keys, 1))
    everything = [("store", key) for key in keys] * 2
    for taken in range(1, 21):
        watch = client.watch("k/", since)
        assert told(watch, taken) == everything[:taken]
        # Only a revision of which all has been told is done with.
        assert watch.revision == since + taken // 10
        resumed = client.watch("k/", watch.revision)
        assert told(resumed, 20 - taken // 10 * 10) == everything[taken // 10 * 10 :]


def test_only_what_the_prefix_begins_is_told_and_a_clear_belongs_to_all(client: CacheClient) -> None:
    watch, all_of_it = client.watch("a/", timeout=0), client.watch(timeout=0)
    client.update({"a/1": 1, "b/1": 1})
    client.store("b/2", 1)
    client.delete("a/1")
    client.clear(note="all")
    client.store("a", 1)
    assert told(watch, 9) == [("store", "a/1"), ("delete", "a/1"), ("clear", "")]
    everything = [
        ("store", "a/1"),
        ("store", "b/1"),
        ("store", "b/2"),
        ("delete", "a/1"),
        ("clear", ""),
        ("store", "a"),
    ]
    assert told(all_of_it, 9) == everything
    # What is not its own is done with, too.
    assert watch.revision == all_of_it.revision == client.get_revision()


def test_what_ends_by_itself_is_told(start: StartSupervisord) -> None:
    supervisord = start(more=program("worker"))
    with connect(supervisord.unix_url) as cache:
        until(lambda: supervisord.process("worker")["statename"] == "RUNNING", "it runs")
        watch = cache.watch()
        cache.store("short", 1, ttl=ttl(0.2))
        assert told(watch, 2) == [("store", "short"), ("expire", "short")]
        cache.store("owned", 1, owner="worker")
        supervisord.unix().supervisor.stopProcess("worker")
        assert told(watch, 1) == [("store", "owned")]
        change = next(watch)
        assert (change.kind, change.key, change.via) == ("release", "owned", "worker:worker")


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_more_changes_than_a_reply_holds_come_in_pages(client: CacheClient, timeout: float) -> None:
    since = client.get_revision()
    # Smaller than a page, so that none is full; larger; and of more bytes than one reply may have.
    for size, length in [(300, 1)] * 4 + [(MANY, 1)] * 3 + [(100, 900)] * 6:
        for part in parts({f"{'k' * length}{number:04}": 1 for number in range(size)}):
            client.store_many(part, note="n" * length)
    changes = list(client.watch(since=since, timeout=timeout))
    assert len(changes) == 4 * 300 + 3 * MANY + 6 * 100
    assert changes == client.get_changes(since)
    revisions = [change.revision for change in changes]
    assert revisions == sorted(revisions)


@pytest.mark.parametrize("kept", [10, 0])
def test_what_is_not_kept_is_a_reset(host: Supervisord, kept: int) -> None:
    with connect(host.unix_url, namespace="ten" if kept else "nothing") as cache:
        watch = cache.watch(timeout=PATIENCE)
        for number in range(kept + 1):
            cache.store("k", number)
        reset = next(watch)
        assert (reset.kind, reset.revision) == ("reset", cache.get_revision())
        for number in range(kept):
            cache.store("k", number)
        if kept:
            assert told(watch, kept) == [("store", "k")] * kept
        else:
            # A watch that waits is no better off.
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(next, watch)
                until(lambda: cache.get_stats()["watchers"] == 1, "it waits")
                cache.store("k", "v")
                assert waiting.result(PATIENCE).kind == "reset"
        assert watch.revision == cache.get_revision()


def test_nothing_is_missed_where_too_many_wait_already(host: Supervisord) -> None:
    with connect(host.unix_url, namespace="nobody") as cache:
        contacts: list[CacheError | None] = []
        watch = cache.watch(timeout=PATIENCE)
        watch.on_contact = contacts.append
        for number in range(3):
            cache.update({f"k/{number}/{one}": 1 for one in range(50)})
            assert [key for _, key in told(watch, 50)] == [f"k/{number}/{one}" for one in range(50)]
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(next, watch)
                time.sleep(0.3)
                cache.store("later", number)
                assert waiting.result(PATIENCE).key == "later"
    assert contacts == []


def test_it_ends_once_nothing_has_changed_for_so_long(client: CacheClient) -> None:
    began = time.monotonic()
    watch = client.watch(timeout=0.3)
    assert list(watch) == []
    assert 0.3 <= time.monotonic() - began < PATIENCE
    client.store("a", 1)
    # And goes on where it ended.
    assert told(watch, 9) == [("store", "a")]
    # Not at all: what there is already.
    watch = client.watch(timeout=0)
    assert list(watch) == []
    client.store("b", 1)
    client.store("c", 1)
    assert told(watch, 9) == [("store", "b"), ("store", "c")]


def test_each_change_begins_the_time_anew(client: CacheClient) -> None:
    over = threading.Event()

    def write() -> None:
        for number in range(6):
            client.store("k", number)
            over.wait(0.3)

    with ThreadPoolExecutor(1) as pool:
        watch = client.watch(timeout=1.2)
        pool.submit(write)
        try:
            assert told(watch, 6) == [("store", "k")] * 6
        finally:
            over.set()


@pytest.mark.usefixtures("impatient")
def test_it_tells_when_supervisord_is_away_and_when_it_is_back(host: Supervisord) -> None:
    with connect(host.unix_url, namespace="kept") as cache:
        contacts: list[CacheError | None] = []
        watch = cache.watch(timeout=0.5)
        watch.on_contact = contacts.append
        cache.store("before", 1)
        assert told(watch, 9) == [("store", "before")]
        assert contacts == []
        kill(host)
        assert list(watch) == []
        (error,) = contacts
        assert isinstance(error, UnreachableError)
        host.start()
        cache.store("after", 1)
        assert told(watch, 1) == [("store", "after")]
        assert contacts == [error, None]


def test_what_is_no_absence_is_raised(host: Supervisord) -> None:
    with connect(host.inet_url) as cache:
        watch = cache.watch()
        host.login = True
        host.reload()
        with pytest.raises(AccessDeniedError):
            next(watch)
        host.login = False
        host.reload()


def test_a_watch_that_nobody_goes_on_with_holds_nothing(client: CacheClient) -> None:
    watch = client.watch()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, watch)
        until(lambda: client.get_stats()["watchers"] == 1, "it waits")
        client.store("k", 1)
        assert waiting.result(PATIENCE).key == "k"
    assert client.get_stats()["watchers"] == 0


def test_a_change_of_a_reader_that_reads_while_it_follows_is_never_from_before(client: CacheClient) -> None:
    # As docs/client.md shows it: a dictionary that follows a prefix ends up the same.
    settings: dict[str, object] = {}
    watch = client.watch("config/", timeout=1)
    acts: list[Callable[[], object]] = [
        lambda: client.update({"config/a": 1, "config/b": 1}),
        lambda: client.increment("config/a"),
        lambda: client.delete("config/b"),
        lambda: client.store("config/b", 7),
        client.clear,
        lambda: client.store("config/c", 3),
    ]

    def act() -> None:
        for one in acts * 5:
            one()

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        for change in watch:
            if change.kind in {"reset", "clear"}:
                settings = dict(client.get_items("config/"))
            else:
                settings[change.key] = client.get(change.key)
        acting.result()
    assert {key: value for key, value in settings.items() if value is not None} == client.get_items("config/")


def test_close_ends_a_watch(host: Supervisord) -> None:
    # In a cache of its own: a client that has gone away keeps its place for some seconds.
    client, other = connect(host.unix_url, namespace="closed"), connect(host.unix_url, namespace="closed")
    watch = other.watch()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, watch)
        until(lambda: client.get_stats()["watchers"] == 1, "it waits")
        other.close()
        assert isinstance(waiting.exception(PATIENCE), ValueError)
    until(lambda: client.get_stats()["watchers"] == 0, "its place is free")

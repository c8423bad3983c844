"""Locks of the client: one holder at a time, who knows when it is none any more before there can be another."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor_cache import (
    InvalidArgumentsError,
    LimitExceededError,
    LockLostError,
    LockTimeoutError,
    NoSocketError,
    connect,
)
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.locking import _GIVE_UP, Lock
from tests.conftest import StartSupervisord
from tests.database import assert_serves
from tests.e2e.counting import LOCK, count_up
from tests.e2e.stub import Relay
from tests.harness import Supervisord, program, running, ttl, until

THREADS = 8
PROCESSES = 3
ROUNDS = 5
# The shortest that a lock may have, and one that never ends within a test.
SHORT = 2.0
LONG = 600.0
PATIENCE = 30.0


@pytest.fixture(scope="module")
def host() -> Iterator[Supervisord]:
    """One supervisord for all that leaves no process behind when it is killed, with several caches."""
    sections = {
        "cache": {},
        "full": {"max_watchers": "0", "max_entries": "1"},
        "kept": {"storage": "sqlite:kept.db"},
        "memory": {"storage": "memory"},
    }
    with running(sections) as supervisord:
        yield supervisord
        assert_serves(supervisord.folder / "kept.db", supervisord.unix().kept)
        assert "Traceback" not in supervisord.log


@pytest.fixture
def client(host: Supervisord) -> Iterator[CacheClient]:
    with connect(host.unix_url) as cache:
        cache.clear()
        yield cache


def renewed(cache: CacheClient, lock: Lock) -> None:
    """Wait until a renewal has been answered that began after now."""
    now = time.monotonic()
    until(lambda: lock._until - lock._ttl * _GIVE_UP > now, "it is renewed", PATIENCE)
    assert cache.get_entry(lock.key).expires > time.time()


def assert_free(cache: CacheClient, key: str = LOCK) -> None:
    assert key not in cache
    with cache.lock(key, wait=0):
        assert key in cache


def test_one_thread_or_process_at_a_time_holds_it(host: Supervisord, client: CacheClient, tmp_path: Path) -> None:
    file = tmp_path / "counter"
    file.write_text("0")
    command = [sys.executable, "-m", "tests.e2e.counting", host.unix_url, str(file), str(ROUNDS)]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(PROCESSES)]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(count_up, client, file, ROUNDS) for _ in range(THREADS)]:
                future.result()
    finally:
        statuses = [process.wait(PATIENCE * 2) for process in processes]
    assert statuses == [0] * PROCESSES
    number, *revisions = map(int, file.read_text().split())
    assert number == (THREADS + PROCESSES) * ROUNDS
    # Each holder's is larger than that of the one before.
    assert revisions == sorted(set(revisions))
    assert len(revisions) == number
    assert_free(client)


def test_the_marker_says_who_holds_it_and_is_renewed_as_long_as_it_is_held(client: CacheClient) -> None:
    with client.lock(LOCK, ttl=SHORT, note="ops: release") as lock:
        entry = client.get_entry(LOCK)
        assert entry.note == "ops: release"
        assert isinstance(entry.value, dict)
        assert entry.value["pid"] == os.getpid()
        assert entry.revision == lock.revision
        time.sleep(SHORT * 1.2)
        lock.check()
        later = client.get_entry(LOCK)
        assert later.value == entry.value
        assert later.note == "ops: release"
        assert later.revision > entry.revision == lock.revision
        assert later.expires > entry.expires
        with pytest.raises(LockTimeoutError):
            client.lock(LOCK, wait=0).acquire()
    assert_free(client)
    # Neither of the threads that were at work for it.
    until(lambda: not [one for one in threading.enumerate() if LOCK in one.name], "its threads have ended")


@pytest.mark.parametrize("wait", [0, 0.5])
def test_who_waits_no_longer_than_that_is_told_who_holds_it(client: CacheClient, wait: float) -> None:
    with client.lock(LOCK, note="ops: d\u00e9ploy"):
        began = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught:
            client.lock(LOCK, wait=wait).acquire()
        assert wait <= time.monotonic() - began < wait + PATIENCE
    assert f"pid {os.getpid()} on " in caught.value.text
    assert caught.value.text.endswith("ops: d\\xe9ploy")
    assert_free(client)


@pytest.mark.parametrize("wait", [None, PATIENCE], ids=["as long as it takes", "for a while"])
def test_release_frees_it_at_once(client: CacheClient, wait: float | None) -> None:
    first, second = client.lock(LOCK, ttl=LONG), client.lock(LOCK, ttl=LONG, wait=wait)
    first.acquire()
    with ThreadPoolExecutor(1) as pool:
        acquiring = pool.submit(second.acquire)
        until(lambda: client.get_stats()["watchers"] == 2, "it waits, and the holder watches")
        first.release()
        acquiring.result(PATIENCE)
    assert second.revision > first.revision
    second.check()
    second.release()
    assert_free(client)


def test_what_is_raised_inside_is_what_comes_out(client: CacheClient) -> None:
    def fail(*, is_lost: bool) -> None:
        with client.lock(LOCK, ttl=SHORT) as lock:
            if is_lost:
                client.delete(LOCK)
                assert lock.lost.wait(PATIENCE)
            raise KeyError("mine")

    for is_lost in (False, True):
        with pytest.raises(KeyError, match="mine"):
            fail(is_lost=is_lost)
        assert_free(client)


def test_a_lock_is_taken_again_after_it_was_released_and_after_it_was_lost(client: CacheClient) -> None:
    lock = client.lock(LOCK, ttl=SHORT)
    lock.release()
    revisions = []
    for is_lost in (False, True, True, False):
        lock.acquire()
        assert not lock.lost.is_set()
        revisions.append(lock.revision)
        with pytest.raises(RuntimeError, match="is held already"):
            lock.acquire()
        if is_lost:
            client.delete(LOCK)
            assert lock.lost.wait(PATIENCE)
            with pytest.raises(LockLostError):
                lock.release()
        else:
            lock.release()
    assert revisions == sorted(set(revisions))
    assert_free(client)


def replace(cache: CacheClient, key: str) -> None:
    cache.store(key, {"token": "of somebody else"})


def take(cache: CacheClient, key: str) -> None:
    cache.delete(key)
    cache.add(key, {"token": "of somebody else"})


def test_a_holder_whose_marker_is_taken_away_has_lost(client: CacheClient) -> None:
    told: list[tuple[str, threading.Thread]] = []
    ways: dict[str, Callable[[CacheClient, str], object]] = {
        "deleted": lambda cache, key: cache.delete(key),
        "replaced": replace,
        "taken": take,
        "of another value": lambda cache, key: cache.store(key, "none of ours"),
    }
    locks = {name: client.lock(name, ttl=SHORT) for name in ways}
    for name, lock in locks.items():
        lock.on_loss = lambda name=name: told.append((name, threading.current_thread()))  # type: ignore[misc]
        lock.acquire()
    for name, way in ways.items():
        way(client, name)
    there = dict(client)
    for name, lock in locks.items():
        assert lock.lost.wait(PATIENCE)
        for call in (lock.check, lock.release):
            with pytest.raises(LockLostError, match=f"the lock '{name}' has been lost"):
                call()
    # Whoever has it now keeps it, and each holder is told once, by another thread.
    time.sleep(SHORT)
    assert client == there
    assert sorted(name for name, _ in told) == sorted(ways)
    assert threading.current_thread() not in [thread for _, thread in told]


def test_an_operator_who_touches_the_marker_takes_nothing_away(client: CacheClient) -> None:
    with client.lock(LOCK, ttl=SHORT) as lock:
        for seconds in (LONG, 0, ttl(1.8)):
            client.touch(LOCK, seconds, note="ops: hands off")
            renewed(client, lock)
            assert client.get_entry(LOCK).expires < time.time() + SHORT + 1
        lock.check()
        client.touch(LOCK, LONG)
    assert_free(client)


def test_wrong_arguments_are_told_before_it_is_taken(client: CacheClient) -> None:
    for wrong in (0, 1.9, -5):
        with pytest.raises(InvalidArgumentsError):
            client.lock(LOCK, ttl=wrong)
    with pytest.raises(InvalidArgumentsError):
        client.lock(LOCK, owner="nobody").acquire()
    assert_free(client)


def test_a_lock_ends_with_the_process_that_owns_it(start: StartSupervisord) -> None:
    supervisord = start(more=program("worker"))
    with connect(supervisord.unix_url) as cache:
        until(lambda: supervisord.process("worker")["statename"] == "RUNNING", "it runs")
        first, second = cache.lock(LOCK, ttl=SHORT, owner="worker"), cache.lock(LOCK, ttl=LONG)
        first.acquire()
        renewed(cache, first)
        assert cache.get_entry(LOCK).owner == "worker:worker"
        with ThreadPoolExecutor(1) as pool:
            acquiring = pool.submit(second.acquire)
            until(lambda: cache.get_stats()["watchers"] == 2, "it waits")
            supervisord.unix().supervisor.stopProcess("worker")
            acquiring.result(PATIENCE)
        assert first.lost.wait(PATIENCE)
        with pytest.raises(LockLostError):
            first.release()
        second.check()
        second.release()
        assert_free(cache)


def test_limits_are_told_and_one_on_those_who_wait_keeps_nobody_from_it(host: Supervisord) -> None:
    with connect(host.unix_url, namespace="full") as cache, ThreadPoolExecutor(1) as pool:
        first, second = cache.lock(LOCK, ttl=LONG), cache.lock(LOCK, ttl=LONG)
        first.acquire()
        acquiring = pool.submit(second.acquire)
        time.sleep(0.5)
        assert not acquiring.done()
        with pytest.raises(LockTimeoutError):
            cache.lock(LOCK, wait=0.3).acquire()
        with pytest.raises(LimitExceededError, match="max_entries"):
            cache.lock("another").acquire()
        first.release()
        acquiring.result(PATIENCE)
        second.release()
        assert_free(cache)


def test_reloads_do_not_lose_it_and_who_waits_goes_on_waiting(host: Supervisord) -> None:
    with connect(host.unix_url) as cache, ThreadPoolExecutor(1) as pool:
        first, second = cache.lock(LOCK, ttl=5), cache.lock(LOCK, ttl=5)
        first.acquire()
        acquiring = pool.submit(second.acquire)
        for _ in range(2):
            until(lambda: cache.get_stats()["watchers"] == 2, "it waits")
            host.reload()
        renewed(cache, first)
        first.check()
        assert not acquiring.done()
        first.release()
        acquiring.result(PATIENCE)
        second.release()
        assert_free(cache)


def test_a_kill_loses_it_with_memory_and_not_with_a_database(host: Supervisord) -> None:
    with (
        connect(host.unix_url, namespace="kept") as kept,
        connect(host.unix_url, namespace="memory") as lost,
        ThreadPoolExecutor(2) as pool,
    ):
        holders = [cache.lock(LOCK, ttl=5) for cache in (kept, lost)]
        waiting = [cache.lock(LOCK, ttl=5) for cache in (kept, lost)]
        for lock in holders:
            lock.acquire()
        acquiring = [pool.submit(lock.acquire) for lock in waiting]
        until(lambda: kept.get_stats()["watchers"] == lost.get_stats()["watchers"] == 2, "they wait")
        # Not `Supervisord.kill`, which closes connections first.
        os.kill(host.pid, signal.SIGKILL)
        until(lambda: not host.is_alive(), "it is killed")
        host.stop()
        host.start()
        # With memory the marker is gone.
        acquiring[1].result(PATIENCE)
        assert holders[1].lost.wait(PATIENCE)
        with pytest.raises(LockLostError):
            holders[1].release()
        renewed(kept, holders[0])
        assert not acquiring[0].done()
        holders[0].release()
        acquiring[0].result(PATIENCE)
        for cache, first, second in zip((kept, lost), holders, waiting, strict=True):
            assert second.revision > first.revision
            second.check()
            second.release()
            assert_free(cache)


def test_who_finds_nobody_to_ask_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoSocketError):
        connect(f"unix://{tmp_path}/none").lock(LOCK).acquire()


class Order:
    """What happened in which order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str) -> Callable[[], None]:
        return lambda: self.events.append(event)


def test_a_holder_knows_before_another_has_it_where_supervisord_stands_still(host: Supervisord) -> None:
    order = Order()
    with connect(host.unix_url, timeout=60) as cache, ThreadPoolExecutor(1) as pool:
        first, second = cache.lock(LOCK, ttl=3), cache.lock(LOCK, ttl=LONG)
        first.on_loss = order("first has lost")
        first.acquire()

        def acquire() -> None:
            second.acquire()
            order("second has it")()

        acquiring = pool.submit(acquire)
        until(lambda: cache.get_stats()["watchers"] == 2, "it waits")
        os.kill(host.pid, signal.SIGSTOP)
        try:
            # The renewal hangs for longer than the marker lives, and the holder knows all the same.
            assert first.lost.wait(PATIENCE)
            # Or that renewal would still find it.
            time.sleep(0.5)
        finally:
            os.kill(host.pid, signal.SIGCONT)
        with pytest.raises(LockLostError):
            first.release()
        acquiring.result(PATIENCE)
        until(lambda: len(order.events) == 2, "both are told")
        second.check()
        second.release()
    assert order.events == ["first has lost", "second has it"]


def test_a_holder_knows_before_another_has_it_where_it_is_cut_off(host: Supervisord, client: CacheClient) -> None:
    def lose(timeout: float) -> None:
        order, key = Order(), f"lock/{timeout}"
        with Relay(host) as relay:
            far = connect(relay.url, timeout=timeout)
            first, second = far.lock(key, ttl=3), client.lock(key, ttl=LONG)
            first.on_loss = order("first has lost")
            first.acquire()
            renewed(client, first)
            relay.refuses = lambda _: True
            second.acquire()
            order("second has it")()
            second.check()
            with pytest.raises(LockLostError):
                first.check()
            assert order.events == ["first has lost", "second has it"]
            # Or its renewal is waited for.
            far.close()
            with pytest.raises(LockLostError):
                first.release()
            assert key in client
            second.release()

    # Who is told again and again that there is no answer, and who is not told anything.
    with ThreadPoolExecutor(2) as pool:
        for losing in [pool.submit(lose, timeout) for timeout in (0.5, 60.0)]:
            losing.result(PATIENCE * 2)


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "not answered in time"])
def test_a_renewal_whose_answer_is_lost_loses_nothing(host: Supervisord, client: CacheClient, silent: bool) -> None:
    lost: list[bytes] = []

    def loses(body: bytes) -> bool:
        if b"touchIf" not in body or lost:
            return False
        lost.append(body)
        return True

    with (
        Relay(host) as relay,
        connect(relay.url, timeout=0.5) as far,
        far.lock(LOCK, ttl=3) as lock,
    ):
        setattr(relay, "holds" if silent else "loses", loses)
        until(lambda: len(lost) == 1, "an answer is lost")
        renewed(client, lock)
        lock.check()
        value = client[LOCK]
        assert client.get_entry(LOCK).revision > lock.revision
        assert isinstance(value, dict)
        assert value["token"] == lock._token
    assert_free(client)


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "not answered in time"])
def test_a_lock_whose_first_answer_is_lost_is_taken_for_all_of_its_time(
    host: Supervisord, client: CacheClient, silent: bool
) -> None:
    with (
        Relay(host) as relay,
        connect(relay.url, timeout=1.5) as far,
    ):
        setattr(relay, "holds" if silent else "loses", lambda body: b"cache.add" in body)
        lock = far.lock(LOCK, ttl=SHORT)
        lock.acquire()
        # Not what is left of the time that began with the request whose answer never came.
        entry = client.get_entry(LOCK)
        assert entry.expires - time.time() > lock._until - time.monotonic() > SHORT / 2
        assert entry.revision == lock.revision
        renewed(client, lock)
        lock.check()
        lock.release()
        assert_free(client)


def test_a_release_whose_answer_is_lost_frees_it_all_the_same(host: Supervisord, client: CacheClient) -> None:
    with Relay(host) as relay, connect(relay.url, timeout=5) as far:
        with far.lock(LOCK, ttl=LONG):
            relay.loses = lambda body: b"deleteIf" in body
        assert_free(client)


def test_a_release_while_supervisord_stands_still_ends_in_time(host: Supervisord) -> None:
    with connect(host.unix_url, timeout=0.5) as cache:
        lock = cache.lock(LOCK, ttl=SHORT * 2)
        lock.acquire()
        os.kill(host.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            lock.release()
            assert time.monotonic() - began < PATIENCE
        finally:
            os.kill(host.pid, signal.SIGCONT)
        # By what was sent, or by itself.
        with cache.lock(LOCK, wait=PATIENCE):
            pass

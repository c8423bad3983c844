"""Reloads under a storm of writes: nothing that was acknowledged is lost, and nothing leaks."""

import http.client
import operator
import threading
import time
import xmlrpc.client
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.harness import STORAGE, Supervisord, program, until

WRITERS = 8
RELOADS = 10


class Writer(threading.Thread):
    """Counts up under a key of its own, and remembers what was acknowledged and what may have happened.

    A reload cuts connections, and that is all that may go wrong: a fault or an HTTP error is no such thing.
    """

    def __init__(self, supervisord: Supervisord, number: int) -> None:
        super().__init__()
        self.key = f"writer/{number}"
        self.acknowledged = 0
        self.attempted = 0
        self.writes = 0
        self.refusals: list[xmlrpc.client.Error] = []
        self.stop = threading.Event()
        self._supervisord = supervisord
        self._over_inet = bool(number % 2)

    def _connect(self) -> Any:
        return (self._supervisord.inet() if self._over_inet else self._supervisord.unix()).cache

    def run(self) -> None:
        cache = self._connect()
        while not self.stop.is_set():
            self.attempted += 1
            try:
                # In a struct with a second key, so that half a write would show.
                cache.storeMany({self.key: self.attempted, f"{self.key}/twin": self.attempted})
            except (OSError, http.client.HTTPException):
                # Where there is no server at the moment, this would be asked a thousand times a second.
                self.stop.wait(0.01)
                cache = self._connect()
            except xmlrpc.client.Error as error:
                self.refusals.append(error)
            else:
                self.acknowledged = self.attempted
                self.writes += 1


def settled_descriptors(supervisord: Supervisord) -> int:
    """Count the descriptors once the connections of this test are closed."""
    for proxy in supervisord._proxies:
        proxy("close")()
    supervisord._proxies.clear()
    counts: list[int] = []

    def same_three_times() -> bool:
        counts.append(supervisord.descriptors())
        return len(counts) > 2 and len(set(counts[-3:])) == 1

    until(same_three_times, "descriptors settle")
    return counts[-1]


def wait_for_writes(writers: list[Writer], times: int = 1) -> None:
    """Wait until each of them has written so many times more."""
    before = [writer.writes + times - 1 for writer in writers]
    until(lambda: all(map(operator.lt, before, [writer.writes for writer in writers])), "each writes")


def in_a_storm(supervisord: Supervisord, act: Callable[[list[Writer]], None]) -> list[Writer]:
    """Act while eight clients write, each under its own keys; end them, and see that nothing was refused."""
    writers = [Writer(supervisord, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        act(writers)
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join()
    assert [refusal for writer in writers for refusal in writer.refusals] == []
    return writers


def reload_again_and_again(supervisord: Supervisord, writers: list[Writer], times: int) -> None:
    """Reload in both ways, each time after all have written."""
    for number in range(times):
        wait_for_writes(writers)
        if number % 2:
            supervisord.reload()
        else:
            supervisord.hang_up()


def reloads_in_a_storm(supervisord: Supervisord, times: int) -> list[Writer]:
    """Reload so often while eight clients write."""

    def act(writers: list[Writer]) -> None:
        reload_again_and_again(supervisord, writers, times)
        if STORAGE == "etcd":
            # Each connection is made when it is needed first: several to write, and one for what is asked each second.
            wait_for_writes(writers, 20)
            time.sleep(1.5)

    return in_a_storm(supervisord, act)


def runs(supervisord: Supervisord) -> bool:
    return bool(supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING")


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_ten_reloads_under_eight_writers_lose_no_acknowledged_write_and_leave_no_descriptor(
    start: StartSupervisord, daemon: bool
) -> None:
    supervisord = start(more=program("sleeper"), daemon=daemon)
    until(lambda: runs(supervisord), "sleeper runs")
    if STORAGE == "etcd":
        # So that what is there before and afterwards are the connections of a generation that has gone on.
        reloads_in_a_storm(supervisord, 1)
    pid, descriptors = supervisord.pid, settled_descriptors(supervisord)
    writers = reloads_in_a_storm(supervisord, RELOADS)
    assert supervisord.pid == pid
    items = supervisord.unix().cache.getItems()
    assert supervisord.inet().cache.getItems() == items
    assert supervisord.inet().cache.getEntries() == supervisord.unix().cache.getEntries()
    assert items.keys() == {f"{writer.key}{twin}" for writer in writers for twin in ("", "/twin")}
    for writer in writers:
        assert writer.acknowledged <= items[writer.key] <= writer.attempted
        assert items[writer.key] == items[f"{writer.key}/twin"]
    until(lambda: runs(supervisord), "sleeper runs")
    # SQLite keeps one that it must not close while another one holds locks on the same file, and uses it again.
    spare = 1 if STORAGE == "sqlite" else 0
    assert descriptors <= settled_descriptors(supervisord) <= descriptors + spare

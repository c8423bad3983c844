"""Reloads under a storm of writes: nothing that was acknowledged is lost, and nothing leaks."""

import threading
import time
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.harness import Supervisord, program, until

WRITERS = 8
RELOADS = 10


class Writer(threading.Thread):
    """Counts up under a key of its own, and remembers what was acknowledged and what may have happened."""

    def __init__(self, supervisord: Supervisord, number: int) -> None:
        super().__init__()
        self.key = f"writer/{number}"
        self.acknowledged = 0
        self.attempted = 0
        self.writes = 0
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
            except OSError:
                time.sleep(0.01)
                cache = self._connect()
            except Exception:  # noqa: BLE001 - http.client's many ways to say that a connection was cut
                cache = self._connect()
            else:
                self.acknowledged = self.attempted
                self.writes += 1


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_no_acknowledged_write_is_lost_by_ten_reloads_under_eight_writers(
    start: StartSupervisord, daemon: bool
) -> None:
    supervisord = start(more=program("sleeper"), daemon=daemon)
    pid = supervisord.pid
    writers = [Writer(supervisord, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for number in range(RELOADS):
        time.sleep(0.1)
        if number % 2:
            supervisord.reload()
        else:
            supervisord.hang_up()
    for writer in writers:
        writer.stop.set()
    for writer in writers:
        writer.join()
    items = supervisord.unix().cache.getItems()
    assert supervisord.pid == pid
    for writer in writers:
        assert writer.writes > RELOADS
        assert writer.acknowledged <= items[writer.key] <= writer.attempted
        assert items[writer.key] == items[f"{writer.key}/twin"]
    until(lambda: supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING", "sleeper runs")


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


def test_no_descriptor_is_left_open_by_reloads(start: StartSupervisord) -> None:
    supervisord = start(more=program("sleeper"))
    supervisord.reload()
    before = settled_descriptors(supervisord)
    for _ in range(5):
        supervisord.unix().cache.store("k", "v")
        supervisord.reload()
        until(lambda: supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING", "runs")
    assert settled_descriptors(supervisord) == before

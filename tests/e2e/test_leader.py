"""Processes that fight for one marker of a leader, while whoever holds it is killed again and again.

The normal run has 12 processes and takes 8 seconds. LEADER_PROCESSES and LEADER_SECONDS set others; with
LEADER_SECONDS the holder is killed every second, and then nobody may lead for a second at most:

    LEADER_PROCESSES=50 LEADER_SECONDS=60 make test ARGS='tests/e2e/test_leader.py'
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.conftest import StartSupervisord
from tests.harness import Supervisord, program, until

LONG = "LEADER_SECONDS" in os.environ
PROCESSES = int(os.environ.get("LEADER_PROCESSES", "12"))
SECONDS = float(os.environ.get("LEADER_SECONDS", "8"))
PERIOD = 1.0 if LONG else 0.5
MAX_GAP = 1.0 if LONG else 5.0

CONTENDER = Path(__file__).with_name("contender.py")
PAGE = 500


def history(cache: Any, since: str) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    while True:
        page = cache.getChanges(since, "leader", PAGE)
        if not page:
            return changes
        changes += page
        since = page[-1]["revision"]


def kill_the_holder(supervisord: Supervisord, cache: Any) -> str:
    """Kill whoever leads, and answer the name."""
    until(lambda: cache.getKeys("leader"), "somebody leads")
    entry = cache.getEntry("leader")
    assert supervisord.process(entry["owner"])["pid"] == entry["value"]
    os.kill(entry["value"], signal.SIGKILL)
    until(lambda: cache.getRevision() != entry["revision"], "its end is noticed")
    return str(entry["owner"])


def test_there_is_one_leader_at_a_time_and_soon_another_when_it_is_killed(start: StartSupervisord) -> None:
    supervisord = start(
        {"cache": {"max_changes": "100000", "max_watchers": str(4 * PROCESSES)}},
        program(
            "contender",
            f"{sys.executable} {CONTENDER}",
            numprocs=str(PROCESSES),
            process_name="%(program_name)s_%(process_num)02d",
        ),
    )
    cache = supervisord.unix().cache
    until(lambda: cache.getStats()["watchers"] == PROCESSES - 1, "one leads, and all others wait", 60)
    first = cache.getEntry("leader")
    since = str(int(first["revision"]) - 1)
    killed: list[str] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        killed.append(kill_the_holder(supervisord, cache))
        time.sleep(PERIOD)
    until(lambda: cache.getKeys("leader"), "somebody leads")
    changes = history(cache, since)
    stores, releases = changes[::2], changes[1::2]
    # One store, then one release, and so on: never two holders.
    assert {change["kind"] for change in stores} == {"store"}
    assert {change["kind"] for change in releases} == {"release"}
    assert len(stores) == len(releases) + 1
    assert [release["via"] for release in releases] == [store["note"] for store in stores[:-1]] == killed
    assert len(killed) > SECONDS / PERIOD / 4
    revisions = [int(change["revision"]) for change in changes]
    assert revisions == sorted(set(revisions))
    gaps = [store["modified"] - release["modified"] for release, store in zip(releases, stores[1:], strict=True)]
    assert max(gaps) <= MAX_GAP
    assert len(set(killed)) > 1
    until(lambda: cache.getStats()["watchers"] == PROCESSES - 1, "the killed ones are back and wait", 60)

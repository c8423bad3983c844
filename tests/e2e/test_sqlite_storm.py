"""Supervisord killed and reloaded in a storm of writes: what was acknowledged is there, what was never sent is not."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from tests.conftest import StartSupervisord
from tests.database import assert_integrity, assert_serves
from tests.e2e.test_storm import (
    WRITERS,
    Writer,
    in_a_storm,
    reload_again_and_again,
    runs,
    settled_descriptors,
    wait_for_writes,
)
from tests.harness import Supervisord, program, until

KILLS = int(os.environ.get("STORM_KILLS", "12"))
RELOADS = int(os.environ.get("STORM_RELOADS", "6"))
SEED = int(os.environ.get("STORM_SEED", str(random.SystemRandom().randrange(2**32))))

SECTION = {"storage": "sqlite:cache.db"}


def assert_kept(supervisord: Supervisord, writers: list[Writer]) -> None:
    items = supervisord.unix().cache.getItems("writer/")
    for writer in writers:
        value = items.get(writer.key, 0)
        assert writer.acknowledged <= value <= writer.attempted, f"seed {SEED}"
        assert items.get(f"{writer.key}/twin", 0) == value, f"seed {SEED}"


def test_acknowledged_writes_survive_kills(
    start: StartSupervisord, record_property: Callable[[str, object], None]
) -> None:
    supervisord = start({"cache": SECTION})
    path = supervisord.folder / "cache.db"
    chance = random.Random(SEED)
    written = 0
    for _ in range(KILLS):

        def kill(writers: list[Writer]) -> None:
            wait_for_writes(writers)
            writers[0].stop.wait(chance.random() * 0.3)
            # Not `kill`, which closes connections that the writers are using.
            os.kill(supervisord.pid, signal.SIGKILL)
            until(lambda: not supervisord.is_alive(), "supervisord is killed")

        writers = in_a_storm(supervisord, kill)
        supervisord.stop()
        assert_integrity(path)
        supervisord.start()
        assert_kept(supervisord, writers)
        assert_serves(path, supervisord.unix().cache)
        assert supervisord.unix().cache.getStats()["storage"]["state"] == "ok"
        written += sum(writer.writes for writer in writers)
        supervisord.unix().cache.clear()
    record_property("acknowledged writes", written)
    assert written > KILLS * WRITERS


def test_acknowledged_writes_survive_reloads(start: StartSupervisord) -> None:
    supervisord = start({"cache": SECTION}, more=program("sleeper"))
    until(lambda: runs(supervisord), "sleeper runs")
    pid, descriptors = supervisord.pid, settled_descriptors(supervisord)

    writers = in_a_storm(supervisord, lambda writers: reload_again_and_again(supervisord, writers, RELOADS))
    assert supervisord.pid == pid
    assert_kept(supervisord, writers)
    assert_serves(supervisord.folder / "cache.db", supervisord.unix().cache)
    until(lambda: runs(supervisord), "sleeper runs")
    assert settled_descriptors(supervisord) == descriptors


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_storm_survives_a_restart_with_its_history(start: StartSupervisord, kill: bool) -> None:
    supervisord = start({"cache": SECTION})
    since = supervisord.unix().cache.getRevision()
    writers = in_a_storm(supervisord, wait_for_writes)
    if kill:
        supervisord.kill()
    else:
        supervisord.stop()
    cache = supervisord.start().unix().cache
    changes = cache.getChanges(since, "writer/", 2000)
    revisions = [int(change["revision"]) for change in changes]
    assert revisions == sorted(revisions)
    assert len(set(revisions)) * 2 == len(revisions)
    assert len(revisions) >= min(2000, 2 * sum(writer.acknowledged for writer in writers))


def test_the_log_begins_anew_while_all_go_on_writing(start: StartSupervisord) -> None:
    supervisord = start({"cache": SECTION})
    log = supervisord.folder / "cache.db-wal"
    largest = 0

    def has_shrunk() -> bool:
        nonlocal largest
        size = log.stat().st_size
        largest = max(largest, size)
        return size < largest / 2

    in_a_storm(supervisord, lambda _writers: until(has_shrunk, "the log begins anew", 60))

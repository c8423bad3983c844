"""What clients meet on the way out: refusal while supervisord shuts down, answers all along while it reloads."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.test_introspection import METHODS, NEWEST, RETURNS
from tests.harness import Supervisord, running, until

SHUTDOWN_STATE = 6
# Ignores SIGTERM, also as the program that takes the place of the shell; only SIGKILL ends it.
STUBBORN = """
[program:stubborn]
command=bash -c 'trap "" TERM; echo $$ > %(here)s/new; mv %(here)s/new %(here)s/stubborn; exec sleep 1000'
autorestart=false
startsecs=0
stopwaitsecs=600
"""


class Stubborn:
    """A supervisord that cannot get past its one process until a test lets it."""

    def __init__(self, supervisord: Supervisord) -> None:
        self.supervisord = supervisord
        self.wait_until_it_ignores()

    def wait_until_it_ignores(self) -> None:
        until((self.supervisord.folder / "stubborn").exists, "the process ignores SIGTERM")

    def let_go(self) -> None:
        """End the process that supervisord waits for."""
        mark = self.supervisord.folder / "stubborn"
        if mark.exists():
            pid = int(mark.read_text())
            mark.unlink()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stubborn(daemon: bool) -> Iterator[Stubborn]:
    with running(more=STUBBORN, daemon=daemon) as supervisord:
        patient = Stubborn(supervisord)
        try:
            yield patient
            assert "Traceback" not in supervisord.log
        finally:
            patient.let_go()


@pytest.fixture(params=[False, True], ids=["foreground", "daemonized"])
def patient(request: pytest.FixtureRequest) -> Iterator[Stubborn]:
    with stubborn(request.param) as patient:
        yield patient


@pytest.fixture(scope="module")
def leaving() -> Iterator[Supervisord]:
    """A supervisord that is shutting down, and will be until the tests are through."""
    with stubborn(daemon=True) as patient:
        patient.supervisord.unix().cache.store("k", "v")
        assert patient.supervisord.unix().supervisor.shutdown() is True
        yield patient.supervisord
        assert patient.supervisord.is_alive()


def given(method: str, newest: str) -> list[Any]:
    return [newest if each is NEWEST else each for each in RETURNS[method][1]]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("server", ["unix", "inet"])
def test_every_method_faults_while_supervisord_shuts_down(leaving: Supervisord, server: str, method: str) -> None:
    with pytest.raises(Fault) as caught:
        getattr(getattr(leaving, server)().cache, method)(*given(method, "1"))
    assert caught.value.faultCode == SHUTDOWN_STATE
    assert caught.value.faultString == "SHUTDOWN_STATE: supervisord is shutting down"


def test_who_waits_when_the_shutdown_begins_is_told(patient: Stubborn) -> None:
    supervisord = patient.supervisord
    since = supervisord.unix().cache.getRevision()
    faults: list[Fault] = []

    def wait(cache: Any) -> None:
        try:
            cache.wait(since, 100)
        except Fault as fault:
            faults.append(fault)

    waiting = [threading.Thread(target=wait, args=[proxy.cache]) for proxy in (supervisord.unix(), supervisord.inet())]
    for thread in waiting:
        thread.start()
    until(lambda: supervisord.unix().cache.getStats()["watchers"] == len(waiting), "both wait")
    supervisord.unix().supervisor.shutdown()
    for thread in waiting:
        thread.join()
    # Nobody let go of the stubborn process, so it was no cut connection that ended the waiting.
    assert supervisord.is_alive()
    assert [fault.faultCode for fault in faults] == [SHUTDOWN_STATE] * len(waiting)


def test_reads_and_writes_are_answered_while_supervisord_reloads_and_are_there_afterwards(patient: Stubborn) -> None:
    supervisord = patient.supervisord
    before = supervisord.generations()
    supervisord.unix().supervisor.restart()
    with pytest.raises(Fault, match="SHUTDOWN_STATE"):
        # Supervisor itself refuses its calls by now, so the reload is under way.
        supervisord.unix().supervisor.getState()
    servers = {"unix": supervisord.unix().cache, "inet": supervisord.inet().cache}
    for method in sorted(METHODS):
        for name, server in servers.items():
            server.store("k", "v")
            server.delete("n")
            expected, _ = RETURNS[method]
            assert type(getattr(server, method)(*given(method, server.getRevision()))) is expected, (method, name)
    servers["unix"].clear()
    stored = {}
    for number in range(50):
        for writer, reader in (("unix", "inet"), ("inet", "unix")):
            key = f"{writer}/{number}"
            stored[key] = servers[writer].storeMany({key: number})
            assert servers[reader].fetch(key) == number
    assert supervisord.generations() == before
    patient.let_go()
    until(lambda: supervisord.generations() > before, "supervisord reloads")
    supervisord.wait_until_up()
    for cache in (supervisord.unix().cache, supervisord.inet().cache):
        assert {entry["key"]: entry["revision"] for entry in cache.getEntries()} == stored
    patient.wait_until_it_ignores()


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_after_a_shutdown_a_new_start_begins_empty_with_a_larger_revision(
    start: StartSupervisord, daemon: bool
) -> None:
    supervisord = start(daemon=daemon)
    files = {path.name for path in supervisord.folder.iterdir()}
    assert files == {"output", "s.sock", "supervisord.conf", "supervisord.log", "supervisord.pid"}
    pid = supervisord.pid
    last = supervisord.unix().cache.storeMany({"k": "v", "l": "w"})
    assert {path.name for path in supervisord.folder.iterdir()} == files
    supervisord.stop()
    assert {path.name for path in supervisord.folder.iterdir()} <= files
    supervisord.start()
    assert supervisord.pid != pid
    for cache in (supervisord.unix().cache, supervisord.inet().cache):
        assert cache.getKeys() == []
        assert int(cache.getRevision()) > int(last)

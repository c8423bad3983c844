"""What fails in this package stays in it: supervisord and its processes live on, and the log says what happened."""

import http.client
import inspect
import socket
import sys
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest

from supervisor_cache.server.loop import LoopHook
from tests.conftest import StartSupervisord
from tests.harness import Supervisord, program, until

ROOT = Path(__file__).parents[2]
LISTENER = f"""
[eventlistener:listener]
command={sys.executable} {ROOT}/tests/e2e/listener.py %(here)s/events
events=CACHE
buffer_size=100
"""
SABOTAGE = """
[rpcinterface:sabotage]
supervisor.rpcinterface_factory = tests.e2e.sabotage:make_sabotage
parts = {parts}
"""

pytestmark = pytest.mark.tracebacks


class Patient:
    """A supervisord with a supervised process, of which some parts fail on purpose."""

    def __init__(self, start: StartSupervisord, parts: str, more: str = "", **options: Any) -> None:
        lines = program("sleeper") + more + SABOTAGE.format(parts=parts)
        self.supervisord: Supervisord = start(more=lines, environment={"PYTHONPATH": str(ROOT)}, **options)
        self._pids = self._pids_now()

    @property
    def cache(self) -> Any:
        """A new connection: a reload cuts the old ones."""
        return self.supervisord.unix().cache

    def _pids_now(self) -> tuple[int, int]:
        info = self.supervisord.unix().supervisor.getProcessInfo("sleeper")
        assert info["statename"] == "RUNNING"
        return self.supervisord.pid, info["pid"]

    def is_well(self) -> bool:
        assert self.supervisord.unix().sabotage.ping()
        return self._pids_now() == self._pids

    def says(self, callback: str) -> bool:
        log = self.supervisord.log
        return f"internal error in {callback}, contained; supervisord goes on\nTraceback" in log and "sabotage" in log


def test_a_subscriber_that_fails(start: StartSupervisord) -> None:
    patient = Patient(start, "subscriber")
    assert patient.cache.store("k", "v") is True
    assert patient.is_well()
    assert patient.says("the subscriber to SUPERVISOR_STATE_CHANGE_RUNNING")


def test_an_event_whose_payload_fails(start: StartSupervisord) -> None:
    patient = Patient(start, "payload", LISTENER)
    assert patient.cache.store("k", "v") is True
    until((patient.supervisord.folder / "events").exists, "the event arrives, empty")
    assert patient.cache.fetch("k") == "v"
    assert patient.is_well()
    assert patient.says("an event's payload")


def test_a_round_of_the_loop_that_fails_each_time_is_logged_once(start: StartSupervisord) -> None:
    patient = Patient(start, "readable")
    for number in range(20):
        patient.cache.store("k", number)
    assert patient.is_well()
    assert patient.says("a round of the loop")
    assert patient.supervisord.log.count("internal error in a round of the loop") == 1


def test_writable_has_nothing_that_could_fail() -> None:
    assert inspect.unwrap(LoopHook.writable).__code__.co_names == ()


def test_a_deferred_reply_that_fails(start: StartSupervisord) -> None:
    patient = Patient(start, "deferred")
    with pytest.raises(Fault) as caught:
        patient.cache.store("k", "v")
    assert caught.value.faultCode == 30
    assert patient.cache.fetch("k") == "v"
    assert patient.is_well()
    assert patient.says("an RPC method")


def test_an_outcome_that_cannot_be_read_leaves_nobody_waiting(start: StartSupervisord) -> None:
    patient = Patient(start, "outcome")
    with pytest.raises(Fault) as caught:
        patient.cache.store("k", "v")
    assert caught.value.faultCode == 30
    assert patient.is_well()
    assert patient.says("an observer of changes")


def test_a_guard_that_cannot_judge_lets_supervisorctl_through_and_no_browser(start: StartSupervisord) -> None:
    patient = Patient(start, "match", login=False)
    assert patient.supervisord.ctl("status").returncode == 0
    assert patient.cache.store("k", "v") is True
    for header in ({"Origin": patient.supervisord.inet_url}, {"Sec-Fetch-Site": "same-origin"}):
        connection = http.client.HTTPConnection("127.0.0.1", patient.supervisord.port)
        connection.request("POST", "/RPC2", "<methodCall/>", header)
        assert connection.getresponse().status == 403
        connection.close()
    assert patient.is_well()
    assert patient.says("the request guard's match")


def test_a_guard_that_cannot_refuse_closes_the_connection(start: StartSupervisord) -> None:
    patient = Patient(start, "refuse")
    with socket.create_connection(("127.0.0.1", patient.supervisord.port)) as connection:
        connection.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        connection.settimeout(10)
        assert connection.recv(1000) == b""
    assert patient.is_well()
    assert patient.says("the request guard's handle_request")


def test_an_observer_that_fails_and_the_write_stands(start: StartSupervisord) -> None:
    patient = Patient(start, "observer")
    assert patient.cache.store("k", "v") is True
    assert patient.cache.fetch("k") == "v"
    assert patient.is_well()
    assert patient.says("an observer of changes")


def test_a_type_error_of_a_method_is_no_wrong_number_of_arguments(start: StartSupervisord) -> None:
    patient = Patient(start, "method")
    with pytest.raises(Fault) as caught:
        patient.cache.fetch("k")
    assert (caught.value.faultCode, caught.value.faultString) == (
        30,
        "FAILED: internal error; supervisord's log has it",
    )
    with pytest.raises(Fault, match="INCORRECT_PARAMETERS"):
        patient.cache.fetch()
    assert patient.is_well()
    assert patient.says("an RPC method")


def test_a_close_that_fails(start: StartSupervisord) -> None:
    patient = Patient(start, "close")
    patient.cache.store("k", "v")
    patient.supervisord.reload()  # closes what was built before the sabotage
    patient.supervisord.reload()
    assert patient.cache.fetch("k") == "v"
    assert patient.supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING"
    assert patient.says("the loop hook's close")


def test_a_factory_that_fails_at_a_reload(start: StartSupervisord) -> None:
    patient = Patient(start, "factory")
    pid = patient.supervisord.pid
    patient.supervisord.reload()
    assert patient.supervisord.pid == pid
    assert patient.supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING"
    with pytest.raises(Fault, match="UNAVAILABLE: not configured: internal error"):
        patient.cache.fetch("k")
    assert patient.says("the RPC interface factory")


def test_an_engine_that_answers_later_defers_the_reply(start: StartSupervisord) -> None:
    patient = Patient(start, "late")
    assert patient.cache.store("k", "v") is True
    assert patient.cache.add("k", "other") == ""
    assert int(patient.cache.storeMany({"ä": "ö", "b": 1}, {"note": "a conflict first"})) == patient_revision(patient)
    assert patient.cache.getKeys() == ["b", "k", "ä"]
    with pytest.raises(Fault, match="UNAVAILABLE: the storage did not take it"):
        patient.cache.delete("k", {"note": "refuse"})
    assert patient.cache.fetch("k") == "v"
    with pytest.raises(Fault, match="LIMIT_EXCEEDED"):
        patient.cache.store("ä", "x" * 100_000)
    assert patient.is_well()


def patient_revision(patient: Patient) -> int:
    return int(patient.cache.getRevision())

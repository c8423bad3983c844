"""The supervisorctl commands about time, owners and changes, on a real supervisord."""

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_commands import QUIET, run
from tests.harness import START_SECONDS, Supervisord, parts, program, running, until


@pytest.fixture(scope="module")
def owned() -> Iterator[Supervisord]:
    """A supervisord with a process that can own entries."""
    with running(more=program("worker") + program("sleeper", autostart="false")) as supervisord:
        until(lambda: supervisord.unix().supervisor.getProcessInfo("worker")["statename"] == "RUNNING", "it runs")
        yield supervisord
        assert "Traceback" not in supervisord.log


@pytest.fixture
def markers(owned: Supervisord) -> Any:
    cache = owned.unix().cache
    cache.clear()
    return cache


def shown_entry(supervisord: Supervisord, key: str) -> dict[str, str]:
    status, output, complaint = run(supervisord, "cache_entry", key)
    assert (status, complaint) == (0, "")
    return {line[:10].strip(): line[10:] for line in output.splitlines()}


@pytest.mark.parametrize(
    ("ttl", "seconds", "shown"),
    [
        ("90", 90, r"1m (30|[12]\d)s"),
        ("45s", 45, r"(45|4[0-4]|[23]\d)s"),
        ("90m", 5400, "1h 30m|1h 29m"),
        ("2h", 7200, "2h|1h 59m"),
        ("7d", 604_800, "7d|6d 23h"),
        ("1.5d", 129_600, "1d 12h|1d 11h"),
    ],
)
def test_a_ttl_is_typed_in_units_and_shown_as_what_is_left(
    owned: Supervisord, markers: Any, ttl: str, seconds: int, shown: str
) -> None:
    assert run(owned, "cache_store", "--ttl", ttl, "k", "v") == (0, "", "")
    entry = markers.getEntry("k")
    assert abs(entry["expires"] - entry["modified"] - seconds) < 1
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d, in ({shown})", shown_entry(owned, "k")["expires"]
    )


@pytest.mark.parametrize("ttl", ["", "x", "-1", "1w", "1h30m", "1e3", "0x10", "1 h", "٣", "1.h", "inf"])
def test_what_is_no_length_of_time_has_status_2(owned: Supervisord, markers: Any, ttl: str) -> None:
    for command in (
        ["cache_store", "--ttl", ttl, "k", "v"],
        ["cache_touch", "k", ttl],
        ["cache_wait", "--timeout", ttl, "k"],
    ):
        status, output, complaint = run(owned, *command)
        assert (status, output) == (2, "")
        assert f"{command[0]}: ERROR (" in complaint
        assert "must be seconds, or like 90s, 90m, 2h, 7d" in complaint
    assert markers.getKeys() == []


def test_every_write_takes_a_ttl_and_an_owner(owned: Supervisord, markers: Any) -> None:
    terms = ("--ttl", "1h", "--owner", "worker:worker", "--note", "who")
    for verb, words in (("store", ["a", "v"]), ("add", ["b", "v"]), ("increment", ["c"])):
        status, _, complaint = run(owned, f"cache_{verb}", *terms, *words)
        assert (status, complaint) == (0, "")
    for key in "abc":
        entry = markers.getEntry(key)
        assert (entry["owner"], entry["note"], entry["expires"] > 0) == ("worker:worker", "who", True)
    assert shown_entry(owned, "a")["owner"] == "worker:worker"


@pytest.mark.parametrize("owner", ["nobody", "worker:other", "sleeper", "worker:*", ":", ""])
def test_an_owner_that_does_not_run_is_refused(owned: Supervisord, markers: Any, owner: str) -> None:
    status, output, complaint = run(owned, "cache_store", "--owner", owner, "k", "v")
    if owner:
        assert (status, output) == (2, "")
        assert re.fullmatch(
            r"k: ERROR \(BAD_ARGUMENTS: owner .* is (no process of this supervisord|not running)\)\n", complaint
        )
        assert markers.getKeys() == []
    else:
        assert status == 0
        assert markers.getEntry("k")["owner"] == ""


def test_self_is_the_process_that_runs_the_command(owned: Supervisord, markers: Any) -> None:
    names = {"SUPERVISOR_GROUP_NAME": "worker", "SUPERVISOR_PROCESS_NAME": "worker"}
    assert run(owned, "cache_store", "--owner", "self", "k", "v", variables=names) == (0, "", "")
    assert markers.getEntry("k")["owner"] == "worker:worker"
    status, _, complaint = run(owned, "cache_store", "--owner", "self", "k", "v")
    assert status == 2
    assert "--owner self is for processes that Supervisor has started" in complaint


def test_touch_sets_and_takes_away_the_end(owned: Supervisord, markers: Any) -> None:
    first = markers.add("k", "v")
    status, output, _ = run(owned, "cache_touch", "--note", "longer", "k", "1h")
    assert (status, output.strip()) == (0, markers.getRevision())
    assert markers.getEntry("k")["expires"] > time.time() + 3500
    assert run(owned, "cache_touch", "--if-revision", first, "k", "1h") == (1, "", "k: ERROR (another revision)\n")
    assert run(owned, "cache_touch", "--if-revision", output.strip(), "k", "0")[0] == 0
    assert shown_entry(owned, "k")["expires"] == "never"
    assert run(owned, "cache_touch", "missing", "1h") == (1, "", "missing: ERROR (no such key)\n")
    assert run(owned, "cache_touch", "k")[0] == 2


def test_a_condition_on_a_missing_key_says_that_it_is_missing(owned: Supervisord, markers: Any) -> None:
    assert markers.getKeys() == []
    assert run(owned, "cache_store", "--if-revision", "5", "k", "v") == (1, "", "k: ERROR (no such key)\n")
    assert run(owned, "cache_delete", "--if-revision", "5", "k") == (1, "", "k: ERROR (no such key)\n")


class Waiter:
    """A ``cache_wait`` that runs."""

    def __init__(self, supervisord: Supervisord, *words: str) -> None:
        watchers = supervisord.unix().cache.getStats()["watchers"]
        ctl, configuration = str(supervisord.binaries / "supervisorctl"), str(supervisord.configuration)
        command = [ctl, "-c", configuration, "cache_wait", *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**supervisord.environment, **QUIET}
        )
        until(lambda: supervisord.unix().cache.getStats()["watchers"] > watchers, "it waits")

    def ended(self) -> tuple[int, str, str]:
        output, complaint = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode, output, complaint


def test_wait_shows_the_value_once_there_is_one(owned: Supervisord, markers: Any) -> None:
    waiter = Waiter(owned, "k")
    markers.store("k2", "another")
    assert waiter.process.poll() is None
    markers.store("k", {"a": 1})
    assert waiter.ended() == (0, "{'a': 1}\n", "")
    assert run(owned, "cache_wait", "k") == (0, "{'a': 1}\n", "")
    assert run(owned, "cache_wait", "--json", "k") == (0, '{"a":1}\n', "")


def test_wait_for_a_value_an_absence_or_a_change(owned: Supervisord, markers: Any) -> None:
    markers.store("k", 1)
    for_value, for_absence, for_change = (
        Waiter(owned, *words, "k") for words in (["--value", "3"], ["--absent"], ["--changed"])
    )
    markers.store("k", 2)
    assert for_change.ended() == (0, "2\n", "")
    markers.store("k", 3)
    assert for_value.ended() == (0, "3\n", "")
    markers.delete("k")
    assert for_absence.ended() == (0, "", "")


def test_wait_that_has_waited_long_enough_has_status_1(owned: Supervisord, markers: Any) -> None:
    assert markers.getKeys() == []
    assert run(owned, "cache_wait", "--timeout", "0.2", "k") == (1, "", "k: ERROR (timed out)\n")
    assert run(owned, "cache_wait", "--timeout", "0", "k") == (1, "", "k: ERROR (timed out)\n")


def test_wait_goes_on_over_a_reload(markers: Any) -> None:
    assert markers.getKeys() == []
    with running() as supervisord:
        waiter = Waiter(supervisord, "--timeout", "1m", "k")
        supervisord.reload()
        supervisord.unix().cache.store("k", "after")
        assert waiter.ended() == (0, "'after'\n", "")


def test_wait_ends_with_a_supervisord_that_shuts_down() -> None:
    with running() as supervisord:
        waiter = Waiter(supervisord, "k")
        supervisord.unix().supervisor.shutdown()
        until(lambda: not supervisord.is_alive(), "supervisord ends")
        status, output, complaint = waiter.ended()
        assert (status in {3, 4, 7}, output, complaint.count("\n")) == (True, "", 1)


def test_conditions_of_wait_exclude_each_other(owned: Supervisord, markers: Any) -> None:
    assert markers.getKeys() == []
    status, output, complaint = run(owned, "cache_wait", "--absent", "--changed", "k")
    assert (status, output) == (2, "")
    assert "--value, --absent and --changed exclude each other" in complaint


def test_history_lists_each_change_with_who_and_why(owned: Supervisord, markers: Any) -> None:
    first = markers.storeMany({"config/a": 1, "config/b": 2}, {"note": "ops: deploy"})
    markers.store("other", 1)
    markers.deletePrefix("config/")
    status, output, complaint = run(owned, "cache_history", "config/")
    assert (status, complaint) == (0, "")
    lines = [line.split("\t") for line in output.splitlines()]
    assert [line[2:] for line in lines[-4:]] == [
        ["store", "config/a", "unix_http_server", "ops: deploy"],
        ["store", "config/b", "unix_http_server", "ops: deploy"],
        ["delete", "config/a", "unix_http_server", ""],
        ["delete", "config/b", "unix_http_server", ""],
    ]
    assert {line[0] for line in lines[-4:-2]} == {first}
    status, output, _ = run(owned, "cache_history", "--json", "config/")
    assert [change["kind"] for change in json.loads(output)][-4:] == ["store", "store", "delete", "delete"]


def test_a_long_history_is_listed_whole(owned: Supervisord, markers: Any) -> None:
    for number in range(6):
        for part in parts({f"{number}/{item}": 1 for item in range(400)}):
            markers.storeMany(part)
    status, output, _ = run(owned, "cache_history")
    assert status == 0
    assert [line.split("\t")[3] for line in output.splitlines()][-2400:] == [
        f"{number}/{item}" for number in range(6) for item in range(400)
    ]


def test_a_process_claims_a_marker_for_itself_from_its_shell(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = tmp_path / "script"
    with running(more=program("web", f"/bin/sh {script}", autostart="false")) as supervisord:
        ctl = shlex.join([str(supervisord.binaries / "supervisorctl"), "-c", str(supervisord.configuration)])
        script.write_text(
            f'{ctl} cache_add --owner self leader "$SUPERVISOR_PROCESS_NAME"\ntouch {ready}\nexec sleep 1000\n'
        )
        supervisord.unix().supervisor.startProcess("web")
        until(ready.exists, "it has claimed")
        assert supervisord.unix().cache.getEntry("leader")["owner"] == "web:web"
        supervisord.unix().supervisor.stopProcess("web")
        assert supervisord.unix().cache.getKeys() == []


def test_a_history_of_long_notes_is_listed_in_smaller_pages(owned: Supervisord, markers: Any) -> None:
    for _ in range(450):
        markers.store("k", 1, {"note": "&" * 1000})
    status, output, complaint = run(owned, "cache_history", "k")
    assert (status, complaint) == (0, "")
    assert output.count("\t" + "&" * 1000 + "\n") == 450


def test_a_command_that_is_interrupted_ends_without_a_word(owned: Supervisord, markers: Any) -> None:
    assert markers.getKeys() == []
    waiter = Waiter(owned, "k")
    waiter.process.send_signal(signal.SIGINT)
    assert waiter.ended() == (130, "", "")


def test_help_is_there_behind_each_command(owned: Supervisord, markers: Any) -> None:
    assert markers.getKeys() == []
    status, output, complaint = run(owned, "cache_wait", "--help")
    assert (status, complaint) == (0, "")
    assert output.startswith("cache_wait [--value VALUE] [--timeout TIME] [--absent] [--changed]")

"""``on-change``: what happens to processes when the cache changes."""

import io
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor_cache.cli.actions import ActionError, Burst
from supervisor_cache.cli.on_change import Told, Worker, listen
from supervisor_cache.errors import UnreachableError
from supervisor_cache.testing import MemoryCache, memory_cache
from tests.conftest import StartSupervisord
from tests.harness import OWN_BINARIES, Supervisord, program, until

COMMAND = OWN_BINARIES / "supervisor-cache"

# Reads the newest state at each signal, as a server reads its configuration.
SERVER = """
import signal, sys, time, pathlib
from supervisor_cache import connect
here = pathlib.Path(__file__).parent
cache = connect()
def note(what):
    with (here / (sys.argv[1] + ".seen")).open("a") as file:
        file.write(what + "\\n")
def reload(*_):
    note("HUP %s" % cache.get("config/state"))
signal.signal(signal.SIGHUP, reload)
note("START")
while True:
    signal.pause()
"""


def listener(name: str, arguments: str, **options: str) -> str:
    """Describe a listener."""
    more = "".join(f"{option}={value}\n" for option, value in options.items())
    return f"""
[eventlistener:{name}]
command={COMMAND} on-change {arguments}
events=CACHE
startsecs=0
stderr_logfile=%(here)s/{name}.err
{more}"""


def server(name: str) -> str:
    return program(name, f"{OWN_BINARIES / 'python'} %(here)s/server.py {name}")


def seen(supervisord: Supervisord, name: str) -> list[str]:
    path = supervisord.folder / f"{name}.seen"
    return path.read_text().splitlines() if path.exists() else []


def said(supervisord: Supervisord, name: str) -> str:
    return (supervisord.folder / f"{name}.err").read_text()


@pytest.fixture
def started(make_supervisord: StartSupervisord) -> Callable[..., Supervisord]:
    """Start a supervisord with listeners and servers, and wait until all of them are there."""

    def start(listeners: str, *servers: str) -> Supervisord:
        supervisord = make_supervisord()
        supervisord.script("server.py", SERVER)
        supervisord.more = listeners + "".join(server(name) for name in servers)
        supervisord.start()
        for name in servers:
            until(lambda name=name: seen(supervisord, name) == ["START"], f"{name} is there")  # type: ignore[misc]
        return supervisord

    return start


def ready(supervisord: Supervisord, name: str) -> None:
    """Wait until a listener waits for events: it has asked for the newest revision by then."""
    until(lambda: supervisord.process(name)["statename"] == "RUNNING", f"{name} runs")
    pid = supervisord.process(name)["pid"]
    until(lambda: "pipe" in Path(f"/proc/{pid}/wchan").read_text() or _sleeps(pid), f"{name} listens")


def _sleeps(pid: int) -> bool:
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return len(threads) > 1


def test_a_thousand_changes_in_bursts_reach_a_process_as_signals(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("hup", "--prefix config/ --settle 0.2s --signal HUP web:*"), "web", "other")
    ready(supervisord, "hup")
    cache = supervisord.unix().cache
    chance = random.Random(1)
    number = bursts = 0
    while number < 1000:
        burst = chance.randint(1, 150)
        for _ in range(burst):
            number += 1
            cache.store("config/state", number)
        bursts += 1
        time.sleep(chance.choice((0.0, 0.05, 0.5)))
    until(lambda: seen(supervisord, "web")[-1] == f"HUP {number}", "the last state is acted upon")
    time.sleep(0.5)
    told = seen(supervisord, "web")
    assert told[-1] == f"HUP {number}"
    assert len(told) <= bursts + 2
    assert seen(supervisord, "other") == ["START"]
    assert "Traceback" not in said(supervisord, "hup")


def test_what_the_event_pool_has_dropped_is_asked_for(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("hup", "--prefix config/ --settle 0s --signal HUP web:web", buffer_size="1"), "web")
    ready(supervisord, "hup")
    cache = supervisord.unix().cache
    before = len(seen(supervisord, "web"))
    items = {f"other/{number}": 1 for number in range(500)}
    # Of the events of one call all but the last are dropped; what matters is among the first.
    cache.storeMany({**items, "config/state": "new"})
    cache.storeMany(items)
    until(lambda: len(seen(supervisord, "web")) > before, "it is acted upon")
    assert seen(supervisord, "web")[-1] == "HUP new"


def test_processes_are_restarted(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("again", "--prefix release --settle 0s --restart web:web *:idle"), "web", "other")
    ready(supervisord, "again")
    pid = supervisord.process("web")["pid"]
    supervisord.unix().cache.store("release", "2026.11.4")
    until(lambda: seen(supervisord, "web") == ["START", "START"], "it is restarted")
    assert supervisord.process("web")["pid"] != pid
    assert seen(supervisord, "other") == ["START"]
    until(lambda: "restarted web:web" in said(supervisord, "again"), "it says so")


def test_a_pattern_that_matches_everything_spares_the_listener(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("again", "--settle 0s --restart *:*"), "web")
    ready(supervisord, "again")
    pid = supervisord.process("again")["pid"]
    supervisord.unix().cache.store("k", 1)
    until(lambda: seen(supervisord, "web") == ["START", "START"], "it is restarted")
    assert supervisord.process("again")["pid"] == pid


def test_a_command_learns_of_the_change(started: Callable[..., Supervisord]) -> None:
    script = 'cat > $0.value; env > $0.env; echo $1 to stdout; touch "$0.$SUPERVISOR_CACHE_REVISION"'
    supervisord = started(listener("run", f"--prefix a/ --run sh -c '{script}' %(here)s/out 'one  word'"))
    ready(supervisord, "run")
    cache = supervisord.unix().cache
    revision = cache.storeMany({"a/1": 1, "a/ä": {"b": [1, "é"]}, "c": 2})
    until((supervisord.folder / f"out.{revision}").exists, "it has run")
    assert json.loads((supervisord.folder / "out.value").read_text()) in (1, {"b": [1, "é"]})
    text = (supervisord.folder / "out.env").read_text()
    assert "SUPERVISOR_CACHE_KEYS=a/1\na/ä\n" in text
    assert "SUPERVISOR_CACHE_KIND=store\n" in text
    assert f"SUPERVISOR_CACHE_REVISION={revision}\n" in text
    assert "SUPERVISOR_CACHE_NAMESPACE=cache\n" in text
    assert "one word to stdout" in said(supervisord, "run")
    cache.store("a/large", "x" * 20_000)  # no event carries that
    revision = cache.getRevision()
    until((supervisord.folder / f"out.{revision}").exists, "it has run")
    assert json.loads((supervisord.folder / "out.value").read_text()) == "x" * 20_000
    cache.delete("a/large")
    revision = cache.getRevision()
    until((supervisord.folder / f"out.{revision}").exists, "it has run")
    assert (supervisord.folder / "out.value").read_text() == ""
    assert "SUPERVISOR_CACHE_KIND=delete\n" in (supervisord.folder / "out.env").read_text()


def test_an_action_that_fails_is_tried_again_and_the_listener_lives_on(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("run", "--settle 0s --run sh -c 'echo $SUPERVISOR_CACHE_KEYS; test -e %(here)s/ok'"))
    ready(supervisord, "run")
    pid = supervisord.process("run")["pid"]
    cache = supervisord.unix().cache
    cache.store("k", 1)
    until(lambda: said(supervisord, "run").count("status 1; trying again") >= 2, "it is tried again")
    (supervisord.folder / "ok").touch()
    cache.store("l", 1)
    until(lambda: "ran sh" in said(supervisord, "run"), "it has worked")
    assert "k l\n" in said(supervisord, "run")
    assert supervisord.process("run")["pid"] == pid


def test_a_command_that_is_not_there_is_complained_of(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("run", "--settle 0s --run /nowhere/command"))
    ready(supervisord, "run")
    supervisord.unix().cache.store("k", 1)
    until(lambda: "/nowhere/command: No such file or directory; trying again" in said(supervisord, "run"), "it says so")
    assert supervisord.process("run")["statename"] == "RUNNING"


def test_a_listener_that_may_not_ask_supervisord_runs_commands_all_the_same(
    started: Callable[..., Supervisord],
) -> None:
    supervisord = started(
        listener(
            "run",
            "--settle 0s --run touch %(here)s/done",
            environment='SUPERVISOR_SERVER_URL="unix:///nowhere/socket"',
        )
    )
    until(lambda: "changes are known by events alone" in said(supervisord, "run"), "it says so")
    supervisord.unix().cache.store("k", 1)
    until((supervisord.folder / "done").exists, "it has run")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "give one of --signal, --restart and --run"),
        ("--signal HUP --restart web:*", "give one of --signal, --restart and --run"),
        ("--signal HUP", "PATTERN is missing: which processes, as web:*"),
        ("--signal NOPE web:*", "--signal NOPE: no such signal"),
        ("--restart web:", "web:: must be a pattern of GROUP:NAME, as web:*"),
        ("--run", "COMMAND is missing"),
        ("--settle soon --restart web:*", "--settle must be seconds, or like 90s, 90m, 2h, 7d"),
    ],
)
def test_wrong_usage_is_told_in_the_listeners_log(
    started: Callable[..., Supervisord], arguments: str, complaint: str
) -> None:
    supervisord = started(listener("wrong", arguments, autorestart="false"))
    until(lambda: supervisord.process("wrong")["statename"] == "EXITED", "it ends")
    assert f"on-change: ERROR ({complaint})\n" in said(supervisord, "wrong")
    assert supervisord.process("wrong")["exitstatus"] == 2


def test_what_has_changed_while_the_listener_was_not_there_is_acted_upon(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("hup", "--prefix config/ --settle 0s --signal HUP web:*"), "web")
    ready(supervisord, "hup")
    supervisord.unix().supervisor.stopProcess("hup")
    supervisord.unix().cache.store("config/state", "while it was away")
    supervisord.unix().supervisor.startProcess("hup")
    until(lambda: seen(supervisord, "web")[-1] == "HUP while it was away", "it is acted upon")


def test_a_listener_that_is_stopped_acts_upon_what_it_has_been_told_of(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("hup", "--prefix config/ --settle 60s --signal HUP web:*"), "web")
    ready(supervisord, "hup")
    supervisord.unix().cache.store("config/state", "last")
    time.sleep(0.3)
    supervisord.unix().supervisor.stopProcess("hup")
    until(lambda: seen(supervisord, "web")[-1] == "HUP last", "it is acted upon")


def test_a_command_that_hangs_is_ended_with_its_listener(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("run", "--settle 0s --run %(here)s/hang.sh"))
    supervisord.script("hang.sh", '#!/bin/sh\necho $$ >> "$0.pids"\nexec sleep 1000\n')
    (supervisord.folder / "hang.sh").chmod(0o755)
    ready(supervisord, "run")
    pids = supervisord.folder / "hang.sh.pids"
    for number in (1, 2):
        supervisord.unix().cache.store("k", number)
        until(lambda: pids.exists() and pids.read_text().count("\n") == number, "it runs")  # noqa: B023 - at once
        supervisord.unix().supervisor.stopProcess("run")
        pid = pids.read_text().split()[-1]
        until(lambda: not Path("/proc", pid).exists(), "it is gone")  # noqa: B023 - at once
        supervisord.unix().supervisor.startProcess("run")
        ready(supervisord, "run")


def test_a_process_that_cannot_be_started_keeps_no_other_one_stopped(started: Callable[..., Supervisord]) -> None:
    supervisord = started(listener("again", "--prefix release --settle 0s --restart *:a *:b"), "b")
    supervisord.script("a.sh", "#!/bin/sh\nsleep 1000\n")
    (supervisord.folder / "a.sh").chmod(0o755)
    supervisord.more += program("a", "%(here)s/a.sh")
    supervisord.reload()
    ready(supervisord, "again")
    until(lambda: supervisord.process("a")["statename"] == "RUNNING", "a runs")
    until(lambda: seen(supervisord, "b") == ["START"] * 2, "b is there again")
    (supervisord.folder / "a.sh").unlink()
    supervisord.unix().cache.store("release", 1)
    until(lambda: "trying again in 2 s" in said(supervisord, "again"), "it is tried again")
    until(lambda: seen(supervisord, "b") == ["START"] * 3, "b is there again meanwhile")
    assert supervisord.process("a")["statename"] != "RUNNING"
    assert supervisord.process("b")["statename"] == "RUNNING"
    supervisord.script("a.sh", "#!/bin/sh\nsleep 1000\n")
    (supervisord.folder / "a.sh").chmod(0o755)
    until(lambda: supervisord.process("a")["statename"] == "RUNNING", "a runs again")
    assert seen(supervisord, "b") == ["START"] * 3


@pytest.mark.parametrize(("action", "did"), [("--signal HUP", "HUP to web:web"), ("--restart", "restarted web:web")])
def test_where_nobody_knows_yet_what_runs_it_is_asked_again(
    started: Callable[..., Supervisord], action: str, did: str
) -> None:
    supervisord = started(listener("act", f"--prefix release --settle 0s {action} web:*"), "web")
    ready(supervisord, "act")
    away = supervisord.socket_path.with_name("away.sock")
    supervisord.socket_path.rename(away)
    supervisord.inet().cache.store("release", 1)
    until(lambda: "trying again in 2 s" in said(supervisord, "act"), "it is tried again")
    away.rename(supervisord.socket_path)
    until(lambda: did in said(supervisord, "act"), "it is done")
    until(lambda: len(seen(supervisord, "web")) == 2, "it has happened")
    assert "none of them runs" not in said(supervisord, "act")


def test_a_command_takes_a_burst_of_any_number_of_keys(started: Callable[..., Supervisord]) -> None:
    script = "echo $SUPERVISOR_CACHE_CHANGED > $0"
    supervisord = started(listener("run", f"--run sh -c '{script}' %(here)s/count", buffer_size="20000"))
    ready(supervisord, "run")
    supervisord.unix().cache.storeMany({f"{'k' * 500}/{number}": 1 for number in range(1000)})
    path = supervisord.folder / "count"
    until(lambda: path.exists() and path.read_text() == "1000\n", "it has run")


# Parts of it


class Acts:
    """Takes note of what it is to act upon, after failing as often as it was told."""

    def __init__(self, failures: int = 0) -> None:
        self.bursts: list[Burst] = []
        self.failures = failures
        self.again = False

    def act(self, burst: Burst, *, again: bool) -> str:
        self.again = again
        if self.failures:
            self.failures -= 1
            raise ActionError("not yet")
        self.bursts.append(burst)
        return "done"

    def end(self) -> None:
        """Nothing goes on."""


def working(cache: MemoryCache, prefix: str = "", action: Acts | None = None) -> tuple[Worker, Acts]:
    action = action or Acts()
    worker = Worker(cache, "cache", prefix, 0.05, action)
    threading.Thread(target=worker.run, daemon=True).start()
    return worker, action


def tell(worker: Worker, cache: MemoryCache, seq: int, key: str = "k", kind: str = "store") -> Told:
    """Change the cache and tell of it."""
    if kind == "store":
        cache.store(key, seq)
    else:
        cache.clear()
    told = Told(seq, kind, key, cache.get_revision(), str(seq))
    worker.tell(told)
    return told


def test_what_processes_publish_acts_only_where_it_is_named() -> None:
    cache = memory_cache()
    all_of_it, everything = working(cache)
    named, of_processes = working(cache, "process/web")
    for seq, key in enumerate(["process/web:web/status", "k"], 1):
        cache.store(key, 1)
        for worker in (all_of_it, named):
            worker.tell(Told(seq, "store", key, cache.get_revision(), "1"))
    until(lambda: everything.bursts and of_processes.bursts, "both act")
    assert [burst.keys for burst in everything.bursts] == [["k"]]
    assert [burst.keys for burst in of_processes.bursts] == [["process/web:web/status"]]


def test_a_clear_acts_for_every_prefix() -> None:
    cache = memory_cache()
    cache["k"] = 1
    worker, action = working(cache, "config/")
    tell(worker, cache, 1, "", "clear")
    until(lambda: action.bursts, "it acts")
    assert action.bursts[0].kind == "clear"


def test_a_hole_is_filled_from_the_history() -> None:
    cache = memory_cache()
    worker, action = working(cache, "config/")
    tell(worker, cache, 1, "other")
    cache.store("config/a", 1)  # seq 2, which no event tells
    tell(worker, cache, 3, "other")
    until(lambda: action.bursts, "it acts")
    time.sleep(0.2)
    assert [burst.keys for burst in action.bursts] == [["config/a"]]


def test_a_hole_within_a_revision_is_filled() -> None:
    cache = memory_cache()
    worker, action = working(cache)
    cache.store_many({"a": 1, "b": 2, "c": 3})
    revision = cache.get_revision()
    worker.tell(Told(1, "store", "a", revision, "1"))
    worker.tell(Told(3, "store", "c", revision, "3"))
    until(lambda: sorted(key for burst in action.bursts for key in burst.keys) == ["a", "b", "c"], "all of it is told")


def test_a_hole_that_nobody_can_fill_acts() -> None:
    cache = memory_cache(max_changes=1)
    worker, action = working(cache, "config/")
    tell(worker, cache, 1, "other")
    for _ in range(3):
        cache.store("other", 1)
    tell(worker, cache, 5, "other")
    until(lambda: action.bursts, "it acts")
    assert action.bursts[0].kind == "reset"


def nobody_answers(*_: object) -> Any:
    raise UnreachableError("unix:///run/supervisor.sock", "no answer")


def test_a_hole_acts_where_supervisord_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = memory_cache()
    worker, action = working(cache, "config/")
    tell(worker, cache, 1, "other")
    for method in ("get_changes", "get_revision"):
        monkeypatch.setattr(cache, method, nobody_answers)
    worker.tell(Told(3, "store", "other", 5, "1"))
    until(lambda: action.bursts, "it acts")
    assert (action.bursts[0].kind, action.bursts[0].revision) == ("reset", "0")
    assert "events have been missed: " in capsys.readouterr().err


def test_a_hole_acts_where_nobody_could_say_at_what_revision_it_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = memory_cache()
    cache.store("other", 1)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "get_revision", nobody_answers)
        worker, action = working(cache, "config/")
    assert "changes are known by events alone" in capsys.readouterr().err
    # The first that it hears of is after some that it has not heard of, and it has not looked since.
    worker._seq = 1
    worker.tell(Told(3, "store", "other", cache.get_revision(), "1"))
    until(lambda: action.bursts, "it acts")
    assert action.bursts[0].kind == "reset"
    assert "events have been missed: acting as if something had changed" in capsys.readouterr().err


def test_a_failed_action_is_done_once_with_what_came_after() -> None:
    cache = memory_cache()
    worker, action = working(cache, action=Acts(failures=1))
    tell(worker, cache, 1, "a")
    until(lambda: not action.failures, "it has failed")
    tell(worker, cache, 2, "b")
    until(lambda: action.bursts, "it acts")
    time.sleep(0.2)
    assert [burst.keys for burst in action.bursts] == [["a", "b"]]
    assert action.bursts[0].value == "2"


def test_pauses_grow_and_only_what_failed_is_tried_again() -> None:
    cache = memory_cache()
    worker, action = working(cache, action=Acts(failures=2))
    tell(worker, cache, 1)
    began = time.monotonic()
    until(lambda: action.bursts, "it acts")
    assert action.again
    assert time.monotonic() - began >= 1 + 2


def test_no_change_of_others_acts_where_the_history_is_short() -> None:
    cache = memory_cache(max_changes=0)
    worker, action = working(cache, "config/")
    tell(worker, cache, 1, "other")
    tell(worker, cache, 2, "other")
    worker._look(always=True)
    time.sleep(0.2)
    assert action.bursts == []


def test_a_value_that_cannot_be_had_does_not_lose_the_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = memory_cache()
    monkeypatch.setattr(cache, "get_entry", lambda _key: 1 / 0)
    worker, action = working(cache)
    cache.store("k", 1)
    worker.tell(Told(1, "store", "k", cache.get_revision(), None))
    until(lambda: action.bursts, "it acts")
    assert (action.bursts[0].keys, action.bursts[0].value) == (["k"], "")


def test_a_burst_that_does_not_end_is_acted_upon() -> None:
    cache = memory_cache()
    worker, action = working(cache)
    end = time.monotonic() + 30
    seq = 0
    while not action.bursts and time.monotonic() < end:
        seq += 1
        tell(worker, cache, seq)
        time.sleep(0.01)
    assert action.bursts


def event(name: str, payload: str) -> str:
    return f"ver:3.0 server:supervisor serial:1 pool:x poolserial:1 eventname:{name} len:{len(payload)}\n{payload}"


@pytest.mark.parametrize(
    "payload",
    ["", "x", "namespace:cache", "namespace:cache key:k revision:x seq:1\n", "namespace:cache key:k\n", "ä\nö", "::\n"],
)
def test_an_event_of_another_kind_is_answered_and_complained_of(payload: str, capsys: Any) -> None:
    told: list[Told] = []
    out = io.StringIO()
    good = 'namespace:cache key:a%20b%2Fc revision:7 seq:1 expires:0\n"v"'
    listen(io.StringIO(event("CACHE_STORE", payload) + event("CACHE_STORE", good)), out, "cache", told.append)
    assert out.getvalue() == "READY\nRESULT 2\nOK" * 2 + "READY\n"
    assert told == [Told(1, "store", "a b/c", 7, '"v"')]
    assert "an event of another kind" in capsys.readouterr().err


def test_events_of_other_caches_and_of_supervisor_are_passed_over(capsys: Any) -> None:
    told: list[Told] = []
    other = "namespace:other key:k revision:7 seq:1 expires:0\n1"
    events = event("CACHE_STORE", other) + event("TICK_5", "when:1") + event("PROCESS_LOG_STDOUT", "x\nä")
    listen(io.StringIO(events), io.StringIO(), "cache", told.append)
    assert told == []
    assert capsys.readouterr().err == ""

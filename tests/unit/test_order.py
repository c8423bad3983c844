"""What is told stays in order, and goes where it should, at the moments at which it might not."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor import events
from supervisor.states import ProcessStates

from supervisor_cache import publish
from supervisor_cache.core import operations, publication
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.entry import Batch, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.publication import Publication
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import InvalidArgumentsError, InvalidKeyError, LimitExceededError
from supervisor_cache.http.replies import Reply
from supervisor_cache.http.requests import Asked
from supervisor_cache.http.routes import Routes
from supervisor_cache.http.watching import Watchers
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.log import Log
from supervisor_cache.server.loop import LoopHook
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.owners import Processes
from supervisor_cache.server.settings import Settings
from tests.model import START, Bench, FakeClock


def test_a_write_by_an_observer_is_told_to_the_others_after_the_one_that_it_follows() -> None:
    bench = Bench()
    heard: list[tuple[str, int]] = []

    def writer(batch: Batch) -> None:
        heard.append(("writer", batch.revision))
        if batch.mutations[0][1] == "first":
            bench.write(operations.store, "second", 1)

    bench.cache.observers = [writer, lambda batch: heard.append(("reader", batch.revision))]
    bench.write(operations.store, "first", 1)
    first = bench.cache.entry("first").revision
    assert heard == [("writer", first), ("reader", first), ("writer", first + 1), ("reader", first + 1)]


@pytest.mark.parametrize("before", [0, 3])
def test_a_step_that_brings_more_as_the_last_one_does_not_get_in_front_of_who_hears_it_next(before: int) -> None:
    backlog = Backlog(Log())
    done: list[object] = []

    def step(name: object) -> Callable[[], None]:
        return lambda: done.append(name)

    def last() -> None:
        backlog.run([step("nested")])
        done.append("last")

    backlog.run([*map(step, range(before)), last])
    backlog.do_all()
    assert done == [*range(before), "last", "nested"]


def test_what_wakes_a_loop_that_has_ended_writes_into_nobody_elses_file(tmp_path: Path) -> None:
    server = object()
    hook = LoopHook(server, {}, Log(), lambda: None, lambda: None)
    hook.wake()
    hook.close()
    numbers = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(4)]
    try:
        hook.wake()
        hook.close()
        assert (tmp_path / "file").read_bytes() == b""
        assert [os.fstat(number).st_size for number in numbers] == [0] * 4
    finally:
        for number in numbers:
            os.close(number)


@pytest.mark.parametrize("is_told_first", [False, True], ids=["4.2.5", "4.2.0"])
@pytest.mark.parametrize(
    ("told", "before", "after", "pid", "ends"),
    [
        (events.ProcessStateStartingEvent, ProcessStates.EXITED, ProcessStates.STARTING, 0, False),
        (events.ProcessStateRunningEvent, ProcessStates.STARTING, ProcessStates.RUNNING, 7, False),
        (events.ProcessStateStoppingEvent, ProcessStates.RUNNING, ProcessStates.STOPPING, 7, False),
        # It could not be signalled, and goes on.
        (events.ProcessStateUnknownEvent, ProcessStates.STOPPING, ProcessStates.UNKNOWN, 7, False),
        (events.ProcessStateBackoffEvent, ProcessStates.STARTING, ProcessStates.BACKOFF, 7, True),
        (events.ProcessStateBackoffEvent, ProcessStates.STARTING, ProcessStates.BACKOFF, 0, False),
        (events.ProcessStateExitedEvent, ProcessStates.RUNNING, ProcessStates.EXITED, 7, True),
        (events.ProcessStateStoppedEvent, ProcessStates.STOPPING, ProcessStates.STOPPED, 7, True),
        (events.ProcessStateFatalEvent, ProcessStates.BACKOFF, ProcessStates.FATAL, 0, False),
    ],
)
def test_a_process_has_ended_when_it_is_reaped_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
    told: type[events.ProcessStateEvent],
    before: int,
    after: int,
    pid: int,
    ends: bool,
    is_told_first: bool,
) -> None:
    monkeypatch.setattr(events, "callbacks", [])
    group = SimpleNamespace(config=SimpleNamespace(name="web"))
    # Supervisor up to 4.2.2 tells of a state before the process has it.
    state = before if is_told_first else after
    config = SimpleNamespace(name="web_0")
    process: Any = SimpleNamespace(pid=pid, state=state, config=config, group=group, backoff=0)
    ended: list[Owner] = []
    supervisord: Any = SimpleNamespace(process_groups={})
    Processes(supervisord).on_end(Log(), ended.append)
    events.notify(told(process, before))
    assert ended == ([Owner("web:web_0", 7)] if ends else [])


def test_a_publication_may_swap_one_entry_for_another_in_a_full_cache() -> None:
    bench = Bench(Limits(max_entries=2))
    owner = Owner("web:web", 7)
    bench.write(publication.publish, owner, Publication({"x": 1, "y": 1}, []))
    bench.write(publication.publish, owner, Publication({"z": 1}, ["x"]))
    assert bench.cache.keys() == ["process/web:web/y", "process/web:web/z"]
    with pytest.raises(LimitExceededError, match="there would be 3 entries"):
        bench.write(publication.publish, owner, Publication({"w": 1}, []))
    bench.cache.limits = Limits(max_total_bytes=bench.cache.size)
    bench.write(publication.publish, owner, Publication({"w": 1}, ["z"]))
    with pytest.raises(LimitExceededError, match=r"there would be 51 bytes; max_total_bytes is 50"):
        bench.write(publication.publish, owner, Publication({"v": 12}, ["w"]))


@pytest.mark.parametrize(
    ("store", "delete", "error"),
    [
        ({"a": float("nan")}, (), InvalidArgumentsError),
        ({"a": None}, (), InvalidArgumentsError),
        ({"a": b"bytes"}, (), InvalidArgumentsError),
        ({"a": 2**31}, (), InvalidArgumentsError),
        ({1: 2}, (), InvalidArgumentsError),
        ("text", (), InvalidArgumentsError),
        ({}, "letters", InvalidArgumentsError),
        ({}, [5], InvalidKeyError),
        ({"": 1}, (), InvalidKeyError),
        ({"../x": 1}, (), InvalidKeyError),
        ({"a\n": 1}, (), InvalidKeyError),
        ({}, ["a//b"], InvalidKeyError),
    ],
)
def test_what_supervisord_would_drop_is_refused_before_it_is_printed(store: Any, delete: Any, error: type) -> None:
    with pytest.raises(error):
        publication.message("cache", store, delete)


def test_a_publication_is_printed_whole_where_supervisord_reads_it_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SUPERVISOR_ENABLED", raising=False)
    assert publish({"status": "ready"}) is False
    monkeypatch.setenv("SUPERVISOR_ENABLED", "1")
    assert publish({}) is False
    with pytest.raises(LimitExceededError, match=r"the publication has [0-9]+ bytes; at most [0-9]+ are allowed"):
        publish({"status": "x" * 5000})
    assert capfd.readouterr().out == ""
    assert publish({"status": "ready"}) is True
    assert '{"status":"ready"}' in capfd.readouterr().out.replace(" ", "")


def test_what_ends_together_by_the_thousand_leaves_a_history_that_can_be_told() -> None:
    bench = Bench()
    bench.pids["web:web"] = 7
    numbers = range(1500)
    for part in "ab":
        bench.write(operations.store_many, {f"ttl/{part}/{number}": 1 for number in numbers}, {"ttl": 5})
        bench.write(operations.store_many, {f"owner/{part}/{number}": 1 for number in numbers}, {"owner": "web:web"})
    bench.write(operations.store, "other", 1)
    seen = str(bench.cache.revision)
    bench.clock.pass_by(5)
    bench.cache.release(Owner("web:web", 7))
    assert bench.cache.keys() == ["other"]
    told: list[tuple[str, str]] = []
    while page := bench.cache.changes(seen, "", 1000):
        told += [(change.kind, change.key) for change in page]
        seen = str(page[-1].revision)
    kinds = {"ttl": "expire", "owner": "release"}
    assert sorted(told) == sorted(
        (kinds[of], f"{of}/{part}/{number}") for of in kinds for part in "ab" for number in numbers
    )


START_REVISION = int(START * 1_000_000)


class LeapingClock(FakeClock):
    """A clock that leaps ahead when somebody has looked at it so many times more; counts how often that was."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self._leaps_at = -1

    def leap_after(self, looks: int) -> None:
        self._leaps_at = self.looks + looks

    def elapsed(self) -> float:
        if self.looks == self._leaps_at:
            self.pass_by(10)
        self.looks += 1
        return self.up


class Web:
    """The JSON interface of a cache, without a server."""

    def __init__(self) -> None:
        self.clock = LeapingClock()
        log = Log()
        namespace = Namespace("cache", Settings(), log, Backlog(log))
        namespace.cache = self.cache = Cache(MemoryEngine(START), Limits(), self.clock, _nobody, _raise)
        host: Any = SimpleNamespace(shutting_down=lambda: False)
        watchers = Watchers(namespace, log, lambda: None, host.shutting_down)
        self.cache.observers = (namespace.waiting, watchers)
        self._routes = Routes(namespace, "unix_http_server", host, watchers)
        self._watchers = watchers

    def get(self, path: str, query: str) -> Any:
        """Answer what is answered at once, or in a round that comes."""
        replies: list[Reply] = []
        client: Any = SimpleNamespace(respond=replies.append, is_there=lambda: True)
        self._routes.handle(Asked("GET", path, query, {}), client)
        while not replies:
            self._watchers.do_round()
        (reply,) = replies
        assert reply.status == 200
        return json.loads(reply.body)


def _nobody(name: str) -> Owner:
    raise InvalidArgumentsError(f"owner {name} is not running")


def _raise(error: Exception) -> None:
    raise error


def ends_at_every_look(ask: Callable[[Web], object]) -> int:
    """Have an entry end before, after, and at each moment while ``ask`` asks; answer how many there were."""
    looks, most = 0, 1
    while looks <= most:
        web = Web()
        web.cache.write(operations.store, "", "stays", 1)
        web.cache.write(operations.store, "", "ends", 1, {"ttl": 5})
        before = web.clock.looks
        web.clock.leap_after(looks)
        ask(web)
        most = web.clock.looks - before
        looks += 1
    return looks


@pytest.mark.parametrize("wait", ["", "&wait=0.001"])
@pytest.mark.parametrize("caught_up", [True, False])
def test_changes_are_told_once_also_where_an_entry_ends_while_they_are_asked_for(caught_up: bool, wait: str) -> None:
    stored = [(START_REVISION + 1, "stays"), (START_REVISION + 2, "ends")]

    def ask(web: Web) -> None:
        told = stored.copy() if caught_up else []
        since = str(START_REVISION + len(told))
        for pause in (0, 0, 10, 0):
            web.clock.pass_by(pause)
            answer = web.get("v1/changes", f"since={since}{wait}")
            told += [(int(change["revision"]), change["key"]) for change in answer["changes"]]
            since = answer["revision"]
        assert told == [*stored, (START_REVISION + 3, "ends")]

    assert ends_at_every_look(ask) > 5


def test_who_follows_from_the_revision_of_a_listing_is_told_when_one_of_its_entries_ends() -> None:
    def ask(web: Web) -> None:
        listing = web.get("v1/entries", "")
        keys = {entry["key"] for entry in listing["entries"]}
        web.clock.pass_by(10)
        for change in web.get("v1/changes", f"since={listing['revision']}")["changes"]:
            if change["kind"] == "expire":
                keys.discard(change["key"])
        assert keys == {"stays"}

    assert ends_at_every_look(ask) > 5

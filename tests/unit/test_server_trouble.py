"""What goes wrong inside supervisord stays there: it is logged, told to who asked, and nobody else notices."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Conflict, Content, Outcome, Refused, State
from supervisor_cache.core.entry import Batch
from supervisor_cache.engines.sqlite import Options
from supervisor_cache.errors import UnavailableError, UnknownOutcomeError
from supervisor_cache.http import handler
from supervisor_cache.http.replies import Reply
from supervisor_cache.http.requests import Asked
from supervisor_cache.http.routes import Routes
from supervisor_cache.server import guards
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.guards import Policy, RequestGuard
from supervisor_cache.server.log import Log
from supervisor_cache.server.loop import LoopHook
from supervisor_cache.server.mirror import Mirror
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.runtime import Runtime
from supervisor_cache.server.settings import Settings
from tests.database import assert_agreement, rows
from tests.model import Bench


class Lines:
    """A logger of supervisord's kind."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(text)

    warn = critical = info


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def log(lines: Lines) -> Log:
    log = Log()
    log.use(cast("Any", lines))
    return log


def fail(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("defect")


def test_a_round_of_the_loop_that_fails_does_not_end_supervisord(log: Log, lines: Lines) -> None:
    hook = LoopHook(object(), {}, log, fail, lambda: None)
    assert [hook.readable() for _ in range(3)] == [True] * 3
    assert len(lines.said) == 1
    assert "internal error in a round of the loop, contained" in lines.said[0]
    assert "ZeroDivisionError: defect" in lines.said[0]
    hook.close()


@pytest.mark.parametrize(("header", "is_refused"), [(["Host: localhost"], False), (["Origin: http://a.example"], True)])
def test_where_the_guard_cannot_judge_supervisorctl_gets_through_and_a_browser_does_not(
    log: Log, lines: Lines, monkeypatch: pytest.MonkeyPatch, header: list[str], is_refused: bool
) -> None:
    monkeypatch.setattr(guards, "verdict", fail)
    guard = RequestGuard(Policy(1000, (), frozenset({"localhost"}), ("/cache/",), open_inet=True), log)
    request: Any = SimpleNamespace(command="POST", uri="/RPC2", header=header)
    assert guard.match(request) is is_refused
    assert "internal error in the request guard's match" in lines.said[0]


class TestAFactoryThatFails:
    """At a start it ends supervisord. At a reload the processes are stopped by then, and would stay so."""

    def supervisord(self, *, first: bool) -> Any:
        return SimpleNamespace(options=SimpleNamespace(first=first, mood=1, identifier="test", get_socket_map=dict))

    def test_at_the_start_supervisord_ends(self) -> None:
        with pytest.raises(AttributeError):
            Runtime().interface(self.supervisord(first=True), fail)

    def test_at_a_reload_the_cache_refuses_every_call_and_supervisord_goes_on(self, lines: Lines) -> None:
        runtime = Runtime()
        runtime._log.use(cast("Any", lines))
        interface = runtime.interface(self.supervisord(first=False), fail)
        assert "internal error in the RPC interface factory, contained" in lines.said[0]
        assert interface.getAPIVersion() == "2.0"
        for call in (interface.getKeys, interface.getCount, interface.clear):
            with pytest.raises(
                Exception, match="UNAVAILABLE: not configured: internal error; supervisord's log has it"
            ):
                call()


class TestAMirror:
    """It is brought in line in slices, whatever changes meanwhile."""

    @pytest.fixture
    def bench(self) -> Bench:
        bench = Bench()
        bench.write(operations.store_many, {f"k{number:03}": number for number in range(500)})
        return bench

    @pytest.fixture
    def mirror(self, bench: Bench, log: Log, tmp_path: Path) -> Iterator[Mirror]:
        tmp_path.chmod(0o755)
        path = str(tmp_path / "mirror.db")
        mirror = Mirror("cache", path, Options(), bench.clock, bench.cache, log, lambda: None)
        bench.cache.observers = [mirror]
        yield mirror
        mirror.close()

    def until_done(self, mirror: Mirror) -> None:
        while mirror._slices is not None:
            mirror.tick()

    def test_before_it_follows_it_takes_nothing(self, bench: Bench, mirror: Mirror) -> None:
        content = mirror.open()
        assert content is not None
        assert content.entries == {}
        bench.write(operations.store, "new", 1)
        assert rows(Path(mirror.path), "SELECT count(*) FROM entries") == [(0,)]
        mirror.follow()
        self.until_done(mirror)
        assert_agreement(Path(mirror.path), bench.cache.content())

    def test_what_changes_between_two_slices_is_written_as_well(self, bench: Bench, mirror: Mirror) -> None:
        mirror.open()
        mirror.start_over()
        assert mirror._slices is not None
        next(mirror._slices)
        bench.write(operations.store, "k000", "changed")
        bench.write(operations.delete, "k499")
        self.until_done(mirror)
        assert_agreement(Path(mirror.path), bench.cache.content())
        bench.write(operations.store, "later", 1)
        assert_agreement(Path(mirror.path), bench.cache.content())

    def test_one_that_is_closed_between_two_slices_is_brought_in_line_afterwards(
        self, bench: Bench, mirror: Mirror
    ) -> None:
        mirror.open()
        mirror.start_over()
        assert mirror._slices is not None
        next(mirror._slices)
        mirror.close()
        bench.write(operations.store, "meanwhile", 1)
        assert mirror.open() is None
        bench.clock.pass_by(2)
        mirror.tick()
        self.until_done(mirror)
        assert_agreement(Path(mirror.path), bench.cache.content())

    def test_a_slice_that_fails_is_logged_and_made_up_for(
        self, bench: Bench, mirror: Mirror, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror.open()
        with monkeypatch.context() as failing:
            failing.setattr(mirror._engine, "_memory", fail)
            mirror.start_over()
            mirror.tick()
        assert "internal error in what is due in a mirror, contained" in lines.said[0]
        bench.clock.pass_by(2)
        mirror.tick()
        self.until_done(mirror)
        assert_agreement(Path(mirror.path), bench.cache.content())

    def test_a_fresh_copy_is_no_change(self, bench: Bench, mirror: Mirror) -> None:
        mirror.open()
        mirror.follow()
        self.until_done(mirror)
        before = bench.cache.content()
        newest = rows(Path(mirror.path), "SELECT max(revision) FROM changes")
        bench.cache.start_over(Content(dict(before.entries), (), before.revision, before.revision))
        assert rows(Path(mirror.path), "SELECT max(revision) FROM changes") == newest
        mirror.start_over()
        self.until_done(mirror)
        assert_agreement(Path(mirror.path), bench.cache.content())


class LateEngine:
    """Answers when the test has it answer."""

    kind = "late"
    shared = False
    state = State.OK
    detail = ""

    def __init__(self) -> None:
        self.revision = 10
        self.answers: list[Answer[Outcome]] = []

    def commit(self, _batch: Batch) -> Answer[Outcome]:
        self.answers.append(Answer())
        return self.answers[-1]


def test_a_request_that_hits_a_defect_is_answered_and_told_in_the_log(log: Log, lines: Lines) -> None:
    replies: list[Reply] = []
    routes: Any = SimpleNamespace(handle=fail)
    client: Any = SimpleNamespace(respond=replies.append)
    handler.CacheHandler("cache", routes, log)._run(Asked("GET", "v1/entries", "", {}), client)
    assert [reply.status for reply in replies] == [500]
    assert "internal error; supervisord's log has it" in replies[0].body.decode()
    assert "internal error in the JSON interface, contained" in lines.said[0]
    assert "ZeroDivisionError: defect" in lines.said[0]


class TestAnAnswerOverHttp:
    """It may come later than the request, and then be an error."""

    @pytest.fixture
    def engine(self) -> LateEngine:
        return LateEngine()

    @pytest.fixture
    def ask(self, log: Log, engine: LateEngine) -> Callable[[], list[Reply]]:
        namespace = Namespace("cache", Settings(), log, Backlog(log))
        namespace.configure(Settings())
        namespace.cache.engine = engine
        host: Any = SimpleNamespace(shutting_down=lambda: False)
        routes = Routes(namespace, "inet_http_server", host, cast("Any", None))

        def ask() -> list[Reply]:
            replies: list[Reply] = []
            client: Any = SimpleNamespace(respond=replies.append)
            routes.handle(Asked("PUT", "v1/entries/k", "", {"content-type": "application/json"}, b"1"), client)
            return replies

        return ask

    def test_it_waits_for_the_storage(self, ask: Callable[[], list[Reply]], engine: LateEngine) -> None:
        replies = ask()
        before = [*replies]
        engine.answers[-1].resolve(11)
        assert (before, [reply.status for reply in replies]) == ([], [201])
        assert json.loads(replies[0].body) == {"key": "k", "revision": "11"}

    def test_it_is_planned_anew_after_a_conflict(self, ask: Callable[[], list[Reply]], engine: LateEngine) -> None:
        replies = ask()
        engine.answers[-1].resolve(Conflict())
        engine.answers[-1].resolve(12)
        assert [reply.status for reply in replies] == [201]

    @pytest.mark.parametrize(
        ("error", "status"), [(UnavailableError("no"), 503), (UnknownOutcomeError("perhaps"), 504)]
    )
    def test_an_error_says_what_is_known(
        self, ask: Callable[[], list[Reply]], engine: LateEngine, error: Any, status: int
    ) -> None:
        replies = ask()
        engine.answers[-1].resolve(Refused(error))
        assert [reply.status for reply in replies] == [status]


class Channel:
    """A connection of one of supervisord's servers."""

    def __init__(self, takes: int | None) -> None:
        self._takes = takes
        self.ac_out_buffer = b""
        self.producer_fifo: list[object] = []
        self.is_closed = False
        self.connected = True

    def send(self, data: bytes) -> int:
        if self._takes is None:
            raise BrokenPipeError
        return min(self._takes, len(data))

    def push_with_producer(self, producer: object) -> None:
        self.producer_fifo.append(producer)

    def close(self) -> None:
        self.is_closed, self.connected = True, False


def test_a_client_that_goes_away_while_it_is_answered_is_let_go() -> None:
    gone: Any = Channel(None)
    assert handler._send(gone, b"answer") is None
    assert gone.is_closed
    assert gone.producer_fifo == []
    quick: Any = Channel(100)
    assert handler._send(quick, b"answer") is None
    assert not quick.is_closed

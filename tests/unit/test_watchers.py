"""Long polls and streams where there is more to tell than there is time or room for."""

import json
import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.entry import Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import CacheError
from supervisor_cache.http import watching
from supervisor_cache.http.replies import Reply
from supervisor_cache.http.watching import Watchers
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.log import Log
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.settings import Settings
from tests.model import START, FakeClock

LIMITS = Limits(max_key_bytes=64 * 1024, max_total_bytes=2**26)


class Sink:
    """A connection that takes all that it is sent at once."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_open = True

    def send(self, data: bytes) -> None:
        self.sent += data

    def owed(self) -> int:
        return 0

    def is_there(self) -> bool:
        return self.is_open

    def close(self) -> None:
        self.is_open = False

    def events(self) -> list[tuple[str, Any]]:
        """Answer kind and data of each event; a kind is empty where it is not said."""
        found = re.findall(r"(?:event: (\w+)\n)?id: \d+\ndata: (.*)\n\n", self.sent.decode())
        return [(kind, json.loads(data)) for kind, data in found]


class Watched:
    """A cache and who waits for its changes, with a clock for rounds that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.woken = 0
        self.said: list[str] = []
        monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: self.now))
        log = Log()
        log.use(SimpleNamespace(info=self.said.append, warn=self.said.append, critical=self.said.append))  # type: ignore[arg-type]  # a logger
        namespace = Namespace("cache", Settings(), log, Backlog(log))
        self.cache = namespace.cache = Cache(MemoryEngine(START), LIMITS, FakeClock(), _nobody, _raise)
        self.watchers = Watchers(namespace, log, self._wake, lambda: False)
        self.cache.observers = (namespace.waiting, self.watchers)

    def _wake(self) -> None:
        self.woken += 1

    def store(self, *keys: str) -> None:
        self.cache.write(operations.store_many, "test", dict.fromkeys(keys, 1))

    def stream(self, since: int | None = None, prefix: str = "") -> Sink:
        sink = Sink()
        client: Any = SimpleNamespace(open_stream=lambda: sink)
        self.watchers.stream(client, "unix_http_server", prefix, since)
        return sink

    def rounds(self, number: int = 50) -> None:
        for _ in range(number):
            self.now += 0.02
            self.watchers.do_round()


def _nobody(_name: str) -> Owner:
    raise AssertionError("no owner is named here")


def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_who_polls_is_answered_later_where_there_was_no_time_and_nobody_twice(watched: Watched) -> None:
    answered: list[str] = []

    def reply_to(name: str) -> Reply:
        # As much as there is time for in one round.
        watched.now += 0.005
        return Reply(200, name.encode())

    for name in "abc":
        client: Any = SimpleNamespace(is_there=lambda: True, respond=lambda reply: answered.append(reply.body.decode()))
        watched.watchers.poll(client, "unix_http_server", "", 60, partial(reply_to, name))
    watched.store("k")
    watched.woken = 0
    watched.watchers.do_round()
    assert (answered, watched.woken) == (["a"], 1)
    # Everybody else's turn.
    watched.watchers.do_round()
    assert answered == ["a"]
    watched.rounds()
    assert answered == ["a", "b", "c"]


def test_a_stream_is_told_of_large_commits_too_piece_by_piece(watched: Watched) -> None:
    since = watched.cache.revision
    keys = [f"{number:02}" + "k" * 60_000 for number in range(40)]
    for key in keys:
        watched.store(key)
    sink = watched.stream(since)
    watched.rounds()
    assert [data[0]["key"] for _, data in sink.events()] == keys
    assert sink.is_open


def test_a_commit_that_is_more_than_a_stream_may_be_owed_has_it_start_over(watched: Watched) -> None:
    since = watched.cache.revision
    watched.store(*(f"k{number}" for number in range(1700)))
    late, present = watched.stream(since), watched.stream()
    watched.store(*(f"l{number}" for number in range(1700)))
    watched.rounds()
    newest = str(watched.cache.revision)
    assert late.events()[-1] == present.events()[-1] == ("reset", {"revision": newest})


def test_a_stream_whose_changes_cannot_be_told_is_closed_and_the_log_says_why(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise CacheError("they are not to be had")

    since = watched.cache.revision
    watched.store("k")
    sink = watched.stream(since)
    monkeypatch.setattr(watched.cache, "changes", refuse)
    watched.rounds()
    assert not sink.is_open
    assert watched.said == ["supervisor_cache: a stream of cache is closed: they are not to be had"]

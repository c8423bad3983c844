"""Clients that wait: how soon they learn of a change, and what they cost everybody else."""

import os
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import loads

from tests.harness import Supervisord, running

from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import in_turns, milliseconds, ratio
from benchmarks.wire import Wire, body, held, request

_PLUGIN = """
[rpcinterface:deferral]
supervisor.rpcinterface_factory = benchmarks.deferral_plugin:make_deferral_rpcinterface
"""
_ROOT = Path(__file__).resolve().parent.parent

_MANY = 100
_BURST = 5
# Beyond the second for which supervisord's loop sleeps.
_LONGEST_PAUSE, _SHORTEST_PAUSE = 1.2, 0.001
# Well beyond the second that a bare deferral takes.
_LOST_SECONDS = 10

_MEDIAN, _LATE = Goal(Side.AT_MOST, 3), Goal(Side.AT_MOST, 20)

_KEY = "<param><value><string>{}</string></value></param>"
_INT = "<param><value><int>{}</int></value></param>"
_GET_STATE = request(body("supervisor.getState"))


def _store(key: str) -> bytes:
    return request(body("cache.store", _KEY.format(key) + _KEY.format("2026.11.3")))


def _wait(since: int, seconds: int, prefix: str) -> bytes:
    return request(body("cache.wait", _KEY.format(since) + _INT.format(seconds) + _KEY.format(prefix)))


def wait_for_nothing(since: int) -> bytes:
    """Build the request of a client that waits for what never comes."""
    return _wait(since, 1500, "other/")


class _Way(NamedTuple):
    """A way to wait for changes.

    Attributes:
        change: The request that makes one.
        newest: The request that asks for the revision of the newest.
        wait: Builds the request that waits for one after a revision.
        wait_for_nothing: Builds one that is never answered.
        revision: Takes the revision from an answer.
    """

    change: bytes
    newest: bytes
    wait: Callable[[int], bytes]
    wait_for_nothing: Callable[[int], bytes]
    revision: Callable[[Any], int]


def _revision(answer: Any) -> int:
    return int(answer["revision"] if isinstance(answer, dict) else answer)


_OURS = _Way(
    change=_store("watched/release"),
    newest=request(body("cache.getRevision")),
    wait=lambda since: _wait(since, 60, "watched/"),
    wait_for_nothing=wait_for_nothing,
    revision=_revision,
)
_BARE = _Way(
    change=request(body("deferral.change")),
    newest=request(body("deferral.newest")),
    wait=lambda since: request(body("deferral.wait", _INT.format(since))),
    wait_for_nothing=lambda _since: request(body("deferral.wait", _INT.format(2**31 - 1))),
    revision=_revision,
)


class _Learned(NamedTuple):
    revision: int
    when: float


class _Watch:
    """One client that waits again as soon as it has an answer, in a thread, and one that makes changes."""

    def __init__(self, path: Path, way: _Way) -> None:
        self._way = way
        self._writer, self._waiter = Wire(path), Wire(path)
        self._newest = self.newest()
        self._learned = _Learned(self._newest, 0.0)
        self._told: queue.SimpleQueue[_Learned] = queue.SimpleQueue()
        self._ends = False
        self._thread = threading.Thread(target=self._wait, args=(self._newest,), daemon=True)
        self._thread.start()

    def newest(self) -> int:
        """Ask for the newest revision."""
        return self._way.revision(loads(self._writer.call(self._way.newest).decode())[0][0])

    def _wait(self, since: int) -> None:
        while not self._ends:
            reply = self._waiter.call(self._way.wait(since))
            when = time.perf_counter()
            since = self._way.revision(loads(reply.decode())[0][0])
            self._told.put(_Learned(since, when))

    def changes(self, count: int) -> list[float]:
        """Make ``count`` changes back to back; answer after how many seconds the other one had learned of each."""
        sent = []
        for _ in range(count):
            sent.append(time.perf_counter())
            self._writer.call(self._way.change)
        return [self._arrival() - start for start in sent]

    def _arrival(self) -> float:
        self._newest += 1
        while self._learned.revision < self._newest:
            self._learned = self._told.get(timeout=_LOST_SECONDS)
        return self._learned.when

    def close(self) -> None:
        """End both."""
        self._ends = True
        self.changes(1)
        self._thread.join()
        counted, self._newest = self._newest, self.newest()
        self._writer.close()
        self._waiter.close()
        if counted != self._newest:
            raise RuntimeError(f"revisions are not consecutive: {counted} was counted, {self._newest} is the newest")


class _Moments(NamedTuple):
    """When changes come.

    Attributes:
        what: In words.
        pause: Answers how many seconds to wait before the next.
        changes: How many come back to back.
    """

    what: str
    pause: Callable[[random.Random], float]
    changes: int


def _as_many_short_as_long(chance: random.Random) -> float:
    pause: float = _SHORTEST_PAUSE * (_LONGEST_PAUSE / _SHORTEST_PAUSE) ** chance.random()
    return pause


_MOMENTS = (
    _Moments("at random moments", _as_many_short_as_long, 1),
    _Moments("in bursts", lambda chance: chance.uniform(0, 0.05), _BURST),
)


def _supervisord() -> AbstractContextManager[Supervisord]:
    return running({"cache": {"max_watchers": "400"}}, more=_PLUGIN, environment={"PYTHONPATH": str(_ROOT)})


@contextmanager
def _watching(way: _Way, waiting: int) -> Iterator[_Watch]:
    """Have ``waiting`` clients wait, all but one for what never comes."""
    with (
        _supervisord() as supervisord,
        closing(_Watch(supervisord.socket_path, way)) as watch,
        held(supervisord.socket_path, waiting - 1, way.wait_for_nothing(watch.newest())),
    ):
        yield watch


def _samples(way: _Way, moments: _Moments, waiting: int, count: int) -> list[float]:
    chance = random.Random(1)
    samples = []
    with _watching(way, waiting) as watch:
        for _ in range(count // moments.changes):
            time.sleep(moments.pause(chance))
            samples += watch.changes(moments.changes)
    return samples


def _late(samples: Sequence[float]) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[-1] * 1000


def _figures(moments: _Moments, waiting: int, ours: list[float], bare: list[float]) -> Iterator[Figure]:
    what = f"{moments.what}, {waiting} waiting"
    beside = f"bare deferral: median {milliseconds(bare):.0f} ms, longest {max(bare) * 1000:.0f} ms"
    yield Figure(f"{what}: median", milliseconds(ours), "ms", _MEDIAN, beside)
    longest = f"longest {max(ours) * 1000:.1f} ms"
    yield Figure(f"{what}: 99th percentile", _late(ours), "ms", _LATE, longest)


def until_the_answer(*, quick: bool) -> Section:
    """From a change to the answer of ``wait``, beside Supervisor's bare deferral."""
    count, bare_count = (100, 5) if quick else (1000, 25)
    figures: list[Figure] = []
    for waiting in (1, _MANY):
        for moments in _MOMENTS:
            ours = _samples(_OURS, moments, waiting, count)
            bare = _samples(_BARE, moments, waiting, bare_count)
            figures += _figures(moments, waiting, ours, bare)
    method = (
        "From just before a client sends `store` until another one, which waits again as soon as it has an answer, has "
        f"learned of it; {count} changes each. At random moments: after pauses of 1 ms to 1.2 s, as many short as "
        f"long. In bursts: {_BURST} back to back. All but one of {_MANY} wait under another prefix. Bare deferral: a "
        f"method with a `delay` of 0.5 s that nothing wakes; {bare_count} changes."
    )
    return Section("From a change to the answer of wait", method, figures)


def _cpu_seconds(supervisord: Supervisord) -> float:
    fields = Path(f"/proc/{supervisord.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_percent(supervisords: Sequence[Supervisord], seconds: float) -> list[float]:
    """Answer how many percent of a core each takes while nothing is asked of it."""
    before, start = [_cpu_seconds(each) for each in supervisords], time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - start
    return [(_cpu_seconds(each) - taken) / passed * 100 for each, taken in zip(supervisords, before, strict=True)]


def beside_idle(*, quick: bool) -> Section:
    """What 100 waiting clients cost a ``store`` and a core, beside 100 idle connections."""
    turns, seconds = (400, 3) if quick else (4000, 10)
    with (
        _supervisord() as waited_on,
        _supervisord() as idle,
        closing(Wire(waited_on.socket_path)) as one,
        closing(Wire(idle.socket_path)) as other,
        held(waited_on.socket_path, _MANY, _OURS.wait_for_nothing(int(waited_on.unix().cache.getRevision()))),
        held(idle.socket_path, _MANY, _GET_STATE),
    ):
        store = _store("release")
        waiting, beside = in_turns([lambda: one.call(store), lambda: other.call(store)], turns)
        percent, idle_percent = _cpu_percent([waited_on, idle], seconds)
        still_waiting = waited_on.unix().cache.getStats()["watchers"]
    if still_waiting != _MANY:
        raise RuntimeError(f"{still_waiting} clients are waiting at the end, {_MANY} should be")
    detail = f"{milliseconds(waiting):.3f} ms beside {milliseconds(beside):.3f} ms"
    figures = [
        Figure("store, 100 waiting / 100 idle", ratio(waiting, beside), "", Goal(Side.AT_MOST, 1.5), detail),
        Figure(
            "supervisord, 100 waiting, no changes",
            percent,
            "% of a core",
            Goal(Side.AT_MOST, 1),
            f"{idle_percent:.2f} % with 100 idle",
        ),
    ]
    method = (
        f"Two supervisords, asked call by call in turns, {turns} each, requests built beforehand; medians. The waiting "
        f"clients wait under another prefix. Then nothing is asked for {seconds} s: user and system time of both."
    )
    return Section("What waiting clients cost", method, figures)

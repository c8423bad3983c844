"""How late a process that has crashed is restarted, with and without the plugin, idle and under load."""

import multiprocessing
import os
import random
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.harness import Supervisord, program

from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.waiting import wait_for_nothing
from benchmarks.wire import Wire, body, held, request

_MORTAL = Path(__file__).with_name("mortal.py")
_SQLITE = {"cache": {"storage": "sqlite:cache.db", "http": "true", "max_watchers": "400"}}
_LOST_SECONDS = 30
# Idle, a restart takes up to a second, so several supervisords are idle at once; under load, one is asked by all.
_IDLE, _LOADED_PROGRAMS = 8, 3
_IDLE_PAUSE, _LOADED_PAUSE = 0.5, 0.1
_CLIENTS, _WAITING, _STREAMS, _LISTED = 8, 100, 4, 2000
_RESAMPLES, _SURE = 2000, 0.95

_GET_STATE, _GET_ALL = request(body("supervisor.getState")), request(body("supervisor.getAllProcessInfo"))
_STRING = "<param><value><string>{}</string></value></param>"
_PAGE = request(
    body("cache.getEntries", _STRING.format("listed/") * 2 + "<param><value><int>500</int></value></param>")
)


class _Mortal:
    """A supervised process, which says when it has started."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / f"{name}.started"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.settimeout(_LOST_SECONDS)
        self._pid = 0

    def lines(self) -> str:
        """Describe it in the configuration file."""
        return program(self.name, f"{sys.executable} -IS {_MORTAL} {self._path}")

    def wait(self) -> float:
        """Wait until it has started; answer when."""
        pid, started = self._socket.recv(100).decode().split()
        self._pid = int(pid)
        return float(started)

    def restart_seconds(self) -> float:
        """Kill it; answer how many seconds later its successor has started."""
        killed = time.monotonic()
        os.kill(self._pid, signal.SIGKILL)
        return self.wait() - killed

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


class _Host(NamedTuple):
    supervisord: Supervisord
    mortals: list[_Mortal]


@contextmanager
def _host(sections: dict[str, dict[str, str]], programs: int) -> Iterator[_Host]:
    """Run a supervisord with so many processes."""
    with ExitStack() as stack:
        supervisord = stack.enter_context(_made(sections))
        mortals = [
            stack.enter_context(closing(_Mortal(supervisord.folder, f"mortal{number}"))) for number in range(programs)
        ]
        supervisord.more = "".join(mortal.lines() for mortal in mortals)
        supervisord.start()
        for mortal in mortals:
            mortal.wait()
        yield _Host(supervisord, mortals)


@contextmanager
def _made(sections: dict[str, dict[str, str]]) -> Iterator[Supervisord]:
    supervisord = Supervisord(sections)
    try:
        yield supervisord
    finally:
        supervisord.close()


def _kill(mortal: _Mortal, pause: float, end: float, seed: int, found: list[float], errors: list[Exception]) -> None:
    """Kill one process at random moments until the end."""
    chance = random.Random(seed)
    try:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0, pause))
            found.append(mortal.restart_seconds())
    except Exception as error:  # noqa: BLE001 - raised by who waits
        errors.append(error)


def _killed(sides: Sequence[Sequence[_Host]], pause: float, seconds: float, seed: int) -> list[list[float]]:
    """Kill the processes of all hosts of all sides at the same time; answer how late each restart was, by side."""
    found: list[list[float]] = [[] for _ in sides]
    errors: list[Exception] = []
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_kill, args=(mortal, pause, end, seed + place, found[side], errors))
        for side, hosts in enumerate(sides)
        for place, mortal in enumerate(mortal for host in hosts for mortal in host.mortals)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


# The load


def _call(path: Path, contents: Sequence[bytes]) -> None:
    """Make these calls without pause, until this process is ended."""
    with closing(Wire(path)) as wire:
        while True:
            for content in contents:
                wire.call(content)


def _read_stream(path: Path) -> None:
    """Read all that a stream tells, until this process is ended."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        stream.sendall(b"GET /cache/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while stream.recv(1 << 16):
            pass


def _stores(client: int) -> list[bytes]:
    """Build what one client writes: one entry at a time, and now and then fifty at once."""
    single = [
        request(body("cache.store", _STRING.format(f"client/{client}/{number}") + _STRING.format("2026.11.3")))
        for number in range(50)
    ]
    members = "".join(
        f"<member><name>many/{client}/{number}</name><value><int>{number}</int></value></member>"
        for number in range(50)
    )
    many = request(body("cache.storeMany", f"<param><value><struct>{members}</struct></value></param>"))
    return [*single[:25], many, *single[25:], many]


@contextmanager
def _processes(targets: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Run each of these in a process of its own."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, daemon=True) for target in targets]
    for process in processes:
        process.start()
    try:
        yield
        if not all(process.is_alive() for process in processes):
            raise RuntimeError("a client has ended")
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def _asked(supervisord: Supervisord) -> Iterator[None]:
    """Have clients ask for states without pause."""
    ask = partial(_call, supervisord.socket_path, [_GET_ALL, _GET_STATE])
    with _processes([ask] * _CLIENTS):
        yield


@contextmanager
def _used(supervisord: Supervisord) -> Iterator[None]:
    """Have clients do all at once that a cache is there for."""
    path = supervisord.socket_path
    cache = supervisord.unix().cache
    cache.storeMany({f"listed/{number:04}": "2026.11.3" for number in range(_LISTED)})
    writers = [partial(_call, path, _stores(client)) for client in range(_CLIENTS)]
    streams = [partial(_read_stream, path)] * _STREAMS
    with (
        held(path, _WAITING, wait_for_nothing(int(cache.getRevision()))),
        _processes([*writers, *streams, partial(_call, path, [_PAGE])]),
    ):
        yield
        watchers = cache.getStats()["watchers"]
    if watchers != _WAITING + _STREAMS:
        raise RuntimeError(f"{watchers} clients are watching at the end, {_WAITING + _STREAMS} should be")


# What it comes to


def _late(samples: Sequence[float]) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[-1]


def _interval(
    measure: Callable[[Sequence[float]], float], ours: Sequence[float], theirs: Sequence[float]
) -> tuple[float, float]:
    """Answer between what the difference of two measures is, surely enough, by drawing from the samples again."""
    chance = random.Random(1)
    found = sorted(
        measure(chance.choices(ours, k=len(ours))) - measure(chance.choices(theirs, k=len(theirs)))
        for _ in range(_RESAMPLES)
    )
    outside = int(_RESAMPLES * (1 - _SURE) / 2)
    return found[outside], found[-outside - 1]


def _beyond_chance(
    what: str, measure: Callable[[Sequence[float]], float], ours: Sequence[float], theirs: Sequence[float]
) -> Figure:
    """Answer what is left of a difference when chance is given all that it can explain."""
    low, high = (value * 1000 for value in _interval(measure, ours, theirs))
    mine, other = measure(ours) * 1000, measure(theirs) * 1000
    detail = (
        f"{mine:.1f} ms beside {other:.1f} ms; {_SURE:.0%} interval of the difference {low:.1f} to {high:.1f} ms, "
        f"{'holds 0' if low <= 0 <= high else 'does not hold 0'}"
    )
    return Figure(
        f"idle, later with the plugin: {what}, beyond chance", max(0.0, low), "ms", Goal(Side.AT_MOST, 0), detail
    )


def _beyond_idle(
    what: str,
    measure: Callable[[Sequence[float]], float],
    idle: Sequence[float],
    asked: Sequence[float],
    used: Sequence[float],
) -> Figure:
    detail = (
        f"{measure(used) * 1000:.1f} ms; idle without the plugin {measure(idle) * 1000:.1f} ms, "
        f"asked for states without the plugin {measure(asked) * 1000:.1f} ms"
    )
    late = (measure(used) - measure(idle)) * 1000
    return Figure(f"full load, later than idle without the plugin: {what}", late, "ms", Goal(Side.AT_MOST, 50), detail)


def restarting(*, quick: bool) -> Section:
    """From the death of a process to the start of its successor."""
    rounds, idle_seconds, loaded_seconds = (1, 6, 3) if quick else (3, 27, 9)
    bare: list[float] = []
    ours: list[float] = []
    asked: list[float] = []
    used: list[float] = []
    with ExitStack() as stack:
        idle = [[stack.enter_context(_host(sections, 1)) for _ in range(_IDLE)] for sections in ({}, _SQLITE)]
        asked_host, used_host = (stack.enter_context(_host(sections, _LOADED_PROGRAMS)) for sections in ({}, _SQLITE))
        for number in range(rounds):
            found = _killed(idle, _IDLE_PAUSE, idle_seconds, number * 100)
            bare += found[0]
            ours += found[1]
            with _asked(asked_host.supervisord):
                asked += _killed([[asked_host]], _LOADED_PAUSE, loaded_seconds, number * 100)[0]
            with _used(used_host.supervisord):
                used += _killed([[used_host]], _LOADED_PAUSE, loaded_seconds, number * 100)[0]
    measures = (("median", statistics.median), ("99th percentile", _late))
    figures = [
        *(_beyond_chance(what, measure, ours, bare) for what, measure in measures),
        *(_beyond_idle(what, measure, bare, asked, used) for what, measure in measures),
    ]
    idle_for, loaded_for = rounds * idle_seconds, rounds * loaded_seconds
    method = (
        "From just before a process is killed to the first statement of its successor, a Python without `site`; "
        f"`startsecs=0`. Idle, without the plugin and with it, on SQLite: {_IDLE} supervisords each with one process, "
        f"all at the same time, for {idle_for} s; a process is killed up to {_IDLE_PAUSE} s after its start. "
        f"Loaded: one supervisord with {_LOADED_PROGRAMS} processes, for {loaded_for} s, each killed up to "
        f"{_LOADED_PAUSE} s after its start; without the plugin {_CLIENTS} clients ask for states without pause, with "
        f"it {_CLIENTS} clients write without pause, at times 50 entries at once, {_WAITING} wait, {_STREAMS} read "
        f"streams, and one lists 500 entries at a time. In turns, {rounds} of each. Where nothing happens, "
        "Supervisor's loop sleeps up to a second, and who has died waits for it, at times twice. "
        f"Intervals: {_RESAMPLES} bootstrap samples."
    )
    return Section("How late a crashed process is restarted", method, figures)

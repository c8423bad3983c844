"""The JSON interface beside a trivial handler and beside XML-RPC, and how soon a stream tells of a change."""

import json
import os
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.harness import Supervisord, running

from benchmarks.calls import figure
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import in_turns, milliseconds, ratio
from benchmarks.wire import Wire, body, request

_PLUGIN = """
[rpcinterface:trivial]
supervisor.rpcinterface_factory = benchmarks.trivial_plugin:make_trivial_rpcinterface
"""
_ROOT = Path(__file__).resolve().parent.parent
_ENTRIES = 10_000
_PAGE = 500
_STREAMS = 100
_RETURNING = 60
_MISSED = 9_000
_GET_STATE = request(body("supervisor.getState"))


@contextmanager
def _serving(**options: str) -> Iterator[Supervisord]:
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    sections = {"cache": {"http": "true", **options}}
    with running(sections, _PLUGIN, environment={"PYTHONPATH": path}) as supervisord:
        yield supervisord


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def one_value(*, quick: bool) -> Section:
    """``GET v1/values/KEY`` beside a trivial handler, and beside an XML-RPC ``fetch``."""
    turns = 400 if quick else 4000
    with _serving() as supervisord, closing(Wire(supervisord.socket_path)) as wire:
        supervisord.unix().cache.store("release", "2026.11.3")
        fetch = request(body("cache.fetch", "<param><value><string>release</string></value></param>"))
        value, trivial = _get("/cache/v1/values/release"), _get("/trivial")
        calls = [lambda: wire.call(value), lambda: wire.call(trivial), lambda: wire.call(fetch)]
        ours, theirs, rpc = in_turns(calls, turns)
    return Section(
        "One value over HTTP",
        f"Requests built beforehand on one connection over the unix socket, in turns, {turns} each; medians. "
        "The trivial handler answers the same bytes.",
        [
            figure("GET v1/values/KEY / a trivial handler", 1.25, ours, theirs),
            figure("GET v1/values/KEY / XML-RPC fetch", 0.7, ours, rpc),
        ],
    )


def all_entries(*, quick: bool) -> Section:
    """10,000 entries in pages beside ``system.multicall`` of as many ``fetch``, and who has to wait meanwhile."""
    rounds = 2 if quick else 8
    with _serving() as supervisord:
        cache = supervisord.unix().cache
        keys = [f"config/service/{number:05}" for number in range(_ENTRIES)]
        for start in range(0, _ENTRIES, _PAGE):
            cache.storeMany({key: f"value of {key}" for key in keys[start : start + _PAGE]})
        calls = [
            [{"methodName": "cache.fetch", "params": [key]} for key in keys[start : start + _PAGE]]
            for start in range(0, _ENTRIES, _PAGE)
        ]
        proxy = supervisord.unix()
        ours, theirs = [], []
        with closing(Wire(supervisord.socket_path)) as wire, _asking(supervisord) as longest:
            for _ in range(rounds):
                began = time.perf_counter()
                for call in calls:
                    proxy.system.multicall(call)
                theirs.append(time.perf_counter() - began)
                longest.clear()
                began = time.perf_counter()
                count = _read_all(wire)
                ours.append(time.perf_counter() - began)
                longest.keep()
                if count != _ENTRIES:
                    raise RuntimeError(f"{count} entries")
    detail = f"{milliseconds(ours):.0f} ms beside {milliseconds(theirs):.0f} ms"
    return Section(
        "10,000 entries over HTTP",
        f"`v1/entries` in pages of {_PAGE}, read as JSON, beside `system.multicall` of as many `fetch`, {_PAGE} at a "
        f"time; {rounds} rounds, medians. Another client asks for the state all the while.",
        [
            Figure("times as fast", ratio(theirs, ours), "x", Goal(Side.AT_LEAST, 8), detail),
            Figure("longest wait of another client", longest.kept * 1000, "ms", Goal(Side.AT_MOST, 50)),
        ],
    )


def _read_all(wire: Wire) -> int:
    count = 0
    after: str | None = ""
    while after is not None:
        page = json.loads(wire.call(_get(f"/cache/v1/entries?limit={_PAGE}&after={after}")))
        count += len(page["entries"])
        after = page["next"]
    return count


class _Longest:
    """The longest wait since it was cleared, and of those that were kept."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.kept = 0.0

    def clear(self) -> None:
        self.seconds = 0.0

    def keep(self) -> None:
        self.kept = max(self.kept, self.seconds)


@contextmanager
def _asking(supervisord: Supervisord) -> Iterator[_Longest]:
    longest, ends = _Longest(), threading.Event()

    def ask() -> None:
        with closing(Wire(supervisord.socket_path)) as wire:
            while not ends.wait(0.002):
                start = time.perf_counter()
                wire.call(_GET_STATE)
                longest.seconds = max(longest.seconds, time.perf_counter() - start)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield longest
    finally:
        ends.set()
        thread.join()


def to_the_stream(*, quick: bool) -> Section:
    """From the call of ``store`` to the event on a stream, with one stream open and with many."""
    turns = 30 if quick else 300
    figures = []
    for number in (1, _STREAMS):
        with _serving(max_watchers=str(2 * _STREAMS)) as supervisord, ExitStack() as stack:
            streams = [stack.enter_context(closing(_Stream(supervisord.socket_path))) for _ in range(number)]
            proxy: Any = supervisord.unix()
            first, last = [], []
            for turn in range(turns):
                time.sleep(0.003)
                start = time.perf_counter()
                caller = threading.Thread(target=proxy.cache.store, args=("k", turn))
                caller.start()
                times = _arrivals(streams)
                caller.join()
                first.append(times[0] - start)
                last.append(times[-1] - start)
        detail = f"the last of {number} after {milliseconds(last):.1f} ms; 99th percentile {_late(first):.1f} ms"
        figures.append(
            Figure(f"{number} open, median", statistics.median(first) * 1000, "ms", Goal(Side.AT_MOST, 3), detail)
        )
    return Section(
        "From a change to the stream",
        f"From the call of `store` to the event, the call included, over unix sockets; {turns} changes.",
        figures,
    )


def many_that_come_back(*, quick: bool) -> Section:
    """Streams that are opened at once, each with thousands of changes to catch up with, and who has to wait."""
    rounds = 1 if quick else 5
    waits, took = [], []
    with _serving(max_watchers=str(2 * _STREAMS)) as supervisord:
        cache = supervisord.unix().cache
        since = cache.getRevision()
        for number in range(_MISSED):
            cache.store(f"config/service/{number:05}", f"value {number}")
        last = f"id: {cache.getRevision()}\n".encode()
        with _asking(supervisord) as longest:
            for _ in range(rounds):
                time.sleep(0.2)
                longest.clear()
                start = time.perf_counter()
                with ExitStack() as stack:
                    path = f"/cache/v1/stream?since={since}"
                    _read_until(
                        [
                            stack.enter_context(closing(_Stream(supervisord.socket_path, path)))
                            for _ in range(_RETURNING)
                        ],
                        last,
                    )
                    took.append(time.perf_counter() - start)
                waits.append(longest.seconds)
    return Section(
        "Streams that come back at once",
        f"{_RETURNING} streams over a unix socket, each {_MISSED:,} changes behind; {rounds} rounds. "
        "Another client asks for the state all the while.",
        [
            Figure("longest wait of another client", max(waits) * 1000, "ms", Goal(Side.AT_MOST, 50)),
            Figure("until all are told all", statistics.median(took), "s"),
        ],
    )


def _read_until(streams: list["_Stream"], last: bytes) -> None:
    """Take from each stream until it has told of the revision in ``last``."""
    tails = {stream.socket: b"" for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ)
        while selector.get_map():
            found = selector.select(30)
            if not found:
                raise RuntimeError("a stream has told nothing")
            for key, _ in found:
                connection: Any = key.fileobj
                seen = tails[connection] + connection.recv(1 << 20)
                if last in seen:
                    selector.unregister(connection)
                tails[connection] = seen[-len(last) :]


def _late(samples: list[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)] * 1000


class _Stream:
    """One open stream."""

    def __init__(self, path: Path, target: str = "/cache/v1/stream") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.socket.sendall(_get(target))
        data = b""
        while b"retry" not in data:
            data += self.socket.recv(4096)

    def close(self) -> None:
        self.socket.close()


def _arrivals(streams: list[_Stream]) -> list[float]:
    """Wait until each stream has told something; answer when each did, in order."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ)
        while selector.get_map():
            found = selector.select(30)
            if not found:
                raise RuntimeError("a stream has told nothing")
            now = time.perf_counter()
            for key, _ in found:
                key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket
                selector.unregister(key.fileobj)
                times.append(now)
    return times

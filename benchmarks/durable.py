"""Storage in SQLite beside memory: one ``store``, the start, and a slow disk."""

import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.harness import Supervisord, running, until
from tests.model import Bench

from benchmarks.calls import STORE, figure
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import in_turns, milliseconds, seconds
from benchmarks.wire import Wire
from supervisor_cache.core import operations
from supervisor_cache.core.limits import Limits

_ENTRIES = 10_000
_SQLITE = {"cache": {"storage": "sqlite:cache.db"}}
_FULL = {"cache": {"storage": "sqlite:cache.db", "synchronous": "full"}}
_SYNC_SECONDS = 0.4
_WRITERS = 8


def beside_memory(*, quick: bool) -> Section:
    """``store`` on SQLite beside ``store`` in memory, each in a supervisord of its own."""
    turns = 400 if quick else 4000
    with (
        running(_SQLITE) as durable,
        running(_FULL) as full,
        running() as memory,
        closing(Wire(durable.socket_path)) as durable_wire,
        closing(Wire(memory.socket_path)) as memory_wire,
    ):
        proxies = [supervisord.unix() for supervisord in (durable, memory, full)]

        def store(proxy: Any) -> Any:
            return lambda: proxy.cache.store("release", "2026.11.3")

        ours, theirs = in_turns([store(proxy) for proxy in proxies[:2]], turns)
        wires = in_turns([lambda: durable_wire.call(STORE), lambda: memory_wire.call(STORE)], turns)
        synchronous, beside = in_turns([store(proxies[2]), store(proxies[1])], turns // 10)
    figures = [
        figure("store on SQLite / in memory", 1.15, ours, theirs),
        figure("the same, requests built beforehand", None, *wires),
        figure("the same, synchronous = full", None, synchronous, beside),
    ]
    method = f"Two supervisords, asked call by call in turns, {turns} each; medians. `synchronous = normal`."
    return Section("A store on SQLite beside one in memory", method, figures)


def loading(*, quick: bool) -> Section:
    """Reading 10,000 entries and as many changes at start."""
    repetitions = 3 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Limits(), Path(folder) / "cache.db")
        for start in range(0, _ENTRIES, 1000):
            items = {f"host/{number:05}/release": f"2026.11.{number}" for number in range(start, start + 1000)}
            bench.write(operations.store_many, items)
        short = [seconds(bench.reopen) for _ in range(repetitions)]
        for number in range(_ENTRIES):
            bench.write(operations.store, f"host/{number:05}/release", "2026.11.4")
        many = [seconds(bench.reopen) for _ in range(repetitions)]
        bench.write(operations.clear)
        for start in range(250):
            bench.write(operations.store, f"large/{start}", "x" * 64_000)
        large = [seconds(bench.reopen) for _ in range(repetitions)]
        bench.close()
    goal = Goal(Side.AT_MOST, 200)
    figures = [
        Figure("10,000 short entries", milliseconds(short), "ms", goal, f"longest {max(short) * 1000:.0f} ms"),
        Figure("the same, and 10,000 changes", milliseconds(many), "ms", goal, f"longest {max(many) * 1000:.0f} ms"),
        Figure("16 MB in 250 entries", milliseconds(large), "ms", goal, f"longest {max(large) * 1000:.0f} ms"),
    ]
    method = f"In process: closed, opened, checked and read, {repetitions} times; medians."
    return Section("Opening a database", method, figures)


def _storm(supervisord: Supervisord, over: threading.Event) -> int:
    """Store without pause until it is over; answer how often."""
    cache = supervisord.unix().cache
    count = 0
    while not over.is_set():
        cache.store(f"key/{count % 100}", count)
        count += 1
    return count


def slow_disk(*, quick: bool) -> Section:
    """How long others wait in a storm of writes with a disk that takes 400 ms for each sync."""
    length = 2.0 if quick else 15.0
    if shutil.which("strace") is None:
        return Section("A disk that takes 400 ms for each sync", "Not measured: strace is missing.", [])
    waits: dict[str, list[float]] = {}
    syncs = 0
    for name, delayed in (("as it is", False), ("400 ms for each sync", True)):
        with running(_SQLITE) as supervisord:
            told = supervisord.folder / "strace"
            inject = f",delay_enter={int(_SYNC_SECONDS * 1e6)}" if delayed else ""
            command = ["strace", "-f", "-p", str(supervisord.pid), "-e", "trace=fdatasync,fsync", "-o", str(told)]
            if inject:
                command += ["-e", f"inject=fdatasync,fsync:{inject.removeprefix(',')}"]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
                until(lambda path=told: path.exists(), "strace is attached")  # type: ignore[misc]
                time.sleep(0.5)
                over = threading.Event()
                writers = [threading.Thread(target=_storm, args=(supervisord, over)) for _ in range(_WRITERS)]
                for writer in writers:
                    writer.start()
                proxy = supervisord.unix().supervisor
                end = time.monotonic() + length
                waits[name] = []
                while time.monotonic() < end:
                    waits[name].append(seconds(proxy.getState))
                over.set()
                for writer in writers:
                    writer.join()
                tracer.terminate()
            syncs = told.read_text().count("DELAYED") if delayed else syncs
    usual, slow = waits.values()
    figures = [
        Figure(
            "longest wait for supervisor.getState",
            max(slow) * 1000,
            "ms",
            Goal(Side.AT_MOST, 100),
            f"median {statistics.median(slow) * 1000:.1f} ms, {syncs} slow syncs; with the disk as it is: longest "
            f"{max(usual) * 1000:.1f} ms, median {statistics.median(usual) * 1000:.1f} ms",
        )
    ]
    method = (
        f"{_WRITERS} clients store without pause for {length:g} s while another one asks; `synchronous = normal`. Each "
        "sync of supervisord is delayed by strace."
    )
    return Section("A disk that takes 400 ms for each sync", method, figures)

"""A lookup in a process of the same host: `open_local` beside a dictionary and beside what others use."""

import contextlib
import importlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.harness import free_port, running, until

from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import seconds
from supervisor_cache import open_local

_KEYS = [f"host/{number:04}/release" for number in range(1000)]
_VALUE = "2026.11.3"
_SQLITE = {"cache": {"storage": "sqlite:cache.db"}}
_LOOP = "for key in keys: mapping.get(key)"


def nanoseconds(mapping: Any, keys: list[str], repetitions: int, loop: str = _LOOP) -> float:
    """Answer the median over ``repetitions`` of what one ``get`` takes, the loop included."""
    times = timeit.repeat(loop, globals={"mapping": mapping, "keys": keys}, number=1, repeat=repetitions)
    return statistics.median(times) / len(keys) * 1e9


def _module(name: str) -> Any:
    """Import a peer; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_UWSGI = """
import statistics, timeit, uwsgi
keys = [f"host/{number:04}/release" for number in range(1000)]
for key in keys:
    uwsgi.cache_set(key, b"2026.11.3")
loop = "for key in keys: get(key)"
times = timeit.repeat(loop, globals={"get": uwsgi.cache_get, "keys": keys}, number=1, repeat=200)
print("nanoseconds", statistics.median(times) / len(keys) * 1e9, flush=True)
"""


def _uwsgi(folder: Path) -> float | None:
    program = Path(sys.executable).with_name("uwsgi")
    if not program.exists():
        return None
    script = folder / "lookups.py"
    script.write_text(_UWSGI)
    command = [str(program), "--cache2", "name=default,items=2000", "--pyrun", str(script)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = ran.stdout + ran.stderr
    return float(told.partition("nanoseconds ")[2].split()[0]) if "nanoseconds " in told else None


def _diskcache(folder: Path) -> float | None:
    diskcache = _module("diskcache")
    if diskcache is None:
        return None
    with diskcache.Cache(str(folder / "diskcache")) as cache:
        for key in _KEYS:
            cache[key] = _VALUE
        return nanoseconds(cache, _KEYS, 20)


@contextlib.contextmanager
def _server(command: list[str], socket: Path) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(socket.exists, f"{command[0]} listens")
            time.sleep(0.2)
            yield
        finally:
            server.terminate()


def _memcached(folder: Path) -> float | None:
    pymemcache, program = _module("pymemcache.client.base"), shutil.which("memcached")
    if pymemcache is None or program is None:
        return None
    socket = folder / "memcached"
    with (
        _server([program, "-u", "root", "-s", str(socket)], socket),
        contextlib.closing(pymemcache.Client(str(socket))) as client,
    ):
        for key in _KEYS:
            client.set(key, _VALUE)
        return nanoseconds(client, _KEYS, 10)


def _redis(folder: Path) -> float | None:
    redis, program = _module("redis"), shutil.which("redis-server")
    if redis is None or program is None:
        return None
    socket = folder / "redis"
    port = str(free_port())
    command = [program, "--port", port, "--bind", "127.0.0.1", "--unixsocket", str(socket), "--save", ""]
    with _server(command, socket), contextlib.closing(redis.Redis(unix_socket_path=str(socket))) as client:
        for key in _KEYS:
            client.set(key, _VALUE)
        return nanoseconds(client, _KEYS, 10)


_PEERS: dict[str, Callable[[Path], float | None]] = {
    "uwsgi.cache_get": _uwsgi,
    "diskcache": _diskcache,
    "memcached over a unix socket (pymemcache)": _memcached,
    "Redis over a unix socket (redis)": _redis,
}


def lookups(*, quick: bool) -> Section:
    """A lookup beside ``dict.get`` and beside peers; then from ``store`` to its being seen; then what readers cost."""
    repetitions = 50 if quick else 500
    figures = []
    with running(_SQLITE) as supervisord, tempfile.TemporaryDirectory() as folder:
        cache = supervisord.unix().cache
        cache.storeMany(dict.fromkeys(_KEYS, _VALUE))
        cache.storeMany({f"ttl/{key}": _VALUE for key in _KEYS}, {"ttl": 3600})
        cache.storeMany({f"array/{key}": ["a", 1, True] for key in _KEYS})
        with open_local(supervisord.folder / "cache.db") as local:
            plain = dict(local)
            # In turns, so that the machine's noise hits both.
            pairs = [(nanoseconds(local, _KEYS, 20), nanoseconds(plain, _KEYS, 20)) for _ in range(repetitions // 10)]
            ours, theirs = (statistics.median(one) for one in zip(*pairs, strict=True))
            times = statistics.median(one / other for one, other in pairs)
            detail = f"{ours:.0f} ns beside {theirs:.0f} ns"
            figures.append(Figure("local.get / dict.get", times, goal=Goal(Side.AT_MOST, 3), detail=detail))
            goal = Goal(Side.AT_MOST, 600)
            for what, prefix in (("an entry", ""), ("an entry with a TTL", "ttl/"), ("a small array", "array/")):
                keys = [prefix + key for key in _KEYS]
                figures.append(Figure(f"local.get: {what}", nanoseconds(local, keys, repetitions), "ns", goal))
            absent = [f"absent/{key}" for key in _KEYS]
            figures.append(Figure("local.get: no such key", nanoseconds(local, absent, repetitions), "ns", goal))
            for peer, measure in _PEERS.items():
                found = measure(Path(folder))
                if found is not None:
                    figures.append(Figure(peer, found, "ns", detail=f"{found / ours:.1f} times a local get"))
            figures.append(_until_seen(cache, local, 200 if quick else 2000))
            figures += _cost(supervisord, 2.0 if quick else 60.0)
    missing = [peer for peer in _PEERS if not any(figure.what == peer for figure in figures)]
    method = (
        f"Each of {len(_KEYS)} keys in a loop, {repetitions} times, called from Python in one process; medians, the "
        "loop included." + (f" Not installed: {', '.join(missing)}." if missing else "")
    )
    return Section("A lookup in a process of the same host", method, figures)


def _until_seen(cache: Any, local: Any, turns: int) -> Figure:
    """What the first lookup after a store's answer takes; fail if it does not see it."""
    times = []
    for number in range(turns):
        cache.store("seen", number)
        start = time.perf_counter()
        found = local.get("seen")
        times.append(time.perf_counter() - start)
        if found != number:
            raise AssertionError(f"{found} was seen after {number} had been stored")
    detail = f"{turns} of {turns} stores seen by the first lookup after their answer"
    return Figure("the first lookup after a store", statistics.median(times) * 1e6, "us", detail=detail)


_READER = """
import sys, time
from supervisor_cache import open_local
local, key = open_local(sys.argv[1]), sys.argv[2]
end, count = time.monotonic() + float(sys.argv[3]), 0
while time.monotonic() < end:
    for _ in range(100000):
        local.get(key)
    count += 100000
print(count)
"""


def _cost(supervisord: Any, length: float) -> list[Figure]:
    """Supervisord's processor time beside a process that looks up without pause, and without one."""

    def spent(act: Callable[[], object]) -> float:
        before = supervisord.processor_seconds()
        took = seconds(act)
        return float((supervisord.processor_seconds() - before) / took * 100)

    count = 0

    def read() -> None:
        nonlocal count
        command = [sys.executable, "-c", _READER, str(supervisord.folder / "cache.db"), _KEYS[0], str(length)]
        count = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    idle = spent(lambda: time.sleep(length))
    busy = spent(read)
    detail = f"{count / length / 1e6:.1f} million lookups a second for {length:g} s; {idle:.2f} % without"
    return [Figure("supervisord beside a reader", busy, "% of a core", detail=detail)]

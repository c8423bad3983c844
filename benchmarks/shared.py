"""A cache that several supervisords share, over a real etcd cluster."""

import base64
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.harness import Supervisord, running

from benchmarks.calls import figure
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import in_turns, milliseconds, ratio
from benchmarks.wire import Wire, body, request

_STRINGS = "<param><value><string>{}</string></value></param>"
_FETCH = request(body("cache.fetch", _STRINGS.format("release")))
_VALUE = "2026.11.3"
_PREFIX = "/bench"
# Beside the few that the others are compared with.
_FEW, _MANY = 10, 100
_WATCHED_SECONDS = 10


@contextmanager
def _cluster(members: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), members) as cluster:
        yield cluster


def _section(cluster: Cluster) -> dict[str, dict[str, str]]:
    return {"cache": {"storage": f"etcd://{','.join(cluster.endpoints)}{_PREFIX}"}}


@contextmanager
def _host(cluster: Cluster) -> Iterator[Supervisord]:
    with running(_section(cluster)) as supervisord:
        supervisord.wait_for_storage()
        yield supervisord


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class _Script:
    """What a script would do that knows etcd: the same transaction on one connection."""

    def __init__(self, endpoint: str) -> None:
        self._connection = http.client.HTTPConnection(endpoint)
        puts = [("e/release", f'{{"value":"{_VALUE}","modified":0.0,"expires":0.0}}'), ("c", "x" * 120)]
        self._body = json.dumps(
            {
                "success": [
                    {"request_put": {"key": _encoded(f"{_PREFIX}-script/{key}"), "value": _encoded(value)}}
                    for key, value in puts
                ]
            }
        )

    def __call__(self) -> None:
        self._connection.request("POST", "/v3/kv/txn", self._body, {"Content-Type": "application/json"})
        json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        self._connection.close()


def beside_a_script(*, quick: bool) -> Section:
    """A shared ``store`` beside the same transaction from a script, and what reads cost."""
    turns = 100 if quick else 1000
    with _cluster(3) as cluster, _host(cluster) as shared, running() as alone, ExitStack() as stack:
        proxy, script = shared.unix(), stack.enter_context(closing(_Script(cluster.endpoints[0])))
        calls = [lambda: proxy.cache.store("release", _VALUE), script, proxy.supervisor.getAPIVersion]
        ours, transaction, bare = in_turns(calls, turns)
        alone.unix().cache.store("release", _VALUE)
        wires = [stack.enter_context(closing(Wire(each.socket_path))) for each in (shared, alone)]
        ours_read, theirs_read = in_turns([partial(wire.call, _FETCH) for wire in wires], 4 * turns)
    both = [one + other for one, other in zip(transaction, bare, strict=True)]
    return Section(
        "A store that etcd keeps",
        f"Three members on loopback, without waiting for the disk where this etcd can; {turns} calls in turns, "
        "medians. The script sends the same transaction on a connection of its own.",
        [
            figure("store / the transaction and getAPIVersion", 1.5, ours, both),
            figure("fetch / fetch with storage memory", 1.05, ours_read, theirs_read),
        ],
    )


def to_another_host(*, quick: bool) -> Section:
    """From the call of ``store`` on one host to the answer of ``wait`` on another."""
    turns = 30 if quick else 300
    took: list[float] = []
    with _cluster(3) as cluster, _host(cluster) as one, _host(cluster) as other:
        caller, waiter = one.unix().cache, other.unix().cache
        caller.store("k", 0)
        for turn in range(turns):
            answered = threading.Event()

            def wait(since: str = waiter.getRevision(), answered: threading.Event = answered) -> None:
                waiter.wait(since, 10)
                took.append(time.perf_counter())
                answered.set()

            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.02)
            start = time.perf_counter()
            caller.store("k", turn)
            thread.join()
            took[-1] -= start
            # Its own connection must be quiet before it asks again.
            answered.wait()
    late = sorted(took)[int(len(took) * 0.99)] * 1000
    return Section(
        "From a change to another host",
        f"From the call of `store` on one supervisord to the answer of `wait` on another; three members; "
        f"{turns} changes.",
        [
            Figure(
                "median", statistics.median(took) * 1000, "ms", Goal(Side.AT_MOST, 10), f"99th percentile {late:.1f} ms"
            )
        ],
    )


def many_hosts(*, quick: bool) -> Section:
    """What one supervisord takes beside few others, and beside many, on one cluster."""
    seconds = 3 if quick else _WATCHED_SECONDS
    found = []
    with _cluster(3) as cluster, ExitStack() as stack:
        hosts: list[Supervisord] = []
        for number in (_FEW, 30 if quick else _MANY):
            hosts += [stack.enter_context(running(_section(cluster))) for _ in range(number - len(hosts))]
            for host in hosts:
                host.wait_for_storage()
            for host in hosts[1:]:
                _stand_back(host)
            found.append(_cost(hosts, seconds))
    (few_idle, few_busy, few), (idle, busy, many) = found
    return Section(
        "Many hosts on one cluster",
        f"{_FEW} and {len(hosts)} supervisords on one machine with three members: what one of them takes in "
        f"{seconds} s in which nothing changes, and with one change each 100 ms, which all of them are told. All but "
        "the one that stores run when nobody else wants a processor (SCHED_IDLE), as they would have their own "
        "elsewhere; what they cost the members is in it.",
        [
            Figure("of a processor, nothing changing", idle * 100, "%", detail=f"beside {few_idle * 100:.2f} %"),
            Figure("of a processor, ten changes a second", busy * 100, "%", detail=f"beside {few_busy * 100:.2f} %"),
            Figure("processor time, nothing changing, many / few", idle / few_idle, goal=Goal(Side.AT_MOST, 1.3)),
            Figure(
                "store, many / few",
                ratio(many, few),
                goal=Goal(Side.AT_MOST, 1.3),
                detail=f"{milliseconds(many):.1f} ms beside {milliseconds(few):.1f} ms",
            ),
        ],
    )


def _stand_back(host: Supervisord) -> None:
    for thread in Path(f"/proc/{host.pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


def _cost(hosts: list[Supervisord], seconds: float) -> tuple[float, float, list[float]]:
    cache: Any = hosts[0].unix().cache
    took: list[float] = []

    def used() -> float:
        return sum(host.processor_seconds() for host in hosts[1:])

    def measured(busy: bool) -> float:  # noqa: FBT001 - only asked for here
        before, end = used(), time.monotonic() + seconds
        while time.monotonic() < end:
            if busy:
                start = time.perf_counter()
                cache.store("release", _VALUE)
                took.append(time.perf_counter() - start)
            time.sleep(0.1)
        return (used() - before) / seconds / (len(hosts) - 1)

    return measured(busy=False), measured(busy=True), took

"""How long another client waits while each method runs at its worst."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xmlrpc.client import loads

from tests.harness import running

from benchmarks import noop_plugin
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.inside import Inside
from benchmarks.watcher import Watcher, watching
from benchmarks.wire import Wire, body, held, outcome, request
from benchmarks.worst_cases import DELETES, HEAVY, READS, SINCE, STORES, Case, waiting

_GOAL = Goal(Side.AT_MOST, 50)
_NEXT_ROUND_SECONDS = 0.05
_SQLITE = {"cache": {"storage": "sqlite:cache.db"}}


class _Client(NamedTuple):
    path: Path
    wire: Wire
    watcher: Watcher

    def prepare(self, state: str) -> str:
        """Fill the cache; answer the revision after which all changes are known."""
        return self._ask("noop.prepare", f"<param><value>{state}</value></param>")

    def longest_wait(self, content: bytes, pause: float = 0, waiters: int = 0) -> tuple[float, str]:
        """Make one call; answer how many seconds the watcher waited at most, and what the call answered.

        Args:
            content: The request.
            pause: Seconds that the watcher is asked about before it.
            waiters: How many clients wait for any change at all.
        """
        with held(self.path, waiters, waiting(self._ask("cache.getRevision"))) if waiters else nullcontext():
            self.watcher.longest()
            time.sleep(pause)
            reply = self.wire.call(content)
            if waiters:
                # They are answered in the next round.
                time.sleep(_NEXT_ROUND_SECONDS)
            return self.watcher.longest(), outcome(reply)

    def _ask(self, method: str, params: str = "") -> str:
        reply = self.wire.call(request(body(method, params)))
        if outcome(reply) != "answer":
            raise RuntimeError(f"{method}({params}): {reply!r}")
        return str(loads(reply.decode())[0][0])


def _measure(client: _Client, case: Case, repetitions: int) -> tuple[float, float, str]:
    """Answer milliseconds beyond parsing, those of parsing alone, and what the call answered."""
    params = case.params().replace(SINCE, client.prepare(case.state))
    call, bare = request(body(f"cache.{case.method}", params)), request(body("noop.accept", params))
    waits, parsing, answered = [], [], ""
    for repetition in range(repetitions):
        if case.writes and repetition:
            client.prepare(case.state)
        parsing.append(client.longest_wait(bare)[0])
        wait, answered = client.longest_wait(call, case.pause, case.waiters)
        waits.append(wait)
    alone = statistics.median(parsing) * 1000
    return statistics.median(waits) * 1000 - alone, alone, answered


def _figure(client: _Client, case: Case, repetitions: int) -> Figure:
    figure = _whole_call(client, case, repetitions)
    inside = Inside(case).median(repetitions)
    in_process = f"in process: method {inside.method * 1000:.1f} ms, reply {inside.reply * 1000:.1f} ms"
    return replace(figure, detail=f"{figure.detail}; {in_process}")


def _whole_call(client: _Client, case: Case, repetitions: int) -> Figure:
    beyond, parsing, answered = _measure(client, case, repetitions)
    of = ", ".join(filter(None, [case.what, "" if case.state == "empty" else f"of {case.state}"]))
    return Figure(f"{case.method}: {of}", beyond, "ms", _GOAL, f"{answered}; parsing alone {parsing:.0f} ms")


def _figures(client: _Client, cases: Sequence[Case], repetitions: int) -> Iterator[Figure]:
    for case in cases:
        yield _figure(client, case, repetitions)


def longest_waits(*, quick: bool) -> Section:
    """The longest time that another client waits, beyond what parsing alone takes, for each method at its worst."""
    repetitions, heavy_repetitions = (2, 0) if quick else (5, 2)
    with (
        running(more=noop_plugin.SECTION, environment=noop_plugin.ENVIRONMENT) as supervisord,
        closing(Wire(supervisord.socket_path)) as wire,
        watching(supervisord.socket_path) as watcher,
    ):
        client = _Client(supervisord.socket_path, wire, watcher)
        figures = list(_figures(client, [*READS, *STORES, *DELETES], repetitions))
        if heavy_repetitions:
            figures += _figures(client, HEAVY, heavy_repetitions)
    method = (
        "Another process asks `supervisor.getState` without pause; its longest wait during a call, less its longest "
        f"wait while the same request goes to a method that does nothing. Medians of {repetitions} (of the 16 MB: "
        f"{heavy_repetitions}). In process: the same call without network, in the method and in writing the reply. "
        "What is due is taken away in a round of the loop, before the call; in process, by the call."
    )
    return Section("How long a call at its worst holds up others", method, figures)


def longest_waits_on_sqlite(*, quick: bool) -> Section:
    """The same for each method that writes, with SQLite."""
    repetitions = 2 if quick else 5
    with (
        running(_SQLITE, noop_plugin.SECTION, environment=noop_plugin.ENVIRONMENT) as supervisord,
        closing(Wire(supervisord.socket_path)) as wire,
        watching(supervisord.socket_path) as watcher,
    ):
        client = _Client(supervisord.socket_path, wire, watcher)
        figures = [_whole_call(client, case, repetitions) for case in [*STORES, *DELETES] if case.writes]
    method = (
        "As above, with `storage = sqlite:PATH`: what is written goes into the write-ahead log in the same call. "
        f"Medians of {repetitions}."
    )
    return Section("How long a call at its worst holds up others, with SQLite", method, figures)

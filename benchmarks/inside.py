"""The same calls within this process: what the method takes, and what writing its reply takes."""

import gc
import statistics
import time
from typing import Any, NamedTuple

from supervisor.xmlrpc import RPCError, supervisor_xmlrpc_handler, xmlrpc_marshal

from benchmarks.states import STATES, fill
from benchmarks.wire import body
from benchmarks.worst_cases import SINCE, Case
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.log import Log
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.rpc import CacheNamespaceRPCInterface
from supervisor_cache.server.settings import Settings


class Spent(NamedTuple):
    """Seconds in the method, and in writing its reply."""

    method: float
    reply: float


class _Host:
    def shutting_down(self) -> bool:
        return False

    def identification(self) -> str:
        return "benchmark"

    def wake_deferred(self) -> None:
        pass

    def hold_deferred(self) -> None:
        pass


class Inside:
    """One case, without a supervisord."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._cache = CacheNamespaceRPCInterface(
            Namespace("cache", Settings(), Log(), Backlog(Log())), "", _Host(), Log()
        )
        self._handler = supervisor_xmlrpc_handler(None, [])

    def median(self, repetitions: int) -> Spent:
        """Make the call so often; the medians."""
        content = body(self._case.method, self._case.params()).decode()
        since = ""
        spent = []
        for repetition in range(repetitions):
            if self._case.writes or not repetition:
                since = fill(self._cache, STATES[self._case.state])
            gc.collect()
            params, _ = self._handler.loads(content.replace(SINCE, since))
            time.sleep(self._case.pause)
            spent.append(self.once(params or ()))
        return Spent(statistics.median(each.method for each in spent), statistics.median(each.reply for each in spent))

    def once(self, params: tuple[Any, ...]) -> Spent:
        """Make the call once."""
        start = time.perf_counter()
        try:
            value = getattr(self._cache, self._case.method)(*params)
        except RPCError:
            return Spent(time.perf_counter() - start, 0.0)
        end = time.perf_counter()
        xmlrpc_marshal(value)
        return Spent(end - start, time.perf_counter() - end)

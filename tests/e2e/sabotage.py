"""An RPC extension that makes a part of the cache fail on purpose, inside a real supervisord.

Its option ``parts`` names what fails, from the moment at which supervisord builds its HTTP servers.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import Conflict, Outcome, Refused
from supervisor_cache.core.entry import Batch
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import UnavailableError
from supervisor_cache.server import guards, rpc
from supervisor_cache.server.events import CacheEvent, EventObserver
from supervisor_cache.server.log import Log
from supervisor_cache.server.rpc import CacheNamespaceRPCInterface
from supervisor_cache.server.runtime import Generation, Runtime


class Sabotage:
    """Answers its calls, so that a client can see that the others do too."""

    def ping(self) -> bool:
        """Answer

        @return boolean  Always true
        """
        return True


def fail(*_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError("sabotage")


def _late_engine() -> None:
    """Make the engine answer in the next round of the loop, after a conflict; refuse notes of ``refuse``."""
    waiting: list[Callable[[], None]] = []
    conflicts: set[str] = set()

    def commit(engine: Any, batch: Batch) -> Answer[Outcome]:
        outcome: Answer[Outcome] = Answer()

        def answer() -> None:
            if batch.note == "refuse":
                outcome.resolve(Refused(UnavailableError("the storage did not take it")))
            elif batch.note and batch.note not in conflicts:
                conflicts.add(batch.note)
                outcome.resolve(Conflict())
            else:
                engine.revision += 1
                outcome.resolve(engine.revision)

        waiting.append(answer)
        return outcome

    def on_round(_log: Log) -> None:
        due = list(waiting)
        waiting.clear()
        for answer in due:
            answer()

    MemoryEngine.commit = commit  # type: ignore[assignment, method-assign]
    Log.report_repeats = on_round  # type: ignore[assignment, method-assign]


def _deferred_fails() -> None:
    _late_engine()
    rpc._as_is = fail


def _outcome_fails() -> None:
    _late_engine()
    Answer.result = fail  # type: ignore[method-assign]


def _factory_fails_at_a_reload() -> None:
    interface = Generation.interface

    def fail_at_a_reload(generation: Generation) -> CacheNamespaceRPCInterface:
        return interface(generation) if generation.supervisord.options.first else fail()

    Generation.interface = fail_at_a_reload  # type: ignore[method-assign, assignment]


PARTS: dict[str, Callable[[], None]] = {
    "late": _late_engine,
    "deferred": _deferred_fails,
    "outcome": _outcome_fails,
    "factory": _factory_fails_at_a_reload,
    "subscriber": lambda: setattr(Generation, "_enter_the_loop", fail),
    "payload": lambda: setattr(CacheEvent, "_payload", fail),
    "readable": lambda: setattr(Log, "report_repeats", fail),
    "match": lambda: setattr(guards, "verdict", fail),
    "refuse": lambda: setattr(guards.RequestGuard, "_refuse", fail),
    "observer": lambda: setattr(EventObserver, "__call__", fail),
    "method": lambda: setattr(Cache, "fetch", fail),
    "close": lambda: setattr(Runtime, "_on_closed", fail),
}


def make_sabotage(_supervisord: object, parts: str) -> Sabotage:
    for part in parts.split():
        PARTS[part]()
    return Sabotage()

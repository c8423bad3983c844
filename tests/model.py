"""A cache over memory for tests of the core, with a clock that they turn."""

from typing import TypeVar

from supervisor_cache.core.cache import Cache, Operation
from supervisor_cache.core.entry import Commit
from supervisor_cache.core.limits import Limits
from supervisor_cache.engines.memory import MemoryEngine

T = TypeVar("T")

START = 1_800_000_000.0


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Bench:
    """A cache, its clock, and what its observers were shown."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.commits: list[Commit] = []
        self.failures: list[Exception] = []
        self.engine = MemoryEngine(START)
        self.cache = Cache(self.engine, limits or Limits(), self.clock, [self.commits.append], self.failures.append)

    def write(self, operation: "Operation[..., T]", *args: object) -> T:
        """Write through ``test``, and answer or raise what comes of it."""
        return self.cache.write(operation, "test", *args).result()

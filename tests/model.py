"""A cache over memory for tests of the core, with a clock that they turn."""

from pathlib import Path
from typing import TypeVar

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache, Operation
from supervisor_cache.core.codec import to_json
from supervisor_cache.core.engine import Content
from supervisor_cache.core.entry import Batch, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.values import Value
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.engines.sqlite import Options, SqliteEngine
from supervisor_cache.errors import InvalidArgumentsError

T = TypeVar("T")

START = 1_800_000_000.0


def json_size(value: Value) -> int:
    """Count the bytes of a value as compact JSON in UTF-8."""
    return len(to_json(value).encode())


class FakeClock:
    """Two clocks that the test turns: the wall clock also back."""

    def __init__(self) -> None:
        self.now = START
        self.up = 1000.0

    def wall(self) -> float:
        return self.now

    def elapsed(self) -> float:
        return self.up

    def pass_by(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        self.up += seconds


class Bench:
    """A cache, its clock, the processes that run, and what its observers were shown.

    It keeps its entries in memory, or in the database ``path``.
    """

    def __init__(self, limits: Limits | None = None, path: Path | None = None) -> None:
        self.clock = FakeClock()
        self.path = path
        self.commits: list[Batch] = []
        self.failures: list[Exception] = []
        self.pids: dict[str, int] = {}
        self.limits = limits or Limits()
        self.open()

    def open(self) -> None:
        """Make the cache; again, as after a restart."""
        if self.path is None:
            self.engine: MemoryEngine | SqliteEngine = MemoryEngine(START)
        else:
            self.engine = SqliteEngine(str(self.path), Options(), self.clock, self._content)
        self.cache = Cache(self.engine, self.limits, self.clock, self._owner, self.failures.append)
        self.cache.observers = [self.commits.append]
        if isinstance(self.engine, SqliteEngine):
            content = self.engine.open()
            assert content is not None, self.engine.detail
            self.cache.load(content)
            self.engine.accept()

    def _content(self) -> Content:
        return self.cache.content()

    def reopen(self) -> None:
        """Begin anew from what is stored."""
        self.close()
        self.open()

    def close(self) -> None:
        """Let go of the database."""
        if isinstance(self.engine, SqliteEngine):
            self.engine.close()

    def write(self, operation: Operation[T], *args: object) -> T:
        """Write through ``test``, and answer or raise what comes of it."""
        answer = self.cache.write(operation, "test", *args)
        return answer.result() if isinstance(answer, Answer) else answer

    def _owner(self, name: str) -> Owner:
        if name not in self.pids:
            raise InvalidArgumentsError(f"owner {name} is not running")
        return Owner(name, self.pids[name])

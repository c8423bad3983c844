"""Work that one call may cause by the thousand, done in slices so that nobody waits for all of it."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from supervisor_cache.server.log import Log, contain

Step: TypeAlias = Callable[[], object]

_SLICE = 50
_SLICE_SECONDS = 0.005
# A listener that far behind asks for what it missed.
_MOST = 20_000


class Backlog:
    """Steps in the order in which they came; as many as make a slice at once, the others round by round.

    Attributes:
        wake: Has the next round of the loop come at once.
    """

    def __init__(self, log: Log) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._log = log
        self._steps: deque[Step] = deque()

    def run(self, steps: Iterable[Step]) -> None:
        """Take ``steps``, and do the first of them if nothing is left from before."""
        idle = not self._steps
        # All of them first: a step may bring more, which must not get in front.
        self._steps.extend(steps)
        if idle:
            for _ in range(min(_SLICE, len(self._steps))):
                self._do(self._steps.popleft())
        if self._steps:
            self.wake()
        dropped = len(self._steps) - _MOST
        if dropped > 0:
            self._log.repeated("backlog", f"{dropped} events and log lines are dropped: more come than can be told")
            for _ in range(dropped):
                self._steps.popleft()

    def do_slice(self) -> None:
        """Do some of what is left; to be called in each round of the loop."""
        if not self._steps:
            return
        end = time.monotonic() + _SLICE_SECONDS
        while self._steps and time.monotonic() < end:
            self._do(self._steps.popleft())
        if self._steps:
            self.wake()

    def do_all(self) -> None:
        """Do all that is left."""
        while self._steps:
            self._do(self._steps.popleft())

    def _do(self, step: Step) -> None:
        contain(self._log, "telling of a change", None, step)

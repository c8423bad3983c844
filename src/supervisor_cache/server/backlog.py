"""Work that one call may cause by the thousand, done in slices so that nobody waits for all of it."""

import math
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
        self._busy = False

    def run(self, steps: Iterable[Step]) -> None:
        """Take ``steps``, and do the first of them if nothing is left from before."""
        idle = not self._steps and not self._busy
        # All of them first: a step may bring more, which must not get in front.
        self._steps.extend(steps)
        if idle:
            self._do(_SLICE, math.inf)
        if self._steps:
            self.wake()
        dropped = len(self._steps) - _MOST
        if dropped > 0:
            self._log.repeated("backlog", f"{dropped} events and log lines are dropped: more come than can be told")
            for _ in range(dropped):
                self._steps.popleft()

    def do_slice(self) -> None:
        """Do some of what is left; to be called in each round of the loop."""
        if self._steps:
            self._do(_MOST, time.monotonic() + _SLICE_SECONDS)
            if self._steps:
                self.wake()

    def do_all(self) -> None:
        """Do all that is left."""
        self._do(_MOST, math.inf)

    def _do(self, most: int, end: float) -> None:
        self._busy = True
        try:
            for _ in range(most):
                if not self._steps or (end != math.inf and time.monotonic() >= end):
                    return
                contain(self._log, "telling of a change", None, self._steps.popleft())
        finally:
            self._busy = False

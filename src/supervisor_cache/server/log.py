"""What goes into supervisord's log: ASCII, nothing per call, and a repeated problem at most once a minute."""

import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from supervisor.loggers import Logger

T = TypeVar("T")

REPEAT_SECONDS = 60.0
_PREFIX = "supervisor_cache: "


class Log:
    """Writes to the logger of the running supervisord, which is another one after each reload."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logger: Logger | None = None
        self._said: dict[str, float] = {}
        self._repeats: dict[str, int] = {}

    def use(self, logger: Logger | None) -> None:
        """Write to ``logger`` from now on; with None, nowhere."""
        self._logger = logger

    def info(self, text: str) -> None:
        """Say what is normal."""
        if self._logger is not None:
            self._logger.info(_PREFIX + text)

    def warning(self, text: str) -> None:
        """Say what an operator may want to change."""
        if self._logger is not None:
            self._logger.warn(_PREFIX + text)

    def critical(self, text: str) -> None:
        """Say what an operator has to look at."""
        if self._logger is not None:
            self._logger.critical(_PREFIX + text)

    def repeated(self, problem: str, text: str) -> bool:
        """Say ``text`` as a warning, at most once a minute for each ``problem``; answer whether it was said."""
        is_new = self._is_new(problem)
        if is_new:
            self.warning(text)
        return is_new

    def failure(self, callback: str, error: BaseException) -> None:
        """Say that ``callback`` raised ``error``, with the traceback; at most once a minute for each callback."""
        if not self._is_new(f"internal error in {callback}"):
            return
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        shown = trace.encode("ascii", "backslashreplace").decode("ascii")
        self.critical(f"internal error in {callback}, contained; supervisord goes on\n{shown}")

    def _is_new(self, problem: str) -> bool:
        if problem in self._said:
            self._repeats[problem] = self._repeats.get(problem, 0) + 1
            return False
        if self._logger is not None:
            self._said[problem] = self._clock()
        return True

    def report_repeats(self) -> None:
        """Say how often what was said a minute ago has come again since; then it may be said anew."""
        if not self._said:
            return
        now = self._clock()
        for problem in [name for name, said in self._said.items() if now - said >= REPEAT_SECONDS]:
            del self._said[problem]
            repeats = self._repeats.pop(problem, 0)
            if repeats:
                self.warning(f"{problem}: {repeats} times more in the last minute")


def contain(log: Log, callback: str, fallback: T, function: Callable[..., T], *args: Any) -> T:
    """Call ``function``; if it raises, log that and answer ``fallback``.

    Every callback that supervisord makes into this package goes through here: an exception that leaves an event
    subscriber, an event's payload, or ``readable`` and ``writable`` of an object in the socket map ends supervisord
    without a line in its log, and leaves its processes behind.
    """
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - see above
        log.failure(callback, error)
        return fallback

"""A SQLite database that follows a shared cache: for local readers, and for a start without etcd."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import Content, Refused, State
from supervisor_cache.core.entry import RESET, Batch, Clock
from supervisor_cache.engines.sqlite import Options, SqliteEngine
from supervisor_cache.server.log import Log, contain

# Seconds in one round of the loop.
_SLICE_SECONDS = 0.005


class Mirror:
    """Writes down what a cache holds; an observer of its commits. Its trouble is never the cache's.

    Args:
        name: Of the namespace.
        path: Of the database, absolute.
        options: How it is kept.
        clock: The time.
        cache: What it follows.
        log: Where its trouble is said.
        wake: Has the next round of the loop come at once.
    """

    def __init__(
        self, name: str, path: str, options: Options, clock: Clock, cache: Cache, log: Log, wake: Callable[[], None]
    ) -> None:
        self.path = path
        self._name = name
        self._log = log
        self._engine = SqliteEngine(path, options, clock, cache.content)
        self._cache = cache
        self._wake = wake
        self._is_ours = False
        # It is being brought in line with the cache, which has changed again meanwhile, or not.
        self._slices: Iterator[None] | None = None
        self._again = False

    def use(self, options: Options) -> None:
        """Go by ``options`` from the next opening on."""
        self._engine.options = options

    def open(self) -> Content | None:
        """Open it; answer what is in it, unless it follows the cache already."""
        content = contain(self._log, "the opening of a mirror", None, self._engine.open)
        self._see()
        return None if self._is_ours else content

    def close(self) -> None:
        """Let go of every descriptor and thread."""
        if self._slices is not None:
            self._slices = None
            self._engine.fall_behind()
        self._engine.close()

    def tick(self) -> None:
        """Do what is due between calls."""
        contain(self._log, "what is due in a mirror", None, self._tick)

    def follow(self) -> None:
        """Follow the cache from now on, if it does not yet."""
        if not self._is_ours:
            self.start_over()

    def start_over(self) -> None:
        """Bring it in line with the cache, which has been read anew."""
        self._is_ours = True
        self._engine.revision = self._cache.engine.revision
        self._engine.accept()
        self._align()

    def _align(self) -> None:
        self._engine.fall_behind()
        self._again = False
        # One that was under way is given up with this.
        self._slices = None
        self._slices = self._engine.align()
        self._wake()

    def __call__(self, batch: Batch) -> None:
        """Write down a commit."""
        if not self._is_ours or batch.mutations[0][0] == RESET:
            return
        if self._slices is not None:
            self._again = True
            return
        # The next one that it gives is the one that the commit has.
        self._engine.revision = batch.revision - 1
        if isinstance(self._engine.commit(batch), Refused):
            self._engine.fall_behind()
        self._see()

    def stats(self) -> dict[str, Any]:
        """Answer what ``getStats`` says of it."""
        engine = self._engine
        return {"state": engine.state.value, "detail": engine.detail, **engine.told()}

    def _tick(self) -> None:
        if self._slices is not None:
            self._do_slices(self._slices)
            self._see()
            return
        content = self._engine.tick()
        if content is not None and self._is_ours:
            # It could not be read before; the cache knows better by now.
            self.start_over()
        self._see()

    def _do_slices(self, slices: Iterator[None]) -> None:
        end = time.monotonic() + _SLICE_SECONDS
        try:
            while time.monotonic() < end:
                next(slices)
        except StopIteration:
            self._slices = None
            if self._again:
                self._align()
        except BaseException:
            self._slices = None
            self._engine.fall_behind()
            raise
        else:
            self._wake()

    def _see(self) -> None:
        engine = self._engine
        if engine.state not in {State.OK, State.RECOVERED}:
            self._log.repeated(f"{self._name}: mirror", f"{self._name}: the mirror falls behind: {engine.detail}")

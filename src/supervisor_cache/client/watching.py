"""Following changes, over everything that can happen to a supervisord."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from supervisor_cache.client.absence import is_absence
from supervisor_cache.core.entry import RESET
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.errors import CacheError, HistoryGoneError, LimitExceededError

if TYPE_CHECKING:
    from supervisor_cache.client.cache import CacheClient

# Changes that one reply is asked for at most.
_PAGE = 500
# Seconds of one call: a server that is gone without a word is noticed then.
_LONGEST_WAIT = 25.0
# Seconds between two attempts, at first and at most.
_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Watch:
    """Changes as they happen, each once and in order.

    It goes on over reloads and restarts of supervisord, and while it is away: it tries again, and tells what was
    missed. Where that can no longer be known it says so, by a change of kind ``reset``: whoever follows the entries
    reads all of them anew then. (With storage in memory each restart is one; with a database only a reader that was
    away for more than ``max_changes``.)

    A ``for`` loop over it ends when ``timeout`` seconds have gone by without a change.

    Attributes:
        revision: All changes up to this one have been answered: where to resume.
        on_contact: Called with the error when supervisord cannot be asked, and with None once it can again.
    """

    def __init__(
        self, cache: "CacheClient", prefix: str = "", since: int | None = None, timeout: float | None = None
    ) -> None:
        self._cache = cache
        self._prefix = checked_prefix(prefix)
        self._timeout = math.inf if timeout is None else timeout
        self._ready: deque[Change] = deque()
        # Asked at once: what comes from now on is told.
        self._known = cache.get_revision() if since is None else since
        self.revision = self._known
        self._pause = _PAUSE
        self._size = _PAGE
        self.on_contact: Callable[[CacheError | None], None] = lambda _: None
        self._away = False
        # Whether there may be more to be asked for, without waiting.
        self._behind = since is not None

    def __iter__(self) -> "Watch":
        return self

    def __next__(self) -> Change:
        """Wait for the next change; raises what is no mere absence of supervisord: a password that is wrong now."""
        end = time.monotonic() + self._timeout
        # Also where there is no time at all: what has changed before is told.
        has_asked = False
        while not self._ready:
            left = end - time.monotonic()
            if left <= 0 and has_asked and (self._away or not self._behind):
                raise StopIteration
            self._ask(max(0.0, left))
            has_asked = True
        change = self._ready.popleft()
        if not self._ready:
            self.revision = self._known
        elif self._ready[0].revision != change.revision:
            self.revision = change.revision
        return change

    def _ask(self, left: float) -> None:
        try:
            if self._behind:
                self._take()
            else:
                waited = self._cache.wait(self._known, min(left, _LONGEST_WAIT), self._prefix)
                self._behind = waited.changed
                if not waited.changed:
                    self._known = self.revision = waited.revision
        except HistoryGoneError:
            self._start_over()
        except LimitExceededError:
            # Too many wait already: what has changed is asked for now and then.
            self._rest(left)
        except CacheError as error:
            if not is_absence(error):
                raise
            if not self._away:
                self.on_contact(error)
            self._away = True
            self._rest(left)
        else:
            if self._away:
                self.on_contact(None)
            self._away = False
            self._pause = _PAUSE

    def _rest(self, left: float) -> None:
        self._behind = True
        time.sleep(min(self._pause, max(left, 0.01)))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _take(self) -> None:
        try:
            changes = self._cache.get_changes(self._known, self._prefix, self._size)
        except LimitExceededError:
            if self._size == 1:
                raise
            self._size //= 2
            return
        self._ready += changes
        if changes:
            self._known = changes[-1].revision
        self._behind = len(changes) >= self._size

    def _start_over(self) -> None:
        try:
            newest = self._cache.get_revision()
        except CacheError as error:
            if not is_absence(error):
                raise
            return
        self._known = newest
        self._behind = True
        self._ready.append(Change(newest, RESET, "", time.time(), "", ""))

"""Clients that wait for a change."""

import time
from bisect import bisect_left
from collections.abc import Callable

from supervisor_cache.core.entry import CLEAR, RESET, Batch
from supervisor_cache.errors import LimitExceededError

# supervisord looks at a deferred reply at least every 1.5 s as long as its client is there, and never tells that it
# has gone.
_GONE_SECONDS = 2.5


class Waiter:
    """One client.

    Attributes:
        prefix: Of the keys whose changes it waits for.
        server: The section of the HTTP server that it came through.
        wake: Has supervisord look at deferred replies now.
        seen: When supervisord last looked at its reply, on the monotonic clock.
        changed: Whether there has been a change.
    """

    def __init__(self, prefix: str, server: str, wake: Callable[[], None], seen: float) -> None:
        self.prefix = prefix
        self.server = server
        self.wake = wake
        self.seen = seen
        self.changed = False


class Waiting:
    """Those who wait on one cache; an observer of its commits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiters: dict[Waiter, None] = {}

    def __len__(self) -> int:
        self._drop_gone()
        return len(self._waiters)

    def add(self, prefix: str, server: str, wake: Callable[[], None], limit: int) -> Waiter:
        """Take on a client.

        Raises:
            LimitExceededError: ``limit`` wait already, or half of them on this server.
        """
        self._drop_gone()
        if len(self._waiters) >= limit:
            raise LimitExceededError(f"{limit} clients wait already; max_watchers is {limit}")
        here = (limit + 1) // 2
        if sum(1 for waiter in self._waiters if waiter.server == server) >= here:
            raise LimitExceededError(f"{here} clients wait already on {server}, half of max_watchers, which is {limit}")
        waiter = Waiter(prefix, server, wake, self._clock())
        self._waiters[waiter] = None
        return waiter

    def look(self, waiter: Waiter) -> float:
        """Note that the client is there, and answer the time on the monotonic clock.

        One that had been taken for gone, since supervisord itself was held up, is taken on again.
        """
        waiter.seen = now = self._clock()
        self._waiters[waiter] = None
        return now

    def remove(self, waiter: Waiter) -> None:
        """Let go of a client that has its answer."""
        self._waiters.pop(waiter, None)

    def clear(self) -> None:
        """Let go of all: their connections are gone."""
        self._waiters.clear()

    def __call__(self, batch: Batch) -> None:
        """Wake those who wait for what ``batch`` changed."""
        if not self._waiters:
            return
        concerned = _concerned(batch, list(self._waiters))
        for waiter in concerned:
            waiter.changed = True
        for wake in {waiter.wake for waiter in concerned}:
            wake()

    def _drop_gone(self) -> None:
        gone = self._clock() - _GONE_SECONDS
        for waiter in [waiter for waiter in self._waiters if waiter.seen < gone]:
            del self._waiters[waiter]


def _concerned(batch: Batch, waiters: list[Waiter]) -> list[Waiter]:
    mutations = batch.mutations
    kind, key, _ = mutations[0]
    if kind in {CLEAR, RESET}:
        return waiters
    if len(mutations) == 1:
        return [waiter for waiter in waiters if key.startswith(waiter.prefix)]
    # All keys that start with a prefix stand together, from where it would stand itself.
    keys = sorted(key for _, key, _ in mutations)
    return [waiter for waiter in waiters if _starts_one(waiter.prefix, keys)]


def _starts_one(prefix: str, keys: list[str]) -> bool:
    place = bisect_left(keys, prefix)
    return place < len(keys) and keys[place].startswith(prefix)

"""``storage = memory``: entries live as long as supervisord does, and nothing is written anywhere."""

from collections.abc import Callable

from supervisor_cache.core.engine import Committed, Outcome
from supervisor_cache.core.entry import Batch


class MemoryEngine:
    """Commits at once: there is nothing to wait for and nothing that can fail.

    Args:
        now: Seconds since the epoch. Revisions go on from here, in microseconds.
    """

    kind = "memory"

    def __init__(self, now: float) -> None:
        self._revision = int(now * 1_000_000)

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._revision

    def commit(self, batch: Batch, settle: Callable[[Outcome], None]) -> None:  # noqa: ARG002 - nothing to keep
        """Give the batch the next revision."""
        self._revision += 1
        settle(Committed(self._revision))

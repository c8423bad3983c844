"""``storage = memory``: entries live as long as supervisord does, and nothing is written anywhere."""

from supervisor_cache.core.engine import State
from supervisor_cache.core.entry import Batch


class MemoryEngine:
    """Commits at once: there is nothing to wait for and nothing that can fail.

    Args:
        now: Seconds since the epoch. Revisions go on from here, in microseconds.
    """

    kind = "memory"
    shared = False
    state = State.OK
    detail = ""

    def __init__(self, now: float) -> None:
        self.revision = int(now * 1_000_000)

    def commit(self, batch: Batch) -> int:  # noqa: ARG002 - nothing to keep
        """Give the batch the next revision."""
        self.revision += 1
        return self.revision

"""What the cache asks of the place where its entries are kept."""

from typing import NamedTuple, Protocol, TypeAlias

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.entry import Batch
from supervisor_cache.errors import CacheError


class Conflict(NamedTuple):
    """Nothing has happened: an entry that the batch relied on has another revision by now."""


class Refused(NamedTuple):
    """The engine did not take the batch; the error says whether it may have happened all the same."""

    error: CacheError


# The revision that the batch took, or why it took none.
Outcome: TypeAlias = int | Conflict | Refused


class Engine(Protocol):
    """Takes batches, one after the other.

    Atomicity: a batch happens as a whole or not at all, and its revision is told only once it is as durable as this
    engine makes anything. Order: revisions grow from commit to commit, in the order in which they are told.
    """

    @property
    def kind(self) -> str:
        """The word that names this engine in the option ``storage``."""

    @property
    def revision(self) -> int:
        """The newest revision; that of its start where nothing has been committed."""

    def commit(self, batch: Batch) -> Outcome | Answer[Outcome]:
        """Commit ``batch``; answer what came of it, or where that is told later, in supervisord's own thread.

        Raises nothing: what goes wrong is told as `Refused`. A batch of nothing but ``expire`` or ``release`` is never
        refused: what has ended has ended, whether it can be written down now or later.
        """

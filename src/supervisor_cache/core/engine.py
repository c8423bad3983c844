"""What the cache asks of the place where its entries are kept."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from supervisor_cache.core.entry import Batch
from supervisor_cache.errors import CacheError


class Committed(NamedTuple):
    """The batch has happened, as a whole, under this revision."""

    revision: int


class Conflict(NamedTuple):
    """Nothing has happened: an entry that the batch relied on has another revision by now."""


class Refused(NamedTuple):
    """The engine did not take the batch; the error says whether it may have happened all the same."""

    error: CacheError


Outcome: TypeAlias = Committed | Conflict | Refused


class Engine(Protocol):
    """Takes batches, one after the other.

    Atomicity: a batch happens as a whole or not at all, and `Committed` is told only once it is as durable as
    this engine makes anything. Order: revisions grow from commit to commit, in the order in which they are told.
    """

    @property
    def kind(self) -> str:
        """The word that names this engine in the option ``storage``."""

    @property
    def revision(self) -> int:
        """The newest revision; that of its start where nothing has been committed."""

    def commit(self, batch: Batch, settle: Callable[[Outcome], None]) -> None:
        """Commit ``batch`` and tell ``settle`` once, in supervisord's own thread, before returning or later.

        Raises nothing: what goes wrong is told as `Refused`.
        """

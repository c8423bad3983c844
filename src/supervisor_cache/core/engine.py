"""What the cache asks of the place where its entries are kept."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.entry import Batch, Entry
from supervisor_cache.core.history import Commit
from supervisor_cache.errors import CacheError


class Conflict(NamedTuple):
    """Nothing has happened: an entry that the batch relied on has another revision by now."""


class Told(NamedTuple):
    """It has happened, and is in the entries already: they follow a storage that others write to as well.

    Attributes:
        revision: That it took.
    """

    revision: int


class Refused(NamedTuple):
    """The engine did not take the batch; the error says whether it may have happened all the same."""

    error: CacheError


class Content(NamedTuple):
    """All that a cache keeps.

    Attributes:
        entries: By key.
        commits: The history, oldest first.
        since: All changes after this revision are in the history.
        revision: The newest.
    """

    entries: Mapping[str, Entry]
    commits: Sequence[Commit]
    since: int
    revision: int


class State(Enum):
    """How a storage does."""

    OK = "ok"
    RECOVERED = "recovered"  # it began anew, since what was there could not be read
    DEGRADED = "degraded"  # reads go on from memory, and writes are refused
    UNAVAILABLE = "unavailable"  # it has not been read yet, and nobody can tell what is stored


# The revision that the batch took, or why it took none.
Outcome: TypeAlias = int | Told | Conflict | Refused


class Engine(Protocol):
    """Takes batches, one after the other.

    Atomicity: a batch happens as a whole or not at all, and its revision is told only once it is as durable as this
    engine makes anything. Order: revisions grow from commit to commit, in the order in which they are told.
    """

    revision: int  # the newest; that of its start where nothing has been committed

    @property
    def kind(self) -> str:
        """The word that names this engine in the option ``storage``."""

    @property
    def shared(self) -> bool:
        """Whether others write there, too.

        Then what is in memory is a copy, which may be behind: a plan that changes nothing is committed as well, for
        what it relied on; what ends by a TTL ends there; and what has ended with a process goes by `SharedEngine.end`.
        """

    @property
    def state(self) -> State:
        """How it does."""

    @property
    def detail(self) -> str:
        """What is wrong, or was; empty for nothing."""

    def commit(self, batch: Batch) -> Outcome | Answer[Outcome]:
        """Commit ``batch``; answer what came of it, or where that is told later, in supervisord's own thread.

        Raises nothing: what goes wrong is told as `Refused`. A batch of nothing but ``expire`` or ``release`` is never
        refused: what has ended has ended, whether it can be written down now or later.
        """


class SharedEngine(Engine, Protocol):
    """An engine whose ``shared`` is true."""

    def commit(self, batch: Batch) -> Refused | Answer[Outcome]:
        """Do as `Engine.commit`; what is not refused at once is answered later."""

    def end(self, kind: str, via: str, keys: list[str]) -> None:
        """Delete the entries of ``keys``, which have ended and are hidden next, as soon as that is possible."""

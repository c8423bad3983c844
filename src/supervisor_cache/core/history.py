"""The changes so far, as many as are kept: what a client asks for that has missed some."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from supervisor_cache.core.entry import CLEAR, Batch
from supervisor_cache.core.limits import MAX_REPLY_BYTES, MAX_REPLY_ENTRIES
from supervisor_cache.core.text import utf8_length, xml_text_size
from supervisor_cache.errors import HistoryGoneError, LimitExceededError

# Bytes that a change counts for beside its key, and a commit beside its note.
_CHANGE_BYTES = 16
_COMMIT_BYTES = 64
# Bytes that a change takes in a reply at most, beside key, note and via.
_MARKUP = 510


class Change(NamedTuple):
    """What happened to one entry.

    Attributes:
        revision: Of its commit.
        kind: See `supervisor_cache.core.entry.KINDS`.
        key: Empty for a ``clear``.
        modified: When, in seconds since the epoch.
        note: Who and why.
        via: The server or process that it came through; empty for the cache itself.
    """

    revision: int
    kind: str
    key: str
    modified: float
    note: str
    via: str


# A commit without its values: revision, time, note, via, (kind, key) of each change, and the bytes that it counts for.
# A bare tuple, for one is made at each write.
Commit: TypeAlias = tuple[int, float, str, str, list[tuple[str, str]], int]


def commit_of(revision: int, time: float, note: str, via: str, changes: list[tuple[str, str]]) -> Commit:
    """Answer the commit that made ``changes``."""
    in_keys = utf8_length("".join([key for _, key in changes]))
    size = _COMMIT_BYTES + utf8_length(note) + len(changes) * _CHANGE_BYTES + in_keys
    return revision, time, note, via, changes, size


class History:
    """Whole commits, newest last. What is dropped is dropped from the old end.

    Attributes:
        since: All changes after this revision are here.
        changes: How many.
        size: Bytes that they count for.
    """

    def __init__(self, revision: int) -> None:
        self.since = revision
        self.changes = 0
        self.size = 0
        self._records: deque[Commit] = deque()

    def append(self, batch: Batch, max_changes: int, max_bytes: int) -> None:
        """Keep what ``batch`` changed, then no more than ``max_changes`` and ``max_bytes``."""
        changes = [(kind, key) for kind, key, _ in batch.mutations]
        self._keep(commit_of(batch.revision, batch.time, batch.note, batch.via, changes))
        if self.changes > max_changes or self.size > max_bytes:
            self.trim(max_changes, max_bytes)

    @property
    def commits(self) -> Sequence[Commit]:
        """All that are kept, oldest first."""
        return self._records

    def load(self, commits: Iterable[Commit], since: int, max_changes: int, max_bytes: int) -> None:
        """Begin anew with ``commits``, oldest first, which are all there are after ``since``."""
        self._records.clear()
        self.changes = self.size = 0
        self.since = since
        for commit in commits:
            self._keep(commit)
        self.trim(max_changes, max_bytes)

    def _keep(self, commit: Commit) -> None:
        revision, _, note, via, changes, size = commit
        if len(changes) > 1 and not _fits(note, via, changes):
            # No reply could hold it, and half a commit must not be told.
            self._records.clear()
            self.changes = self.size = 0
            self.since = revision
            return
        self._records.append(commit)
        self.changes += len(changes)
        self.size += size

    def trim(self, max_changes: int, max_bytes: int) -> None:
        """Drop the oldest commits until no more than ``max_changes`` and ``max_bytes`` are kept."""
        while self._records and (self.changes > max_changes or self.size > max_bytes):
            self.since, _, _, _, changes, size = self._records.popleft()
            self.changes -= len(changes)
            self.size -= size

    def knows(self, since: int, newest: int) -> bool:
        """Whether all changes after ``since`` are here, ``newest`` being the newest revision."""
        return self.since <= since <= newest

    def has_changed(self, since: int, prefix: str) -> bool:
        """Whether a key with ``prefix`` has changed after ``since``, which must be known here."""
        return any(_matching(record, prefix) for record in self._after(since))

    def changes_after(self, since: int, newest: int, prefix: str, limit: int) -> list[Change]:
        """List the changes after ``since`` to keys with ``prefix``, oldest first, always whole commits.

        Args:
            since: A revision.
            newest: The newest revision.
            prefix: Only of keys that start so.
            limit: End with the commit before the one that would pass so many changes; 0 for no limit.

        Raises:
            HistoryGoneError: ``since`` is older than what is kept, or newer than the newest.
            LimitExceededError: The reply would be too large.
        """
        if not self.knows(since, newest):
            raise HistoryGoneError(
                f"changes after revision {since} are not known; known are those after {self.since}, newest is {newest}"
            )
        found: list[Change] = []
        size = 0
        for record in self._after(since):
            revision, time, note, via, made, _ = record
            if len(made) == 1 and not made[0][1].startswith(prefix) and made[0][0] != CLEAR:
                continue  # nearly all, where few keys have the prefix
            changes = [Change(revision, kind, key, time, note, via) for kind, key in _matching(record, prefix)]
            if not changes:
                continue
            if limit and found and len(found) + len(changes) > limit:
                break
            size += _reply_size(note, via, [change.key for change in changes])
            if found:
                _check_reply(len(found) + len(changes), size)
            found += changes
            if limit and len(found) >= limit:
                break
        return found

    def _after(self, since: int) -> Iterator[Commit]:
        start = bisect_right(self._records, since, key=itemgetter(0))
        return islice(self._records, start, None)


def _matching(record: Commit, prefix: str) -> list[tuple[str, str]]:
    return [change for change in record[4] if change[1].startswith(prefix) or change[0] == CLEAR]


def _reply_size(note: str, via: str, keys: list[str]) -> int:
    # Joined: to look at each would take many times as long.
    return len(keys) * (_MARKUP + xml_text_size(note) + xml_text_size(via)) + xml_text_size("".join(keys))


def _fits(note: str, via: str, changes: list[tuple[str, str]]) -> bool:
    return len(changes) <= MAX_REPLY_ENTRIES and _reply_size(note, via, [key for _, key in changes]) <= MAX_REPLY_BYTES


def _check_reply(changes: int, size: int) -> None:
    if changes > MAX_REPLY_ENTRIES:
        raise LimitExceededError(f"the reply would have {changes} changes; at most {MAX_REPLY_ENTRIES}: use limit")
    if size > MAX_REPLY_BYTES:
        raise LimitExceededError(f"the reply would have {size} bytes; at most {MAX_REPLY_BYTES} are allowed: use limit")

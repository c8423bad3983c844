"""The entries of one cache in memory, the only thing that reads look at."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import islice

from supervisor_cache.core.entry import CLEAR, NEVER, Batch, Entry, Owner

# Beyond so many, sorting all keys again is faster than inserting each at its place.
_MANY = 64


class Entries:
    """Entries by key, with their keys in code-point order, their ends, their owners and the bytes they count for.

    Attributes:
        by_key: The entries themselves; only `apply` changes them.
        size: Bytes that all entries count for.
        next_deadline: No entry ends before this, on the clock that only grows.
    """

    def __init__(self) -> None:
        self.by_key: dict[str, Entry] = {}
        # In order only where `_is_sorted` says so; else also of what is gone, and what has come stands at the end.
        self._sorted: list[str] = []
        self._is_sorted = True
        self._deadlines = _Deadlines(self.by_key)
        self._owned: dict[int, dict[str, None]] = {}
        self.size = 0
        self.next_deadline = NEVER

    def __len__(self) -> int:
        return len(self.by_key)

    def revision(self, key: str) -> int:
        """Answer the revision of the entry of ``key``, or 0 where there is none."""
        entry = self.by_key.get(key)
        return 0 if entry is None else entry.revision

    def keys(self, prefix: str = "", after: str = "", limit: int = 0) -> list[str]:
        """List keys in code-point order.

        Args:
            prefix: Only those that start so.
            after: Only those beyond this one.
            limit: Only so many; 0 for all.
        """
        if not self._is_sorted:
            self._sort()
        start, end = 0, len(self._sorted)
        if prefix:
            start = bisect_left(self._sorted, prefix)
            length = len(prefix)
            end = bisect_right(self._sorted, prefix, lo=start, key=lambda key: key[:length])
        if after:
            start = max(start, bisect_right(self._sorted, after))
        if limit:
            end = min(end, start + limit)
        return self._sorted[start:end]

    def due(self, elapsed: float, most: int) -> list[str]:
        """List the keys whose entries have ended at ``elapsed``, in the order of their ends; the first ``most``."""
        return self._deadlines.passed(elapsed, most)

    def owned_by(self, pid: int, most: int | None = None) -> list[str]:
        """List the keys of the entries that end with the process ``pid``, in code-point order; any ``most`` of them."""
        return sorted(islice(self._owned.get(pid, ()), most))

    def owners(self) -> set[Owner]:
        """Answer every owner of an entry."""
        return {self.by_key[next(iter(keys))].owner for keys in self._owned.values()}

    def load(self, entries: Mapping[str, Entry]) -> None:
        """Begin anew with ``entries``."""
        self._drop_all()
        self.by_key.update(entries)
        self._deadlines = _Deadlines(self.by_key)
        self._sorted = sorted(entries)
        self._is_sorted = True
        self.size = sum(entry.size for entry in entries.values())
        for key, entry in entries.items():
            if entry.owner.pid or entry.deadline != NEVER:
                self._bind(key, entry)
        self.next_deadline = self._deadlines.next()

    def apply(self, batch: Batch) -> None:  # noqa: C901 - in one piece, for it runs at each write
        """Make the changes of ``batch`` readable."""
        by_key = self.by_key
        added: list[str] = []
        removed: list[str] = []
        for kind, key, entry in batch.mutations:
            if kind == CLEAR:  # alone in its batch
                self._drop_all()
                continue
            old = by_key.get(key)
            if old is not None:
                self.size -= old.size
                if old.owner.pid:
                    self._disown(key, old.owner.pid)
            if entry is not None:
                entry.revision = batch.revision
                by_key[key] = entry
                self.size += entry.size
                if old is None:
                    added.append(key)
                if entry.owner.pid or entry.deadline != NEVER:
                    self._bind(key, entry)
            elif old is not None:
                del by_key[key]
                removed.append(key)
        if added or removed:
            self._reindex(added, removed)
        if self._deadlines.heap:
            self.next_deadline = self._deadlines.next()

    def _bind(self, key: str, entry: Entry) -> None:
        if entry.owner.pid:
            self._owned.setdefault(entry.owner.pid, {})[key] = None
        if entry.deadline != NEVER:
            self._deadlines.add(key, entry)

    def _disown(self, key: str, pid: int) -> None:
        keys = self._owned[pid]
        keys.pop(key, None)
        if not keys:
            del self._owned[pid]

    def _drop_all(self) -> None:
        self.by_key.clear()
        self._owned.clear()
        self._sorted = []
        self._is_sorted = True
        self.size = 0

    def _reindex(self, added: list[str], removed: list[str]) -> None:
        if not self._is_sorted or len(added) + len(removed) > _MANY:
            # Of many commits that follow each other, only who reads has it sorted.
            self._is_sorted = False
            self._sorted.extend(added)
            if len(self._sorted) > 2 * len(self.by_key) + _MANY:
                # Where nobody lists, what comes and goes again and again would stay there for ever.
                self._sorted = self._held()
            return
        for key in removed:
            del self._sorted[bisect_left(self._sorted, key)]
        for key in added:
            insort(self._sorted, key)

    def _sort(self) -> None:
        self._sorted = self._held()
        self._sorted.sort()
        self._is_sorted = True

    def _held(self) -> list[str]:
        # What has gone and come again stands there twice; nearly all of it is in order, which sorts fast.
        return [key for key in dict.fromkeys(self._sorted) if key in self.by_key]


class _Deadlines:
    """When entries end.

    Attributes:
        heap: Their ends; also of what was replaced or deleted, which is taken away when its turn comes.
    """

    def __init__(self, by_key: dict[str, Entry]) -> None:
        self._by_key = by_key
        self.heap: list[tuple[float, int, str]] = []
        self._room = _MANY

    def add(self, key: str, entry: Entry) -> None:
        heappush(self.heap, (entry.deadline, entry.revision, key))

    def next(self) -> float:
        """Answer the first end."""
        heap = self.heap
        if len(heap) > self._room:
            # Renewed again and again, entries would leave their old ends behind.
            heap[:] = filter(self._holds, heap)
            heapify(heap)
            self._room = 2 * len(heap) + _MANY
        while heap and not self._holds(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else NEVER

    def passed(self, elapsed: float, most: int) -> list[str]:
        """List the keys whose entries have ended, in the order of their ends. They stay until they are deleted."""
        heap = self.heap
        found: list[str] = []
        # The next one in order is the top, or a child of one that has been listed.
        next_ones = [(heap[0], 0)] if heap else []
        while next_ones and len(found) < most:
            end, place = heappop(next_ones)
            if end[0] > elapsed:
                break
            if self._holds(end):
                found.append(end[2])
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(heap):
                    heappush(next_ones, (heap[child], child))
        return found

    def _holds(self, end: tuple[float, int, str]) -> bool:
        entry = self._by_key.get(end[2])
        return entry is not None and entry.revision == end[1]

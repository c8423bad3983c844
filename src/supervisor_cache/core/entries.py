"""The entries of one cache in memory, the only thing that reads look at."""

from bisect import bisect_left, bisect_right, insort

from supervisor_cache.core.entry import CLEAR, Commit, Entry

# From here on sorting all keys again is faster than inserting each at its place.
_MANY = 64


class Entries:
    """Entries by key, with their keys in code-point order and the bytes that they count for."""

    def __init__(self) -> None:
        self._by_key: dict[str, Entry] = {}
        self._sorted: list[str] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def get(self, key: str) -> Entry | None:
        """Answer the entry of ``key``, or None."""
        return self._by_key.get(key)

    def revision(self, key: str) -> int:
        """Answer the revision of the entry of ``key``, or 0 where there is none."""
        entry = self._by_key.get(key)
        return 0 if entry is None else entry.revision

    def keys(self, prefix: str = "", after: str = "", limit: int = 0) -> list[str]:
        """List keys in code-point order.

        Args:
            prefix: Only those that start so.
            after: Only those beyond this one.
            limit: Only so many; 0 for all.
        """
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

    def apply(self, commit: Commit) -> None:
        """Make the changes of ``commit`` readable."""
        by_key = self._by_key
        added: list[str] = []
        removed: list[str] = []
        for kind, key, entry in commit.batch.mutations:
            if kind == CLEAR:
                self._drop_all()
                added.clear()
                removed.clear()
                continue
            old = by_key.get(key)
            if old is not None:
                self.size -= old.size
            if entry is not None:
                entry.revision = commit.revision
                self.size += entry.size
                by_key[key] = entry
                if old is None:
                    added.append(key)
            elif old is not None:
                del by_key[key]
                removed.append(key)
        self._reindex(added, removed)

    def _drop_all(self) -> None:
        self._by_key.clear()
        self._sorted = []
        self.size = 0

    def _reindex(self, added: list[str], removed: list[str]) -> None:
        if len(removed) > _MANY:
            self._sorted = [key for key in self._sorted if key in self._by_key]
        else:
            for key in removed:
                del self._sorted[bisect_left(self._sorted, key)]
        if len(added) > _MANY:
            self._sorted.extend(added)
            self._sorted.sort()
        else:
            for key in added:
                insort(self._sorted, key)

"""Reads that ask no supervisord, but its database."""

from typing import Any

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.local import LocalCache, open_local
from supervisor_cache.commands.arguments import UsageError
from supervisor_cache.errors import NoSuchKeyError, UnavailableError


class LocalCaller:
    """Answers the methods that read entries; see `supervisor_cache.client.caller.Caller`."""

    def __init__(self, local: LocalCache) -> None:
        self.url = local.path
        self._local = local

    def call(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:  # noqa: ARG002 - as `Caller`
        """Call a method."""
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            raise UsageError("--local is for fetch, keys, items, entry and count")
        return answer(*args)

    def close(self) -> None:
        """Let go of the files."""
        self._local.close()

    def _fetch(self, key: str) -> Any:
        try:
            return self._local[key]
        except KeyError:
            raise NoSuchKeyError(f"no such key: {key!a}") from None

    def _getCount(self) -> int:  # noqa: N802 - the method's name, as below
        return len(self._local)

    def _getKeys(self, prefix: str = "", after: str = "", limit: int = 0) -> list[str]:  # noqa: N802
        found = [key for key in self._local if key.startswith(prefix) and key > after]
        return found[:limit] if limit else found

    def _getEntry(self, key: str) -> dict[str, Any]:  # noqa: N802
        try:
            entry = self._local.entry(key)
        except KeyError:
            raise NoSuchKeyError(f"no such key: {key!a}") from None
        return {**entry._asdict(), "revision": str(entry.revision)}

    def _getEntries(self, prefix: str = "", after: str = "", limit: int = 0) -> list[dict[str, Any]]:  # noqa: N802
        found = []
        for key in self._getKeys(prefix, after, limit):
            try:
                found.append(self._getEntry(key))
            except NoSuchKeyError:  # gone in the meantime
                continue
        return found


def connect_local(path: str) -> CacheClient:
    """Answer the entries of a database as a cache that only reads.

    Raises:
        UnavailableError: There is no database, or it cannot be read.
    """
    local = open_local(path)
    if local.age == float("inf") and local.revision == 0:
        local.close()
        raise UnavailableError(f"{ascii(path)[1:-1]}: there is no database")
    return CacheClient(LocalCaller(local))

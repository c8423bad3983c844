"""Views of a cache that ask for many entries at once, and the pages that listings come in."""

from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, TypeVar

from supervisor_cache.core.values import Value
from supervisor_cache.errors import LimitExceededError

if TYPE_CHECKING:
    from supervisor_cache.client.cache import CacheClient

T = TypeVar("T")

_SIZE = 500


def paged(
    ask: Callable[[str, int], list[T]], key_of: Callable[[T], str], after: str = "", most: int = 0
) -> Iterator[list[T]]:
    """Go through the pages of a listing; one that turns out too large for a reply is asked for in halves.

    Args:
        ask: Answers the page that begins beyond a key, of so many entries at most.
        key_of: Answers the key of an entry.
        after: Begin beyond this key.
        most: End after so many; 0 for all.
    """
    size, left = _SIZE, most
    while True:
        wanted = min(size, left) if most else size
        try:
            page = ask(after, wanted)
        except LimitExceededError:
            if wanted == 1:
                raise
            size = wanted // 2
            continue
        yield page
        left -= len(page)
        if len(page) < wanted or (most and left <= 0):
            return
        after = key_of(page[-1])


class Items(ItemsView[str, Value]):
    """Keys and values, in code-point order."""

    _mapping: "CacheClient"

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return iter(self._mapping.get_items().items())


class Values(ValuesView[Value]):
    """Values, in code-point order of their keys."""

    _mapping: "CacheClient"

    def __iter__(self) -> Iterator[Value]:
        return iter(self._mapping.get_items().values())

    def __contains__(self, value: object) -> bool:
        return value in self._mapping.get_items().values()

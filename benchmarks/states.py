"""What a cache is filled with before a call at its worst: the most that the default limits admit."""

import random
import string
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, NamedTuple, TypeAlias

Items: TypeAlias = Iterator[tuple[str, Any]]

MAX_ENTRIES = 10_000
MAX_DEPTH = 32
# An array of arrays to the greatest depth: two bytes each as JSON, and 46 in a reply.
CHAIN_DEPTH = MAX_DEPTH - 1
CHAINS = (64 * 1024 - 2) // (2 * CHAIN_DEPTH + 1)
# Of these the heap holds as many as 16 MB of JSON admit.
HEAVY_ENTRIES = 255
TTL_SECONDS = 1.0
LONG_PREFIX = "\u20ac" * 340


class State(NamedTuple):
    """What a cache holds.

    Attributes:
        items: Makes the entries.
        at_once: How many of them one call stores.
        ttl: After how many seconds they end; 0 for never.
    """

    items: Callable[[], Items]
    at_once: int = 100
    ttl: float = 0


def short_keys(count: int) -> list[str]:
    """Answer different keys of three letters in random order; always the same."""
    letters = string.ascii_letters + string.digits
    keys = ["".join(three) for three in islice(product(letters, repeat=3), count)]
    random.Random(1).shuffle(keys)
    return keys


def listable_keys() -> list[str]:
    """Answer so many keys of 71 bytes that getKeys of all of them is just under 1 MB."""
    return [(key * 24)[:71] for key in short_keys(MAX_ENTRIES)]


def long_keys(count: int) -> list[str]:
    """Answer different keys of 1 KB in UTF-8, alike but for their last three letters."""
    return [LONG_PREFIX + key for key in short_keys(count)]


def nested() -> list[Any]:
    """Build a value of 64 KB as JSON, of more than 32,000 arrays."""
    return [_chain() for _ in range(CHAINS)]


def _chain() -> list[Any]:
    chain: list[Any] = []
    for _ in range(CHAIN_DEPTH - 1):
        chain = [chain]
    return chain


def _short() -> Items:
    return ((key, "1") for key in short_keys(MAX_ENTRIES))


def _listable() -> Items:
    return ((key, "") for key in listable_keys())


def _long_keys() -> Items:
    return ((key, "") for key in long_keys(MAX_ENTRIES))


def _replies() -> Items:
    # 2,000 entries, together just under 1 MB in a reply of getItems.
    return ((key, [[] for _ in range(9)]) for key in short_keys(2000))


def _described() -> Items:
    # As many as getEntries lets through at once.
    return ((key, "") for key in short_keys(1350))


def _one_nested() -> Items:
    yield "a", nested()


def _one_of_integers() -> Items:
    yield "a", [1] * (32 * 1024 - 1)


def _one_of_strings() -> Items:
    yield "a", [""] * (64 * 1024 // 3)


def _heap() -> Items:
    return ((f"h{number}", nested()) for number in range(HEAVY_ENTRIES))


STATES: dict[str, State] = {
    "empty": State(lambda: iter(())),
    "10,000 short entries": State(_short),
    "10,000 short entries, each a commit": State(_short, at_once=1),
    "10,000 short entries that end at once": State(_short, at_once=MAX_ENTRIES, ttl=TTL_SECONDS),
    "10,000 keys of 71 bytes": State(_listable),
    "10,000 keys of 1 KB": State(_long_keys),
    "2,000 entries of 10 arrays": State(_replies),
    "1,350 short entries": State(_described),
    "one value of 32,000 arrays": State(_one_nested),
    "one value of 32,000 integers": State(_one_of_integers),
    "one value of 21,800 strings": State(_one_of_strings),
    "16 MB of nested arrays": State(_heap),
}


def fill(cache: Any, state: State) -> str:
    """Have ``cache``, an RPC interface, hold the entries of ``state`` and nothing else.

    Returns:
        The revision after which all changes are known.
    """
    cache.clear()
    items = state.items()
    options: Any = {"ttl": state.ttl} if state.ttl else ""
    while batch := dict(islice(items, state.at_once)):
        cache.storeMany(batch, options)
    since: str = cache.getStats()["history"]["since"]
    return since

"""What a cache is filled with before a call at its worst: the most that the default limits admit."""

import random
import string
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, TypeAlias

Items: TypeAlias = Iterator[tuple[str, Any]]

MAX_ENTRIES = 10_000
MAX_DEPTH = 32
# An array of arrays to the greatest depth: two bytes each as JSON, and 46 in a reply.
CHAIN_DEPTH = MAX_DEPTH - 1
CHAINS = (64 * 1024 - 2) // (2 * CHAIN_DEPTH + 1)
# Of these the heap holds as many as 16 MB of JSON admit.
HEAVY_ENTRIES = 255


def short_keys(count: int) -> list[str]:
    """Answer different keys of three letters in random order; always the same."""
    letters = string.ascii_letters + string.digits
    keys = ["".join(three) for three in islice(product(letters, repeat=3), count)]
    random.Random(1).shuffle(keys)
    return keys


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
    # getKeys of all of them is just under 1 MB.
    return (((key * 24)[:71], "") for key in short_keys(MAX_ENTRIES))


def _long_keys() -> Items:
    # 1 KB each in UTF-8, alike but for their last three letters.
    return (("\u20ac" * 340 + key, "") for key in short_keys(MAX_ENTRIES))


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


STATES: dict[str, Callable[[], Items]] = {
    "empty": lambda: iter(()),
    "10,000 short entries": _short,
    "10,000 keys of 71 bytes": _listable,
    "10,000 keys of 1 KB": _long_keys,
    "2,000 entries of 10 arrays": _replies,
    "1,350 short entries": _described,
    "one value of 32,000 arrays": _one_nested,
    "one value of 32,000 integers": _one_of_integers,
    "one value of 21,800 strings": _one_of_strings,
    "16 MB of nested arrays": _heap,
}


def fill(cache: Any, state: Callable[[], Items]) -> None:
    """Have ``cache``, an RPC interface, hold the entries of ``state`` and nothing else."""
    cache.clear()
    items = state()
    while batch := dict(islice(items, 100)):
        cache.storeMany(batch)

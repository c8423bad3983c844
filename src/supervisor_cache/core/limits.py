"""The limits of one cache, and of one reply."""

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB

MAX_REPLY_BYTES = MIB
MAX_REPLY_ENTRIES = 2000


class Limits(NamedTuple):
    """What a cache admits; each field is the configuration option of that name.

    Attributes:
        max_entries: How many entries.
        max_key_bytes: Of one key, in UTF-8.
        max_value_bytes: Of one value, as compact JSON in UTF-8.
        max_total_bytes: Of all keys, values and notes together; the history gives way.
        max_changes: How many changes are kept.
    """

    max_entries: int = 10_000
    max_key_bytes: int = KIB
    max_value_bytes: int = 64 * KIB
    max_total_bytes: int = 16 * MIB
    max_changes: int = 10_000

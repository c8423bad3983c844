"""What the client and the local reader answer."""

from typing import NamedTuple

from supervisor_cache.core.values import Value


class Entry(NamedTuple):
    """An entry with all that is known of it.

    Attributes:
        key: Its key.
        value: Its value.
        revision: Of the commit that wrote it.
        modified: When that was, in seconds since the epoch.
        expires: When it ends, in seconds since the epoch; 0 for never.
        owner: The process that it ends with, ``GROUP:NAME``; empty for none.
        note: Who wrote it and why, as the writer said.
    """

    key: str
    value: Value
    revision: int
    modified: float
    expires: float
    owner: str
    note: str


class Waited(NamedTuple):
    """What a wait came to.

    Attributes:
        changed: Whether something has changed, or that can no longer be known.
        revision: The newest revision.
    """

    changed: bool
    revision: int

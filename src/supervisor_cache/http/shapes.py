"""Entries and changes as the JSON interface shows them."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from supervisor_cache.core.cache import Cache
from supervisor_cache.core.codec import Packed, to_json
from supervisor_cache.core.entry import NEVER, Entry
from supervisor_cache.core.history import Change

_quote = json.encoder.encode_basestring
# Writing a double takes a quarter of the time of an entry, and what was stored in one call has the same.
_seconds = lru_cache(1024)(repr)

# What a stream carries of one value, and of the values of one commit; a client asks for a larger one.
MAX_VALUE_BYTES = 8 * 1024
MAX_EVENT_BYTES = 64 * 1024


def value_json(packed: Packed) -> str:
    """Write a value as it is kept."""
    if type(packed) is str:
        return _quote(packed)
    return packed.decode() if type(packed) is bytes else to_json(packed)  # type: ignore[arg-type]  # a Value by now


def entry_json(cache: Cache, key: str, entry: Entry, value: str | None = None) -> str:
    """Write an entry; with ``value`` in the place of its own."""
    shown = value_json(entry.packed) if value is None else value
    expires = "0.0" if entry.deadline == NEVER else repr(cache.expires(entry))
    owner, note = entry.owner.name, entry.note
    # In one piece, and nothing quoted that is empty: a page has hundreds of them.
    behind = f'"owner":{_quote(owner)},"note":{_quote(note)}}}' if owner or note else '"owner":"","note":""}'
    return (
        f'{{"key":{_quote(key)},"value":{shown},"revision":"{entry.revision}","modified":{_seconds(entry.modified)},'
        f'"expires":{expires},{behind}'
    )


def change_json(change: Change) -> str:
    """Write a change of the history."""
    return (
        f'{{"revision":"{change.revision}","kind":"{change.kind}","key":{_quote(change.key)},'
        f'"modified":{_seconds(change.modified)},"note":{_quote(change.note)},"via":{_quote(change.via)}}}'
    )


def event_json(cache: Cache, changes: Sequence[Change], entries: Iterable[Entry | None]) -> str:
    """Write the changes of one commit, each with the entry as it is afterwards: null where there is none.

    A value that is too large for a stream is left out: its entry has no ``value`` then.
    """
    shown: list[str] = []
    room = MAX_EVENT_BYTES
    for change, entry in zip(changes, entries, strict=True):
        text = "null"
        if entry is not None:
            value = value_json(entry.packed)
            if len(value) > MAX_VALUE_BYTES or len(value) > room:
                text = entry_json(cache, change.key, entry, "null").replace('"value":null,', "", 1)
            else:
                room -= len(value)
                text = entry_json(cache, change.key, entry, value)
        shown.append(f'{change_json(change)[:-1]},"entry":{text}}}')
    return f"[{','.join(shown)}]"

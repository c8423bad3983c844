"""Entries and commits as rows of the database, and back."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from supervisor_cache.core.codec import from_json, pack, to_json
from supervisor_cache.core.engine import Content
from supervisor_cache.core.entry import CLEAR, KINDS, NEVER, NOBODY, RESET, Clock, Entry, Owner
from supervisor_cache.core.history import Commit, commit_of
from supervisor_cache.core.keys import MAX_KEY_BYTES, checked_key, checked_note
from supervisor_cache.core.limits import MAX_REPLY_ENTRIES
from supervisor_cache.core.plan import Terms, sized
from supervisor_cache.core.text import is_plain
from supervisor_cache.core.values import Value
from supervisor_cache.errors import CacheError

# Beyond any that the wall clock will ever ask for; what is above is no revision of ours.
MAX_REVISION = 2**62

EntryRow = tuple[str, str, int, float, float, str, int, str]
ChangeRow = tuple[int, int, str, str, float, str, str]


def decoded(text: bytes) -> str:
    """Decode a text column; what is not UTF-8 becomes surrogates, which no entry may have."""
    return text.decode("utf-8", "surrogateescape")


def entry_row(key: str, entry: Entry, revision: int) -> EntryRow:
    """Answer the row of an entry."""
    packed = entry.packed
    if type(packed) is str and is_plain(packed):
        value = f'"{packed}"'
    else:
        value = packed.decode() if type(packed) is bytes else to_json(packed)  # type: ignore[arg-type]  # a Value by now
    owner = entry.owner
    return key, value, revision, entry.modified, entry.expires, owner.name, owner.pid, entry.note


def change_rows(revision: int, time: float, note: str, via: str, changes: list[tuple[str, str]]) -> Iterator[ChangeRow]:
    """Answer the rows of a commit."""
    if len(changes) > MAX_REPLY_ENTRIES:  # the history forgets it, too
        yield revision, 0, RESET, "", time, note, via
        return
    for position, (kind, key) in enumerate(changes):
        yield revision, position, kind, key, time, note, via


def read(entries: Iterable[Any], changes: Iterable[Any], clock: Clock) -> tuple[Content, frozenset[str]]:
    """Answer all that is stored, and the keys of what was skipped since it is no entry.

    Another program may have written them: each is checked as if it came from a client.
    """
    found: dict[str, Entry] = {}
    skipped = set()
    newest = 0
    ahead = clock.elapsed() - clock.wall()
    for row in entries:
        try:
            entry = _entry(row, ahead)
        except (CacheError, TypeError, ValueError, OverflowError):
            skipped.add(row[0])
        else:
            found[row[0]] = entry
            newest = max(newest, entry.revision)
    commits, since = _commits(changes)
    if commits:
        newest = max(newest, commits[-1][0])
    newest = max(newest, since)
    return Content(found, commits, since if commits or since else newest, newest), frozenset(skipped)


def checked_value(row: Any) -> Value:
    """Answer the value in a row of ``entries``.

    Raises:
        ValueError: The row is no entry.
        TypeError: Likewise.
        CacheError: Likewise.
    """
    key, value, revision, modified, expires, owner, pid, note = row
    checked_key(key, MAX_KEY_BYTES)
    checked_note(note)
    checked_note(owner)
    if type(revision) is not int or not 0 < revision < MAX_REVISION or type(pid) is not int:
        raise ValueError("a column has a wrong type")
    if not (math.isfinite(modified) and math.isfinite(expires)):
        raise ValueError("a time is not finite")
    return from_json(value)


def entry_of(key: str, value: Value, modified: float, expires: float, owner: Owner, note: str, ahead: float) -> Entry:
    """Make an entry of what has been stored.

    Args:
        key: Of the entry.
        value: Of the entry.
        modified: When it was written, in seconds since the epoch.
        expires: When it ends, likewise; 0 for never.
        owner: The process that it ends with.
        note: Who and why.
        ahead: Seconds by which the clock that only grows is ahead of the wall clock.
    """
    deadline = expires + ahead if expires else NEVER
    return sized(key, pack(value), modified, Terms(note, owner, expires, deadline))


def _entry(row: Any, ahead: float) -> Entry:
    value = checked_value(row)
    key, _, revision, modified, expires, owner, pid, note = row
    # Of a cache that several hosts share, the process of another one has no pid here.
    entry = entry_of(key, value, modified, expires, Owner(owner, max(pid, 0)) if owner else NOBODY, note, ahead)
    entry.revision = revision
    return entry


def _is_change(row: Any) -> bool:
    _, _, kind, key, time, note, via = row
    try:
        checked_note(note)
        checked_note(via)
        if kind != CLEAR:
            checked_key(key, MAX_KEY_BYTES)
        return kind in KINDS and math.isfinite(time)
    except (CacheError, TypeError, ValueError):
        return False


def _commits(changes: Iterable[Any]) -> tuple[list[Commit], int]:
    """Answer the commits after the newest one whose changes are not known, and its revision."""
    commits: list[Commit] = []
    since = 0
    current: tuple[int, float, str, str] | None = None
    told: list[tuple[str, str]] = []
    for row in changes:
        revision, _, kind, key, time, note, via = row
        if type(revision) is not int or not 0 < revision < MAX_REVISION:
            # Whatever it was, who follows the changes has to start over.
            kind, revision = RESET, since if current is None else current[0]
        elif not _is_change(row):
            kind = RESET
        if current is None or revision != current[0]:
            if current is not None and told:
                commits.append(commit_of(*current, told))
            elif current is None:
                since = revision - 1
            current, told = (revision, time, note, via), []
        if kind in KINDS:
            told.append((kind, key))
        else:
            commits, told, since = [], [], revision
    if current is not None and told:
        commits.append(commit_of(*current, told))
    return commits, since

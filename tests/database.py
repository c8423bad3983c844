"""What has to hold of a database, seen from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from supervisor_cache.core.codec import from_json, to_json
from supervisor_cache.core.engine import Content
from tests.harness import OWN_BINARIES, Supervisord


def rows(path: Path, query: str, *values: object) -> list[Any]:
    """Ask a database that may be in use."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        return connection.execute(query, values).fetchall()


def assert_integrity(path: Path) -> None:
    """Have SQLite itself look at all of it."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA user_version") == [(1,)]


def assert_agreement(path: Path, content: Content) -> None:
    """Compare a database with what is in memory."""
    stored = rows(path, "SELECT key, value, revision, modified, expires, owner, pid, note FROM entries ORDER BY key")
    assert stored == [
        (key, to_json(one.value), one.revision, one.modified, one.expires, one.owner.name, one.owner.pid, one.note)
        for key, one in sorted(content.entries.items())
    ]
    changes = rows(
        path,
        "SELECT revision, kind, key, time, note, via FROM changes WHERE revision > ? ORDER BY revision, position",
        content.since,
    )
    assert changes == [
        (revision, kind, key, time, note, via)
        for revision, time, note, via, told, _ in content.commits
        for kind, key in told
    ]


def assert_serves(path: Path, cache: Any) -> None:
    """Compare a database with what a supervisord answers that uses it."""
    assert_integrity(path)
    # What changes between two looks, for its processes are running still, is no difference.
    for _ in range(100):
        before = cache.getRevision()
        entries: list[Any] = []
        while page := cache.getEntries("", entries[-1]["key"] if entries else "", 500):
            entries += page
        stored = rows(path, "SELECT key, value, revision, note, owner, expires FROM entries ORDER BY key")
        if cache.getRevision() == before:
            break
    else:
        raise AssertionError("it changes all the while")
    assert [
        (one["key"], one["value"], int(one["revision"]), one["note"], one["owner"], bool(one["expires"]))
        for one in entries
    ] == [
        (key, from_json(value), revision, note, owner, bool(expires))
        for key, value, revision, note, owner, expires in stored
    ]


def databases(supervisord: Supervisord) -> dict[str, Path]:
    """Answer the databases of a supervisord whose storage does well, by namespace."""
    found: dict[str, Path] = {}
    if supervisord.binaries != OWN_BINARIES or not supervisord.is_up():  # release 1.1.0 has none
        return found
    for name in supervisord.sections:
        told = getattr(supervisord.unix(), name).getStats()["storage"]
        if told["kind"] == "sqlite" and told["state"] in {"ok", "recovered"} and not told["skipped"]:
            found[name] = Path(told["path"])
    return found

"""``import``: stores what ``export`` wrote."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from supervisor_cache.cli.export import FORMAT, VERSION
from supervisor_cache.cli.globals import Globals
from supervisor_cache.cli.progress import progress
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.records import Entry
from supervisor_cache.commands.arguments import Words
from supervisor_cache.commands.failures import REFUSED, USAGE, FailureError, failure_of
from supervisor_cache.commands.output import say_on_stderr
from supervisor_cache.commands.waiting import entry_of
from supervisor_cache.core.codec import parse_json
from supervisor_cache.core.keys import checked_key, checked_note
from supervisor_cache.core.text import utf8_length, xml_text_size
from supervisor_cache.core.values import MEMBER_MARKUP, Value, reply_size
from supervisor_cache.errors import (
    CacheError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    UnknownOutcomeError,
)

_ANY_LENGTH = 2**31
# Bytes and entries of one call: no other client waits for long.
_MOST_BYTES = 200_000
_MOST_ENTRIES = 500
_BY_SIGNAL = 128
_NAMES = {"key", "value", "expires", "note"}
# Seconds since the epoch that a date can be made of, roughly.
_LATEST = 1e11


class Item(NamedTuple):
    """One entry to store.

    Attributes:
        line: Where it stands.
        key: Its key.
        value: Its value.
        expires: When it ends, in seconds since the epoch; 0 for never.
        note: Its note.
    """

    line: int
    key: str
    value: Value
    expires: float
    note: str


def run(options: Globals, words: Words) -> int:
    """Store all items, or none; with ``--partial`` those that can be."""
    partial = "partial" in words.flags
    wrong: list[str] = []
    items, expired = _living(_read("".join(words.arguments) or "-", wrong if partial else None))
    cache = options.connect()
    # What has been stored is taken back then, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if not partial:
        _check_room(cache, items)
    unread = len(wrong)
    with progress("import", len(items)) as advance:
        if partial:
            stored = _store_each(cache, items, wrong, advance)
        else:
            stored = _store_all(cache, items, advance, options.namespace)
    # Those too that ended while others were stored.
    expired += len(items) - stored - (len(wrong) - unread)
    for line in wrong:
        say_on_stderr(f"import: ERROR ({line})")
    say_on_stderr(f"import: {stored} stored, {expired} had expired" + (f", {len(wrong)} refused" if wrong else ""))
    return REFUSED if wrong else 0


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(_BY_SIGNAL + number)


# Reading


def _read(path: str, wrong: list[str] | None) -> list[Item]:
    """Read all lines; what is wrong is put into ``wrong``, or raised where that is None."""
    items: dict[str, Item] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            if number == 1:
                _check_header(line)
            elif line.strip():
                item = _item(number, line)
                if item.key in items:
                    raise ValueError(f"the key stands in line {items[item.key].line} already")
                items[item.key] = item
        except (CacheError, ValueError) as error:
            text = f"line {number}: {error}"
            if number == 1 or wrong is None:
                raise FailureError(USAGE, text, path) from None
            wrong.append(text)
    return list(items.values())


def _lines(path: str) -> Iterator[str]:
    if path == "-" and sys.stdin is None:
        raise FailureError(USAGE, "there is no standard input", path)
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            data = file.read()
        lines = data.decode("utf-8").split("\n")
    except OSError as error:
        raise FailureError(USAGE, error.strerror or str(error), path) from None
    except ValueError:
        raise FailureError(USAGE, "not UTF-8", path) from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise FailureError(USAGE, "empty: export begins with a line that tells the format", path)
    yield from lines


def _check_header(line: str) -> None:
    header: Any = parse_json(line)
    if not isinstance(header, dict) or FORMAT not in header:
        raise ValueError("not what export writes")
    if header[FORMAT] != VERSION:
        raise ValueError(f"format {header[FORMAT]!r} is of a newer release; this one knows {VERSION}")


def _item(number: int, line: str) -> Item:
    given: Any = parse_json(line)
    if not isinstance(given, dict) or not {"key", "value"} <= given.keys() <= _NAMES:
        raise ValueError("must be an object of key and value, and maybe expires and note")
    expires = given.get("expires", 0)
    if type(expires) not in {int, float} or not 0 <= expires < _LATEST:
        raise ValueError("expires must be seconds since the epoch")
    reply_size(given["value"])
    return Item(
        number, checked_key(given["key"], _ANY_LENGTH), given["value"], expires, checked_note(given.get("note", ""))
    )


def _living(items: list[Item]) -> tuple[list[Item], int]:
    now = time.time()
    living = [item for item in items if not item.expires or item.expires > now]
    return living, len(items) - len(living)


# Storing


def _check_room(cache: CacheClient, items: list[Item]) -> None:
    stats = cache.get_stats()
    limits = stats["limits"]
    new = len({item.key for item in items} - set(cache.get_keys()))
    if stats["entries"] + new > limits["max_entries"]:
        text = f"there would be {stats['entries'] + new} entries; max_entries is {limits['max_entries']}"
        raise FailureError(REFUSED, f"nothing stored: {text}", "import")
    for item in items:
        if utf8_length(item.key) > limits["max_key_bytes"]:
            raise FailureError(REFUSED, f"nothing stored: line {item.line}: the key is too long", "import")


def _pieces(items: list[Item]) -> Iterator[list[Item]]:
    """Cut ``items`` into what one call can store: the same note, the same end, not too much."""
    groups: dict[tuple[str, float], list[Item]] = {}
    for item in items:
        groups.setdefault((item.note, item.expires), []).append(item)
    for group in groups.values():
        piece: list[Item] = []
        size = 0
        for item in group:
            more = MEMBER_MARKUP + xml_text_size(item.key) + reply_size(item.value)
            if piece and (size + more > _MOST_BYTES or len(piece) >= _MOST_ENTRIES):
                yield piece
                piece, size = [], 0
            piece.append(item)
            size += more
        yield piece


def _store(cache: CacheClient, piece: list[Item]) -> int | None:
    """Store a piece; answer its revision, or None where it has ended in the meantime."""
    ttl = piece[0].expires - time.time() if piece[0].expires else None
    if ttl is not None and ttl <= 0:
        return None
    return cache.store_many({item.key: item.value for item in piece}, ttl=ttl, note=piece[0].note)


def _store_each(cache: CacheClient, items: list[Item], wrong: list[str], advance: Callable[[int], None]) -> int:
    stored = 0
    for piece in _pieces(items):
        stored += _store_what_can_be(cache, piece, wrong)
        advance(len(piece))
    return stored


def _store_what_can_be(cache: CacheClient, piece: list[Item], wrong: list[str]) -> int:
    try:
        revision = _store(cache, piece)
    except (InvalidArgumentsError, InvalidKeyError, LimitExceededError) as error:
        # Certainly nothing of it is stored: one of them is not admitted.
        if len(piece) == 1:
            wrong.append(f"line {piece[0].line}: {error}")
            return 0
        middle = len(piece) // 2
        return _store_what_can_be(cache, piece[:middle], wrong) + _store_what_can_be(cache, piece[middle:], wrong)
    return 0 if revision is None else len(piece)


def _store_all(cache: CacheClient, items: list[Item], advance: Callable[[int], None], namespace: str) -> int:
    """Store all of ``items``, or none; answer how many, without those that have ended in the meantime."""
    wanted = {item.key for item in items}
    before = {entry.key: entry for entry in cache.get_entries() if entry.key in wanted}
    written: dict[str, int | None] = {}
    try:
        for piece in _pieces(items):
            try:
                revision = _store(cache, piece)
            except UnknownOutcomeError:
                written.update(dict.fromkeys(item.key for item in piece))
                raise
            if revision is not None:
                written.update(dict.fromkeys((item.key for item in piece), revision))
            advance(len(piece))
    except BaseException as error:
        left = _take_back(cache, written, before, {item.key: item for item in items})
        if isinstance(error, CacheError):
            failure = failure_of(error, namespace)
            what = f"{left} of {len(items)} stay stored" if left else "nothing stored"
            raise FailureError(failure.status, f"{what}: {failure.reason}", failure.subject or "import") from None
        raise
    return len(written)


def _take_back(
    cache: CacheClient, written: dict[str, int | None], before: dict[str, Entry], items: dict[str, Item]
) -> int:
    """Have what was there before in the place of what was ``written``; answer how many could not be."""
    left = 0
    for key, known in reversed(written.items()):
        try:
            revision = known
            if revision is None:  # it may have been written or not
                entry = entry_of(cache, key)
                old = before.get(key)
                if entry is None or (old is not None and entry.revision == old.revision):
                    continue
                if (entry.value, entry.note) != (items[key].value, items[key].note):
                    continue
                revision = entry.revision
            _put_back(cache, key, revision, before.get(key))
        except CacheError:
            left += 1
    return left


def _put_back(cache: CacheClient, key: str, revision: int, old: Entry | None) -> None:
    # Who has written it in the meantime knows better.
    ttl = old.expires - time.time() if old is not None and old.expires else None
    if old is None or (ttl is not None and ttl <= 0):
        cache.delete_if(key, revision, note="import: taken back")
        return
    try:
        cache.store_if(key, old.value, revision, ttl=ttl, note=old.note, owner=old.owner)
    except CacheError:
        if not old.owner:
            raise
        # Its owner has ended, and it would have ended with it.
        with suppress(CacheError):
            cache.delete_if(key, revision, note="import: taken back")

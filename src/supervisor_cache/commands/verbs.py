"""The verbs: what each asks of supervisord and shows of the answer."""

import math
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.records import Entry
from supervisor_cache.commands import durations
from supervisor_cache.commands.arguments import Usage, UsageError, Words
from supervisor_cache.commands.durations import seconds
from supervisor_cache.commands.failures import MISSING, NO, USAGE, FailureError
from supervisor_cache.commands.output import Out, as_json, bare, moment
from supervisor_cache.commands.waiting import entry_of, wait_for
from supervisor_cache.core.codec import from_json
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_key, checked_note, checked_prefix
from supervisor_cache.core.options import checked_revision
from supervisor_cache.core.values import MAX_INT, MIN_INT, Value, check_value
from supervisor_cache.errors import HistoryGoneError, NoSuchKeyError

# A key's length is the server's to judge: the limit is an option there.
_ANY_LENGTH = sys.maxsize
_NOT_DECODED = re.compile("[\udc80-\udcff]")
_INTEGER = re.compile("[+-]?[0-9]{1,10}")


class Verb(NamedTuple):
    """One verb.

    Attributes:
        name: What follows the namespace in the command of supervisorctl.
        help: What it does, in a sentence.
        usage: What it takes.
        run: Does it: asks the cache, and shows the answer.
        is_read: Whether it only reads, at once: it can be asked of several hosts.
    """

    name: str
    help: str
    usage: Usage
    run: Callable[[CacheClient, Words, Out], None]
    is_read: bool = False


def _options(words: Words) -> dict[str, Any]:
    """Answer the options of a write by the names that the client has for them."""
    options: dict[str, Any] = {}
    if "note" in words.values:
        options["note"] = checked_note(words.values["note"])
    if "ttl" in words.values:
        options["ttl"] = seconds(words.values["ttl"], "--ttl")
    if "owner" in words.values:
        options["owner"] = owner_of(words.values["owner"])
    if "if-changed" in words.flags:
        options["if_changed"] = True
    return options


def owner_of(text: str) -> str:
    """Answer the owner that ``text`` names; ``self`` is the process that Supervisor started."""
    if text != "self":
        return text
    try:
        return f"{os.environ['SUPERVISOR_GROUP_NAME']}:{os.environ['SUPERVISOR_PROCESS_NAME']}"
    except KeyError:
        raise UsageError("--owner self is for processes that Supervisor has started") from None


def _key(text: str) -> str:
    _check_text(text)
    return checked_key(text, _ANY_LENGTH)


def _check_text(text: str) -> None:
    # What Python makes of bytes on the command line that are no text.
    if _NOT_DECODED.search(text):
        raise FailureError(USAGE, "not UTF-8")


def _value(words: Words) -> Value:
    given = words.arguments[1:]
    if "file" in words.values:
        if given:
            raise UsageError("VALUE and --file exclude each other")
        text = _read(words.values["file"])
    elif given:
        text = given[0]
        _check_text(text)
    else:
        raise UsageError("VALUE is missing")
    if "json" in words.flags:
        return from_json(text)
    check_value(text)
    return text


def _read(path: str) -> str:
    try:
        if path != "-":
            with open(path, "rb") as file:
                data: bytes | None = file.read()
        elif sys.stdin is None:
            raise FailureError(USAGE, "there is no standard input", "--file -")
        else:
            data = sys.stdin.buffer.read()
        if data is None:
            raise FailureError(USAGE, "nothing there yet, and standard input does not wait", "--file -")
        return data.decode("utf-8")
    except OSError as error:
        raise FailureError(USAGE, f"{path}: {error.strerror}", "--file") from None
    except UnicodeDecodeError:
        raise FailureError(USAGE, f"{path}: not UTF-8", "--file") from None
    except ValueError as error:
        raise FailureError(USAGE, f"{path}: {error}", "--file") from None


def _no(key: str, reason: str) -> NoReturn:
    raise FailureError(NO, reason, key)


def _why_not(cache: CacheClient, key: str) -> str:
    return MISSING if entry_of(cache, key) is None else "another revision"


def _expected(words: Words) -> int | None:
    """Read the revision of ``--if-revision``; None for ``''``: there must be none."""
    return checked_revision(words.values["if-revision"]) or None


def _clear(cache: CacheClient, words: Words, _out: Out) -> None:
    cache.clear(**_options(words))


def _count(cache: CacheClient, _words: Words, out: Out) -> None:
    out.say(str(cache.get_count()))


def _delete(cache: CacheClient, words: Words, out: Out) -> None:
    keys = [_key(word) for word in words.arguments]
    options = _options(words)
    if "prefix" in words.values:
        if keys or "if-revision" in words.values:
            raise UsageError("--prefix goes with neither KEY nor --if-revision")
        out.say(str(cache.delete_prefix(checked_prefix(words.values["prefix"]), **options)))
    elif not keys:
        raise UsageError("KEY is missing")
    elif "if-revision" in words.values:
        if len(keys) > 1:
            raise UsageError("--if-revision goes with one KEY")
        if not cache.delete_if(keys[0], _expected(words) or 0, **options):
            _no(keys[0], _why_not(cache, keys[0]))
    elif len(keys) == 1:
        cache.delete(keys[0], **options)
    else:
        cache.delete_many(keys, **options)


def _fetch(cache: CacheClient, words: Words, out: Out) -> None:
    show = _show(words, out)
    try:
        value = cache.fetch(_key(words.arguments[0]))
    except NoSuchKeyError:
        if "default" not in words.values:
            raise
        out.say(words.values["default"])
    else:
        out.say(show(value))


def _show(words: Words, out: Out) -> Callable[[Any], str]:
    if {"raw", "json"} <= words.flags:
        raise UsageError("--raw and --json exclude each other")
    if "json" in words.flags:
        return as_json
    return bare if "raw" in words.flags or out.show is None else out.show


def _keys(cache: CacheClient, words: Words, out: Out) -> None:
    show = _show(words, out)
    keys = cache.get_keys(checked_prefix("".join(words.arguments)))
    if show is not bare:
        out.say(show(keys))
        return
    for key in keys:
        out.say(key)


def _items(cache: CacheClient, words: Words, out: Out) -> None:
    items = cache.get_items(checked_prefix("".join(words.arguments)))
    if "json" in words.flags:
        out.say(as_json(items))
    else:
        out.rows(("KEY", "VALUE"), ((key, as_json(value)) for key, value in items.items()))


def _entry(cache: CacheClient, words: Words, out: Out) -> None:
    entry = cache.get_entry(_key(words.arguments[0]))
    if "json" in words.flags:
        out.say(as_json(struct_of(entry)))
        return
    out.say(f"key       {entry.key}")
    out.say(f"value     {as_json(entry.value)}")
    out.say(f"revision  {entry.revision}")
    out.say(f"modified  {moment(entry.modified)}")
    if entry.expires:
        left = max(0.0, entry.expires - time.time())
        out.say(f"expires   {moment(entry.expires)}, in {durations.shown(left)}")
    else:
        out.say("expires   never")
    out.say(f"owner     {entry.owner}")
    out.say(f"note      {entry.note}")


def struct_of(record: Entry | Change) -> dict[str, Any]:
    """Answer the struct that the interface has for an entry or a change: its revision is a string."""
    return {**record._asdict(), "revision": str(record.revision)}


def _touch(cache: CacheClient, words: Words, out: Out) -> None:
    key, ttl = _key(words.arguments[0]), seconds(words.arguments[1], "TTL")
    if "if-revision" in words.values:
        revision = cache.touch_if(key, ttl, _expected(words) or 0, **_options(words))
    else:
        revision = cache.touch(key, ttl, **_options(words))
    if revision is None:
        _no(key, _why_not(cache, key))
    out.say(str(revision))


def _wait(cache: CacheClient, words: Words, out: Out) -> None:
    key, show = _key(words.arguments[0]), _show(words, out)
    wanted = words.flags & {"absent", "changed"} | words.values.keys() & {"value"}
    if len(wanted) > 1:
        raise UsageError("--value, --absent and --changed exclude each other")
    first: Any = ...

    def holds(entry: Entry | None) -> bool:
        if "absent" in wanted:
            return entry is None
        if "value" in wanted:
            return entry is not None and bare(entry.value) == words.values["value"]
        if "changed" in wanted:
            nonlocal first
            revision = None if entry is None else entry.revision
            first = revision if first is ... else first
            return bool(revision != first)
        return entry is not None

    timeout = seconds(words.values["timeout"], "--timeout") if "timeout" in words.values else math.inf
    found, entry = wait_for(cache, key, holds, timeout)
    if not found:
        _no(key, "timed out")
    if entry is not None:
        out.say(show(entry.value))


def _history(cache: CacheClient, words: Words, out: Out) -> None:
    changes = _changes(cache, checked_prefix("".join(words.arguments)))
    if "json" in words.flags:
        out.say(as_json([struct_of(change) for change in changes]))
        return
    out.rows(
        ("REVISION", "TIME", "KIND", "KEY", "VIA", "NOTE"),
        (
            (str(change.revision), moment(change.modified), change.kind, change.key, change.via, change.note)
            for change in changes
        ),
    )


def _changes(cache: CacheClient, prefix: str) -> list[Change]:
    """List the changes up to now that are known."""
    newest = int(cache.get_stats()["revision"])
    while True:
        since = int(cache.get_stats()["history"]["since"])
        try:
            return [change for change in cache.get_changes(since, prefix) if change.revision <= newest]
        except HistoryGoneError:  # the oldest were dropped in the meantime
            continue


def _stats(cache: CacheClient, words: Words, out: Out) -> None:
    stats = cache.get_stats()
    if "json" in words.flags:
        out.say(as_json(stats))
        return
    for name, value in sorted(_flat(stats)):
        out.say(f"{name:<24} {value}")


def _flat(stats: dict[str, Any], parent: str = "") -> list[tuple[str, str]]:
    lines = []
    for name, value in stats.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{parent}{name}.")
        elif isinstance(value, float):
            lines.append((parent + name, f"{value:.10g}"))
        elif isinstance(value, list):
            lines.append((parent + name, ", ".join(map(str, value))))
        else:
            lines.append((parent + name, str(value)))
    return lines


def _store(cache: CacheClient, words: Words, out: Out) -> None:
    key, value, options = _key(words.arguments[0]), _value(words), _options(words)
    if_changed = "if-changed" in words.flags
    if "if-revision" in words.values:
        expected = _expected(words)
        revision = cache.store_if(key, value, expected, **options)
        if revision is None:
            _no(key, "exists already" if expected is None else _why_not(cache, key))
        if if_changed:
            out.say("unchanged" if revision == expected else "changed")
        else:
            out.say(str(revision))
    elif if_changed:
        # store answers true either way; storeMany tells.
        out.say("unchanged" if cache.store_many({key: value}, **options) is None else "changed")
    else:
        cache.store(key, value, **options)


def _add(cache: CacheClient, words: Words, out: Out) -> None:
    key = _key(words.arguments[0])
    revision = cache.add(key, _value(words), **_options(words))
    if revision is None:
        _no(key, "exists already")
    out.say(str(revision))


def _increment(cache: CacheClient, words: Words, out: Out) -> None:
    key, *given = words.arguments
    delta = "".join(given) or "1"
    number = int(delta) if _INTEGER.fullmatch(delta) else MAX_INT + 1
    if not MIN_INT <= number <= MAX_INT:
        raise UsageError("DELTA must be an integer of 32 bits")
    out.say(str(cache.increment(_key(key), number, **_options(words))))


_NOTE = {"note": "TEXT"}
_OWNER = {"owner": "GROUP:NAME"}
_TERMS = {"ttl": "TIME", **_OWNER, **_NOTE}
_SOURCE = {"file": "PATH"}
_IF_REVISION = {"if-revision": "REVISION"}

VERBS = (
    Verb("clear", "Clear all items from the cache.", Usage((), (), _NOTE), _clear),
    Verb("count", "Get a count of all items in the cache.", Usage(), _count, is_read=True),
    Verb(
        "delete",
        "Delete the items cached at the keys, or all whose key starts with a prefix (says how many).",
        Usage(("KEY...",), (), {**_NOTE, **_IF_REVISION, "prefix": "PREFIX"}),
        _delete,
    ),
    Verb(
        "fetch",
        "Fetch the item cached at KEY: --raw shows a bare string, --json anything as JSON.",
        Usage(("KEY",), ("raw", "json"), {"default": "VALUE"}),
        _fetch,
        is_read=True,
    ),
    Verb(
        "keys",
        "List the keys of all items in the cache, or of those that start with PREFIX; --raw: one on each line.",
        Usage(("[PREFIX]",), ("raw", "json")),
        _keys,
        is_read=True,
    ),
    Verb(
        "store",
        "Store VALUE in the cache at KEY. With a condition, says the new revision, changed or unchanged.",
        Usage(("KEY", "[VALUE]"), ("json", "if-changed"), {**_TERMS, **_IF_REVISION, **_SOURCE}),
        _store,
    ),
    Verb(
        "add",
        "Store VALUE in the cache at KEY unless there is one already; says the new revision.",
        Usage(("KEY", "[VALUE]"), ("json",), {**_TERMS, **_SOURCE}),
        _add,
    ),
    Verb(
        "items",
        "List keys and values (as JSON), of all items or of those whose key starts with PREFIX.",
        Usage(("[PREFIX]",), ("json",)),
        _items,
        is_read=True,
    ),
    Verb(
        "entry",
        "Show the item cached at KEY with all that is known of it.",
        Usage(("KEY",), ("json",)),
        _entry,
        is_read=True,
    ),
    Verb(
        "increment",
        "Add DELTA, or 1, to the integer cached at KEY; says the new value.",
        Usage(("KEY", "[DELTA]"), ("if-changed",), _TERMS),
        _increment,
    ),
    Verb(
        "touch",
        "Have the item cached at KEY end in TTL (90, 90m, 2h, 7d; 0: not by itself); says the new revision.",
        Usage(("KEY", "TTL"), (), {**_OWNER, **_NOTE, **_IF_REVISION}),
        _touch,
    ),
    Verb(
        "wait",
        "Wait until there is an item at KEY (or VALUE there, or none, or a change) and show it.",
        Usage(("KEY",), ("absent", "changed", "raw", "json"), {"value": "VALUE", "timeout": "TIME"}),
        _wait,
    ),
    Verb(
        "history",
        "List the changes so far: revision, time, kind, key, server or process, note.",
        Usage(("[PREFIX]",), ("json",)),
        _history,
        is_read=True,
    ),
    Verb("stats", "Show size, limits, storage and counters of the cache.", Usage((), ("json",)), _stats, is_read=True),
)

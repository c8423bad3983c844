"""The verbs: what each asks of supervisord and shows of the answer."""

import math
import os
import pprint
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from supervisor_cache.core.codec import from_json
from supervisor_cache.core.keys import checked_key, checked_note, checked_prefix
from supervisor_cache.core.values import MAX_INT, MIN_INT, Value, check_value
from supervisor_cache.ctl import durations
from supervisor_cache.ctl.arguments import Usage, UsageError, Words
from supervisor_cache.ctl.durations import seconds
from supervisor_cache.ctl.output import as_json, bare, moment
from supervisor_cache.ctl.session import MISSING, NO, USAGE, FailureError, Session

# A key's length is the server's to judge: the limit is an option there.
_ANY_LENGTH = sys.maxsize
_NOT_DECODED = re.compile("[\udc80-\udcff]")
_INTEGER = re.compile("[+-]?[0-9]{1,10}")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: What follows the namespace in the command.
        help: What it does, in a sentence.
        usage: What it takes.
        run: Does it: asks the session, and says each line of the answer.
    """

    name: str
    help: str
    usage: Usage
    run: Callable[[Session, Words, Say], None]


def _options(words: Words) -> list[dict[str, Any]]:
    """Make the struct of options; left out where there is none, for release 1.1.0 takes none."""
    options: dict[str, Any] = {}
    if "note" in words.values:
        options["note"] = checked_note(words.values["note"])
    if "ttl" in words.values:
        options["ttl"] = seconds(words.values["ttl"], "--ttl")
    if "owner" in words.values:
        options["owner"] = _owner(words.values["owner"])
    if "if-changed" in words.flags:
        options["if_changed"] = True
    return [options] if options else []


def _owner(text: str) -> str:
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
            data: bytes | None = Path(path).read_bytes()
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


def _why_not(session: Session, key: str) -> str:
    try:
        session.call("getEntry", key)
    except FailureError as failure:
        if failure.missing:
            return MISSING
        raise
    return "another revision"


def _clear(session: Session, words: Words, _say: Say) -> None:
    session.call("clear", *_options(words))


def _count(session: Session, _words: Words, say: Say) -> None:
    say(str(session.call("getCount")))


def _delete(session: Session, words: Words, say: Say) -> None:
    keys = [_key(word) for word in words.arguments]
    options = _options(words)
    if "prefix" in words.values:
        if keys or "if-revision" in words.values:
            raise UsageError("--prefix goes with neither KEY nor --if-revision")
        say(str(session.call("deletePrefix", checked_prefix(words.values["prefix"]), *options)))
    elif not keys:
        raise UsageError("KEY is missing")
    elif "if-revision" in words.values:
        if len(keys) > 1:
            raise UsageError("--if-revision goes with one KEY")
        if not session.call("deleteIf", keys[0], words.values["if-revision"], *options):
            _no(keys[0], _why_not(session, keys[0]))
    elif len(keys) == 1:
        session.call("delete", keys[0], *options)
    else:
        session.call("deleteMany", keys, *options)


def _fetch(session: Session, words: Words, say: Say) -> None:
    show = _show(words)
    try:
        value = session.call("fetch", _key(words.arguments[0]))
    except FailureError as failure:
        if failure.missing and "default" in words.values:
            say(words.values["default"])
            return
        raise
    say(show(value))


def _show(words: Words) -> Callable[[Any], str]:
    if {"raw", "json"} <= words.flags:
        raise UsageError("--raw and --json exclude each other")
    if "raw" in words.flags:
        return bare
    return as_json if "json" in words.flags else pprint.pformat


def _keys(session: Session, words: Words, say: Say) -> None:
    show = _show(words)
    keys = session.keys(checked_prefix("".join(words.arguments)))
    if "raw" in words.flags:
        for key in keys:
            say(key)
    else:
        say(show(keys))


def _items(session: Session, words: Words, say: Say) -> None:
    items = session.items(checked_prefix("".join(words.arguments)))
    if "json" in words.flags:
        say(as_json(items))
    else:
        for key, value in items.items():
            say(f"{key}\t{as_json(value)}")


def _entry(session: Session, words: Words, say: Say) -> None:
    entry = session.call("getEntry", _key(words.arguments[0]))
    if "json" in words.flags:
        say(as_json(entry))
        return
    say(f"key       {entry['key']}")
    say(f"value     {as_json(entry['value'])}")
    say(f"revision  {entry['revision']}")
    say(f"modified  {moment(entry['modified'])}")
    if entry["expires"]:
        left = max(0.0, entry["expires"] - time.time())
        say(f"expires   {moment(entry['expires'])}, in {durations.shown(left)}")
    else:
        say("expires   never")
    say(f"owner     {entry['owner']}")
    say(f"note      {entry['note']}")


def _touch(session: Session, words: Words, say: Say) -> None:
    key, ttl = _key(words.arguments[0]), seconds(words.arguments[1], "TTL")
    if "if-revision" in words.values:
        revision = session.call("touchIf", key, ttl, words.values["if-revision"], *_options(words))
    else:
        revision = session.call("touch", key, ttl, *_options(words))
    if not revision:
        _no(key, _why_not(session, key))
    say(revision)


def _wait(session: Session, words: Words, say: Say) -> None:
    key, show = _key(words.arguments[0]), _show(words)
    wanted = words.flags & {"absent", "changed"} | words.values.keys() & {"value"}
    if len(wanted) > 1:
        raise UsageError("--value, --absent and --changed exclude each other")
    first: Any = ...

    def holds(entry: dict[str, Any] | None) -> bool:
        if "absent" in wanted:
            return entry is None
        if "value" in wanted:
            return entry is not None and bare(entry["value"]) == words.values["value"]
        if "changed" in wanted:
            nonlocal first
            revision = None if entry is None else entry["revision"]
            first = revision if first is ... else first
            return bool(revision != first)
        return entry is not None

    timeout = seconds(words.values["timeout"], "--timeout") if "timeout" in words.values else math.inf
    found, entry = session.wait(key, holds, timeout)
    if not found:
        _no(key, "timed out")
    if entry is not None:
        say(show(entry["value"]))


def _history(session: Session, words: Words, say: Say) -> None:
    changes = session.changes(checked_prefix("".join(words.arguments)))
    if "json" in words.flags:
        say(as_json(changes))
        return
    for change in changes:
        told = (change["revision"], moment(change["modified"]), change["kind"], change["key"])
        say("\t".join([*told, change["via"], change["note"]]))


def _stats(session: Session, words: Words, say: Say) -> None:
    stats = session.call("getStats")
    if "json" in words.flags:
        say(as_json(stats))
        return
    for name, value in sorted(_flat(stats)):
        say(f"{name:<24} {value}")


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


def _store(session: Session, words: Words, say: Say) -> None:
    key, value, options = _key(words.arguments[0]), _value(words), _options(words)
    if_changed = "if-changed" in words.flags
    if "if-revision" in words.values:
        expected = words.values["if-revision"]
        revision = session.call("storeIf", key, value, expected, *options)
        if not revision:
            _no(key, _why_not(session, key))
        if if_changed:
            say("unchanged" if revision == expected else "changed")
        else:
            say(revision)
    elif if_changed:
        # store answers true either way; storeMany tells.
        say("changed" if session.call("storeMany", {key: value}, *options) else "unchanged")
    else:
        session.call("store", key, value, *options)


def _add(session: Session, words: Words, say: Say) -> None:
    key = _key(words.arguments[0])
    revision = session.call("add", key, _value(words), *_options(words))
    if not revision:
        _no(key, "exists already")
    say(revision)


def _increment(session: Session, words: Words, say: Say) -> None:
    key, *given = words.arguments
    delta = "".join(given) or "1"
    number = int(delta) if _INTEGER.fullmatch(delta) else MAX_INT + 1
    if not MIN_INT <= number <= MAX_INT:
        raise UsageError("DELTA must be an integer of 32 bits")
    say(str(session.call("increment", _key(key), number, *_options(words))))


_NOTE = {"note": "TEXT"}
_OWNER = {"owner": "GROUP:NAME"}
_TERMS = {"ttl": "TIME", **_OWNER, **_NOTE}
_SOURCE = {"file": "PATH"}
_IF_REVISION = {"if-revision": "REVISION"}

VERBS = (
    Verb("clear", "Clear all items from the cache.", Usage((), (), _NOTE), _clear),
    Verb("count", "Get a count of all items in the cache.", Usage(), _count),
    Verb(
        "delete",
        "Delete the items cached at the keys, or all whose key starts with a prefix (says how many).",
        Usage(("KEY...",), (), {**_NOTE, **_IF_REVISION, "prefix": "PREFIX"}),
        _delete,
    ),
    Verb(
        "fetch",
        "Fetch the item cached at KEY: as Python shows it, bare (--raw), or as JSON.",
        Usage(("KEY",), ("raw", "json"), {"default": "VALUE"}),
        _fetch,
    ),
    Verb(
        "keys",
        "List the keys of all items in the cache, or of those that start with PREFIX; --raw: one on each line.",
        Usage(("[PREFIX]",), ("raw", "json")),
        _keys,
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
    ),
    Verb("entry", "Show the item cached at KEY with all that is known of it.", Usage(("KEY",), ("json",)), _entry),
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
    ),
    Verb("stats", "Show size, limits, storage and counters of the cache.", Usage((), ("json",)), _stats),
)

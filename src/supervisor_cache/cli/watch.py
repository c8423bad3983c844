"""``watch``: changes as they happen."""

import sys

from supervisor_cache.cli.globals import Globals
from supervisor_cache.commands.arguments import Words
from supervisor_cache.commands.output import Out, as_json, moment, printable, say_on_stderr
from supervisor_cache.commands.verbs import struct_of
from supervisor_cache.core.entry import RESET
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.options import checked_revision
from supervisor_cache.errors import CacheError


def run(options: Globals, words: Words) -> None:
    """Show changes until Ctrl-C."""
    cache = options.connect()
    prefix = checked_prefix("".join(words.arguments))
    since = checked_revision(words.values["since"]) if "since" in words.values else None
    out = Out(sys.stdout, tables=True)
    watch = cache.watch(prefix, since)
    watch.on_contact = _tell
    for change in watch:
        if change.kind == RESET:
            say_on_stderr("watch: changes have been missed; those from now on are shown")
        out.say(as_json(struct_of(change)) if "json" in words.flags else _line(change, people=out.is_terminal))


def _line(change: Change, *, people: bool) -> str:
    told = (str(change.revision), moment(change.modified), change.kind, change.key, change.via, change.note)
    if not people:
        return "\t".join(told)
    _, time, kind, key, via, note = told
    ends = "  ".join(text for text in (f"({via})" if via else "", note) if text)
    return f"{time}  {kind:<7}  {printable(key)}  {ends}".rstrip()


def _tell(error: CacheError | None) -> None:
    say_on_stderr("watch: it answers again" if error is None else f"watch: {printable(error.text)}; trying again")

"""``export``: entries as lines of JSON, which ``import`` stores again."""

import sys
import time

from supervisor_cache.cli.globals import Globals
from supervisor_cache.cli.progress import progress
from supervisor_cache.client.records import Entry
from supervisor_cache.client.views import paged
from supervisor_cache.commands.arguments import Words
from supervisor_cache.commands.output import Out, as_json
from supervisor_cache.core.keys import checked_prefix

# The first line tells what follows.
FORMAT = "supervisor_cache"
VERSION = 1


def run(options: Globals, words: Words) -> None:
    """Write the entries without an owner: one line each, sorted by key."""
    cache = options.connect()
    prefix = checked_prefix("".join(words.arguments))
    keys = cache.get_keys(prefix)
    entries: list[Entry] = []
    # A bar among the lines would be in their way.
    with progress("export", 0 if sys.stdout is None or sys.stdout.isatty() else len(keys)) as advance:
        for page in paged(lambda after, size: cache.get_entries(prefix, after, size), lambda entry: entry.key):
            entries += (entry for entry in page if not entry.owner)
            advance(len(page))
    out = Out(sys.stdout)
    lines = [as_json({FORMAT: VERSION, "namespace": options.namespace, "exported": time.time()})]
    for entry in entries:
        told = {"key": entry.key, "value": entry.value, "expires": entry.expires, "note": entry.note}
        lines.append(as_json({name: value for name, value in told.items() if value or name == "value"}))
    out.say("\n".join(lines))

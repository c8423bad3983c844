"""An event listener that is slower than the changes, and keeps a copy of the cache all the same.

It writes what it knows to the file named by its first argument, and sleeps as long as the second says at each event.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xmlrpc.client import Fault

from supervisor.childutils import eventdata, getRPCInterface, listener

PAGE = 100
HISTORY_GONE = 203


class Follower:
    """A copy of the cache.

    Attributes:
        state: Values by key, as far as they are known.
        seq: Of the newest event.
        newest: Its key.
        holes: How often events were missing.
        fresh_starts: How often not even the changes were known any more.
    """

    def __init__(self, cache: Any) -> None:
        self.state: dict[str, Any] = {}
        self.seq = 0
        self.newest = ""
        self.holes = 0
        self.fresh_starts = 0
        self._cache = cache
        # The state has every change up to this revision, and some of those that share the one of the newest event.
        self._complete = int(cache.getStats()["history"]["since"])

    def event(self, kind: str, header: dict[str, str], value: str) -> None:
        seq, revision, key = int(header["seq"]), int(header["revision"]), unquote(header["key"])
        missed = seq != self.seq + 1
        self.seq, self.newest = seq, key
        if missed:
            self.holes += 1
            self._catch_up()
        elif revision > self._complete:
            if kind == "CACHE_CLEAR":
                self.state.clear()
            elif kind in {"CACHE_STORE", "CACHE_TOUCH"}:
                self.state[key] = json.loads(value)
            else:
                self.state.pop(key, None)
            # The events that share this revision may be lost yet.
            self._complete = revision - 1

    def _catch_up(self) -> None:
        try:
            while changes := self._cache.getChanges(str(self._complete), "", PAGE):
                self._apply(changes)
                self._complete = int(changes[-1]["revision"])
        except Fault as fault:
            if fault.faultCode != HISTORY_GONE:
                raise
            self.fresh_starts += 1
            # In this order: what changes in between is told of again.
            self._complete = int(self._cache.getRevision())
            self.state = self._cache.getItems()

    def _apply(self, changes: list[dict[str, Any]]) -> None:
        keys: dict[str, None] = {}
        for change in changes:
            if change["kind"] == "clear":
                self.state.clear()
                keys.clear()
            else:
                keys[change["key"]] = None
        values = self._cache.fetchMany(list(keys))
        for key in keys:
            if key in values:
                self.state[key] = values[key]
            else:
                self.state.pop(key, None)


def main() -> None:
    path, seconds = Path(sys.argv[1]), float(sys.argv[2])
    follower = Follower(getRPCInterface(os.environ).cache)
    while True:
        headers, payload = listener.wait()
        follower.event(headers["eventname"], *eventdata(payload))
        time.sleep(seconds)
        known = {name: value for name, value in vars(follower).items() if not name.startswith("_")}
        path.with_suffix(".new").write_text(json.dumps(known))
        path.with_suffix(".new").rename(path)
        listener.ok()


if __name__ == "__main__":
    main()

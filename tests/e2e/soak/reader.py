"""A process that reads the cache from its database without pause, and sees that nothing ever goes back.

A line on its standard input asks for all entries, what it complains of, and what it takes itself, as a line of JSON.
"""

import json
import random
import select
import sys
import time
from pathlib import Path
from typing import Any

from supervisor_cache import open_local
from supervisor_cache.client.local import LocalCache
from tests.e2e.soak.records import plain

# In a row, between two looks at what is asked of it.
LOOKUPS = 200
PAUSE_SECONDS = 0.02
# Of supervisord's own sign of life, each 5 s; it is killed now and then, and started again.
AGE_SECONDS = 60.0


class Watcher:
    """Looks something up, again and again."""

    def __init__(self, local: LocalCache, dice: random.Random) -> None:
        self.complaints: list[str] = []
        self.lookups = 0
        self._local = local
        self._dice = dice
        self._revision = 0
        self._of_key: dict[str, int] = {}

    def look(self) -> None:
        keys = list(self._local) or ["none"]
        for _ in range(LOOKUPS):
            self.lookups += 1
            self._local.get(self._dice.choice(keys))
        revision = self._local.revision
        if revision < self._revision:
            self.complaints.append(f"revision {revision} after {self._revision}")
        self._revision = revision
        key = self._dice.choice(keys)
        try:
            found = self._local.entry(key).revision
        except KeyError:
            return
        if found < self._of_key.get(key, 0):
            self.complaints.append(f"{key}: revision {found} after {self._of_key[key]}")
        self._of_key[key] = found
        if self._local.age > AGE_SECONDS:
            self.complaints.append(f"it says that it is {self._local.age:.0f} s old")

    def tell(self) -> dict[str, Any]:
        entries = {}
        for key in self._local:
            try:
                entry = self._local.entry(key)._asdict()
            except KeyError:  # it has just ended
                continue
            entries[key] = {**entry, "revision": str(entry["revision"]), "value": plain(entry["value"])}
        status = Path("/proc/self/status").read_text()
        return {
            "entries": entries,
            "complaints": self.complaints,
            "lookups": self.lookups,
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "kilobytes": int(status.split("VmRSS:")[1].split()[0]),
        }


def main() -> None:
    with open_local(sys.argv[1]) as local:
        watcher = Watcher(local, random.Random(sys.argv[2]))
        while True:
            if select.select([sys.stdin], [], [], 0)[0]:
                if not sys.stdin.readline():
                    return
                sys.stdout.write(json.dumps(watcher.tell()) + "\n")
                sys.stdout.flush()
            watcher.look()
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()

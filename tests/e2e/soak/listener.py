"""An event listener that keeps a copy of the cache, and writes it down whenever the changes come to rest."""

import json
import os
import sys
from pathlib import Path

from supervisor.childutils import eventdata, getRPCInterface, listener

from tests.e2e.slow_follower import Follower
from tests.e2e.soak.records import plain

RESTS = "rest/"


def main() -> None:
    path = Path(sys.argv[1])
    cache = getRPCInterface(os.environ).cache
    follower = Follower(cache)
    # In this order: what changes in between is told of again.
    follower._complete = int(cache.getRevision())
    follower.state = cache.getItems()
    while True:
        headers, payload = listener.wait()
        # The first one has a number that it does not expect: so it asks for what came since it has read everything.
        follower.event(headers["eventname"], *eventdata(payload))
        if follower.newest.startswith(RESTS):
            path.with_suffix(".new").write_text(json.dumps([follower.newest, follower.holes, plain(follower.state)]))
            path.with_suffix(".new").rename(path)
        listener.ok()


if __name__ == "__main__":
    main()

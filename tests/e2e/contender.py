"""A supervised process that wants to lead: it takes the marker once it is free, and holds it until it is killed."""

import os
import time

from supervisor.childutils import getRPCInterface

WAIT_SECONDS = 10


def main() -> None:
    name = f"{os.environ['SUPERVISOR_GROUP_NAME']}:{os.environ['SUPERVISOR_PROCESS_NAME']}"
    cache = getRPCInterface(os.environ).cache
    options = {"owner": name, "pid": os.getpid(), "note": name}
    # In this order: what happens after the look at the revision ends the waiting.
    revision = cache.getRevision()
    while not cache.add("leader", os.getpid(), options):
        cache.wait(revision, WAIT_SECONDS, "leader")
        revision = cache.getRevision()
    while True:
        time.sleep(1000)


if __name__ == "__main__":
    main()

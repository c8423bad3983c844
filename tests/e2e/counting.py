"""A process that counts up a number in a file, which nothing but a lock protects; each time it says who it is."""

import sys
import time
from pathlib import Path

from supervisor_cache import connect
from supervisor_cache.client.cache import CacheClient

LOCK = "the/lock"


def count_up(cache: CacheClient, file: Path, rounds: int) -> None:
    """Take the lock so often, and count up each time; beside the number stands the revision of each holder."""
    for _ in range(rounds):
        with cache.lock(LOCK, ttl=20, wait=60) as lock:
            number, *revisions = file.read_text().split()
            # For another one to come between.
            time.sleep(0.001)
            file.write_text(" ".join([str(int(number) + 1), *revisions, str(lock.revision)]))


if __name__ == "__main__":
    with connect(sys.argv[1]) as client:
        count_up(client, Path(sys.argv[2]), int(sys.argv[3]))

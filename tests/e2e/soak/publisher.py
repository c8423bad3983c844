"""A supervised program that publishes what it does, but where a file tells it to rest, and is killed now and then."""

import os
import sys
import time
from pathlib import Path

from supervisor_cache import publish

PAUSE_SECONDS = 0.1


def main() -> None:
    lives, rest = Path(sys.argv[1]), Path(sys.argv[2])
    with lives.open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    count = 0
    while True:
        time.sleep(PAUSE_SECONDS)
        if not rest.exists():
            count += 1
            deleted = [] if count % 10 else ["now/and/then"]
            store = {"count": count, "pid": os.getpid(), **({} if deleted else {"now/and/then": [count, "x" * 50]})}
            publish(store, delete=deleted)


if __name__ == "__main__":
    main()

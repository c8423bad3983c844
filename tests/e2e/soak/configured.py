"""A supervised program that reads its configuration from the cache when it starts, and anew at each SIGHUP."""

import os
import signal
import sys
import time
from pathlib import Path

from supervisor_cache import CacheError, connect


def main() -> None:
    # One after the other: what comes while it reads is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    lives, seen = Path(sys.argv[1]), Path(sys.argv[2])
    with lives.open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    cache = connect()
    while True:
        try:
            found = str(cache.get("config/state"))
        except CacheError:
            # Supervisord reloads, and stops this process any moment.
            time.sleep(0.05)
            continue
        seen.with_suffix(".new").write_text(found)
        seen.with_suffix(".new").rename(seen)
        signal.sigwait({signal.SIGHUP})


if __name__ == "__main__":
    main()

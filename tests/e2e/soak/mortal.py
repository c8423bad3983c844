"""A supervised program that writes down when it starts, before anything else, and is there to be killed."""

import time

STARTED = time.monotonic()

import os  # noqa: E402 - see above
import signal  # noqa: E402
import sys  # noqa: E402


def main() -> None:
    with open(sys.argv[1], "a") as lives:  # noqa: PTH123 - pathlib takes time to import
        lives.write(f"{os.getpid()} {STARTED}\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

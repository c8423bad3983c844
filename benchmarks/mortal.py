"""A supervised program that tells when it has started, before anything else, and is there to be killed."""

import time

STARTED = time.monotonic()

import os  # noqa: E402 - see above
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402


def main() -> None:
    """Send pid and start to the socket that the argument names, and wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.sendto(f"{os.getpid()} {STARTED}".encode(), sys.argv[1])
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

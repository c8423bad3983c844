"""A small supervised program: says so whenever the release marker changes, as a real one would act on it."""

import os
import sys
import time
from typing import Any
from xmlrpc.client import Fault

from supervisor.childutils import getRPCInterface


def marker(rpc: Any) -> str:
    """Answer the release marker, or a dash where there is none."""
    try:
        return str(rpc.cache.fetch("release"))
    except Fault:
        return "-"


def main() -> None:
    """Look once a second."""
    seen = ""
    while True:
        # A reload cuts connections: a new one for each look.
        rpc = getRPCInterface(os.environ)
        try:
            release = marker(rpc)
        except OSError:
            release = seen
        if release != seen:
            print(f"{sys.argv[1]}: release {release}", flush=True)
            seen = release
        time.sleep(1)


if __name__ == "__main__":
    main()

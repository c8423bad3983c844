"""A small supervised program: it says how it is, takes the lead when it is free, and acts on the release marker."""

import http.client
import os
import time
from typing import Any
from xmlrpc.client import Fault

from supervisor.childutils import getRPCInterface

from supervisor_cache import publish

ME = "{SUPERVISOR_GROUP_NAME}:{SUPERVISOR_PROCESS_NAME}".format(**os.environ)


def marker(cache: Any, key: str) -> str:
    """Answer a marker, or a dash where there is none."""
    try:
        return str(cache.fetch(key))
    except Fault:
        return "-"


def work(cache: Any) -> None:
    """Look whenever something has changed."""
    release = ""
    publish({"status": "ready"})
    while True:
        seen = cache.getRevision()
        if cache.add("leader", ME, {"owner": ME, "pid": os.getpid()}):
            publish({"status": "leading"})
        if marker(cache, "release") != release:
            release = marker(cache, "release")
            print(f"{ME}: release {release}", flush=True)
        cache.wait(seen, 60)


def main() -> None:
    """Work; a reload of supervisord cuts the connection."""
    while True:
        try:
            work(getRPCInterface(os.environ).cache)
        except (OSError, http.client.HTTPException, Fault):
            time.sleep(0.2)


if __name__ == "__main__":
    main()

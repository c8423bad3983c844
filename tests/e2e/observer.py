"""Another client of a supervisord, in a process of its own: how long is the worst answer of ``supervisor.getState``?

What both of them wait for a processor is the machine's, and left out.
"""

import json
import select
import sys
import time
from pathlib import Path
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport


def waited(process: str) -> float:
    """Answer how many seconds the first thread of a process has been ready to run, and had no processor."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # a kernel that does not tell
        return 0.0


def say(line: str) -> None:
    """Have the one who started this read a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Ask until the standard input ends, and once more, then say what was seen."""
    url, pid = sys.argv[1:]
    asked, worst = 0, 0.0
    proxy = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, url))
    proxy.supervisor.getState()
    say("")
    ends = False
    while not ends:
        ends = bool(select.select([sys.stdin], [], [], 0.02)[0])
        before = waited(pid) + waited("self")
        began = time.monotonic()
        proxy.supervisor.getState()
        worst = max(worst, time.monotonic() - began - (waited(pid) + waited("self") - before))
        asked += 1
    say(json.dumps([asked, worst]))


if __name__ == "__main__":
    main()

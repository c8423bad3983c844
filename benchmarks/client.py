"""The Python client and the command, beside what anybody could write with the standard library."""

import compileall
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.harness import OWN_BINARIES, running

import supervisor_cache
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import milliseconds
from supervisor_cache import connect

_BARE = """\
import socket, http.client, xmlrpc.client
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect({path!r})
class Transport(xmlrpc.client.Transport):
    def make_connection(self, host):
        return Connection("localhost")
print(xmlrpc.client.ServerProxy("http://localhost", Transport()).cache.fetch("k"))
"""


def starting(*, quick: bool) -> Section:
    """Time `supervisor-cache fetch` beside Python with ``xmlrpc.client`` and one call."""
    repetitions = 5 if quick else 40
    # As an installation does it.
    compileall.compile_dir(Path(supervisor_cache.__file__).parent, quiet=2)
    with running() as supervisord:
        supervisord.unix().cache.store("k", "v")
        variables = {**os.environ, "SUPERVISOR_SERVER_URL": supervisord.unix_url}
        commands = {
            "bare": [sys.executable, "-c", _BARE.format(path=str(supervisord.socket_path))],
            "command": [str(OWN_BINARIES / "supervisor-cache"), "fetch", "k"],
            "supervisorctl": [
                str(OWN_BINARIES / "supervisorctl"), "-c", str(supervisord.configuration), "cache_fetch", "k",
            ],
        }  # fmt: skip
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repetitions):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True)
                taken[name].append(time.perf_counter() - start)
    ratios = {
        name: statistics.median(one / bare for one, bare in zip(taken[name], taken["bare"], strict=True))
        for name in ("command", "supervisorctl")
    }
    detail = f"{milliseconds(taken['command']):.0f} ms beside {milliseconds(taken['bare']):.0f} ms"
    other = f"{milliseconds(taken['supervisorctl']):.0f} ms"
    return Section(
        "Start of the command",
        "`supervisor-cache fetch` over a unix socket, beside `import xmlrpc.client` and one call; "
        f"{repetitions} each, in turns; medians.",
        [
            Figure("supervisor-cache fetch", ratios["command"], "x", Goal(Side.AT_MOST, 1.5), detail),
            Figure("supervisorctl cache_fetch", ratios["supervisorctl"], "x", None, other),
        ],
    )


def calling(*, quick: bool) -> Section:
    """Time a `fetch` of the client beside one of ``ServerProxy`` over Supervisor's transport."""
    rounds, calls = (3, 100) if quick else (30, 200)
    with running() as supervisord:
        proxy, client = supervisord.unix().cache, connect(supervisord.unix_url)
        client["k"] = "v"
        taken: dict[str, list[float]] = {"proxy": [], "client": []}
        for _ in range(rounds):
            for name, fetch in (("proxy", proxy.fetch), ("client", client.fetch)):
                start = time.perf_counter()
                for _ in range(calls):
                    fetch("k")
                taken[name].append((time.perf_counter() - start) / calls)
    ratio = statistics.median(one / other for one, other in zip(taken["client"], taken["proxy"], strict=True))
    detail = f"{milliseconds(taken['client']) * 1000:.0f} µs beside {milliseconds(taken['proxy']) * 1000:.0f} µs"
    return Section(
        "A call of the client",
        "`fetch` over a unix socket, beside `ServerProxy` with Supervisor's transport; "
        f"{rounds} rounds of {calls}, in turns.",
        [Figure("client.fetch", ratio, "x", None, detail)],
    )

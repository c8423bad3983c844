"""A supervisord of its own on loopback, with the cache and two small programs, shown step by step.

Everything lives in a temporary folder, which goes when the demo ends.
"""

import argparse
import contextlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from supervisor_cache import connect, open_local

FIRST_PORT = 9001
PORTS = 50
PATIENCE_SECONDS = 20.0
BINARIES = Path(sys.executable).parent
PROGRAM = Path(__file__).with_name("program.py")

CONFIGURATION = """\
[supervisord]
nodaemon=true
silent=true
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s

[unix_http_server]
file=%(here)s/supervisor.sock

[inet_http_server]
port=127.0.0.1:{port}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:cache]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
publish = web:* worker:*
http = true

[rpcinterface:kept]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
storage = sqlite:kept.db

[supervisorctl]
serverurl=unix://%(here)s/supervisor.sock

[ctlplugin:cache]
supervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin

[program:web]
command={python} {program}
autorestart=true
stdout_logfile=%(here)s/%(program_name)s.log
stdout_capture_maxbytes=64KB

[program:worker]
command={python} {program}
autorestart=true
stdout_logfile=%(here)s/%(program_name)s.log
stdout_capture_maxbytes=64KB
"""


class DemoError(Exception):
    """The demo did not go as it should."""


class Demo:
    """One run of the demo.

    Args:
        folder: Where all its files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def configuration(self) -> Path:
        """The configuration file of supervisord and supervisorctl."""
        return self.folder / "supervisord.conf"

    def start(self) -> None:
        """Start supervisord on the first port that is free."""
        for port in range(FIRST_PORT, FIRST_PORT + PORTS):
            if _is_taken(port):
                say(f"Port {port} is taken; trying {port + 1}.")
                continue
            self.port = port
            text = CONFIGURATION.format(port=port, python=sys.executable, program=PROGRAM)
            self.configuration.write_text(text)
            command = [str(BINARIES / "supervisord"), "-c", str(self.configuration)]
            # A session of its own: Ctrl-C is for the demo, which then stops supervisord in order.
            self._process = subprocess.Popen(
                command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._wait_until_up()
            return
        raise DemoError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free")

    def stop(self) -> None:
        """Stop supervisord, and with it its programs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)

    def check(self) -> None:
        """Raise `DemoError` if supervisord has ended."""
        if self._process is not None and self._process.poll() is not None:
            log = self.folder / "supervisord.log"
            raise DemoError(f"supervisord has ended:\n{log.read_text() if log.exists() else ''}")

    def connect(self, server: str) -> Any:
        """Open a connection to the server ``unix`` or ``inet``."""
        url = f"unix://{self.folder}/supervisor.sock" if server == "unix" else f"http://127.0.0.1:{self.port}"
        return ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, url))

    def call(self, server: str, method: str, *args: object, expect: object = ..., namespace: str = "cache") -> Any:
        """Call a method of a namespace, and print call and answer."""
        proxy = self.connect(server)
        try:
            answer = getattr(getattr(proxy, namespace), method)(*args)
        except Fault as fault:
            answer = f"fault {fault.faultCode}: {fault.faultString}"
        finally:
            proxy("close")()
        call = f"{namespace}.{method}({', '.join(map(repr, args))})"
        say(f"  {server}  {call}\n        -> {answer!r}")
        if expect is not ... and answer != expect:
            raise DemoError(f"{call} should have answered {expect!r}")
        return answer

    def wait_for(self, *keys: str) -> None:
        """Wait until there is an entry for each of ``keys``."""
        end = time.monotonic() + PATIENCE_SECONDS
        proxy = self.connect("unix")
        while len(proxy.cache.fetchMany(list(keys))) < len(keys):
            _pause(end, f"no {' or '.join(keys)}")
        proxy("close")()

    def command(self, *words: str, expect: int = 0) -> None:
        """Run supervisorctl, and print what was typed and what it said."""
        typed = shlex.join(["supervisorctl", *words])
        ended = subprocess.run(
            [BINARIES / "supervisorctl", "-c", self.configuration, *words], capture_output=True, text=True, check=False
        )
        say(f"  $ {typed}")
        for line in (ended.stdout + ended.stderr).splitlines():
            say(f"    {line}")
        if ended.returncode != expect:
            raise DemoError(f"{typed} ended with status {ended.returncode}")

    def script(self, *words: str, expect: int = 0) -> None:
        """Run supervisor-cache as a process of Supervisor's would, and print what was typed and what it said."""
        typed = shlex.join(["supervisor-cache", *words])
        variables = {**os.environ, "SUPERVISOR_SERVER_URL": f"unix://{self.folder}/supervisor.sock"}
        path = f"{BINARIES}{os.pathsep}{variables['PATH']}"
        ended = subprocess.run(
            [BINARIES / "supervisor-cache", *words],
            env={**variables, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        say(f"  $ {typed}")
        for line in (ended.stdout + ended.stderr).splitlines():
            say(f"    {line}")
        if ended.returncode != expect:
            raise DemoError(f"{typed} ended with status {ended.returncode}")

    def get(self, path: str, expect: str) -> None:
        """Ask over HTTP, and print what could be typed and the answer."""
        url = f"http://127.0.0.1:{self.port}/cache/{path}"
        # Without a look at http_proxy, which is not meant for this.
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as asked:
            asked.request("GET", f"/cache/{path}")
            found = asked.getresponse().read().decode()
        say(f"  $ curl {url}\n    {found}")
        if found != expect:
            raise DemoError(f"{url} should have answered {expect!r}")

    def reload(self) -> None:
        """Reload supervisord, and wait until it is back."""
        before = self._lives()
        self.command("reload")
        end = time.monotonic() + PATIENCE_SECONDS
        while self._lives() == before:
            _pause(end, "the reload did not end")
        self._wait_until_up()

    def _lives(self) -> int:
        return (self.folder / "supervisord.log").read_text().count("supervisord started with pid")

    def _wait_until_up(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.check()
            proxy = self.connect("unix")
            with contextlib.suppress(OSError):
                states = [process["statename"] for process in proxy.supervisor.getAllProcessInfo()]
                if states == ["RUNNING", "RUNNING"]:
                    return
            proxy("close")()
            _pause(end, "supervisord and its programs did not start")


def say(text: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def _pause(end: float, complaint: str) -> None:
    if time.monotonic() > end:
        raise DemoError(complaint)
    time.sleep(0.05)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def walk(demo: Demo) -> None:
    """Show what the cache does."""
    say("\nMarkers go in over one server and come out over the other:\n")
    demo.call("unix", "store", "release", "2026.11.3", expect=True)
    demo.call("inet", "fetch", "release", expect="2026.11.3")
    demo.call("inet", "store", "config/limits", {"jobs": 4, "hosts": ["a", "b"]}, {"note": "ops"}, expect=True)
    demo.call("unix", "getItems", "config/", expect={"config/limits": {"jobs": 4, "hosts": ["a", "b"]}})

    say("\nThe first who claims a key gets it, and what cannot be read back is refused at the door:\n")
    revision = demo.call("unix", "add", "deploy", "anna")
    demo.call("inet", "add", "deploy", "ben", expect="")
    demo.call("inet", "storeIf", "deploy", "ben", revision)
    demo.call("unix", "increment", "deploys", expect=1)
    demo.call("unix", "store", "ratio", float("nan"), expect=_REFUSAL)
    demo.call("unix", "fetch", "nothing", expect="fault 10: BAD_NAME: no such key: 'nothing'")

    say("\nThe same at the command line:\n")
    demo.command("cache_store", "--note", "first deploy", "motd", "hello, operator")
    demo.command("cache_fetch", "motd")
    demo.command("cache_items", "d")
    demo.command("cache_fetch", "nothing", expect=1)

    say("\nA flag that ends by itself:\n")
    demo.command("cache_store", "--ttl", "5s", "--note", "ops: database move", "maintenance", "on")
    demo.command("cache_entry", "maintenance")
    demo.command("cache_wait", "--absent", "--timeout", "20", "maintenance")
    demo.command("cache_fetch", "maintenance", expect=1)

    say("\nWhat the two programs say of themselves, by printing it:\n")
    demo.wait_for("process/web:web/status", "process/worker:worker/status", "leader")
    demo.command("cache_items", "process/")

    say("\nA leader is killed, and the other program takes over at once; what it had said of itself is gone:\n")
    show_takeover(demo)

    say("\nFrom Python, and from scripts:\n")
    show_client(demo)

    say("\nOver HTTP, beside a page for browsers:\n")
    demo.get("v1/values/release", "2026.11.3")
    demo.get("v1/values/config/limits", '{"jobs":4,"hosts":["a","b"]}')

    say("\nA reload is no shutdown:\n")
    demo.reload()
    demo.call("inet", "fetch", "release", expect="2026.11.3")
    demo.call("unix", "fetch", "config/limits", expect={"jobs": 4, "hosts": ["a", "b"]})
    demo.command("status")

    say("\nA second cache, in a database: any process reads it at the speed of memory, and it outlives supervisord:\n")
    show_database(demo)


def show_database(demo: Demo) -> None:
    """Read a database without asking supervisord, and stop and start supervisord."""
    with open_local(demo.folder / "kept.db") as local:

        def look(expected: str) -> None:
            found = local.get("release")
            say(f"  open_local({str(demo.folder / 'kept.db')!r}).get('release')\n        -> {found!r}")
            if found != expected:
                raise DemoError(f"it should have been {expected!r}")

        demo.call("unix", "store", "release", "2026.11.3", expect=True, namespace="kept")
        look("2026.11.3")
        say("  supervisord is stopped")
        demo.stop()
        look("2026.11.3")
        say("  supervisord is started again")
        demo.start()
        demo.call("inet", "fetch", "release", expect="2026.11.3", namespace="kept")
        demo.call("unix", "store", "release", "2026.11.4", expect=True, namespace="kept")
        look("2026.11.4")


def show_client(demo: Demo) -> None:
    """Use the client, and the command."""
    url = f"unix://{demo.folder}/supervisor.sock"
    with connect(url) as cache:
        watch = cache.watch("config/", timeout=1)
        cache["config/colour"] = "green"
        cache.store("config/size", 12, note="ops")
        told = [f"{change.kind} {change.key}" for change in watch]
    say(f"  with connect({url!r}) as cache:")
    say('      watch = cache.watch("config/", timeout=1)')
    say('      cache["config/colour"] = "green"')
    say('      cache.store("config/size", 12, note="ops")')
    say(f"      [f'{{change.kind}} {{change.key}}' for change in watch]\n        -> {told!r}")
    if told != ["store config/colour", "store config/size"]:
        raise DemoError("it should have told of both")
    demo.script("fetch", "config/colour")
    demo.script("lock", "--note", "ops: deploy", "deploying", "--", "supervisor-cache", "entry", "deploying")
    demo.script("fetch", "deploying", expect=1)


def show_takeover(demo: Demo) -> None:
    """Kill the program that leads."""
    leader = demo.call("unix", "fetch", "leader")
    proxy = demo.connect("unix")
    pid = proxy.supervisor.getProcessInfo(leader)["pid"]
    proxy("close")()
    say(f"  $ kill -9 {pid}")
    os.kill(pid, signal.SIGKILL)
    demo.command("cache_wait", "--value", "worker:worker" if leader == "web:web" else "web:web", "leader")
    demo.command("cache_history", "leader")


_REFUSAL = "fault 3: BAD_ARGUMENTS: value: a double that is not finite cannot be stored"


def serve(demo: Demo) -> NoReturn:
    """Go on until somebody presses Ctrl-C."""
    say(f"\nGoes on serving on http://127.0.0.1:{demo.port}/ until Ctrl-C. In a browser:\n")
    say(f"  http://127.0.0.1:{demo.port}/cache/\n\nIn another terminal:\n")
    say(f"  {BINARIES}/supervisorctl -c {demo.configuration} cache_keys")
    say(f"  {BINARIES}/supervisorctl -c {demo.configuration} tail -f web    (says when the release marker changes)")
    while True:
        demo.check()
        time.sleep(0.5)


@contextlib.contextmanager
def stopped_in_order() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into Ctrl-C; let that, or a closed pipe, end the demo without a word of Python's."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Run the demo, and answer its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the walk")
    once = parser.parse_args().once
    with tempfile.TemporaryDirectory(prefix="supervisor_cache-demo-") as folder, stopped_in_order():
        demo = Demo(Path(folder))
        try:
            demo.start()
            say(f"supervisord runs with {demo.configuration}")
            walk(demo)
            if not once:
                serve(demo)
        except DemoError as error:
            say(f"\nThe demo failed: {error}")
            return 1
        finally:
            demo.stop()
            say("\nsupervisord and its programs are stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

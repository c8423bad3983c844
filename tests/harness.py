"""A real supervisord for a test: its configuration, its life, and ways to ask it."""

import atexit
import contextlib
import itertools
import math
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

if TYPE_CHECKING:
    from tests.cluster import Cluster

USER = "operator"
PASSWORD = "correct horse"
START_SECONDS = 30.0
# Where this release is installed.
OWN_BINARIES = Path(sys.executable).parent
# Of sections that name none: ``memory``, ``sqlite`` or ``etcd``. The same tests run on all of them.
STORAGE = os.environ.get("TEST_STORAGE", "memory")
# What etcd sets otherwise: how many entries one call may change, and by how many seconds an end may be late.
MOST_AT_ONCE = 100 if STORAGE == "etcd" else 10_000
LATE_SECONDS = 2.0 if STORAGE == "etcd" else 0.0
_LEAST_TTL = 2

Sections = Mapping[str, Mapping[str, str]]
T = TypeVar("T")

_CONFIGURATION = """\
[supervisord]
nodaemon={nodaemon}
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s
identifier=test

[unix_http_server]
file=%(here)s/s.sock

[inet_http_server]
port=127.0.0.1:{port}
{login}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://%(here)s/s.sock

[ctlplugin:cache]
supervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin
"""

_SECTION = """
[rpcinterface:{name}]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
{options}
"""


# Below those that the system hands out by itself, and for each of the workers that run tests side by side its own:
# between its being found and its being used, nobody else takes one.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_PORTS = itertools.cycle(range(20_000 + 1500 * _WORKER, 20_000 + 1500 * (_WORKER + 1)))
for _ in range(random.randrange(1500)):
    next(_PORTS)


def free_port() -> int:
    """Answer a port of the loopback interface on which nobody listens just now."""
    for port in itertools.islice(_PORTS, 1500):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As Supervisor's servers do: what is only winding up is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until ``condition`` holds; fail with ``what`` if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def ttl(seconds: float) -> float:
    """Answer a time to live that the storage can have: ``seconds``, or on etcd the next longer one."""
    return max(_LEAST_TTL, math.ceil(seconds)) if STORAGE == "etcd" else seconds


def parts(items: Mapping[str, T]) -> Iterator[dict[str, T]]:
    """Divide ``items`` into as many as one call may change each: on all but etcd, that is one part."""
    pairs = list(items.items())
    for start in range(0, len(pairs), MOST_AT_ONCE):
        yield dict(pairs[start : start + MOST_AT_ONCE])


def _started(pid: int) -> str | None:
    """Answer when a process was started, which tells it from a later one of the same id; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def settle(cache: Any) -> None:
    """Wait until what has ended is announced as well; on all but etcd, that is one."""
    if STORAGE == "etcd":
        until(lambda: cache.getStats()["storage"]["pending"] == 0, "what has ended is announced")


@cache
def _etcd() -> "Cluster":
    """Start an etcd of one member for all tests of this process."""
    from tests import cluster as etcd  # noqa: PLC0415 - it uses what stands here

    folder = Path(tempfile.mkdtemp(prefix="sc-etcd-"))
    cluster = etcd.Cluster(folder, members=1).__enter__()
    atexit.register(shutil.rmtree, folder)
    atexit.register(cluster.close)
    return cluster


class Supervisord:
    """One supervisord in a folder of its own.

    Args:
        sections: Options by name of the ``[rpcinterface:NAME]`` sections of this package.
        more: Further lines of the configuration file: programs, plugins.
        daemon: Whether it daemonizes.
        login: Whether the inet server asks for `USER` and `PASSWORD`.
        binaries: The folder with ``supervisord`` and ``supervisorctl``; by default that of this Python.
        environment: Added to that of the processes that are started.
    """

    def __init__(
        self,
        sections: Sections | None = None,
        more: str = "",
        *,
        daemon: bool = False,
        login: bool = True,
        binaries: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # Short: a path of a unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="sc-"))
        self.sections: dict[str, dict[str, str]] = {
            name: dict(options) for name, options in ({"cache": {}} if sections is None else sections).items()
        }
        self.more = more
        self.daemon = daemon
        self.login = login
        self.port = free_port()
        self.binaries = binaries or OWN_BINARIES
        self.environment = {**os.environ, **(environment or {})}
        self.stderr = ""
        # Whether to wait until what is stored has been read.
        self.waits = STORAGE == "etcd"
        self._process: subprocess.Popen[str] | None = None
        self._proxies: list[ServerProxy] = []
        self._orphans: dict[int, str | None] = {}

    @property
    def configuration(self) -> Path:
        return self.folder / "supervisord.conf"

    @property
    def socket_path(self) -> Path:
        return self.folder / "s.sock"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def inet_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return int((self.folder / "supervisord.pid").read_text())

    @property
    def log(self) -> str:
        path = self.folder / "supervisord.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def write_configuration(self) -> None:
        """Write the configuration file anew, from the attributes of this object."""
        login = f"username={USER}\npassword={PASSWORD}" if self.login else ""
        text = _CONFIGURATION.format(nodaemon=str(not self.daemon).lower(), port=self.port, login=login)
        for name, given in self.sections.items():
            options = {**self._storage(name), **given}
            lines = "\n".join(f"{option} = {value}" for option, value in options.items())
            text += _SECTION.format(name=name, options=lines)
        self.configuration.write_text(text + self.more)

    @property
    def _prefix(self) -> str:
        return f"/test/{self.folder.name}/"

    def _storage(self, name: str) -> dict[str, str]:
        if STORAGE == "etcd":
            # Each supervisord has a cache of its own, and keeps it when it is started anew.
            return {"storage": f"etcd://{_etcd().endpoints[0]}{self._prefix}{name}"}
        return {} if STORAGE == "memory" else {"storage": f"{STORAGE}:{name}.db"}

    def run(self, redirection: str = "") -> subprocess.CompletedProcess[str]:
        """Run a supervisord that is expected to end by itself, by a shell if there is a ``redirection``."""
        self.write_configuration()
        command = [str(self.binaries / "supervisord"), "-c", str(self.configuration)]
        if redirection:
            command = ["bash", "-c", f"exec {shlex.join(command)} {redirection}"]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )

    def start(self) -> "Supervisord":
        """Start it, and wait until it answers."""
        self.write_configuration()
        command = [str(self.binaries / "supervisord"), "-c", str(self.configuration)]
        with (self.folder / "output").open("w") as output:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, text=True
            )
        self.wait_until_up()
        if self.waits:
            self.wait_for_storage()
        return self

    def wait_until_up(self) -> None:
        """Wait until it answers over its unix socket."""

        def answers() -> bool:
            if self.is_up():
                return True
            if self._process is not None and self._process.poll() not in {None, 0}:
                raise AssertionError((self.folder / "output").read_text())
            return False

        until(answers, "supervisord answers")

    def wait_for_storage(self) -> None:
        """Wait until each cache has been read, where that takes a while."""
        for name, options in self.sections.items():
            if {**self._storage(name), **options}.get("storage", "").startswith("etcd:"):
                until(partial(self._has_reached, name), f"etcd is reached for {name}")

    def _has_reached(self, name: str) -> bool:
        return bool(self.storage(name)["state"] == "ok")

    def storage(self, name: str = "cache") -> dict[str, Any]:
        """Answer what is told of the storage of a cache."""
        told: dict[str, Any] = getattr(self.unix(), name).getStats()["storage"]
        return told

    def generations(self) -> int:
        """Count how often it has entered its loop: once, and once more after each reload."""
        return self.log.count("supervisord started with pid")

    def reload(self) -> None:
        """Reload it with the configuration that this object describes, and wait until it answers again."""
        self.write_configuration()
        before = self.generations()
        self.unix().supervisor.restart()
        until(lambda: self.generations() > before, "supervisord reloads")
        self.wait_until_up()
        if self.waits:
            self.wait_for_storage()

    def hang_up(self) -> None:
        """Send SIGHUP, and wait until it answers again."""
        before = self.generations()
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: self.generations() > before, "supervisord reloads")
        self.wait_until_up()

    def unix(self) -> Any:
        """A new connection over the unix socket."""
        return self._proxy(None, None, self.unix_url)

    def inet(self, user: str | None = USER, password: str | None = PASSWORD) -> Any:
        """A new connection over inet."""
        return self._proxy(user, password, self.inet_url)

    def _proxy(self, user: str | None, password: str | None, url: str) -> Any:
        proxy = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(user, password, url))
        self._proxies.append(proxy)
        return proxy

    def ctl(
        self, *arguments: str, stdin: str = "", url: str = "", options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run supervisorctl."""
        command = [str(self.binaries / "supervisorctl"), "-c", str(self.configuration)]
        if url:
            command += ["-s", url]
        return subprocess.run(
            [*command, *options, *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def script(self, name: str, source: str) -> str:
        """Write a Python program into its folder, and answer the command that runs it as a supervised process."""
        (self.folder / name).write_text(source)
        return f"{sys.executable} %(here)s/{name}"

    def process(self, name: str) -> Any:
        """Answer what it says of a process."""
        return self.unix().supervisor.getProcessInfo(name)

    def processor_seconds(self) -> float:
        """Answer how much processor time it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Count its open descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_kilobytes(self) -> int:
        """Answer how much memory it has resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def is_up(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(Exception):
            return bool(self.unix().supervisor.getState()["statecode"] == 1)
        return False

    def is_alive(self) -> bool:
        """Whether its process runs."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    def stop(self) -> None:
        """End it, and wait until it has ended; it can be started again."""
        for proxy in self._proxies:
            proxy("close")()
        self._proxies.clear()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = self.pid
            os.kill(pid, signal.SIGTERM)
            if self._process is not None and self._process.pid == pid:
                self._process.wait(START_SECONDS)
            else:
                until(lambda: not Path(f"/proc/{pid}").exists(), "supervisord ends")
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it with signal 9; its processes live on until this object is closed."""
        pid = self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._orphans.update({int(child): _started(int(child)) for child in children})
        os.kill(pid, signal.SIGKILL)
        until(lambda: not self.is_alive(), "supervisord is killed")
        self.stop()

    def close(self) -> None:
        """End it and what a killed one has left behind, and take its folder away."""
        self.stop()
        for pid, started in self._orphans.items():
            if started is not None and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    # Supervisor gives each process a group of its own.
                    os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        if STORAGE == "etcd":
            # What would end later takes a revision, and tests that come next count theirs.
            _etcd().delete(self._prefix, prefix=True)


@contextlib.contextmanager
def running(*args: Any, **kwargs: Any) -> Iterator[Supervisord]:
    """Run a `Supervisord` for the length of a ``with``."""
    supervisord = Supervisord(*args, **kwargs)
    try:
        yield supervisord.start()
    finally:
        supervisord.close()


def program(name: str, command: str = "sleep 1000", **options: str) -> str:
    """Describe a supervised process, as lines of the configuration file."""
    # SIGTERM is lost on a child that still has supervisord's handlers, and is missed for stopwaitsecs then.
    defaults = {"command": command, "autorestart": "true", "startsecs": "0", "stopsignal": "KILL"}
    lines = "\n".join(f"{option}={value}" for option, value in {**defaults, **options}.items())
    return f"\n[program:{name}]\n{lines}\n"

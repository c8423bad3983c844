"""A real supervisord for a test: its configuration, its life, and ways to ask it."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

USER = "operator"
PASSWORD = "correct horse"
START_SECONDS = 30.0

Sections = Mapping[str, Mapping[str, str]]

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


def free_port() -> int:
    """Answer a port of the loopback interface on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until ``condition`` holds; fail with ``what`` if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


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
        self.binaries = binaries or Path(sys.executable).parent
        self.environment = {**os.environ, **(environment or {})}
        self.stderr = ""
        self._process: subprocess.Popen[str] | None = None
        self._proxies: list[ServerProxy] = []

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
        for name, options in self.sections.items():
            lines = "\n".join(f"{option} = {value}" for option, value in options.items())
            text += _SECTION.format(name=name, options=lines)
        self.configuration.write_text(text + self.more)

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
        return self

    def wait_until_up(self) -> None:
        """Wait until it answers over its unix socket."""

        def answers() -> bool:
            with contextlib.suppress(Exception):
                return bool(self.unix().supervisor.getState()["statecode"] == 1)
            if self._process is not None and self._process.poll() not in {None, 0}:
                raise AssertionError((self.folder / "output").read_text())
            return False

        until(answers, "supervisord answers")

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

    def close(self) -> None:
        """End it, and take its folder away."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


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

"""The supervisord under test, and what is done to it and to its processes."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, final
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from tests.e2e import prober
from tests.harness import PASSWORD, USER, Supervisord, until

_LOST_SECONDS = 60.0


@final
class Host:
    """One supervisord, which is away now and then."""

    def __init__(self, supervisord: Supervisord) -> None:
        self.supervisord = supervisord
        # When it was dead or reloading: from, to; the last may not be over.
        self.away: list[list[float]] = []
        # How often connections have been cut so far.
        self.cuts = 0
        # How often it has been started as a process of its own.
        self.lives = 1

    @property
    def folder(self) -> Path:
        return self.supervisord.folder

    @contextlib.contextmanager
    def is_away(self) -> Iterator[None]:
        """Take note that nothing can be expected of it."""
        interval = [time.monotonic(), float("inf")]
        self.away.append(interval)
        self.cuts += 1
        try:
            yield
        finally:
            interval[1] = time.monotonic()

    def was_away(self, start: float, end: float) -> bool:
        """Whether it was away at any time in between."""
        return any(begun <= end and start <= over for begun, over in self.away)

    def proxy(self, *, inet: bool) -> Any:
        """Make a connection that is the caller's to close; those of `Supervisord` are closed by whoever stops it."""
        supervisord = self.supervisord
        given = (USER, PASSWORD, supervisord.inet_url) if inet else (None, None, supervisord.unix_url)
        return ServerProxy("http://127.0.0.1", transport=SupervisorTransport(*given))

    def open_files(self) -> str:
        """Say what descriptors it has."""
        folder = Path(f"/proc/{self.supervisord.pid}/fd")
        return "\n".join(sorted(f"{path.name} {path.readlink()}" for path in folder.iterdir()))

    def reload(self, *, by_signal: bool) -> None:
        """Reload it by ``supervisorctl reload`` or SIGHUP."""
        supervisord = self.supervisord
        with self.is_away():
            before = supervisord.generations()
            if by_signal:
                os.kill(supervisord.pid, signal.SIGHUP)
            else:
                done = supervisord.ctl("reload")
                assert done.returncode == 0, done
            until(lambda: supervisord.generations() > before, "it reloads")
            supervisord.wait_until_up()

    def kill(self) -> None:
        """End it and its processes as the end of the machine would, and start it again."""
        supervisord, pid = self.supervisord, self.supervisord.pid
        with self.is_away():
            # So that it starts nobody between the look at its processes and its end.
            os.kill(pid, signal.SIGSTOP)
            children = _children(pid)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not supervisord.is_alive(), "it is killed")
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            assert supervisord._process is not None
            supervisord._process.wait()
            self.lives += 1
            supervisord.start()


def own_descriptors(host: Host) -> int:
    """Count what supervisord has open beside the connections of its own processes, which keep some or none."""
    pid = host.supervisord.pid
    return host.supervisord.descriptors() - sum(_sockets(child) for child in _children(pid))


def _sockets(pid: int) -> int:
    found = 0
    # A process may end in the middle of it, and its files with it.
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += str(path.readlink()).startswith("socket:")
    return found


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


@final
class Mortal:
    """A supervised process that writes its pid and when it started into a file."""

    def __init__(self, name: str, lives: Path) -> None:
        self.name = name
        self._lives = lives

    def newest(self) -> tuple[int, int, float]:
        """Answer how often it has been started, and the pid and the start of its newest life."""
        lines = self._lives.read_text().split("\n")[:-1] if self._lives.exists() else []
        if not lines:
            return 0, 0, 0.0
        pid, started = lines[-1].split()
        return len(lines), int(pid), float(started)


class Restart(NamedTuple):
    """When a process was killed, and how soon it had a successor.

    Attributes:
        name: Of the process.
        killed: When, by the monotonic clock.
        seconds: Until its successor had started.
        starved: Seconds in which supervisord could have run, and had no processor.
    """

    name: str
    killed: float
    seconds: float
    starved: float


@final
class Killer:
    """Kills processes, one after the other, and sees how soon each has a successor."""

    def __init__(self, host: Host, mortals: list[Mortal], dice: random.Random) -> None:
        self.restarts: list[Restart] = []
        self.killed = 0
        self._host = host
        self._mortals = mortals
        self._dice = dice

    def kill(self, over: threading.Event) -> None:
        """Kill one, and wait for its successor, unless supervisord goes away."""
        mortal = self._dice.choice(self._mortals)
        number = self._dice.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
        count, pid, _ = mortal.newest()
        try:
            supervisord = self._host.supervisord.pid
        except (OSError, ValueError):  # it is just being killed
            return
        before, killed = prober.delayed(supervisord), time.monotonic()
        if not count or self._host.was_away(killed, killed):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self.killed += 1
        while (found := mortal.newest())[0] == count and time.monotonic() - killed < _LOST_SECONDS:
            if self._host.was_away(killed, time.monotonic()) or over.wait(0.005):
                return
        starved = prober.delayed(supervisord) - before
        seconds = (found[2] if found[0] > count else time.monotonic()) - killed
        if not self._host.was_away(killed, time.monotonic()):
            self.restarts.append(Restart(mortal.name, killed, seconds, starved))


class Sample(NamedTuple):
    """What supervisord takes at one moment.

    Attributes:
        when: By the monotonic clock.
        life: Of which process, in the order in which they were started.
        descriptors: Without the connections of its own processes.
        log_bytes: Of the database's write-ahead log.
    """

    when: float
    life: int
    kilobytes: int
    descriptors: int
    log_bytes: int


def sample(host: Host) -> Sample | None:
    """Look at supervisord; None where it is away."""
    now, supervisord = time.monotonic(), host.supervisord
    try:
        log_bytes = (host.folder / "cache.db-wal").stat().st_size
        found = Sample(now, host.lives, supervisord.resident_kilobytes(), own_descriptors(host), log_bytes)
    except (OSError, IndexError, ValueError):
        return None
    return None if host.was_away(now, time.monotonic()) else found

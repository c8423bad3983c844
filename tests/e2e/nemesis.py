"""Does to hosts, members of etcd and the links between them what the world does, and makes good for all of it."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from tests.cluster import Cluster, Refused
from tests.e2e.etcd_log import EtcdLog
from tests.harness import START_SECONDS, Supervisord, until
from tests.netns import Namespace

# How long a fault lasts, in seconds, and how long each of those who make them rests.
_SHORTEST, _LONGEST = 0.3, 5.0
# Once in a while one outlasts every lease.
_LASTING, _OFTEN = 12.0, 0.08
_REST = 2.0


@final
class Host:
    """One host with a supervisord, which supervises a process that writes its pid into ``lives`` first."""

    def __init__(self, name: str, place: Namespace, supervisord: Supervisord) -> None:
        self.name = name
        self.place = place
        self.supervisord = supervisord
        # When its supervisord was paused, dead or reloading: from, to; the last may not be over.
        self.away: list[list[float]] = []
        # How often it has been started.
        self.life = 0

    @property
    def socket_path(self) -> str:
        return str(self.supervisord.socket_path)

    @property
    def lives(self) -> Path:
        return self.supervisord.folder / "lives"

    def start(self) -> None:
        self.life += 1
        with self.place.inside():
            self.supervisord.start()

    @contextlib.contextmanager
    def is_away(self) -> Iterator[None]:
        """Take note that nothing can be expected of its supervisord."""
        interval = [time.monotonic(), float("inf")]
        self.away.append(interval)
        try:
            yield
        finally:
            interval[1] = time.monotonic()

    def was_away(self, start: float, end: float) -> bool:
        """Whether it was away at any time in between."""
        return any(begun <= end and start <= over for begun, over in self.away)

    def newest_life(self) -> tuple[int, int]:
        """Answer how often the process has been started, and the pid that it has."""
        pids = self.lives.read_text().split() if self.lives.exists() else []
        return len(pids), int(pids[-1]) if pids else 0

    def kill_process(self) -> None:
        """End the supervised process, whoever is its parent."""
        _, pid = self.newest_life()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)


@final
class Nemesis:
    """Makes faults, several at once, until `end`; then all is well again.

    Args:
        seed: What decides on them.
        cluster: The members; their data stay.
        members: Where they are.
        hosts: Those with a supervisord.
        log: Reads what a compaction takes away.
    """

    def __init__(self, seed: int, cluster: Cluster, members: list[Namespace], hosts: list[Host], log: EtcdLog) -> None:
        self.faults = 0
        self.said: list[str] = []
        self.failures: list[BaseException] = []
        self._cluster = cluster
        self._members = members
        self._hosts = hosts
        self._log = log
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        makers = random.Random(seed).randint(2, 4)
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed + n),)) for n in range(makers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Make no more, and wait until all is well."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dice: random.Random) -> None:
        try:
            while not self._over.wait(dice.uniform(0, _REST)):
                self._make(dice)
        except BaseException as error:  # noqa: BLE001 - told at the end
            self.failures.append(error)

    def _make(self, dice: random.Random) -> None:
        target, what, fault = self._choose(dice)
        with self._lock:
            if target in self._taken:
                return
            self._taken.add(target)
        try:
            seconds = dice.uniform(_SHORTEST, _LASTING if dice.random() < _OFTEN else _LONGEST)
            self.said.append(f"{time.monotonic():.3f} {target}: {what} for {seconds:.1f} s")
            self.faults += 1
            with fault:
                self._over.wait(seconds)
            self.said.append(f"{time.monotonic():.3f} {target}: well again")
        finally:
            with self._lock:
                self._taken.remove(target)

    def _choose(self, dice: random.Random) -> tuple[str, str, AbstractContextManager[None]]:
        number = dice.randrange(len(self._members))
        host = dice.choice(self._hosts)
        places = [*self._members, *(each.place for each in self._hosts)]
        # Hosts with a supervisord do not speak to each other.
        one = dice.choice(self._members)
        other = dice.choice([place for place in places if place is not one])
        directions = dice.choice([[(one, other)], [(other, one)], [(one, other), (other, one)]])
        linked = dice.choice(places)
        way = dice.choice(["both", "in", "out"])
        member, link = f"etcd{number}", f"link of {linked.address}"
        pair = f"{' and '.join(sorted((one.address, other.address)))}"
        both = f"from {directions[0][0].address}{' and back' if directions[1:] else ''}"
        faults: list[tuple[int, str, str, Callable[[], AbstractContextManager[None]]]] = [
            (3, member, "killed", lambda: self._killed_member(number)),
            (3, member, "paused", lambda: self._paused_member(number)),
            (3, link, f"cut, {way}", lambda: _cut(linked, way)),
            (4, pair, f"cut {both}", lambda: _pairs_cut(directions)),
            (1, host.name, "killed", lambda: _killed(host)),
            (2, host.name, "paused", lambda: _paused(host)),
            (2, host.name, "reloads", lambda: _reloads(host, signal.SIGHUP)),
            (1, host.name, "starts anew", lambda: _stopped(host)),
            (1, "etcd", "compacted", self._compacted),
        ]
        (_, target, what, make) = dice.choices(faults, [weight for weight, *_ in faults])[0]
        return target, what, make()

    @contextlib.contextmanager
    def _killed_member(self, number: int) -> Iterator[None]:
        self._cluster.kill(number)
        try:
            yield
        finally:
            self._cluster.start(number)

    @contextlib.contextmanager
    def _paused_member(self, number: int) -> Iterator[None]:
        self._cluster.pause(number)
        try:
            yield
        finally:
            self._cluster.resume(number)

    @contextlib.contextmanager
    def _compacted(self) -> Iterator[None]:
        with contextlib.suppress(OSError, ValueError, Refused):
            newest = self._cluster.revision()
            for number in range(len(self._members)):
                if self._cluster.members[number].is_running and not self._cluster.members[number].is_paused:
                    self._log.read(newest, number)
                    self._cluster.compact(newest)
                    break
        yield


@contextlib.contextmanager
def _cut(place: Namespace, way: str) -> Iterator[None]:
    place.cut(way)  # type: ignore[arg-type]  # one of those there are
    try:
        yield
    finally:
        place.restore()


@contextlib.contextmanager
def _pairs_cut(directions: list[tuple[Namespace, Namespace]]) -> Iterator[None]:
    try:
        for one, other in directions:
            one.lose(other)
        yield
    finally:
        for one, other in directions:
            one.regain(other)


@contextlib.contextmanager
def _killed(host: Host) -> Iterator[None]:
    with host.is_away():
        host.supervisord.kill()
        # As the end of the machine would.
        host.kill_process()
        try:
            yield
        finally:
            host.start()


@contextlib.contextmanager
def _stopped(host: Host) -> Iterator[None]:
    with host.is_away():
        host.supervisord.stop()
        try:
            yield
        finally:
            host.start()


@contextlib.contextmanager
def _paused(host: Host) -> Iterator[None]:
    pid = host.supervisord.pid
    with host.is_away():
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            until(host.supervisord.is_up, "it goes on", START_SECONDS)


@contextlib.contextmanager
def _reloads(host: Host, number: signal.Signals) -> Iterator[None]:
    supervisord = host.supervisord
    with host.is_away():
        before = supervisord.generations()
        os.kill(supervisord.pid, number)
        until(lambda: supervisord.generations() > before, "it reloads", START_SECONDS)
        until(supervisord.is_up, "it is up again", START_SECONDS)
    yield

"""Hosts of a test: network namespaces on one bridge, whose links can be cut in either direction."""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, final

from tests.conftest import missing
from tests.harness import START_SECONDS, until

Direction = Literal["both", "in", "out"]

_DEVICE = "eth0"
_BRIDGE = "bridge"
# No host has it.
_NOBODY = "02:00:0a:4d:ff:ff"
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = itertools.count()


def _run(*command: str, lines: Sequence[str] = ()) -> str:
    """Run a program of iproute2; answer what it prints.

    Raises:
        OSError: It failed; with what it says of that.
    """
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _enter(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@final
class Namespace:
    """One host of a `Network`, with an ``address`` of its own. All of it sees the files of this machine."""

    def __init__(self, name: str, hub: str, number: int) -> None:
        self.name = name
        self.address = f"10.77.0.{number + 1}"
        self.hardware_address = f"02:00:0a:4d:00:{number + 1:02x}"
        # At the other end of each link what is sent goes towards the other: one end loses what comes, one what goes.
        self._ends = {"in": (hub, f"port{number}"), "out": (name, _DEVICE)}
        self._lost: set[str] = set()
        self._cut_off: dict[str, Namespace] = {}
        self._processes: list[subprocess.Popen[Any]] = []

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end."""
        given = {"capture_output": True, "text": True, "timeout": START_SECONDS, **options}
        done: subprocess.CompletedProcess[str] = subprocess.run(self._command(argv), check=False, **given)
        return done

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program there, which ends with the network at the latest; its pid is that of the program itself."""
        process: subprocess.Popen[Any] = subprocess.Popen(self._command(argv), **options)
        self._processes.append(process)
        return process

    def _command(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread there: sockets that it makes, and processes that it starts, stay there afterwards."""
        with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", self.name).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def cut(self, direction: Direction = "both") -> None:
        """Lose, without a word to anybody, what comes in, what goes out, or both."""
        for each in ("in", "out") if direction == "both" else (direction,):
            if each not in self._lost:
                namespace, device = self._ends[each]
                _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "blackhole")
                self._lost.add(each)

    def heal(self) -> None:
        """Lose nothing any more."""
        self.restore()
        for other in list(self._cut_off.values()):
            self.regain(other)

    def restore(self) -> None:
        """Undo `cut`."""
        for each in sorted(self._lost):
            namespace, device = self._ends[each]
            _run("tc", "-n", namespace, "qdisc", "delete", "dev", device, "root")
            self._lost.remove(each)

    def lose(self, other: "Namespace") -> None:
        """Lose, without a word to anybody, what goes from here to ``other``, and nothing else."""
        self._address(other, _NOBODY)
        self._cut_off[other.name] = other

    def regain(self, other: "Namespace") -> None:
        """Have what goes from here to ``other`` arrive again."""
        self._address(other, other.hardware_address)
        self._cut_off.pop(other.name, None)

    def _address(self, other: "Namespace", hardware_address: str) -> None:
        given = ["lladdr", hardware_address, "dev", _DEVICE, "nud", "permanent"]
        _run("ip", "-n", self.name, "neighbour", "replace", other.address, *given)

    def close(self) -> None:
        """Take it away, and all that runs there."""
        with contextlib.suppress(OSError):  # it was never made
            until(lambda: not self._kill(), f"the processes of {self.name} end")
            _run("ip", "netns", "delete", self.name)
        # Now that nobody else holds their pipes.
        for process in self._processes:
            process.communicate(timeout=START_SECONDS)

    def _kill(self) -> list[str]:
        pids = _run("ip", "netns", "pids", self.name).split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return pids


@final
class Network:
    """Hosts that see each other and nothing else, and that nothing else sees, for the length of a ``with``.

    Where this machine cannot have namespaces, the test is skipped, and fails where CI runs.
    """

    def __init__(self, hosts: int) -> None:
        # So no two networks meet, in whichever process they are made.
        name = f"sc{os.getpid()}-{next(_NUMBERS)}"
        self._hub = f"{name}-hub"
        self.hosts = [Namespace(f"{name}-{number}", self._hub, number) for number in range(hosts)]

    def __enter__(self) -> "Network":
        for program in ("ip", "tc"):
            if shutil.which(program) is None:
                missing(f"{program} of iproute2")
        if os.geteuid():
            missing("root, for network namespaces,")
        try:
            self._build()
        except OSError as error:
            self.close()
            missing(f"what network namespaces want ({error})")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take all of it away."""
        for host in self.hosts:
            host.close()
        with contextlib.suppress(OSError):  # it was never made
            _run("ip", "netns", "delete", self._hub)

    def _build(self) -> None:
        _run("ip", "netns", "add", self._hub)
        _run("ip", "-n", self._hub, "link", "add", _BRIDGE, "up", "type", "bridge")
        for number, host in enumerate(self.hosts):
            port = f"port{number}"
            _run("ip", "netns", "add", host.name)
            # Made where they belong: nothing of them ever is in the namespace of this process.
            link = f"link add {port} master {_BRIDGE} type veth peer name {_DEVICE}"
            _run("ip", "-n", self._hub, *link.split(), "address", host.hardware_address, "netns", host.name)
            _run("ip", "-n", self._hub, "link", "set", port, "up")
            # With addresses that they know for good, a link that is cut is silent; else those who ask for one would
            # be told soon that there is no such host.
            neighbours = [
                f"neighbour add {other.address} lladdr {other.hardware_address} dev {_DEVICE} nud permanent"
                for other in self.hosts
                if other is not host
            ]
            _run(
                "ip", "-n", host.name, "-batch", "-",
                lines=["link set lo up", f"link set {_DEVICE} up", f"address add {host.address}/24 dev {_DEVICE}",
                       *neighbours, ""],
            )  # fmt: skip
        # Where the kernel cannot cut a link, that is said before a test relies on it.
        for host in self.hosts[:1]:
            host.cut()
            host.heal()

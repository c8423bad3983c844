"""Members of etcd that are given by name, where nobody answers for names: often DNS goes with the network."""

import contextlib
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartSupervisord, missing
from tests.harness import OWN_BINARIES, Supervisord, program, until

SUPERVISORD = """\
#!/bin/sh
exec unshare --mount sh -c 'mount --bind {resolver} /etc/resolv.conf && exec {supervisord} "$@"' sh "$@"
"""


@pytest.fixture
def binaries(tmp_path: Path) -> Iterator[Path]:
    """A supervisord whose name server takes every question, and says nothing."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("root and unshare, for a name server of its own")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        # Each process of the tests has its own.
        address = f"127.{os.getpid() >> 16 & 255}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
        silent.bind((address, 53))
        resolver = tmp_path / "resolv.conf"
        resolver.write_text(f"nameserver {address}\n")
        for name in ("supervisorctl", "supervisor-cache"):
            (tmp_path / name).symlink_to(OWN_BINARIES / name)
        script = tmp_path / "supervisord"
        real = shlex.quote(str(OWN_BINARIES / "supervisord"))
        script.write_text(SUPERVISORD.format(resolver=shlex.quote(str(resolver)), supervisord=real))
        script.chmod(0o755)
        yield tmp_path


def threads(supervisord: Supervisord) -> int:
    return len(list(Path(f"/proc/{supervisord.pid}/task").iterdir()))


@pytest.mark.local("it names its own etcd")
def test_nothing_that_looks_up_a_name_outlives_a_reload(start: StartSupervisord, binaries: Path) -> None:
    section = {"storage": "etcd://etcd1.example.test:2379,etcd2.example.test:2379/p"}
    supervisord = start({"cache": section}, program("web"), binaries=binaries)
    until(lambda: "name resolution" in supervisord.storage()["detail"], "nobody knows the name")
    before, descriptors = threads(supervisord), supervisord.descriptors()
    for _ in range(3):
        # Its descriptor would be somebody else's afterwards, and closed under that one.
        supervisord.reload()
        assert threads(supervisord) == before
        assert supervisord.process("web")["statename"] == "RUNNING"
        assert supervisord.ctl("status").returncode == 0
        assert supervisord.inet().supervisor.getState()["statename"] == "RUNNING"
    until(lambda: supervisord.descriptors() <= descriptors, "no descriptor is left behind")

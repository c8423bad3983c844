"""The Dockerfile and the compose file of docs/operating.md, done in namespaces instead of containers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from supervisor_cache import __version__, connect
from supervisor_cache.client.cache import CacheClient
from tests.conftest import missing
from tests.examples import ROOT, blocks
from tests.harness import OWN_BINARIES, START_SECONDS, until

CONFIGURATION = """\
[supervisord]
user = root
logfile = /dev/null
logfile_maxbytes = 0

[unix_http_server]
file = /srv/s.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:cache]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
storage = sqlite:/var/lib/supervisor/cache.db
chmod = 0644
"""
READER = """\
from supervisor_cache import open_local
with open_local("/var/lib/supervisor/cache.db") as cache:
    print(dict(cache))
    open("/var/lib/supervisor/there", "w")
"""
# Folders of the image that are its own; everything else is this machine's.
OWN_FOLDERS = ("/etc", "/var/lib", "/srv")
KEPT = "passwd group nsswitch.conf ld.so.cache"


def documented(first_line: str) -> str:
    (found,) = (block.code for block in blocks(ROOT / "docs" / "operating.md") if block.first_line == first_line)
    return found


class Image:
    """What the Dockerfile makes.

    Attributes:
        required: What it has pip install.
        volume: The folder of its volume, in a container.
        command: What a container of it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.required: list[Requirement] = []
        self.volume = ""
        self.command: list[str] = []
        self._steps = ""
        (folder / "bin").mkdir()
        pip = folder / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {folder}/pip\n')
        pip.chmod(0o755)
        (folder / "supervisord.conf").write_text(CONFIGURATION)
        (folder / "srv").mkdir()
        (folder / "srv" / "reader.py").write_text(READER)
        for line in documented("FROM python:3.13-slim").splitlines():
            getattr(self, f"_{line.partition(' ')[0].lower()}")(line.partition(" ")[2])

    def _from(self, base: str) -> None:
        assert base == "python:3.13-slim"

    def _run(self, script: str) -> None:
        self._steps += f"{script}\n"

    def _copy(self, paths: str) -> None:
        source, target = paths.split()
        self._steps += f"cp {self.folder}/{source} {target}\n"

    def _volume(self, path: str) -> None:
        self.volume = path

    def _cmd(self, words: str) -> None:
        self.command = json.loads(words)

    def build(self) -> None:
        """Run its steps; what pip was told is known then, and the volume is as the image has it."""
        self._in_namespace(f"cp -a {self.volume} {self.folder}/volume")
        said = (self.folder / "pip").read_text().splitlines()
        assert said[0] == "install"
        self.required = [Requirement(word) for word in said[1:]]

    def start(self, command: list[str], user: str, volumes: list[str], output: Path) -> "subprocess.Popen[bytes]":
        """Start a container, with its volume where and how ``volumes`` says."""
        (volume,) = volumes
        name, path, *options = volume.split(":")
        assert (name, path) == ("markers", self.volume)
        assert options in ([], ["ro"])
        mounting = f"mount --bind {self.folder}/volume {path}\n" + f"mount -o remount,ro,bind {path}\n" * len(options)
        words = shlex.join(["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command])
        with output.open("w") as written:
            return self._popen(f"{mounting}cd /\nexec {words}", written)

    def _in_namespace(self, script: str) -> None:
        with (self.folder / "building").open("w+") as written:
            assert self._popen(script, written).wait(START_SECONDS) == 0, (self.folder / "building").read_text()

    def _popen(self, script: str, output: TextIO) -> "subprocess.Popen[bytes]":
        kept = f"cd /etc; tar -c {KEPT} 2>/dev/null > {self.folder}/etc.tar || true\n"
        own = "".join(f"mount -t tmpfs -o mode=755 none {path}\n" for path in OWN_FOLDERS)
        filled = f"tar -x -C /etc -f {self.folder}/etc.tar\nmount --bind {self.folder}/srv /srv\ncd {self.folder}\n"
        command = ["unshare", "--mount", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-ec"]
        return subprocess.Popen(
            [*command, kept + own + filled + self._steps + script],
            env={"PATH": f"{self.folder}/bin:{OWN_BINARIES}:{os.environ['PATH']}", "PYTHONPATH": _source()},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


def _source() -> str:
    return str(Path(sys.modules["supervisor_cache"].__path__[0]).parent)


@pytest.fixture
def image() -> Iterator[Image]:
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in ("unshare", "setpriv", "mount")):
        missing("unshare, as root")
    # Short, for the socket, and open to all, for the reader.
    folder = Path("/tmp") / f"sc-image-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield Image(folder)
    shutil.rmtree(folder)


def test_the_image_and_its_sidecar_are_as_operating_says(image: Image) -> None:
    image.build()
    own, _ = sorted(image.required, key=lambda required: required.name == "supervisor")
    assert {required.name for required in image.required} == {"supervisor", "supervisor_cache"}
    assert own.specifier.contains(Version(Version(__version__).base_version))
    assert not own.specifier.contains("1.1.0")
    composed = yaml.safe_load(documented("services:"))
    assert list(composed["volumes"]) == ["markers"]
    app, sidecar = composed["services"]["app"], composed["services"]["sidecar"]
    assert app["build"] == sidecar["build"] == "."

    output = image.folder / "output"
    supervisord = image.start(image.command, "0", app["volumes"], output)
    try:
        until((image.folder / "srv" / "s.sock").exists, "the container is up")
        with connect(f"unix://{image.folder}/srv/s.sock") as cache:
            _is_stored(cache)
        seen = image.folder / "seen"
        reader = image.start(sidecar["command"], sidecar["user"], sidecar["volumes"], seen)
        assert reader.wait(START_SECONDS) == 1
        assert seen.read_text().startswith("{'release': '2026.11.4'}\n")
        assert "Read-only file system" in seen.read_text()
    finally:
        children = Path(f"/proc/{supervisord.pid}/task/{supervisord.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 15)
        supervisord.wait(START_SECONDS)
    assert "supervisord started with pid 1\n" in output.read_text()
    assert "Traceback" not in output.read_text()
    assert (image.folder / "volume" / "cache.db").exists()


def _is_stored(cache: CacheClient) -> None:
    cache["release"] = "2026.11.4"
    assert cache.get_stats()["storage"]["state"] == "ok"

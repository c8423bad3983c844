"""As in a container: supervisord as process 1, and a reader with a read-only mount, another user, other processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_cache import connect
from supervisor_cache.client.cache import CacheClient
from tests.conftest import missing
from tests.harness import OWN_BINARIES, START_SECONDS, until

CONFIGURATION = """\
[supervisord]
nodaemon = true
user = root
logfile = /dev/null
logfile_maxbytes = 0

[unix_http_server]
file = %(here)s/s.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:cache]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
storage = sqlite:volume/cache.db
chmod = 0644

[program:web]
command = sleep 1000
"""
READER = """\
import sys
from supervisor_cache import open_local
with open_local(sys.argv[1]) as cache:
    print(dict(cache))
"""
NOBODY = "65534"


class Container:
    """A supervisord that is process 1 of its own, and its volume."""

    def __init__(self, folder: Path, name: str, volume: Path) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "volume").symlink_to(volume)
        self.configuration = self.folder / "supervisord.conf"
        self.configuration.write_text(CONFIGURATION)
        self.output = self.folder / "output"
        command = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", str(OWN_BINARIES / "supervisord")]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "-c", str(self.configuration)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def connect(self) -> CacheClient:
        until(lambda: "entered RUNNING state" in self.said, "the container is up")
        return connect(f"unix://{self.folder}/s.sock")

    def stop(self) -> None:
        """Do what a container's stop does: SIGTERM to process 1."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 15)
        self.process.wait(START_SECONDS)


@pytest.fixture
def folder() -> Iterator[Path]:
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in ("unshare", "setpriv", "mount")):
        missing("unshare, as root")
    # Short, for the socket, and open to all, for the reader.
    made = Path("/tmp") / f"sc-container-{os.getpid()}"
    made.mkdir(mode=0o755)
    (made / "volume").mkdir(mode=0o755)
    yield made
    shutil.rmtree(made)


def read(folder: Path) -> str:
    """Read the volume as a sidecar does: mounted read-only, as nobody, and seeing no process of the other one."""
    source = Path(sys.modules["supervisor_cache"].__path__[0]).parent
    script = f"""
        mount --bind {folder}/volume {folder}/volume
        mount -o remount,ro,bind {folder}/volume
        cd {source}
        setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {sys.executable} -c '{READER}' {folder}/volume/cache.db
    """
    command = ["unshare", "--mount", "--fork", "--pid", "--mount-proc", "sh", "-ec", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_supervisord_is_process_1_and_a_sidecar_reads_its_volume(folder: Path) -> None:
    one = Container(folder, "one", folder / "volume")
    try:
        with one.connect() as cache:
            assert "supervisord started with pid 1\n" in one.said
            cache["release"] = "2026.11.4"
            assert read(folder) == "{'release': '2026.11.4'}"
    finally:
        one.stop()
    assert read(folder) == "{'release': '2026.11.4'}"
    assert "Traceback" not in one.said


def test_a_new_container_waits_for_the_volume_until_the_old_one_has_ended(folder: Path) -> None:
    old = Container(folder, "old", folder / "volume")
    new = None
    try:
        with old.connect() as cache:
            cache["release"] = "2026.11.4"
            new = Container(folder, "new", folder / "volume")
            with new.connect() as other:
                assert other.get_stats()["storage"]["detail"].startswith("in use by pid 1 ")
                old.stop()
                until(lambda: other.get_stats()["storage"]["state"] == "ok", "the new one has the volume")
                assert other["release"] == "2026.11.4"
    finally:
        for one in (old, new):
            if one is not None and one.process.poll() is None:
                one.stop()

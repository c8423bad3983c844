"""The wheel in an image that has Debian's Python and Supervisor, and nothing else: it is installed, and works.

Needs root and debootstrap. The image is made in a folder of its own, and taken away.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "python3,python3-pip,python3-click,supervisor"
CONFIGURATION = """\
[supervisord]
logfile=/tmp/supervisord.log
pidfile=/tmp/supervisord.pid

[unix_http_server]
file=/tmp/s.sock

[supervisorctl]
serverurl=unix:///tmp/s.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:cache]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface
storage = sqlite:/srv/cache/cache.db
http = true

[ctlplugin:cache]
supervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin

[program:web]
command = sleep 1000
"""
INSTALL = "python3 -m pip install --quiet --no-deps --no-index --break-system-packages --root-user-action=ignore"
# What is typed, and what is to be seen: as an operator does it.
WALK = (
    (f"{INSTALL} /tmp/*.whl", ""),
    ("install --directory --mode=700 /srv/cache", ""),
    ("supervisord --version", r"4\.\d+\.\d+"),
    ("supervisor-cache config --check /tmp/supervisord.conf", ".*"),
    ("supervisord -c /tmp/supervisord.conf", ""),
    ("supervisorctl -c /tmp/supervisord.conf cache_store --ttl 2h --note ops maintenance on", ""),
    ("supervisorctl -c /tmp/supervisord.conf cache_fetch maintenance", "'on'"),
    ("supervisor-cache --url unix:///tmp/s.sock add --owner web:web leader me", r"\d+"),
    ("supervisorctl -c /tmp/supervisord.conf reload", "Restarted supervisord"),
    ("until supervisor-cache --url unix:///tmp/s.sock count 2>/dev/null; do sleep 0.1; done", "1"),
    ("supervisor-cache --url unix:///tmp/s.sock fetch maintenance", "on"),
    ("supervisor-cache --local /srv/cache/cache.db fetch maintenance", "on"),
    ("supervisorctl -c /tmp/supervisord.conf shutdown", "Shut down"),
    ("while [ -e /tmp/supervisord.pid ]; do sleep 0.1; done; grep -c Traceback /tmp/supervisord.log || true", "0"),
)  # fmt: skip


def debian() -> tuple[str, str]:
    """Answer the release and the mirror that this machine itself is installed from."""
    release = re.findall(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    for path in sorted(Path("/etc/apt").rglob("*.list")) + sorted(Path("/etc/apt").rglob("*.sources")):
        found = re.search(r"^(?:URIs:|deb(?: \[.*\])?)\s+(\S+)", path.read_text(), re.MULTILINE)
        if found and release:
            return release[0], found[1]
    raise SystemExit("image: this machine has no Debian packages")


def main() -> int:
    """Make the image, and walk through; the status is 1 where something else is seen."""
    if os.geteuid() or shutil.which("debootstrap") is None:
        print("image: root and debootstrap are needed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        wheels = Path(place) / "wheels"
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT], check=True
        )
        image = Path(place) / "image"
        release, mirror = debian()
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(image), mirror]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for wheel in wheels.iterdir():
            shutil.copy(wheel, image / "tmp")
        (image / "tmp" / "supervisord.conf").write_text(CONFIGURATION)
        try:
            return walk(image)
        finally:
            end(image)


def end(image: Path) -> None:
    """End the supervisord that a walk has left behind half way."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((image / "tmp" / "supervisord.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)


def walk(image: Path) -> int:
    """Type each line in the image."""
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    for line, seen in WALK:
        print(f"$ {line}", flush=True)
        command = ["chroot", str(image), "sh", "-c", line]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        told = done.stdout.strip()
        print(told or "", flush=True)
        if done.returncode or not re.fullmatch(seen, told, re.DOTALL):
            print(f"image: {seen!r} was to be seen; status {done.returncode}, {done.stderr}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

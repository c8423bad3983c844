"""Install the programs that tests (``test``), the image (``image``) or benchmarks (``bench``) want beside Python.

What cannot be installed is said: a test that wants it is skipped, or fails where CI runs; a benchmark leaves it out.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
NODE = ROOT / ".node"
# Program or file that shows that it is there, and the Debian packages that bring it.
WANTED = {
    "test": {
        "sqlite3": ["sqlite3"],
        "php": ["php-cli", "php-sqlite3"],
        "ruby": ["ruby", "ruby-sqlite3"],
        "npm": ["npm"],
        "strace": ["strace"],
        "zsh": ["zsh"],
        "fish": ["fish"],
        "chromium": ["chromium"],
        "nginx": ["nginx-light"],
        "openssl": ["openssl"],
        "prometheus": ["prometheus"],
        "etcd": ["etcd-server"],
        "etcdctl": ["etcd-client"],
        "ip": ["iproute2"],
    },
    "image": {
        "debootstrap": ["debootstrap"],
    },
    "bench": {
        "memcached": ["memcached"],
        "redis-server": ["redis-server"],
        "strace": ["strace"],
        "chromium": ["chromium"],
    },
}


def run(*command: str) -> bool:
    """Run a command, show what it complains of, and answer whether it did well."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-500:]}\n")
    return done.returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Install; the status is 0 whatever could not be."""
    (purpose,) = arguments
    wanted = WANTED[purpose]
    packages = [package for program, brought in wanted.items() if shutil.which(program) is None for package in brought]
    if packages and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        run("apt-get", "update", "--quiet")
        run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages)
    elif packages:
        print(f"not installed, and what wants it is left out: {' '.join(packages)}")
    if purpose == "test" and shutil.which("npm") is not None:
        NODE.mkdir(exist_ok=True)
        run("npm", "install", "--prefix", str(NODE), "--silent", "--no-audit", "--no-fund", "node@22")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

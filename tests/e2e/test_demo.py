"""The demo does what the README says of it."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "demo" / "demo.py")]


def folders() -> set[Path]:
    return set(Path("/tmp").glob("supervisor_cache-demo-*"))


def test_the_demo_walks_through_and_ends() -> None:
    before = folders()
    ended = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "unix  cache.store('release', '2026.11.3')\n        -> True" in ended.stdout
    assert re.search(r"expires   .*, in [0-5]s\n", ended.stdout)
    assert "maintenance: ERROR (no such key)" in ended.stdout
    assert re.search(r'process/web:web/status\t"(ready|leading)"\n +process/worker:worker/status\t"', ended.stdout)
    assert re.search(r"\trelease\tleader\t(web:web|worker:worker)\t\n.*\tstore\tleader\t", ended.stdout)
    assert "-> ['store config/colour', 'store config/size']" in ended.stdout
    assert "deploying: ERROR (no such key)" in ended.stdout
    assert re.search(r"\$ curl http://127\.0\.0\.1:\d+/cache/v1/values/release\n    2026\.11\.3\n", ended.stdout)
    assert "Restarted supervisord" in ended.stdout
    assert ended.stdout.endswith("supervisord and its programs are stopped.\n")
    assert folders() == before


def test_the_demo_copes_with_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 9001))
            taken.listen()
        except OSError:
            pass  # somebody else has it: as good
        ended = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60, check=False)
    assert "Port 9001 is taken; trying 9002." in ended.stdout
    assert ended.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_serves_until_it_is_interrupted(number: signal.Signals) -> None:
    before = folders()
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("Goes on serving on http://127.0.0.1:"):
            break
    else:
        pytest.fail(f"it does not serve: {demo.communicate()}")
    port = int(line.split()[4].rpartition(":")[2].rstrip("/"))
    assert [demo.stdout.readline() for _ in range(2)] == ["\n", f"  http://127.0.0.1:{port}/cache/\n"]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as asked:
        asked.request("GET", "/cache/")
        assert asked.getresponse().status == 200
    demo.send_signal(number)
    rest, errors = demo.communicate(timeout=30)
    assert (demo.returncode, errors) == (0, "")
    assert rest.endswith("supervisord and its programs are stopped.\n")
    assert folders() == before

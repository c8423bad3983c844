"""The examples of ``docs/reading.md``, run as they stand, but for the path."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartSupervisord, missing
from tests.harness import Supervisord

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reading.md").read_text()
PATH = "/var/lib/supervisor/cache.db"
SECTION = {"storage": "sqlite:cache.db", "chmod": "0644"}
# The newest Node.js that `make` could install, then the machine's own.
NODES = (ROOT / ".node" / "node_modules" / "node" / "bin" / "node", "node")


def example(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def has(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def shell(_folder: Path) -> list[str]:
    if not has(["sqlite3", "-version"]):
        missing("sqlite3")
    return ["sh"]


def node(_folder: Path) -> list[str]:
    for one in NODES:
        if has([str(one), "-e", 'require("node:sqlite")']):
            return [str(one)]
    missing("Node.js 22.5 or later")
    raise AssertionError


def php(_folder: Path) -> list[str]:
    if not has(["php", "-r", "exit(class_exists('SQLite3') ? 0 : 1);"]):
        missing("PHP with sqlite3")
    return ["php"]


def ruby(_folder: Path) -> list[str]:
    if not has(["ruby", "-rsqlite3", "-e", ""]):
        missing("Ruby with sqlite3")
    return ["ruby"]


def python(_folder: Path) -> list[str]:
    return [sys.executable]


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
@pytest.mark.parametrize(
    ("language", "interpreter", "quoted"),
    [
        ("python", python, False),
        ("sh", shell, True),
        ("javascript", node, False),
        ("php", php, False),
        ("ruby", ruby, False),
    ],
)
def test_an_example_prints_what_is_stored(
    start: StartSupervisord, language: str, interpreter: Callable[[Path], list[str]], quoted: bool, state: str
) -> None:
    supervisord: Supervisord = start({"cache": SECTION})
    command = interpreter(supervisord.folder)
    supervisord.unix().cache.storeMany({"release": "2026.11.3 \u00e4", "ended": 1})
    if state == "killed":
        supervisord.kill()
    elif state == "stopped":
        supervisord.stop()
    script = supervisord.folder / "example"
    text = example(language)
    assert PATH in text
    script.write_text(text.replace(PATH, str(supervisord.folder / "cache.db")))
    ran = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=20, check=False)
    expected = '"2026.11.3 \u00e4"' if quoted else "2026.11.3 \u00e4"
    assert ran.stdout == f"{expected}\n", ran.stderr
    assert ran.returncode == 0

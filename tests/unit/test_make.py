"""The environment that make builds is that of the chosen Python; the matrix never passes for want of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import matrix

from tests.conftest import missing

ROOT = Path(__file__).parents[2]
VERSION = "3.12.1"
UP_TO_DATE, TO_BE_MADE = 0, 1


class Checkout:
    """A folder with our Makefile, and Pythons that only tell their version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
        (folder / "pyproject.toml").touch()
        (folder / ".venv").mkdir()

    def make(self, version: str, *arguments: str) -> int:
        """Run make with the Python of this version, as from a shell of its own; answer its status."""
        python = self.folder / f"python{version}"
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        command = ["make", "-C", str(self.folder), f"PYTHON={python}", *arguments, ".venv/.complete"]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    def built(self, version: str) -> None:
        """Have it as after make with the Python of this version."""
        assert self.make(version, "--touch") == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        missing("make")
    return Checkout(tmp_path)


def test_an_environment_of_the_chosen_python_is_kept(checkout: Checkout) -> None:
    assert checkout.make(VERSION, "--question") == TO_BE_MADE
    checkout.built(VERSION)
    assert checkout.make(VERSION, "--question") == UP_TO_DATE


@pytest.mark.parametrize("other", ["3.11.7", "3.12.2"])
def test_an_environment_of_another_python_is_built_anew(checkout: Checkout, other: str) -> None:
    checkout.built(VERSION)
    assert checkout.make(other, "--question") == TO_BE_MADE


def test_a_change_of_the_dependencies_is_installed(checkout: Checkout) -> None:
    checkout.built(VERSION)
    complete = checkout.folder / ".venv" / ".complete"
    later = complete.stat().st_mtime + 10
    os.utime(checkout.folder / "pyproject.toml", (later, later))
    assert checkout.make(VERSION, "--question") == TO_BE_MADE


def test_the_matrix_fails_where_it_finds_no_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix, "interpreters", dict)
    assert matrix.main() == 1
    assert "nothing was tested" in capsys.readouterr().err


def test_the_matrix_counts_the_python_that_runs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert matrix.interpreters() == {f"py3{sys.version_info.minor}": Path(sys.executable)}


def test_the_matrix_fails_where_one_pair_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "interpreters", lambda: {"py312": Path("python3.12")})
    monkeypatch.setattr(sys, "argv", ["matrix.py"])
    outcomes = iter([True, False, True, True, True, True])
    monkeypatch.setattr(matrix, "try_pair", lambda *_: (next(outcomes), ""))
    assert matrix.main() == 1
    assert matrix.main() == 0

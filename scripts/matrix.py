"""The wheel under each installed Python and three Supervisors, and a table of what each pair came to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MINORS = range(10, 15)
SUPERVISORS = ("420", "425", "430")
PROBE = "import supervisor.supervisord, supervisor.supervisorctl, supervisor.xmlrpc"


def interpreters() -> dict[str, Path]:
    """Find the installed Pythons, this one among them, by the name that tox has for their version."""
    found = {}
    for minor in MINORS:
        name = f"python3.{minor}"
        own = [Path(sys.executable)] if sys.version_info[:2] == (3, minor) else []
        on_path = shutil.which(name)
        places = [*own, Path(on_path)] if on_path else own
        for place in [*places, *sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"))]:
            # A shim may stand for a version that is not there.
            if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0:
                found[f"py3{minor}"] = place
    return found


def tox(environment: str, python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tox for one environment."""
    command = [sys.executable, "-m", "tox", "run", "-q", "-e", environment, "--discover", str(python), *arguments]
    variables = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def try_pair(environment: str, python: Path, arguments: list[str]) -> tuple[bool, str]:
    """Test one pair; answer whether that is well, and what to say of it."""
    made = tox(environment, python, "--notest")
    if made.returncode:
        return False, last_line(made.stdout + made.stderr)
    own_python = ROOT / ".tox" / environment / "bin" / "python"
    probe = subprocess.run([own_python, "-c", PROBE], capture_output=True, text=True, check=False)
    if probe.returncode:
        return True, f"Supervisor itself does not run: {last_line(probe.stderr)}"
    tested = tox(environment, python, "--skip-pkg-install", *(["--", *arguments] if arguments else []))
    if tested.returncode:
        print(tested.stdout[-5000:], tested.stderr[-2000:], sep="\n")
    return tested.returncode == 0, last_line(tested.stdout, " passed")


def last_line(text: str, containing: str = "") -> str:
    """Answer the last line of ``text`` that has ``containing`` in it."""
    lines = [line for line in text.splitlines() if line.strip() and containing in line]
    return lines[-1].strip() if lines else "(no output)"


def main() -> int:
    """Test all pairs; the status is 1 if one fails on which Supervisor runs, or if there is none."""
    found = interpreters()
    if not found:
        print(f"no Python from 3.{MINORS[0]} to 3.{MINORS[-1]} is installed: nothing was tested", file=sys.stderr)
        return 1
    well = True
    print(f"{'Python':<8} {'Supervisor':<11} ")
    for name, python in found.items():
        for supervisor in SUPERVISORS:
            passed, text = try_pair(f"{name}-supervisor{supervisor}", python, sys.argv[1:])
            well = well and passed
            print(f"3.{name[3:]:<6} {'.'.join(supervisor):<11} {'' if passed else 'FAILED: '}{text}", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

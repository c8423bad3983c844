"""What a release consists of, in ``dist/``: sdist, wheel, a bill of materials, and the sums of all three.

Both are built twice from the same commit, by different users' habits as it were, and have to be equal byte by byte.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What must make no difference: where it is built, by whom, and in which time zone.
HABITS: tuple[dict[str, str], ...] = (
    {"TZ": "UTC", "PYTHONHASHSEED": "1", "LC_ALL": "C"},
    {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8"},
)
UMASKS = (0o022, 0o077)
NONE: Mapping[str, str] = {}


class ReleaseError(Exception):
    """There is nothing to release, and why."""


def run(*command: str | Path, cwd: Path = ROOT, umask: int = -1, variables: Mapping[str, str] = NONE) -> str:
    """Run a command, and answer what it printed; raises `ReleaseError` where it fails."""
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=cwd, env=environment, umask=umask, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def build(folder: Path, commit: str = "HEAD") -> list[Path]:
    """Build sdist and wheel of ``commit`` into ``folder``, and answer them."""
    moment = run("git", "log", "-1", "--format=%ct", commit)
    made: list[dict[str, bytes]] = []
    for number, (habits, umask) in enumerate(zip(HABITS, UMASKS, strict=True)):
        with tempfile.TemporaryDirectory(prefix=f"release-{'x' * number}") as place:
            source = Path(place) / "source"
            archive = Path(place) / "source.tar"
            source.mkdir()
            run("git", "archive", "--format=tar", f"--output={archive}", commit)
            run("tar", "--extract", f"--file={archive}", umask=umask, cwd=source)
            out = Path(place) / "out"
            command = [sys.executable, "-m", "build", "--outdir", str(out), str(source)]
            run(*command, umask=umask, variables={**habits, "SOURCE_DATE_EPOCH": moment})
            made.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    first, second = made
    differing = [name for name in {*first, *second} if first.get(name) != second.get(name)]
    if differing:
        raise ReleaseError(f"two builds of one commit differ: {', '.join(sorted(differing))}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in first.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in first]


def bill_of_materials(wheel: Path) -> str:
    """Answer what is installed with ``wheel`` into an empty environment, as CycloneDX has it."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as place:
        python = Path(place) / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip", place)
        run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel)
        tool = Path(sys.executable).parent / "cyclonedx-py"
        options = ("--mc-type", "library", "--output-reproducible", "--of", "JSON", "--pyproject", "pyproject.toml")
        told = json.loads(run(tool, "environment", *options, python))
    # Where the wheel has it from, pyproject.toml does not say.
    told["metadata"]["component"].update(version=version, purl=f"pkg:pypi/supervisor-cache@{version}")
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def check_changelog(version: str) -> None:
    """Refuse a version of which the changelog does not say what is new; one in development has no section yet."""
    heading = "## [Unreleased]" if "dev" in version else f"## [{version}] - 2"
    if heading not in (ROOT / "CHANGELOG.md").read_text():
        raise ReleaseError(f"CHANGELOG.md has no {heading!r}")


def main(arguments: Sequence[str]) -> int:
    """Make the release; the status is 1 where there is none."""
    folder = Path(arguments[0] if arguments else ROOT / "dist").resolve()
    try:
        if run("git", "status", "--porcelain", "--untracked-files=no"):
            print("note: what is not committed is not in it", file=sys.stderr)
        built = build(folder)
        wheel = next(path for path in built if path.suffix == ".whl")
        check_changelog(wheel.name.split("-")[1])
        bill = folder / f"{wheel.name.removesuffix('-py3-none-any.whl')}.cdx.json"
        bill.write_text(bill_of_materials(wheel))
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (*built, bill)]
        (folder / "SHA256SUMS").write_text("".join(sums))
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print("".join(sums), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

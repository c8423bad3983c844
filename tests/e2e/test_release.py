"""What is released: the same bytes each time, and a successor that is installed over release 1.1.0."""

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripts import release

import supervisor_cache
from supervisor_cache.server.rpc import API_VERSION
from tests.conftest import missing
from tests.harness import running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what has been built from the last commit."""
    if not (ROOT / ".git").exists():
        missing("a checkout, with a commit to build from,")
    folder = tmp_path_factory.mktemp("dist")
    # Raises where two builds differ.
    release.build(folder)
    return folder


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"supervisor_cache", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    for name in ("py.typed", "http/static/app.js", "http/static/index.html", "http/static/style.css"):
        assert f"supervisor_cache/{name}" in names
    here = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here


def test_the_sdist_has_what_is_needed_to_test_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "tests/harness.py", "docs/reference.md"} <= names
    assert not any(name.startswith((".ci", ".git/")) for name in names)


def test_the_bill_of_materials_names_what_is_installed(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    told = json.loads(release.bill_of_materials(wheel))
    assert told["bomFormat"] == "CycloneDX"
    main = told["metadata"]["component"]
    assert (main["name"], main["version"]) == ("supervisor_cache", wheel.name.split("-")[1])
    assert sorted(one["name"] for one in told["components"]) == ["click", "supervisor"]
    assert all(one["version"] and one["purl"] for one in told["components"])


def test_two_builds_that_differ_are_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = release.run
    builds: list[str] = []

    def run(*command: Any, **more: Any) -> str:
        if "build" not in command:
            return real(*command, **more)
        out = Path(command[4])
        out.mkdir()
        builds.append(str(out))
        (out / "x-1-py3-none-any.whl").write_text(str(len(builds)))
        return ""

    monkeypatch.setattr(release, "run", run)
    with pytest.raises(release.ReleaseError, match="differ"):
        release.build(tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_the_changelog_tells_of_this_version() -> None:
    release.check_changelog(supervisor_cache.__version__)
    with pytest.raises(release.ReleaseError):
        release.check_changelog("99.0.0")


@pytest.fixture(scope="module")
def upgrade(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[], None]]:
    """An environment with release 1.1.0, and what upgrades it."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for packages in (
        ["setuptools<81", "wheel", "supervisor==4.3.0"],
        ["--no-build-isolation", "supervisor_cache==1.1.0"],
    ):
        subprocess.run([*pip, *packages], check=True)
    (wheel,) = built.glob("*.whl")

    def install() -> None:
        subprocess.run([*pip, "--upgrade", wheel], check=True)

    return environment / "bin", install


def test_it_is_installed_over_1_1_0_with_its_configuration_unchanged(
    upgrade: tuple[Path, Callable[[], None]],
) -> None:
    binaries, install = upgrade
    with running(binaries=binaries) as supervisord:
        configuration = supervisord.configuration.read_text()
        assert supervisord.unix().cache.getAPIVersion() != API_VERSION
        before = used(supervisord.unix().cache), commands(supervisord, binaries)
        supervisord.stop()
        install()
        supervisord.start()
        assert supervisord.configuration.read_text() == configuration
        assert supervisord.unix().cache.getAPIVersion() == API_VERSION
        assert (used(supervisord.unix().cache), commands(supervisord, binaries)) == before
        assert supervisord.unix().cache.getRevision().isdigit()
        assert "Traceback" not in supervisord.log


def used(cache: Any) -> list[object]:
    """Use the seven methods of 1.1.0, and answer what they answered."""
    told = [cache.store("foo", {"bar": ["baz", 1, True]}), cache.store("n", 1), cache.getKeys(), cache.getCount()]
    told += [cache.fetch("foo"), cache.delete("foo"), cache.getKeys(), cache.clear(), cache.getCount()]
    return told


def commands(supervisord: Any, binaries: Path) -> list[str]:
    """Type the six commands of 1.1.0, and answer what they printed."""
    told = []
    for line in (
        "cache_store foo bar",
        "cache_keys",
        "cache_count",
        "cache_fetch foo",
        "cache_delete foo",
        "cache_clear",
    ):
        command = [binaries / "supervisorctl", "-c", supervisord.configuration, *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not re.search("error|unknown", done.stdout + done.stderr, re.IGNORECASE), (line, done)
        told.append(done.stdout)
    return told

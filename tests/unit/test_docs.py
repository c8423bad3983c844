"""What exists is in the reference, and what the reference names exists."""

import re
from pathlib import Path

import click
import pytest
from supervisor import events

import supervisor_cache
from supervisor_cache import errors
from supervisor_cache.cli.app import _app
from supervisor_cache.cli.globals import USAGE
from supervisor_cache.cli.own import OWN
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.verbs import VERBS, Verb
from supervisor_cache.rpcinterface import CacheNamespaceRPCInterface
from supervisor_cache.server.events import CacheEvent
from supervisor_cache.server.settings import _readers

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CLIENT, COMMAND, READING, PROCESSES = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("client", "command", "reading", "processes")
)
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def rows(heading: str, document: str = REFERENCE) -> list[str]:
    """The first cells of the table below ``heading``."""
    section = document.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if re.match(r"\| [`0-9]", line)]


def test_each_option_is_documented_and_no_other() -> None:
    assert sorted(row.strip("`") for row in rows("Options")) == sorted(_readers([], ""))


def test_each_method_is_documented_and_no_other() -> None:
    methods = [name for name in vars(CacheNamespaceRPCInterface) if not name.startswith("_")]
    assert sorted(row.strip("`").partition("(")[0] for row in rows("Methods")) == sorted(methods)


def test_each_fault_is_documented() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.CacheError)]
    for one in classes:
        if issubclass(one, errors.ClientError):
            assert f"`{one.__name__}`" in CLIENT
        else:
            assert f"| {one.code} | `{one.name}` |" in REFERENCE


def test_each_public_name_is_documented() -> None:
    documents = README + REFERENCE + CLIENT + READING + PROCESSES
    for name in set(supervisor_cache.__all__) - {"__version__"}:
        assert name in documents, name


def test_each_method_of_the_client_is_documented() -> None:
    methods = [name for name, one in vars(CacheClient).items() if callable(one) and not name.startswith("_")]
    for name in methods:
        assert name in CLIENT, name


@pytest.mark.parametrize("name", OWN)
def test_each_command_of_its_own_is_documented_as_its_help_shows_it(name: str) -> None:
    documented = next(row for row in rows("Commands of its own", COMMAND) if row.strip("`").split()[0] == name)
    assert sorted(re.findall(r"\[.*?\]|\S+", documented.strip("`"))) == sorted(
        re.findall(r"\[.*?\]|\S+", OWN[name].usage.line(name))
    )


def test_each_option_before_the_command_is_documented() -> None:
    section = COMMAND.partition("## Which supervisord")[2].partition("\n## ")[0]
    for name in (*USAGE.flags, *USAGE.values, *USAGE.lists):
        assert f"`--{name}" in section


def test_each_option_has_a_help() -> None:
    app = _app()
    assert set(app.commands) == {*(verb.name for verb in VERBS), *OWN}
    for command in (app, *app.commands.values()):
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_command_is_documented_as_its_help_shows_it(verb: Verb) -> None:
    documented = next(row for row in rows("supervisorctl") if f"cache_{verb.name}" in row).strip("`")
    shown = verb.usage.line(f"cache_{verb.name}")
    assert sorted(re.findall(r"\[.*?\]|\S+", documented)) == sorted(re.findall(r"\[.*?\]|\S+", shown))


def test_no_command_is_documented_that_is_none() -> None:
    assert len(rows("supervisorctl")) == len(VERBS)


def test_each_event_is_documented() -> None:
    registered = [name for name, kind in vars(events.EventTypes).items() if name.startswith("CACHE")]
    assert issubclass(vars(events.EventTypes)["CACHE"], CacheEvent)
    for name in registered:
        assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target

"""What exists is in the reference, and what the reference names exists."""

import ast
import re
from collections.abc import Iterator
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
from supervisor_cache.commands import failures
from supervisor_cache.commands.verbs import VERBS, Verb
from supervisor_cache.core.options import Options
from supervisor_cache.http.metrics import metrics
from supervisor_cache.http.openapi import _PATHS
from supervisor_cache.http.replies import REASONS
from supervisor_cache.http.routes import Routes
from supervisor_cache.http.watching import Watchers
from supervisor_cache.rpcinterface import CacheNamespaceRPCInterface
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.events import CacheEvent
from supervisor_cache.server.guards import MISDIRECTED
from supervisor_cache.server.log import Log
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.settings import Settings, _readers

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)]
SOURCE = Path(supervisor_cache.__file__).parent
README = (ROOT / "README.md").read_text()
CLIENT, COMMAND, HTTP, OPERATING, READING, PROCESSES = (
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("client", "command", "http", "operating", "reading", "processes")
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


def names(cells: list[str]) -> list[str]:
    """What stands in backticks in the first cells of rows."""
    return [name for cell in cells for name in re.findall("`(.+?)`", cell)]


def constants() -> Iterator[str]:
    """Each text in the source; one that is put together is several."""
    for module in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_each_fault_is_documented_and_no_other() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.CacheError)]
    faults = {f"{one.code} | `{one.name}`" for one in classes if not issubclass(one, errors.ClientError)}
    section = REFERENCE.partition("\n## Faults\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| ([0-9]+ \| `\w+`) \|", section, re.MULTILINE)) == {
        *faults,
        "2 | `INCORRECT_PARAMETERS`",
    }


def test_each_error_of_the_client_is_documented_and_no_other() -> None:
    ours = [name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.ClientError)]
    assert sorted(names(rows("Errors", CLIENT))) == sorted(set(ours) - {"ClientError"})


def test_each_option_of_a_write_is_documented_and_no_other() -> None:
    assert sorted(names(rows("Options of a write"))) == sorted(Options._fields)


@pytest.fixture
def namespace() -> Namespace:
    log = Log()
    return Namespace("cache", Settings(metrics_prefix="m/"), log, Backlog(log))


def test_each_metric_is_documented_and_no_other(namespace: Namespace) -> None:
    shown = re.findall("^# TYPE (.+) (.+)$", metrics(namespace, "test"), re.MULTILINE)
    section = REFERENCE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(.+?)` \| (\w+) \|", section, re.MULTILINE) == shown


def test_each_field_of_the_stats_is_documented(namespace: Namespace) -> None:
    told = REFERENCE.partition("\n`getStats` answers ")[2].partition("\n\n")[0]
    for field in namespace.stats("test"):
        assert f"`{field}`" in told, field


def test_each_route_is_documented_and_no_other(namespace: Namespace) -> None:
    log = Log()
    host = object()
    watchers = Watchers(namespace, log, lambda: None, lambda: False)
    routes = Routes(namespace, "", host, watchers)._paths  # type: ignore[arg-type]  # it is asked nothing
    served = {f"{method} {path}".strip() for path, methods in routes.items() for method in methods}
    documented = {re.sub(r"/KEY|\?.*", "", name) for name in (row.strip("`") for row in rows("Paths", HTTP))}
    assert {name for name in documented if not name[:1].isdigit()} == served


def test_each_parameter_of_a_route_is_documented_and_no_other() -> None:
    described = {
        f"{method.upper()} {path[1:].replace('{key}', 'KEY')}": [
            one["name"] for one in operation.get("parameters", []) if one.get("in") == "query"
        ]
        for path, operations in _PATHS.items()
        for method, operation in operations.items()
    }
    for row in rows("Paths", HTTP):
        route, _, query = row.strip("`").partition("?")
        if route in described:
            # A key in the query is said below.
            assert re.findall(r"(\w+)=", query) == [name for name in described[route] if name != "key"], route


def test_each_status_is_documented_and_no_other() -> None:
    documented = {int(number) for row in rows("Paths", HTTP) for number in re.findall(r"\b\d{3}\b", row)}
    refused = {status for status in REASONS if status >= 400} - {500}  # a defect
    assert documented == {*refused, 401, MISDIRECTED}  # these two are answered in another place


def test_each_exit_status_is_documented_and_no_other() -> None:
    documented = {int(number) for row in rows("The verbs", COMMAND) for number in re.findall(r"\d+", row)}
    ours = {value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)}
    assert documented == {0, *ours, 126, 127}


def test_each_variable_of_the_environment_is_documented_and_no_other() -> None:
    mentioned = {name for text in constants() for name in re.findall(r"\bSUPERVISOR_[A-Z_]+\b", text)}
    used = {name for name in mentioned if not name.startswith("SUPERVISOR_STATE")}  # Supervisor's events
    assert set(names(rows("Environment"))) == used


def test_what_the_troubleshooting_quotes_is_said() -> None:
    texts = "\0".join(constants())
    section = OPERATING.partition("\n## Troubleshooting\n")[2]
    quoted = names([line.split("|")[1] for line in section.splitlines() if line.startswith("| ")])
    assert quoted
    for quotation in quoted:
        for part in quotation.split("..."):
            assert part.strip() in texts, quotation


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


def test_each_option_before_the_command_is_documented_and_no_other() -> None:
    documented = re.findall(r"--([\w-]+)", " ".join(rows("Which supervisord", COMMAND)))
    assert sorted(documented) == sorted([*USAGE.flags, *USAGE.values, *USAGE.lists])


def test_no_command_of_its_own_is_documented_that_is_none() -> None:
    assert len(rows("Commands of its own", COMMAND)) == len(OWN)


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


def test_each_event_is_documented_and_no_other() -> None:
    registered = [name for name, kind in vars(events.EventTypes).items() if name.startswith("CACHE")]
    assert issubclass(vars(events.EventTypes)["CACHE"], CacheEvent)
    section = REFERENCE.partition("\n## Events\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(CACHE\w*)`", section)) == set(registered)


def test_the_architecture_names_what_there_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for part in SOURCE.iterdir():
        name = f"{part.name}/" if part.is_dir() else part.name
        if not name.startswith("_") and name != "py.typed":
            assert name in text, name
    for path in re.findall(r"`([\w./]+(?:\.py|/))`", text):
        assert (SOURCE / path).exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?:\]\(|src=\"|srcset=\")(?!http)([^)#\"]+)", page.read_text()):
        assert (page.parent / target).exists(), target

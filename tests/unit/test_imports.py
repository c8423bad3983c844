"""Dependencies point one way, and supervisord imports nothing but Supervisor and the standard library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor_cache

PACKAGE = Path(supervisor_cache.__file__).parent
# Each folder may import the ones named; "supervisor" is Supervisor itself.
ALLOWED = {
    "errors": set(),
    "core": {"errors"},
    "engines": {"core", "errors"},
    "server": {"core", "engines", "errors", "http", "supervisor"},
    "http": {"core", "errors", "server", "supervisor"},
    "rpcinterface": {"server", "supervisor"},
    "client": {"core", "errors"},
    "testing": {"client", "core", "engines", "errors"},
    "commands": {"client", "core", "errors"},
    "ctl": {"client", "commands", "errors", "supervisor"},
    "controllerplugin": {"commands", "core", "ctl", "supervisor"},
    "cli": {"__version__", "client", "commands", "core", "errors", "server", "click"},
    "__init__": {"client", "errors"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(module: Path) -> set[str]:
    """The folders of this package, and other distributions, that ``module`` imports."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "supervisor_cache":
                found.add(rest.partition(".")[0])
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_place_allows(module: Path) -> None:
    place = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported(module) <= ALLOWED[place] | {place}


@pytest.mark.parametrize("entry_point", ["rpcinterface", "controllerplugin"])
def test_everything_is_imported_at_start(entry_point: str) -> None:
    folder = {"rpcinterface": ("core", "engines", "http", "server"), "controllerplugin": ("commands", "ctl")}[
        entry_point
    ]
    code = f"import sys, supervisor_cache.{entry_point}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    used = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES}
    expected = {name for name in used if name.split(".")[1] in folder and not name.endswith("__init__")}
    if entry_point == "controllerplugin":
        expected = {name for name in expected if name.split(".")[1] in {"commands", "ctl"}}
    assert expected <= set(modules)


# What a client or the command needs only now and then is imported then.
AT_START = [
    module for module in MODULES if module.relative_to(PACKAGE).parts[0] not in {"__init__.py", "client", "cli"}
]


@pytest.mark.parametrize("module", AT_START, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_at_its_top_alone(module: Path) -> None:
    tree = ast.parse(module.read_text())
    nested = [
        node
        for parent in ast.walk(tree)
        if not isinstance(parent, ast.Module)
        for node in ast.iter_child_nodes(parent)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert nested == []


def test_the_package_itself_imports_only_its_errors() -> None:
    code = "import sys; before = set(sys.modules); import supervisor_cache; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(added) == ["supervisor_cache", "supervisor_cache.errors"]


def modules_after(code: str) -> set[str]:
    """The modules that are imported once ``code`` has run."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split())


def test_the_client_needs_no_modules_of_supervisor() -> None:
    code = "sys.modules['supervisor'] = None\nfrom supervisor_cache import connect\nconnect('http://localhost:1')"
    assert not {name for name in modules_after(code) if name.startswith("supervisor.")}


def test_a_verb_imports_nothing_that_it_does_not_use() -> None:
    code = "from supervisor_cache.cli.main import dispatch\ndispatch(['--url', 'unix:///none', 'fetch', 'k'])"
    modules = modules_after(code)
    used = {name for name in modules if name.startswith("supervisor_cache.")}
    assert not {name for name in used if name.split(".")[1] in {"engines", "server", "ctl"}}
    own = {name for name in used if name.startswith("supervisor_cache.cli.")}
    assert own == {f"supervisor_cache.cli.{name}" for name in ("globals", "main", "own")}
    assert not modules & {"click", "configparser", "inspect", "ssl_", "sqlite3", "subprocess", "supervisor"}


def test_a_local_read_asks_for_no_network() -> None:
    code = "from supervisor_cache.cli.main import dispatch\ndispatch(['--local', '/none', 'fetch', 'k'])"
    assert not modules_after(code) & {"click", "http.client", "xmlrpc.client", "socket"}

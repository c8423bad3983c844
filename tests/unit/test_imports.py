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
    "server": {"core", "engines", "errors", "supervisor"},
    "rpcinterface": {"server", "supervisor"},
    "ctl": {"core", "errors", "supervisor"},
    "controllerplugin": {"core", "ctl", "errors", "supervisor"},
    "client": {"core", "errors"},
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
    folder = {"rpcinterface": ("core", "engines", "server"), "controllerplugin": ("core", "ctl")}[entry_point]
    code = f"import sys, supervisor_cache.{entry_point}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    used = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES}
    expected = {name for name in used if name.split(".")[1] in folder and not name.endswith("__init__")}
    if entry_point == "controllerplugin":
        expected = {name for name in expected if name.split(".")[1] == "ctl"}
    assert expected <= set(modules)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_at_its_top_alone(module: Path) -> None:
    tree = ast.parse(module.read_text())
    nested = [
        node
        for parent in ast.walk(tree)
        if not isinstance(parent, ast.Module)
        for node in ast.iter_child_nodes(parent)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    if module == PACKAGE / "__init__.py":  # whose names are imported when they are asked for
        nested = [node for node in nested if isinstance(node, ast.Import) or "client" not in str(node.module)]
    assert nested == []


def test_the_package_itself_imports_only_its_errors() -> None:
    code = "import sys; before = set(sys.modules); import supervisor_cache; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(added) == ["supervisor_cache", "supervisor_cache.errors"]

"""The house rules that imports and names have to keep."""

import ast
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MAY_IMPORT = {
    "routing": {"routing"},
    "events": {"routing", "events"},
    "consumers": {"routing", "events", "consumers"},
}
OURS = set(MAY_IMPORT)


def imported(source: str) -> set[str]:
    """The top-level packages of ours that a module imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0] if node.level == 0 else "a relative import")
    return names & (OURS | {"a relative import"})


def violations(package: str, modules: dict[str, str]) -> list[str]:
    return [
        f"{name} imports {foreign}"
        for name, source in modules.items()
        for foreign in sorted(imported(source) - MAY_IMPORT[package])
    ]


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_packages_import_only_what_lies_below_them(package):
    modules = {str(path.relative_to(TOP)): path.read_text() for path in (TOP / package).rglob("*.py")}
    assert len(modules) > 5
    assert violations(package, modules) == []


def test_an_import_of_what_lies_above_is_found():
    """The rule's negative control, with the import hidden in a function."""
    planted = {"routing/planted.py": "def f():\n    from consumers.lane import Lane\n    return Lane\n"}
    assert violations("routing", planted) == ["routing/planted.py imports consumers"]


@pytest.mark.parametrize("module", ["sqlite3", "asyncio", "socket", "time", "random", "logging"])
def test_routing_has_no_clock_no_chance_and_no_io(module):
    users = [
        str(path.relative_to(TOP))
        for path in (TOP / "routing").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and module in {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and node.module == module)
    ]
    assert users == []


@pytest.mark.parametrize("package", sorted(OURS))
def test_each_top_level_package_belongs_to_this_distribution_alone(package):
    """``events``, ``routing`` and ``consumers`` are names of other distributions on PyPI, too."""
    assert set(packages_distributions().get(package, [])) <= {"vip-router"}
    spec = find_spec(package)
    assert spec is not None
    assert [Path(place) for place in spec.submodule_search_locations or ()] == [TOP / package]


def test_the_distribution_holds_these_packages_and_no_others():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == OURS


def test_every_python_gets_the_same_versions_of_what_is_locked():
    """The tests run on one Python: what another one would get in another version was tried by nobody."""
    lock = tomllib.loads((TOP / "uv.lock").read_text())
    versions = Counter(package["name"] for package in lock["package"])
    assert [name for name, count in versions.items() if count > 1] == []

"""Everything that the package imports is declared: what is needed always, and what an extra brings."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import unveil

SOURCE = Path(unveil.__file__).parent
ROOT = Path(__file__).parents[1]


def normal(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=\[;!~]", name)[0]).lower()


def imported(top: Path) -> dict[str, set[str]]:
    """Packages that are imported, each with the files that do."""
    found: dict[str, set[str]] = {}
    for file in top.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            else:
                continue
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(str(file.relative_to(top)))
    return found


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def undeclared(top: Path, declared: set[str]) -> dict[str, set[str]]:
    """Imports whose distribution is not among the declared ones; a name that nothing installed provides is its own.

    What runs in the sandbox imports its neighbours by their bare names: the package is not there.
    """
    known = packages_distributions()
    own = {"unveil", "benchmarks", *(file.stem for file in (top / "judging" / "sandboxed").glob("*.py"))}
    return {
        name: files
        for name, files in imported(top).items()
        if name not in sys.stdlib_module_names | own
        if not {normal(each) for each in known.get(name, [name])} & declared
    }


def test_the_package_imports_only_what_it_declares(project):
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(each for name in extras if name != "dev" for each in extras[name])]
    assert not undeclared(SOURCE, {normal(each) for each in declared})


def test_the_benchmarks_import_only_what_the_development_set_up_installs(project):
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(each for name in extras for each in extras[name])]
    assert not undeclared(ROOT / "benchmarks", {normal(each) for each in declared})


def test_every_declared_dependency_has_a_tested_version(project):
    pinned = {normal(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = project["optional-dependencies"]
    declared = {
        normal(each) for each in [*project["dependencies"], *(each for name in extras for each in extras[name])]
    }
    assert not declared - pinned - {"unveil"}

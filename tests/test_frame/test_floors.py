"""The house's floors (docs/architecture.md): a floor imports only from the floors below it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support import source
from tests.support.engine import ROOT

FLOORS = {
    "errors": 0,
    "extras": 0,
    "jsonio": 0,
    "files": 0,
    "kernel": 1,
    "image": 2,
    "network": 2,
    "runtime": 2,
    "build": 3,
    "engine": 3,
    "cli": 4,
    "__main__": 5,
}

# The one folder that may import it, always late and with a clear message where it is missing.
THIRD_PARTY = {"pyroute2": "network", "zstandard": "image"}

# The standard library's, in one of the Python versions that we run on.
STANDARD = sys.stdlib_module_names | {"_sha2", "_sha256", "compression"}

ENGINE = source.files("minicontainer")


def room(module: str) -> str:
    """`kernel` for minicontainer.kernel.mounts; empty for the package itself (its version)."""
    return f"{module}..".split(".")[1]


def wrong_imports(module: str, tree: ast.Module) -> list[str]:
    """What is wrong with this module's imports, one sentence each."""
    here = room(module)
    package = module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
    found = []
    for name, line in source.imports(tree, package):
        top = name.split(".")[0]
        there = room(name)
        if top == "minicontainer" and there in FLOORS and here:
            if there != here and FLOORS[there] >= FLOORS[here]:
                found.append(
                    f"{module}:{line} imports {name}: floor {FLOORS[here]} may not import "
                    f"from floor {FLOORS[there]}"
                )
        elif top in THIRD_PARTY:
            if here != THIRD_PARTY[top]:
                found.append(f"{module}:{line} imports {top}, which only {THIRD_PARTY[top]}/ may")
        elif top not in STANDARD and top not in ("minicontainer", "__future__"):
            found.append(f"{module}:{line} imports {top}: the engine has no such dependency")
    return found


TOP = {
    *(".ci", ".gitignore", "bin", "chapters", "dev", "docs", "minicontainer", "tests", "vagrant"),
    "examples",
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "Vagrantfile"),
    *("mkdocs.yml", "pyproject.toml"),
}


@pytest.mark.tools("git")
def test_the_top_of_the_repository_stays_short() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {path.partition("/")[0] for path in listed.stdout.splitlines()} <= TOP


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(ROOT / "minicontainer").parts[0] for path in ENGINE}
    assert {name.removesuffix(".py") for name in rooms} - {"__init__"} <= set(FLOORS)


def test_imports_go_downwards() -> None:
    assert not [
        wrong
        for path in ENGINE
        for wrong in wrong_imports(source.module_name(path), source.tree(path))
    ]


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("minicontainer.kernel.mounts", "from minicontainer.errors import EngineError", True),
        ("minicontainer.kernel.mounts", "from minicontainer.kernel import syscalls", True),
        ("minicontainer.kernel.mounts", "from . import syscalls", True),
        ("minicontainer.kernel.mounts", "from minicontainer.runtime import start", False),
        ("minicontainer.kernel.mounts", "from ..runtime import start", False),
        ("minicontainer.kernel.mounts", "def f():\n import minicontainer.cli.main", False),
        ("minicontainer.image.store", "import minicontainer.runtime.start", False),
        (
            "minicontainer.image.store",
            "if TYPE_CHECKING:\n from minicontainer import engine",
            False,
        ),
        ("minicontainer.errors", "from minicontainer import kernel", False),
        ("minicontainer.errors", "from minicontainer import files", False),
        ("minicontainer.build.builder", "from minicontainer.engine import create", False),
        ("minicontainer.cli.main", "from minicontainer import __version__", True),
        ("minicontainer.network.links", "import pyroute2", True),
        ("minicontainer.kernel.mounts", "import pyroute2.netlink", False),
        ("minicontainer.cli.main", "import click", False),
    ],
)
def test_the_rule_itself(module: str, text: str, allowed: bool) -> None:
    assert (wrong_imports(module, ast.parse(text)) == []) == allowed


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := visit(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_import_goes_in_a_circle() -> None:
    names = {source.module_name(path) for path in ENGINE}
    graph: dict[str, set[str]] = {}
    for path in ENGINE:
        name = source.module_name(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = source.tree(path)
        found = {imported for imported, _ in source.imports(tree, package, types=False)}
        graph[name] = {
            target
            for imported in found
            for target in (imported, imported.rpartition(".")[0])
            if target in names and "." in target and target != name
        }
    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_an_import_for_types_alone_makes_no_circle() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n from . import a\nfrom . import b")
    assert [name for name, _ in source.imports(tree, "p", types=False)] == ["p.b"]
    assert [name for name, _ in source.imports(tree, "p")] == ["p.a", "p.b"]

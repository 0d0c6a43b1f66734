"""The repository's Python files as syntax trees, for the tests that read code."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import ROOT


@functools.cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(), str(path))


def files(*folders: str) -> list[Path]:
    """All Python files below these folders of the repository, sorted."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "workshop" not in path.parts)


def module_name(path: Path) -> str:
    """`minicontainer.kernel.mounts` for minicontainer/kernel/mounts.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: ast.Module, package: str = "", *, types: bool = True) -> list[tuple[str, int]]:
    """Every module that is imported anywhere in the file, also late: (name, line).

    package: what a relative import is relative to. types: also those that only the type checker
    sees, below `if TYPE_CHECKING`.
    """
    found = []
    for node in _walk(module, types):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from minicontainer.kernel import mounts` names a module, or something in one.
            found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


def _walk(node: ast.AST, types: bool) -> Iterator[ast.AST]:
    yield node
    if (
        not types
        and isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ):
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, types)

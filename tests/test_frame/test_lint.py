"""ruff, mypy, shellcheck, and the size of things, as tests: what they say is the failure."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.support import source
from tests.support.engine import ROOT

# Lines of code: blank lines, comments and docstrings are free, so that nobody saves on words.
# One idea per file; a longer one holds two.
MODULE_LINES = 350
# The aim was 8,000 for the whole (docs/architecture.md). A third is image/, whose parsers of
# hostile archives, registries and names are long; this holds the line until they are shorter. The
# rest is what limits in two worlds, filters of devices and of calls, few privileges, and networks
# with names, ports, a firewall and a picture of it all cost.
ENGINE_LINES = 18_600

NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip

ENGINE = source.files("minicontainer")


def check(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def count(path: Path) -> int:
    """The lines of code in a file."""
    lines: set[int] = set()
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(source.tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_ruff() -> None:
    check(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    check(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy() -> None:
    check(sys.executable, "-m", "mypy")


@pytest.mark.tools("shellcheck")
@pytest.mark.parametrize(
    "script", ["dev", ".ci/run", "vagrant/vm", "vagrant/build-box", "vagrant/provision.sh"]
)
def test_shellcheck(script: str) -> None:
    check("shellcheck", "--enable=avoid-nullary-conditions", script)


def test_every_module_says_what_it_is() -> None:
    assert not [path for path in ENGINE if not ast.get_docstring(source.tree(path))]


def test_a_module_is_one_idea() -> None:
    assert not {path: lines for path in ENGINE if (lines := count(path)) > MODULE_LINES}


def test_the_engine_stays_small() -> None:
    assert sum(map(count, ENGINE)) < ENGINE_LINES

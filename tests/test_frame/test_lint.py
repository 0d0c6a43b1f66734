"""ruff, mypy, shellcheck, and the size of things, as tests: what they say is the failure."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import source
from tests.support.engine import ROOT

# One idea per file; a longer one holds two.
MODULE_LINES = 350
ENGINE_LINES = 8000


def check(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    check(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    check(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy() -> None:
    check(sys.executable, "-m", "mypy")


@pytest.mark.tools("shellcheck")
@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_shellcheck(script: str) -> None:
    check("shellcheck", "--enable=avoid-nullary-conditions", script)


@pytest.mark.parametrize("path", source.files("minicontainer"), ids=source.module_name)
def test_a_module_is_one_idea_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(source.tree(path)), "the module does not say what it is"
    assert len(path.read_text().splitlines()) <= MODULE_LINES, "two ideas in one file"


def test_the_engine_stays_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in source.files("minicontainer"))
    assert lines < ENGINE_LINES

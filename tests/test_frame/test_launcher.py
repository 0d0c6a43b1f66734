"""bin/minicontainer: runs from a clone, runs nobody else's code, tells an old Python why not."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

from minicontainer import __version__
from tests.support.engine import COMMAND, ROOT

VERSION = f"minicontainer version {__version__}\n"


def run(
    *command: str | Path, directory: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_runs_through_a_symbolic_link_from_anywhere(tmp_path: Path) -> None:
    link = tmp_path / "mc"
    link.symlink_to(COMMAND)
    assert run(link, "--version", directory=tmp_path).stdout == VERSION


def test_no_module_of_the_caller_is_imported(tmp_path: Path) -> None:
    """Root runs this: neither the working directory nor a variable may name code for it."""
    for name in ("minicontainer", "ctypes", "sitecustomize", "usercustomize", "fcntl"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken over')")
    done = run(
        COMMAND, "--version", directory=tmp_path,
        PYTHONPATH=str(tmp_path), PYTHONSTARTUP=str(tmp_path / "ctypes.py"), PYTHONHOME="/nowhere",
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (VERSION, "")


def test_the_package_runs_as_a_module() -> None:
    assert run("/usr/bin/python3", "-m", "minicontainer", "--version").stdout == VERSION


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 9, 2), (3, 10, 12)])
def test_an_older_python_gets_two_clear_lines(version: tuple[int, int, int]) -> None:
    pretend = f"import sys; sys.version_info = {version}; exec(open({str(COMMAND)!r}).read())"
    done = run("/usr/bin/python3", "-c", pretend)
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        f"minicontainer: needs Python 3.11 or newer, and /usr/bin/python3 is "
        f"{version[0]}.{version[1]}",
        "hint: Debian 12, Debian 13 and Ubuntu 24.04 bring a newer one",
    ]


def test_an_older_python_can_read_it() -> None:
    """The whole file is parsed before its first line runs, so its grammar has to be old."""
    tree = ast.parse(COMMAND.read_text(), feature_version=(3, 5))
    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Starred)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    assert "__future__" not in COMMAND.read_text()

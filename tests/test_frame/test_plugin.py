"""The pytest plugin's own promises: no hidden skip on CI, no silent leak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.engine import ROOT

PYTEST = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]


def run_pytest(directory: Path, source: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    """Run the test file in an own pytest, with this repository's configuration."""
    path = directory / "test_sample.py"
    path.write_text(f"import os, pytest\n{source}")
    environment = {**os.environ, "CI": "true" if ci else "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*PYTEST, "--rootdir", directory, "--basetemp", directory / "base", path],
        env=environment, capture_output=True, text=True, check=False, cwd=directory,
    )  # fmt: skip


UNEXPLAINED = [
    "def test_it(): pytest.skip('not today')",
    "@pytest.mark.skip\ndef test_it(): pass",
    "pytest.importorskip('no_such_module')\ndef test_it(): pass",
    "@pytest.mark.tools('no-such-program')\ndef test_it(): pass",
]


@pytest.mark.parametrize("source", UNEXPLAINED)
def test_an_unexplained_skip_is_a_failure_on_ci_alone(tmp_path: Path, source: str) -> None:
    on_ci = run_pytest(tmp_path, source, ci=True)
    assert on_ci.returncode != 0
    assert "a skip is a failure on CI" in on_ci.stdout
    here = run_pytest(tmp_path, source, ci=False)
    assert here.returncode in (0, 5), here.stdout


def test_a_missing_machine_feature_may_skip_on_ci(tmp_path: Path) -> None:
    feature = "arm64" if machine.missing("arm64") else "x86-64"
    source = f"@pytest.mark.needs('{feature}')\ndef test_it(): assert False"
    done = run_pytest(tmp_path, source, ci=True)
    assert done.returncode == 0, done.stdout
    assert f"this machine lacks {feature}" in done.stdout


def test_a_feature_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    source = "@pytest.mark.needs('cgroup-v3')\ndef test_it(): pass"
    assert run_pytest(tmp_path, source, ci=False).returncode == 1


def test_a_test_that_leaks_fails_by_name(tmp_path: Path) -> None:
    source = "def test_it(): os.open('/', os.O_RDONLY)\ndef test_next(): pass"
    done = run_pytest(tmp_path, source, ci=False)
    assert done.returncode == 1
    assert "ERROR test_sample.py::test_it - Failed: the host is not as it was:" in done.stdout
    assert "test_next" not in done.stdout


def test_features_are_probed() -> None:
    """Each probe gives an answer on this machine, whichever it is."""
    for feature in machine.FEATURES:
        assert machine.missing(feature) in (None, machine.FEATURES[feature][1])

"""Laws 1 and 2: a stage passes the tests of all chapters up to its own, and not of the next."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from chapters import stages
from chapters.stages import Chapter
from tests.support.engine import ROOT

pytestmark = [pytest.mark.root, pytest.mark.slow]


def run_chapters(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """The chapters' own tests, in a pytest of their own."""
    command = [sys.executable, "-m", "pytest", "chapters", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_each_chapters_tests_run_on_every_later_stage() -> None:
    """Law 1. They run with all other tests of chapters/: here we see that none is left out."""
    listed = run_chapters("--collect-only", "-q").stdout.splitlines()
    for chapter in stages.ready():
        own = [line for line in listed if line.startswith(f"chapters/{chapter['folder']}/")]
        counts = {
            stage.label: sum(f"[{stage.label.replace(' ', '-')}" in line for line in own)
            for stage in stages.stages()
        }
        later = {s.label: counts[s.label] for s in stages.stages() if s.number >= chapter["number"]}
        assert set(later.values()) == {max(counts.values())}, later
        assert sum(later.values()) == sum(counts.values()) == len(own)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The tests of each chapter that its predecessor fails."""
    directory = tmp_path_factory.mktemp("previous")
    report = directory / "report.xml"
    # A sandbox for the tests that fail here on purpose: they may leave what they test.
    done = run_chapters("--stage", "previous", f"--junitxml={report}", f"--basetemp={directory}/t")
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, list[str]] = {chapter["folder"]: [] for chapter in stages.ready()}
    for case in ElementTree.parse(report).iter("testcase"):
        folder = case.attrib["classname"].split(".")[1]
        if case.find("failure") is not None:
            found[folder].append(case.attrib["name"])
    return found


@pytest.mark.parametrize("chapter", stages.ready(), ids=lambda chapter: chapter["folder"])
def test_the_stage_before_fails(chapter: Chapter, failed: dict[str, list[str]]) -> None:
    """Law 2: what a chapter adds is seen by its tests."""
    assert failed[chapter["folder"]], os.linesep.join(sorted(failed))

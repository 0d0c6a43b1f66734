"""Law 4: the attack of a chapter works at the stage before, and never again from its own on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chapters import stages
from chapters.attacks import ABSENT, GOT_THROUGH, STOPPED
from chapters.stages import CLONE, Chapter

# Not in the VM: there the lessons' terminals make every attack, before and after.
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.needs("new-mount-api", "overlay"),
]


@pytest.mark.parametrize("chapter", stages.ready(), ids=lambda chapter: chapter["folder"])
def test_the_attack(chapter: Chapter, tmp_path: Path) -> None:
    on = [stage for stage in stages.stages() if stage.number >= chapter["number"] - 1]
    names = [word for stage in on for word in ("--on", stage.names[0])]
    answer = tmp_path / "verdicts.json"
    done = subprocess.run(
        [sys.executable, "-S", "-m", "chapters", "attack", str(chapter["number"]), *names,
         "--json", answer],
        cwd=CLONE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = json.loads(answer.read_text())
    assert verdicts
    for attack, found in verdicts.items():
        if ABSENT in found.values():
            continue
        before, *after = (found[stage.label] for stage in on)
        assert before == GOT_THROUGH, f"{attack} must work at the stage before: {found}"
        assert set(after) == {STOPPED}, f"{attack}: {found}"
    assert any(ABSENT not in found.values() for found in verdicts.values()), done.stdout

"""Every transcript in README.md and docs/ is run, and shows what the page says (law 6)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import transcripts

from tests.support import machine
from tests.support.engine import ROOT, Engine

PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if transcripts.blocks(path.read_text())
)


def mark(page: Path) -> Any:
    """The book is run in its VM too."""
    return pytest.param(page, marks=[pytest.mark.vm] if "book" in page.parts else [], id=str(page))


@pytest.mark.root
@pytest.mark.parametrize("page", [mark(page) for page in PAGES])
def test_a_page_shows_what_happens(
    page: Path, engine: Engine, starter: str, tmp_path: Path
) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    (directory / "examples").symlink_to(ROOT / "examples")  # as in a clone
    engine.run("image", "starter", "--rootfs", directory / "rootfs")
    environment = {
        "PATH": f"{ROOT}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "MINICONTAINER_ROOT": str(engine.root),
        "MINICONTAINER_RUN_ROOT": str(engine.run_root),
    }
    found = transcripts.run_page((ROOT / page).read_text(), directory, environment, machine.missing)
    assert not found, f"{page}\n" + "\n\n".join(found)

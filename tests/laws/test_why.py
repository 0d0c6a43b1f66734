"""Law 8: take any one line out of the child's start sequence, and something notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from chapters import why

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.needs("new-mount-api", "overlay"),
]


def test_every_line_is_for_something(rootfs: Path, tmp_path: Path) -> None:
    directory = tmp_path / "why"
    directory.mkdir()
    found = why.ask(rootfs, directory)
    assert found.pop("") == "", "the start as it stands does not pass its own probes"
    assert len(found) > 50
    assert "it hangs" not in found.values()
    survived = {line for line, noticed in found.items() if not noticed}
    assert survived - set(why.UNSEEN) == set(), "nothing notices when these are taken out"
    assert set(why.UNSEEN) - survived == set(), "these are noticed now: they need no excuse"

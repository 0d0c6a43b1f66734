"""/etc/subuid and /etc/subgid as a test wants them, in the test run's own mount namespace."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILES = ("/etc/subuid", "/etc/subgid")


@contextlib.contextmanager
def given(directory: Path, text: str, groups: str | None = None) -> Iterator[None]:
    """Cover the machine's two files by ones with this text; the machine's own do not change."""
    covered = []
    try:
        for place, lines in zip(FILES, (text, groups or text), strict=True):
            file = directory / Path(place).name
            file.write_text(lines)
            file.chmod(0o644)
            subprocess.run(["mount", "--bind", file, place], check=True)
            covered.append(place)
        yield
    finally:
        for place in covered:
            subprocess.run(["umount", place], check=True)

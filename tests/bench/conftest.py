"""One table at the end of `./dev bench`, for all that was measured beside the peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import measure, peers

TABLES: list[str] = []
RESULTS: dict[str, dict[str, float]] = {}


class Report:
    """Where a benchmark puts its table."""

    def add(self, title: str, times: dict[str, list[float]], **targets: float) -> None:
        """Add the figures of one comparison; ours come first."""
        TABLES.extend(["", *measure.table(title, times, targets)])
        RESULTS[title] = {name: sorted(t)[len(t) // 2] for name, t in times.items()}

    def note(self, text: str) -> None:
        """Add a line below a comparison."""
        TABLES.append(f"  {text}")


@pytest.fixture
def report() -> Report:
    """The table that is printed at the end."""
    return Report()


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory in memory where stores live, for us and for the peers alike.

    Not on the disk: a pull makes thousands of files and the next round removes them, and an ext4
    without a journal then looks at the age of each freed inode for minutes (40 times as slow,
    measured), whoever comes next.
    """
    podmans = Path("/dev/shm/libpod_lock")
    was_there = podmans.exists()
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/dev/shm"))
    yield directory
    if not was_there:
        podmans.unlink(missing_ok=True)
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4] for line in table]
    for point in reversed(points):
        if point.startswith(f"{directory}/"):  # podman's store
            subprocess.run(["umount", "--lazy", point], check=True)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def not_ours(place: Path) -> tuple[str, ...]:
    """Podman keeps its store mounted on itself, and unmounts it now and then."""
    return (f"{place}/podman", f"{place}/podman-load")


@pytest.fixture(scope="session")
def engine_peer(place: Path) -> peers.Peer:
    """Ours, with the starter image in its store."""
    engine = peers.ours(place / "ours")
    engine.run("image", "starter")
    return engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables; keep them as JSON where $BENCH_JSON says."""
    if not TABLES:
        return
    terminalreporter.section("beside the peers, in this run (milliseconds; stores in memory)")
    for row in TABLES:
        terminalreporter.write_line(row)
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(RESULTS, indent=1))

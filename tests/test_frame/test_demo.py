"""./dev demo, whole: from a registry, and from an archive where no registry is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import ROOT

# With an uplink, which the host has and its containers have not.
pytestmark = [
    pytest.mark.root,
    pytest.mark.tools("busybox", "curl", "ip"),
    pytest.mark.usefixtures("outside"),
]


def run_demo(path: str) -> str:
    done = subprocess.run(
        ["/usr/bin/python3", ROOT / "docs" / "tools" / "demo.py"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(printed: str) -> None:
    """Each question has the host's answer on the left and the container's on the right."""
    rows = [line.split() for line in printed.splitlines()]
    assert [os.uname().nodename, "box"] in rows
    assert any(row[:1] == ["1"] and row[-2:] == ["1", "sh"] for row in rows)
    assert any(row[-2:] == ["/", "(overlay)"] for row in rows)
    assert ["lo", "lo"] in rows
    assert ["up0"] in rows
    said = [row[1:] for row in rows if row[1:3] == ["from", "container"]]
    assert said == [["from", "container", f"{name},", "process", "1"] for name in ("one", "two")]
    processes = [row for row in rows if row[-2:] == ["python3", "/app/dogs.py"]]
    assert [row[0] == "1" for row in processes] == [True, True, False]  # exec, exec, top
    assert {row[1] for row in processes} == {"nobody"}
    killed = rows.index(["$", "minicontainer", "kill", "one"])
    assert ["ok"] in rows[killed:]
    assert any("/health" in row for row in rows[killed:])
    assert "->5000/tcp" in printed
    assert "The host is as it was." in printed


@pytest.mark.tools("docker-registry")
def test_by_way_of_a_registry() -> None:
    printed = run_demo(os.environ["PATH"])
    assert "Status: Downloaded newer image for 127.0.0.1:" in printed
    check(printed)


def test_by_way_of_an_archive(tmp_path: Path) -> None:
    """A PATH without docker-registry."""
    for name in ("busybox", "curl", "ps"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    printed = run_demo(str(tmp_path))
    assert "Loaded image: dogs:latest" in printed
    check(printed)

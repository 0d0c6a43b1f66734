"""The VM as its reader finds it: what the Vagrantfile and vagrant/provision.sh promise."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from chapters import patience
from tests.support.engine import COMMAND, ROOT

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.needs("book-vm")]


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=patience.seconds(60),
        **options,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_the_control_groups_are_pure_v2_with_every_controller() -> None:
    tables = Path("/proc/self/mountinfo").read_text()
    assert " - cgroup2 " in tables
    assert " - cgroup " not in tables
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set(controllers)


def test_there_is_a_disk_to_spare() -> None:
    assert int(Path("/sys/block/vdb/size").read_text()) * 512 == 1 << 30
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "vdb" in line]


def test_a_second_provision_changes_nothing_and_asks_no_network(tmp_path: Path) -> None:
    """In a network namespace of its own, so that a question would fail."""
    files = [
        "/etc/profile.d/minicontainer.sh", "/etc/motd.d/minicontainer",
        "/etc/modules-load.d/minicontainer.conf", "/usr/local/bin/minicontainer",
    ]  # fmt: skip
    before = {file: os.lstat(file).st_mtime_ns for file in files[:3]}
    said = run("unshare", "--net", ROOT / "vagrant" / "provision.sh", ROOT)
    (line,) = said.splitlines()
    assert line.startswith("provision: ready: Linux ")
    assert {file: os.lstat(file).st_mtime_ns for file in files[:3]} == before
    assert os.path.realpath(files[3]) == str(COMMAND)


def test_a_login_greets_and_begins_in_the_project() -> None:
    greeting = Path("/etc/motd.d/minicontainer").read_text()
    assert "python3 -m chapters doctor" in greeting
    shell = [
        "sudo",
        "--login",
        "--user",
        "vagrant",
        "bash",
        "-lic",
        "pwd; command -v minicontainer",
    ]
    assert run(*shell).splitlines()[-2:] == [str(ROOT), "/usr/local/bin/minicontainer"]


@pytest.fixture(scope="module")
def used() -> None:
    """The machine's own engine has been used before: its directories in /run are there."""
    run(COMMAND, "run", "--rm", "--network", "none", "starter", "true")


def test_the_images_that_need_no_registry_run(used: None) -> None:
    """In the machine's own store; the containers are gone with their end."""
    words: list[str | Path] = [COMMAND, "run", "--rm", "--network", "none"]  # a bridge would stay
    assert run(*words, "starter", "echo", "here") == "here\n"
    python = ["python3", "-c", "import sys; print(sys.platform)"]
    assert run(*words, "starter:python", *python) == "linux\n"

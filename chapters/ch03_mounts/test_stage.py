"""Chapter 03: the program has a mount tree of its own, and the host's is not in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from chapters.conftest import Container
from minicontainer.kernel import namespaces


def test_the_mount_namespace_is_its_own(stage: Container) -> None:
    with stage.start() as container:
        inside = namespaces.identity(container.pid, "mount")
        assert inside != namespaces.identity(container.host, "mount")


def test_the_root_is_a_mount_of_its_own(stage: Container) -> None:
    with stage.start() as container:
        assert "/" in container.mounts()


def test_no_mount_of_the_host_is_left(stage: Container, tmp_path: Path) -> None:
    """mountinfo has a row for each mount, those under others too."""
    with stage.start() as container:
        points = set(container.mounts())
        host = Path(f"/proc/{container.host}/mountinfo").read_text()
    ours = ("/proc", "/sys", "/dev", "/etc")
    assert [p for p in points if p != "/" and not p.startswith(ours)] == []
    # From chapter 11 on each device is a mount.
    points = {point for point in points if not point.startswith("/dev/")}
    assert "/" in points and len(points) < len(host.splitlines())


def test_the_namespace_begins_in_the_root_file_system(stage: Container) -> None:
    """Whoever enters the namespace from outside starts at *its* root, not at the process's. With
    chroot alone that is the host's."""
    (stage.rootfs / "marker").write_text("it is this one")
    with stage.start() as container:
        entered = subprocess.run(
            ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", "/bin/cat", "/marker"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert entered.stdout == "it is this one", entered.stderr


def test_a_mount_inside_is_not_seen_by_the_host(stage: Container) -> None:
    with stage.start("mkdir -p /litter; mount -t tmpfs litter /litter 2>&-") as container:
        assert "litter" not in Path(f"/proc/{container.host}/mountinfo").read_text()


def test_nothing_is_shared_with_the_host(stage: Container) -> None:
    """Shared and slave mounts hear of each other's changes: the optional fields of mountinfo."""
    with stage.start() as container:
        rows = container.mounts().values()
    assert rows
    for row in rows:
        assert row[6] == "-", f"{row[4]} is {row[6]}"


def test_our_own_mounts_are_gone_from_the_host(stage: Container) -> None:
    with stage.start() as container:
        host = Path(f"/proc/{container.host}/mountinfo").read_text()
    assert str(stage.rootfs) not in host

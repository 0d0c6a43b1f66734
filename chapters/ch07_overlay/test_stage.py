"""Chapter 07: a container's writes are its own, and gone with it."""

from __future__ import annotations

import os
from pathlib import Path

from chapters.conftest import Container, Running


def scratch(container: Running) -> str:
    """The directory that keeps the container's writes, from its mount table."""
    options = container.mounts()["/"][-1]
    return dict(option.partition("=")[::2] for option in options.split(","))["upperdir"]


def tree(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below a directory: its inode, size and time of change."""
    found = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_ctime_ns)
    return found


def test_the_root_is_an_overlay(stage: Container) -> None:
    with stage.start() as container:
        row = container.mounts()["/"]
        assert row[row.index("-") + 1] == "overlay"


def test_the_root_file_system_stays_as_it_was(stage: Container) -> None:
    before = tree(stage.rootfs)
    script = """
        echo more >>/etc/passwd
        echo new >/new
        rm /etc/group
        chmod 700 /root
        mkdir /dir && mv /var /dir/
    """
    with stage.start(script) as container:
        assert container.path("/new").read_text() == "new\n"
        assert "more" in container.path("/etc/passwd").read_text()
        assert not container.path("/etc/group").exists()
        assert tree(stage.rootfs) == before
    assert tree(stage.rootfs) == before


def test_the_next_container_starts_afresh(stage: Container) -> None:
    assert stage.output("echo mine >/file; cat /file") == "mine\n"
    assert "mine" not in stage.output("cat /file")


def test_two_at_once_do_not_see_each_other(stage: Container) -> None:
    with stage.start("echo one >/file") as one, stage.start("echo two >/file") as two:
        assert one.path("/file").read_text() == "one\n"
        assert two.path("/file").read_text() == "two\n"


def test_what_it_wrote_is_removed_at_the_end(stage: Container) -> None:
    with stage.start("mkdir -p /a/b && echo text >/a/b/file") as container:
        upper = scratch(container)
        assert os.path.exists(f"{upper}/a/b/file")
        container.end()
        assert not os.path.exists(upper)

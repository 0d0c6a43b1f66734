"""Chapter 02: the program's root is the directory that it was given."""

from __future__ import annotations

import os
from pathlib import Path

from chapters.conftest import Container


def names(directory: Path) -> list[str]:
    """What a directory holds, without what the kernel's own file systems add."""
    return sorted(set(os.listdir(directory)) - {"proc", "sys", "dev"})


def test_the_root_is_the_root_file_system(stage: Container) -> None:
    (stage.rootfs / "marker").write_text("it is this one")
    with stage.start() as container:
        assert container.path("/marker").read_text() == "it is this one"
        assert names(container.path("/")) == names(stage.rootfs)


def test_the_root_has_nothing_above_it(stage: Container) -> None:
    assert stage.output("ls /../..") == stage.output("ls /")


def test_the_working_directory_is_inside(stage: Container) -> None:
    with stage.start() as container:
        inside = os.stat(f"/proc/{container.pid}/cwd")
        root = os.stat(f"/proc/{container.pid}/root")
    assert (inside.st_dev, inside.st_ino) == (root.st_dev, root.st_ino)


def test_a_file_of_the_host_has_no_path(stage: Container, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's secret")
    assert "the host's secret" not in stage.output('cat "$1"; cat "../../../..$1"', secret)
    with stage.start() as container:
        assert not container.path(str(secret)).exists()


def test_the_command_is_found_inside(stage: Container) -> None:
    """PATH is looked up after the change of root: a program of the host is not a command."""
    program = stage.rootfs / "bin" / "only-inside"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert stage.run("only-inside").stdout == "found\n"
    assert stage.run("python3", "--version").returncode == 127

"""Chapter 06: the harmless devices are there and work; nothing leads to the host's hardware."""

from __future__ import annotations

import os
import stat
from errno import EROFS
from pathlib import Path

import pytest

from chapters.ch06_devices.attack import find_disk
from chapters.conftest import Container
from chapters.ground import Missing
from minicontainer.kernel import devices


def test_dev_holds_the_default_devices(stage: Container) -> None:
    with stage.start() as container:
        for name, major, minor in devices.DEVICES:
            found = container.path(f"/dev/{name}").stat()
            assert stat.S_ISCHR(found.st_mode), name
            assert stat.S_IMODE(found.st_mode) == 0o666, name
            assert found.st_rdev == os.makedev(major, minor), name
        for name, target in devices.LINKS:
            assert os.readlink(container.path(f"/dev/{name}")) == target


def test_dev_holds_no_other_device(stage: Container) -> None:
    with stage.start() as container:
        nodes = set()
        for entry in os.scandir(container.path("/dev")):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                nodes.add(entry.name)
    assert nodes == {name for name, _, _ in devices.DEVICES}


def test_the_devices_work(stage: Container) -> None:
    script = """
        echo lost >/dev/null && echo null
        head -c 3 /dev/zero | od -An -tx1
        [ "$(head -c 8 /dev/urandom | wc -c)" = 8 ] && echo urandom
        echo full >/dev/full
        echo shared >/dev/shm/file && cat /dev/shm/file
        (echo out >/dev/stdout) | cat
    """
    told = stage.output(script)
    assert told.replace("\n ", "\n").splitlines()[:3] == ["null", "00 00 00", "urandom"]
    assert "No space left" in told
    assert told.splitlines()[-2:] == ["shared", "out"]


def test_a_terminal_can_be_opened(stage: Container) -> None:
    with stage.start("exec 3<>/dev/ptmx && : >/dev/shm/opened") as container:
        assert container.path("/dev/shm/opened").exists()
        assert os.listdir(container.path("/dev/pts")) != ["ptmx"]


def test_terminals_of_the_host_are_not_there(stage: Container) -> None:
    with stage.start() as container:
        assert os.listdir(container.path("/dev/pts")) == ["ptmx"]
        assert container.path("/dev/pts").stat().st_dev != Path("/dev/pts").stat().st_dev


def test_a_disk_cannot_be_had(stage: Container) -> None:
    """Neither by a node that root makes inside, nor by one that the image brought."""
    try:
        major, minor = find_disk()
    except Missing as missing:
        pytest.skip(f"this machine lacks block-device: {missing}")
    os.mknod(stage.rootfs / "disk", stat.S_IFBLK | 0o666, os.makedev(major, minor))
    script = """
        for directory in /tmp /dev /dev/shm; do
            mknod $directory/disk b "$1" "$2" && : <$directory/disk && echo "opened $directory"
        done
    """
    assert "opened" not in stage.output(script, str(major), str(minor))


def test_what_changes_the_kernel_is_read_only(stage: Container) -> None:
    with stage.start() as container:
        table = container.mounts()
    for path in devices.READONLY:
        if os.path.exists(path):
            assert "ro" in table[path][5].split(","), path
    assert "/proc/sys" in table


def test_a_kernel_parameter_cannot_be_written(stage: Container) -> None:
    with stage.start() as container, pytest.raises(OSError) as caught:
        # Opened, and not written.
        os.close(os.open(container.path("/proc/sys/kernel/core_pattern"), os.O_WRONLY))
    assert caught.value.errno == EROFS


def test_sys_is_read_only(stage: Container) -> None:
    with stage.start() as container:
        assert os.statvfs(container.path("/sys")).f_flag & os.ST_RDONLY
        assert container.path("/sys/class").is_dir()


def test_masked_paths_tell_nothing(stage: Container) -> None:
    with stage.start() as container:
        here = [path for path in devices.MASKED if container.path(path).exists()]
        assert here, "every kernel has some of them"
        for path in here:
            inside = container.path(path)
            if inside.is_dir():
                assert os.listdir(inside) == [], path
                assert os.statvfs(inside).f_flag & os.ST_RDONLY, path
            else:
                assert inside.stat().st_rdev == os.makedev(1, 3), path

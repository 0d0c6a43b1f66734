"""Mounts: options, detached mounts, a private tree, the change of root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import flags, mounts, paths, syscalls
from tests.support.inside import inside

pytestmark = pytest.mark.root
NEW = flags.CLONE_NEWNS


def mountinfo() -> list[list[str]]:
    with open("/proc/self/mountinfo") as file:
        return [line.split() for line in file]


def options_at(path: str) -> str:
    return [row[5] for row in mountinfo() if row[4] == path][-1]


def test_options_are_sorted() -> None:
    options = mounts.Options(["nosuid", "ro", "rbind", "rslave", "size=64m", "rro", "noswap"])
    assert options.set_bits == flags.MOUNT_ATTR_NOSUID | flags.MOUNT_ATTR_RDONLY
    assert options.recursive
    assert options.recursive_bits == flags.MOUNT_ATTR_RDONLY
    assert options.propagation == flags.MS_SLAVE | flags.MS_REC
    assert options.own == [("size", "64m"), ("noswap", None)]


def test_of_two_contrary_options_the_last_counts() -> None:
    assert mounts.Options(["ro", "rw"]).set_bits == 0
    assert mounts.Options(["suid", "nosuid"]).set_bits == flags.MOUNT_ATTR_NOSUID
    assert mounts.Options(["strictatime", "noatime"]).set_bits == flags.MOUNT_ATTR_NOATIME


def test_a_detached_mount_is_in_no_tree_and_ends_with_its_descriptor() -> None:
    before = mountinfo()
    mount = mounts.create("tmpfs", ["size=1m", "mode=0700"])
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=mount))
    assert mountinfo() == before
    os.close(mount)


def test_the_kernels_own_reason_becomes_the_hint() -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        mounts.create("tmpfs", ["nonsense=1"])
    assert "nonsense" in (caught.value.hint or "")


def test_a_mount_in_the_container_is_not_seen_outside(tmp_path: Path) -> None:
    """Even where the host's mounts are shared: a child of a shared tree first makes it private."""

    def outer() -> list[bool]:
        syscalls.mount(None, "/", None, flags.MS_REC | flags.MS_SHARED)
        seen = []
        for private in (False, True):

            def inner(private: bool = private) -> None:
                if private:
                    mounts.make_private()
                syscalls.mount("none", str(tmp_path), "tmpfs")

            inside(inner, NEW)
            seen.append(any(row[4] == str(tmp_path) for row in mountinfo()))
            if seen[-1]:
                syscalls.umount2(str(tmp_path), flags.MNT_DETACH)
        return seen

    assert inside(outer, NEW) == [True, False]


def test_bind_with_options(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()

    def child() -> list[str]:
        mounts.make_private()
        tree = mounts.clone(str(tmp_path / "source"), ["bind", "ro", "nosuid"])
        mounts.attach(tree, os.open(tmp_path / "target", os.O_PATH))
        first = options_at(str(tmp_path / "target"))
        mounts.set_propagation(tree, flags.MS_SHARED)
        shared = [row[6] for row in mountinfo() if row[4] == str(tmp_path / "target")]
        return [first, shared[-1]]

    options, propagation = inside(child, NEW)
    assert {"ro", "nosuid"} <= set(options.split(","))
    assert propagation.startswith("shared:")


def test_a_mount_goes_where_the_containers_path_means(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to("/real")

    def child() -> list[str]:
        mounts.make_private()
        top = os.open(root, os.O_PATH)
        mounts.attach_below(top, mounts.create("tmpfs", []), "/link/new")
        return [row[4] for row in mountinfo() if row[4].startswith(str(tmp_path))]

    assert inside(child, NEW) == [f"{root}/real/new"]


def test_after_pivot_root_the_old_root_is_gone(rootfs: Path) -> None:
    (rootfs / "mark").write_text("the container's")

    def child() -> list[object]:
        mounts.enter(str(rootfs))
        up = os.path.exists("/../../../../../usr/bin/python3")
        return [sorted(os.listdir("/")), len(mountinfo_of_old()), up, os.getcwd()]

    def mountinfo_of_old() -> list[str]:
        proc = mounts.create("proc", [])
        descriptor = os.open("self/mountinfo", os.O_RDONLY, dir_fd=proc)
        with open(descriptor) as file:
            return file.readlines()

    names, count, up, cwd = inside(child, NEW)
    assert "mark" in names
    assert count == 1
    assert not up
    assert cwd == "/"


def test_read_only_for_all_who_come_through_this_mount(rootfs: Path) -> None:
    def child() -> str:
        root = mounts.enter(str(rootfs))
        mounts.make_readonly(root)
        try:
            os.close(os.open("/file", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            return os.strerror(error.errno)
        return "written"

    assert inside(child, NEW) == "Read-only file system"
    os.close(os.open(rootfs / "file", os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("path", ["relative", "", "/a/../b", ".."])
def test_a_mount_point_is_absolute_and_straight(path: str) -> None:
    with pytest.raises(EngineError, match="mount point"):
        mounts.check_absolute(path)


def test_mount_point_of_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")
    (tmp_path / "root").mkdir()

    def child() -> str:
        mounts.make_private()
        top = os.open(tmp_path / "root", os.O_PATH)
        mounts.attach_below(top, mounts.clone(str(tmp_path / "source"), []), "/etc/file")
        with open(paths.open_in_root(top, "/etc/file", os.O_RDONLY)) as file:
            return file.read()

    assert inside(child, NEW) == "content"

"""/dev, and the doors of /proc and /sys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import devices, flags, mounts, procfs, syscalls
from tests.support.inside import inside

pytestmark = pytest.mark.root
NEW = flags.CLONE_NEWNS | flags.CLONE_NEWPID


def enter(rootfs: Path) -> int:
    """A root with /proc, /sys and a filled /dev, in the child; its descriptor."""
    mounts.make_private()
    root = mounts.attach_root(mounts.clone(str(rootfs), []), str(rootfs))
    mounts.attach_below(root, procfs.create(), "/proc")
    mounts.attach_below(root, mounts.create("sysfs", ["ro"]), "/sys")
    mounts.attach_below(root, mounts.create("tmpfs", ["mode=755"]), "/dev")
    devices.populate(root)
    return root


def test_dev_has_what_every_program_expects_and_nothing_else(rootfs: Path) -> None:
    def child() -> dict[str, list[int]]:
        mounts.pivot_root(enter(rootfs))
        found = {}
        for name in os.listdir("/dev"):
            seen = os.lstat(f"/dev/{name}")
            found[name] = [seen.st_mode, os.major(seen.st_rdev), os.minor(seen.st_rdev)]
        return found

    found = inside(child, NEW)
    for name, major, minor in devices.DEVICES:
        assert found.pop(name) == [stat.S_IFCHR | 0o666, major, minor]
    core = {"core"} if os.path.exists("/proc/kcore") else set()
    assert set(found) == {name for name, _ in devices.LINKS} | core


def test_masked_paths_are_empty_and_readonly_paths_cannot_be_written(rootfs: Path) -> None:
    def child() -> list[object]:
        root = enter(rootfs)
        devices.make_readonly(root, list(devices.READONLY))
        devices.mask(root, [*devices.MASKED, "/no/such/path"])
        mounts.pivot_root(root)
        with open("/proc/keys", "rb") as file:
            keys = file.read()
        try:
            os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
            written = "opened"
        except OSError as error:
            written = os.strerror(error.errno)
        return [len(keys), os.listdir("/sys/firmware"), written]

    assert inside(child, NEW) == [0, [], "Read-only file system"]


@pytest.mark.parametrize("kind", ["link", "file", "other device"])
def test_a_false_null_device_is_refused(rootfs: Path, kind: str) -> None:
    """CVE-2025-31133: the image's /dev/null is a link to a file that the mask would open."""

    def child() -> None:
        mounts.make_private()
        root = mounts.attach_root(mounts.clone(str(rootfs), []), str(rootfs))
        mounts.attach_below(root, procfs.create(), "/proc")
        null = rootfs / "dev" / "null"
        if kind == "link":
            null.symlink_to("/proc/sys/kernel/core_pattern")
        elif kind == "file":
            null.touch()
        else:
            os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        devices.mask(root, ["/proc/keys"])

    with pytest.raises(EngineError, match="null device"):
        inside(child, NEW)


def test_a_sysctl_is_written_only_to_a_real_procfs(rootfs: Path) -> None:
    trap = rootfs / "proc" / "sys" / "kernel"
    trap.mkdir(parents=True)
    (trap / "domainname").write_text("untouched")

    def child() -> None:
        mounts.make_private()
        root = mounts.attach_root(mounts.clone(str(rootfs), []), str(rootfs))
        procfs.write_sysctl(root, "kernel.domainname", "owned")

    with pytest.raises(EngineError, match="no procfs"):
        inside(child, NEW | flags.CLONE_NEWUTS)
    assert (trap / "domainname").read_text() == "untouched"


def test_a_sysctl_changes_the_containers_namespace_alone(rootfs: Path) -> None:
    host = Path("/proc/sys/kernel/domainname").read_text()

    def child() -> str:
        root = enter(rootfs)
        procfs.write_sysctl(root, "kernel.domainname", "inside.test")
        mounts.pivot_root(root)
        with open("/proc/sys/kernel/domainname") as file:
            return file.read().strip()

    assert inside(child, NEW | flags.CLONE_NEWUTS) == "inside.test"
    assert Path("/proc/sys/kernel/domainname").read_text() == host


def test_proc_shows_the_namespace_it_was_mounted_in(rootfs: Path) -> None:
    def child() -> list[int]:
        mounts.pivot_root(enter(rootfs))
        return procfs.pids()

    assert inside(child, NEW) == [1]
    assert len(procfs.pids()) > 1


def test_a_device_of_the_specification(rootfs: Path) -> None:
    def child() -> list[int]:
        root = enter(rootfs)
        devices.make_at(root, "/dev/below/fuse", "c", (10, 229), 0o640, (5, 6))
        syscalls.through("fchdir", os.fchdir, root)
        seen = os.stat("dev/below/fuse")
        return [seen.st_mode, os.major(seen.st_rdev), os.minor(seen.st_rdev), seen.st_uid]

    assert inside(child, NEW) == [stat.S_IFCHR | 0o640, 10, 229, 5]

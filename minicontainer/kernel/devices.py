"""Devices and the kernel's other doors: a /dev with nothing dangerous in it, and the files of
/proc and /sys through which one could reach the host covered or made read-only.
"""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ENOENT, ENOTDIR, EPERM

from ..errors import EngineError
from . import flags, mounts, paths, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHAPTER = 6

# What every container has (OCI runtime specification, config-linux.md, "Default Devices").
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)

# Docker's lists (moby, oci/defaults.go). Masked: what tells about, or reaches, the host's
# hardware, memory and keys.
MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
# Read-only: what changes the kernel for everybody.
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def populate(root: int) -> None:
    """Fill the /dev of a container root with the default devices and links.

    root: descriptor of the root, whose /dev is a fresh tmpfs of ours. A name that is taken
    already (a bind mount of the user's) is left alone. Where the kernel has a /proc/kcore,
    /dev/core leads to it, as in every other runtime; what it leads to is masked.
    """
    dev = paths.make_directories(root, "/dev")
    core = [("core", "/proc/kcore")] if os.path.exists("/proc/kcore") else []
    mask = os.umask(0)
    try:
        for name, major, minor in DEVICES:
            make_device(dev, name, stat.S_IFCHR | 0o666, major, minor)
        for name, target in [*LINKS, *core]:
            try:
                syscalls.through("symlinkat", os.symlink, target, name, dir_fd=dev)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
    finally:
        os.umask(mask)
        os.close(dev)


def make_device(directory: int, name: str, mode: int, major: int, minor: int) -> bool:
    """Make one device node below a descriptor (mknodat(2)); False when the name is taken.

    Nobody makes a device in a user namespace: there the host's is mounted in its place, if the
    host has it. False then too: its owner and mode are the host's, and not to be changed.
    """
    try:
        device = os.makedev(major, minor)
        syscalls.through("mknodat", os.mknod, name, syscalls.Octal(mode), device, dir_fd=directory)
    except OSError as error:
        if error.errno == EPERM:
            bind_device(directory, name, mode, device)
            return False
        if error.errno != EEXIST:
            raise
        return False
    return True


def bind_device(directory: int, name: str, mode: int, device: int) -> None:
    """Mount the host's node of a device at a name below a descriptor, unless the name is taken.

    mode: its type counts; device: its number, as os.makedev gives it.
    """
    major, minor = os.major(device), os.minor(device)
    path = f"/dev/{name}"
    if not _is_device(path, mode, device):
        path = _find_device("block" if stat.S_ISBLK(mode) else "char", major, minor)
        if not _is_device(path, mode, device):
            raise EngineError(
                f"the host has no node of the device {major}:{minor} to show as /dev/{name}"
            )
    tree = mounts.clone(path, [])
    try:
        how = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
        os.close(os.open(name, how, 0o666, dir_fd=directory))
        mounts.attach(tree, os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory))
    except FileExistsError:
        return
    finally:
        os.close(tree)


def _is_device(path: str, mode: int, device: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_IFMT(found.st_mode) == stat.S_IFMT(mode) and found.st_rdev == device


def _find_device(kind: str, major: int, minor: int) -> str:
    """Where the host's udev or devtmpfs keeps the node of a number, as sysfs tells; or ""."""
    try:
        with open(f"/sys/dev/{kind}/{major}:{minor}/uevent") as file:
            for line in file:
                if line.startswith("DEVNAME="):
                    return f"/dev/{line[8:].rstrip()}"
    except OSError:
        pass
    return ""


def open_null(root: int) -> int:
    """The container's /dev/null, proven to be the real one (character device 1:3).

    An image may ship `/dev/null` as a link to /proc/sys/kernel/core_pattern; mounted over a
    masked path it would *open* that file to the container (CVE-2025-31133).
    """
    null = paths.open_in_root(root, "/dev/null")
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        os.close(null)
        raise EngineError("/dev/null of the container is not the null device (1:3)")
    return null


def mask(root: int, masked: Sequence[str]) -> None:
    """Cover paths: a file by /dev/null, a directory by an empty read-only tmpfs.

    Paths that do not exist here are passed over: kernels differ.
    """
    if not masked:
        return
    null = open_null(root)
    try:
        for path in masked:
            target = _existing(root, path)
            if target is None:
                continue
            if paths.is_directory(target):
                # One each: until Linux 6.15 only a mount that is attached somewhere can be copied.
                cover = mounts.create("tmpfs", ["ro", "size=0"])
            else:
                cover = mounts.clone("", [], null)
            try:
                mounts.attach(cover, target)
            finally:
                os.close(cover)
    finally:
        os.close(null)


def make_readonly(root: int, readonly: Sequence[str]) -> None:
    """Make paths read-only for the container, by mounting each on itself with `ro`."""
    for path in readonly:
        target = _existing(root, path)
        if target is None:
            continue
        tree = mounts.clone("", ["rbind", "rro"], at=target)
        try:
            mounts.attach(tree, target)
        finally:
            os.close(tree)


def _existing(root: int, path: str) -> int | None:
    try:
        return paths.open_in_root(root, path, os.O_PATH)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return None
        raise


def create_sysfs(words: list[str] | None = None) -> int:
    """A detached /sys, by default read-only: the devices can be looked at, not switched."""
    return mounts.create("sysfs", ["ro", "nosuid", "nodev", "noexec"] if words is None else words)


def show_sysfs() -> int:
    """A detached, read-only view of the host's /sys, without what is mounted below it: for a
    container with users of its own and the host's network, to whose /sys it has no right."""
    tree = mounts.clone("/sys", ["bind", "ro", "nosuid", "nodev", "noexec"])
    # A copy of a shared mount is shared: what would cover a part of it would cover the host's.
    mounts.set_propagation(tree, flags.MS_PRIVATE)
    return tree


def bind_console(root: int, terminal: int) -> None:
    """Show a terminal as /dev/console, where programs write their last words.

    terminal: descriptor of the terminal's inner end, on the container's own devpts.
    """
    console = paths.make_file(root, "/dev/console", 0o620)
    name = os.readlink(f"/proc/self/fd/{terminal}").rpartition("/")[2]
    peer = paths.open_in_root(root, f"/dev/pts/{name}")
    tree = syscalls.open_tree(peer, "", flags.OPEN_TREE_CLONE | flags.AT_EMPTY_PATH)
    try:
        mounts.attach(tree, console)
    finally:
        os.close(tree)
        os.close(peer)


def make_at(
    root: int,
    path: str,
    kind: str,
    number: tuple[int, int],
    mode: int,
    owner: tuple[int, int],
) -> None:
    """Make a device that a specification names: kind `c`, `u`, `b` or `p` (a FIFO), with its
    (major, minor) number, mode bits and (uid, gid)."""
    types = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    parent, _, name = path.rpartition("/")
    directory = paths.make_directories(root, parent or "/")
    mask = os.umask(0)
    try:
        # A name that is taken may be a file of the host's, bound there: its owner is not ours.
        if make_device(directory, name, types[kind] | mode, *number):
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    finally:
        os.umask(mask)
        os.close(directory)

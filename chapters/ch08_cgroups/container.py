"""Chapter 08: control groups. No more than its share, and no device that was not given to it.

Run it: sudo python3 -m chapters.ch08_cgroups.container ROOTFS COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import os
import sys
import tempfile

from chapters import command_line
from minicontainer.kernel import (
    cgroups,
    devicefilter,
    devices,
    flags,
    mounts,
    namespaces,
    overlay,
    process,
    procfs,
    resources,
    syscalls,
)

# Not os.environ: what is in ours (keys, tokens, proxies) is not the program's business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
}
NAMESPACES = namespaces.bits(["mount", "uts", "ipc", "pid"])
SAFE = ["nosuid", "nodev", "noexec"]
# What it may take, all its processes together (OCI runtime specification, linux.resources).
LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "cpu": {"quota": 50_000, "period": 100_000},
    "pids": {"limit": 64},
    "devices": devicefilter.DOCKER,
}
DISK = 8 << 20  # bytes a second, read from the disk that ROOTFS lies on
TERMINALS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system; its exit code, or 128 + n after signal n."""

    def child() -> None:
        # Born inside, or where that cannot be (version 1): now, before anything is done.
        group.enter()
        # From here on that is the top of all cgroups that it can see, and mount.
        syscalls.unshare(flags.CLONE_NEWCGROUP)
        # Our mount namespace began as a copy of the host's, and may still share with it.
        mounts.make_private()
        # One tree out of two: what is read comes from ROOTFS, what is written goes to upper.
        # Upper is thrown away at the end, so nothing waits until it is on the disk (volatile).
        tree = overlay.mount([rootfs], upper, work, volatile=True)
        root = mounts.attach_root(tree, rootfs)

        # /proc shows the processes of whoever mounts it: that must be us, born as number 1.
        mounts.attach_below(root, procfs.create(), "/proc")

        # Where a device works nothing can be made, and where one may write no device works.
        dev = mounts.create("tmpfs", ["nosuid", "noexec", "mode=755", "size=64k"])
        mounts.attach_below(root, dev, "/dev")
        devices.populate(root)
        mounts.attach_below(root, mounts.create("devpts", TERMINALS), "/dev/pts")
        mounts.attach_below(root, mounts.create("mqueue", SAFE), "/dev/mqueue")
        shm = mounts.create("tmpfs", [*SAFE, "mode=1777", "size=64m"])
        mounts.attach_below(root, shm, "/dev/shm")
        mounts.make_readonly(dev)

        # The kernel's switches for everybody: to be read, or not even that.
        mounts.attach_below(root, devices.create_sysfs(), "/sys")
        devices.make_readonly(root, devices.READONLY)
        devices.mask(root, devices.MASKED)

        mounts.pivot_root(root)

        # The UTS namespace too began as a copy: without a name of its own it has the host's.
        namespaces.set_hostname("container")

        # A descriptor that is open here would stay open in the program, whatever it leads to.
        syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
        process.execute(command, ENVIRONMENT)

    with tempfile.TemporaryDirectory(prefix="chapter-08-") as scratch:
        upper, work = f"{scratch}/upper", f"{scratch}/work"
        os.mkdir(upper)
        os.mkdir(work)
        limits = LIMITS | resources.throttle(rootfs, DISK)
        with cgroups.create(f"chapter-08-{os.getpid()}", limits) as group:
            return process.run(child, NAMESPACES, group.descriptor)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

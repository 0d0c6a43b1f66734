"""Chapter 12: network. An adapter of its own, with a cable from it to a bridge on the host.

Run it: sudo python3 -m chapters.ch12_network.container ROOTFS COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import os
import sys
import tempfile

from chapters import command_line
from minicontainer import files
from minicontainer.kernel import (
    capabilities,
    cgroups,
    devicefilter,
    devices,
    flags,
    loopback,
    mounts,
    namespaces,
    overlay,
    process,
    procfs,
    resources,
    seccomp,
    seccomp_compiler,
    seccomp_default,
    seccomp_profile,
    syscalls,
    users,
)
from minicontainer.network import bridge, links

# Not os.environ: what is in ours (keys, tokens, proxies) is not the program's business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
}
NAMESPACES = namespaces.bits(["user", "mount", "uts", "ipc", "pid", "network"])
# User 0 inside is 100000 outside, and so on; no account of the host has these numbers.
USERS = [(0, 100000, 65536)]
SAFE = ["nosuid", "nodev", "noexec"]
# What it may take, all its processes together (OCI runtime specification, linux.resources).
LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "cpu": {"quota": 50_000, "period": 100_000},
    "pids": {"limit": 64},
    "devices": devicefilter.DOCKER,
}
DISK = 8 << 20  # bytes a second, read from the disk that ROOTFS lies on
# The bridge that all containers of this chapter are on, with the host's own two addresses.
NETWORK = {
    "bridge": "chapter12",
    "internal": False,
    "mtu": 1500,
    "subnets": [
        {"Subnet": "10.12.0.0/24", "Gateway": "10.12.0.1"},
        {"Subnet": "fd00:12::/64", "Gateway": "fd00:12::1"},
    ],
}
LOCK = "/run/chapter-12.lock"
TERMINALS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system; its exit code, or 128 + n after signal n."""
    network = -1

    def child() -> None:
        # Born inside, or where that cannot be (version 1): now, before anything is done.
        group.enter()
        # Without a table of its users nobody has a name in the new namespace.
        gate.wait()
        # From here on that is the top of all cgroups that it can see, and mount.
        syscalls.unshare(flags.CLONE_NEWCGROUP)
        # Our mount namespace began as a copy of the host's, and may still share with it.
        mounts.make_private()
        root = mounts.attach_root(tree, rootfs)
        # Until now we could still walk where the host's root may. From here on we are root here.
        users.become_root()

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
        # In a new network even the way to oneself is switched off.
        loopback.bring_up()

        # Of root's powers the small ones are kept. The others go, and no program gives them back.
        kept = capabilities.mask(capabilities.DEFAULT)
        capabilities.drop_bounding(kept)
        capabilities.set_sets(kept, kept, 0)
        capabilities.set_no_new_privileges()

        # A descriptor that is open here would stay open in the program, whatever it leads to.
        syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)

        # Last, for from here on the kernel asks the filter about our own calls too.
        seccomp.load(filter)
        process.execute(command, ENVIRONMENT)

    def connect(pid: int) -> None:
        # The other end of the cable is born in a network, so this must be there: now it is. It
        # stays as long as we hold it, and the cable with it.
        nonlocal network
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        plug_in(host, network)
        gate.open(pid, USERS, USERS)

    # Docker's policy, as far as it is about this machine and what its root may do.
    system = os.uname()
    policy = seccomp_profile.select(
        seccomp_default.profile(), capabilities.DEFAULT, system.machine, system.release
    )
    filter = seccomp_compiler.compile_filter(policy)
    gate, host = users.Gate(), links.Links()
    with tempfile.TemporaryDirectory(prefix="chapter-12-") as scratch:
        upper, work = f"{scratch}/upper", f"{scratch}/work"
        os.mkdir(upper)
        os.mkdir(work)
        os.chown(upper, 100000, 100000)
        # One tree out of two: what is read comes from ROOTFS, what is written goes to upper.
        # Upper is thrown away at the end, so nothing waits until it is on the disk (volatile).
        # What belongs to 0 on the disk is shown as 100000's: only root of the host can do that.
        shown_to = users.open_namespace(USERS, USERS)
        tree = overlay.mount([rootfs], upper, work, volatile=True, users=shown_to)
        limits = LIMITS | resources.throttle(rootfs, DISK)
        with cgroups.create(f"chapter-12-{os.getpid()}", limits) as group:
            try:
                return process.run(child, NAMESPACES, group.descriptor, connect)
            finally:
                unplug(host, network)


def plug_in(host: links.Links, network: int) -> None:
    """Connect a network with the bridge."""
    with files.Lock(LOCK):
        bridge.create(host, NETWORK)
        # An address is taken as long as there is a cable of its number.
        taken = {link.name for link in host.links()}
        number = min(n for n in range(2, 255) if f"chapter12-{n}" not in taken)
        endpoint = bridge.endpoint(NETWORK, f"chapter12-{number}", number)
        container = links.inside(network, links.Links)
        bridge.plug(host, container, network, endpoint)
        container.close()


def unplug(host: links.Links, network: int) -> None:
    """Take the cable away, and the bridge when it was the last; let the network go."""
    with files.Lock(LOCK):
        if network >= 0:
            # By its far end: what has the name of the near one may be another's by now.
            links.inside(network, lambda: links.Links().delete("eth0"))
        if not any(link.name.startswith("chapter12-") for link in host.links()):
            host.delete("chapter12")
            os.unlink(LOCK)
    if network >= 0:
        os.close(network)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

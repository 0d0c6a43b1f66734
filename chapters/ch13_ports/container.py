"""Chapter 13: ports. Reached from everywhere by a port of the host, and by nothing else.

Run it: sudo python3 -m chapters.ch13_ports.container ROOTFS COMMAND [ARGUMENT…]
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
from minicontainer.network import bridge, firewall, forwarding, links, names, nft

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
    "bridge": "chapter13",
    "internal": False,
    "mtu": 1500,
    "subnets": [
        {"Subnet": "10.13.0.0/24", "Gateway": "10.13.0.1"},
        {"Subnet": "fd00:13::/64", "Gateway": "fd00:13::1"},
    ],
}
TAG = "chapter13"
LOCK, FORWARDING = "/run/chapter-13.lock", "/run/chapter-13.forwarding"
TERMINALS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system; its exit code, or 128 + n after signal n."""
    network, number = -1, 0

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
        # All that the C library knows about names is in these two.
        told = [address for link, address in links.Links().addresses() if link == "eth0"]
        own = [each.partition("/")[0] for each in told if not each.startswith("fe80:")]
        write("/etc/hosts", names.hosts(names.LOCAL, [], own, "container"))
        write("/etc/resolv.conf", servers)

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
        nonlocal network, number
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        number = plug_in(host, network)
        gate.open(pid, USERS, USERS)

    # Docker's policy, as far as it is about this machine and what its root may do.
    system = os.uname()
    policy = seccomp_profile.select(
        seccomp_default.profile(), capabilities.DEFAULT, system.machine, system.release
    )
    filter = seccomp_compiler.compile_filter(policy)
    # The host's name servers, but those on its loopback: there is nobody behind the container's.
    with open("/etc/resolv.conf") as file:
        theirs = file.read()
    asked = [each for each in names.servers(theirs) if not names.is_loopback(each)]
    servers = names.resolv_conf(theirs, servers=asked)
    gate, host = users.Gate(), links.Links()
    with tempfile.TemporaryDirectory(prefix="chapter-13-") as scratch:
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
        with cgroups.create(f"chapter-13-{os.getpid()}", limits) as group:
            try:
                return process.run(child, NAMESPACES, group.descriptor, connect)
            finally:
                unplug(host, network, number)


def plug_in(host: links.Links, network: int) -> int:
    """Connect a network with the bridge, and a port of the host with it; the number of both."""
    with files.Lock(LOCK):
        # Whoever forwards is a router: for whom, says the firewall. It is there before the bridge.
        if not any(link.name == "chapter13" for link in host.links()):
            nft.apply(firewall.ruleset(TAG, [NETWORK], [], [], guard=forwarding.enable(FORWARDING)))
            bridge.create(host, NETWORK)
        # An address is taken as long as there is a cable of its number.
        taken = {link.name for link in host.links()}
        number = min(n for n in range(2, 255) if f"chapter13-{n}" not in taken)
        endpoint, port = lease(number)
        # Before the cable: no frame may come by it that nobody looks at.
        nft.apply(firewall.added(TAG, [endpoint], [port]))
        container = links.inside(network, links.Links)
        bridge.plug(host, container, network, endpoint)
        container.close()
    return number


def lease(number: int) -> tuple[dict[str, object], dict[str, object]]:
    """What a number comes to: an endpoint of the bridge, and port 5000 + number of the host."""
    endpoint = bridge.endpoint(NETWORK, f"chapter13-{number}", number)
    address = {name: endpoint[name] for name in ("address4", "address6")}
    port = {"proto": "tcp", "hostIp": "", "hostPort": 5000 + number, "port": 5000, **address}
    return endpoint, port


def unplug(host: links.Links, network: int, number: int) -> None:
    """Take its cable and rules away, and all when it was the last; let the network go."""
    with files.Lock(LOCK):
        if network >= 0:
            # By its far end: what has the name of the near one may be another's by now.
            links.inside(network, lambda: links.Links().delete("eth0"))
        cables = [link.name for link in host.links() if link.name.startswith("chapter13-")]
        if not cables:
            forwarding.restore(FORWARDING)
            host.delete("chapter13")
            os.unlink(LOCK)
            nft.apply(firewall.gone(TAG))
        elif number and f"chapter13-{number}" not in cables:
            endpoint, port = lease(number)
            nft.apply(firewall.removed(TAG, [endpoint], [port]))
    if network >= 0:
        os.close(network)


def write(path: str, text: str) -> None:
    """Write a file, whole."""
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

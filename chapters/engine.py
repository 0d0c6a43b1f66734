"""The engine as the last stage: the same command line, started by minicontainer's own runtime.

Run it: sudo python3 -m chapters.engine ROOTFS COMMAND [ARGUMENT…]

It stands where a chapter's container.py stands, so that a chapter's tests and attack can be
turned on what came of it all. The specification is what `minicontainer run` writes, with the limits
of chapter 08: `-m 64m --memory-swap 64m --cpus 0.5 --pids-limit 64`, with the users of chapter 11,
as `--userns remap` gives them, and with the network of chapters 12 and 13: `-p 5002-5254:5000`.
Containers of one ROOTFS are on one bridge, which goes with the last of them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from chapters import command_line
from minicontainer import files
from minicontainer.engine import firewalling, naming, networking, networks
from minicontainer.engine import spec as specification
from minicontainer.engine.create import DEFAULT_PATH
from minicontainer.engine.home import Home
from minicontainer.engine.record import Record
from minicontainer.kernel import (
    capabilities,
    devicefilter,
    devices,
    overlay,
    resources,
    seccomp_default,
    seccomp_profile,
    terminal,
    users,
)
from minicontainer.kernel.process import Process, forward_signals
from minicontainer.runtime import start, supervise

USERS = [(0, 100000, 65536)]


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system, as the engine does; its exit code."""
    place = f"/run/chapters-engine-{os.stat(rootfs).st_ino}"
    home = Home(f"{place}/root", f"{place}/run")
    record = Record(
        id=os.urandom(32).hex(),
        name="container",
        hostname="container",
        network=networks.DEFAULT,
        ports={"5000/tcp": [{"HostIp": "", "HostPort": "5002-5254"}]},
    )
    with files.Lock(f"{place}.lock"):
        home.make()
        for id in os.listdir(home.run):
            if not os.path.exists(f"/proc/{os.readlink(home.live(id, 'engine'))}"):
                end(home, id)  # its engine was killed
        os.mkdir(home.container(record.id))
        os.mkdir(home.live(record.id))
        os.symlink(str(os.getpid()), home.live(record.id, "engine"))
    try:
        return live(home, record, rootfs, command)
    finally:
        with files.Lock(f"{place}.lock"):
            end(home, record.id)
            if not os.listdir(home.run):
                with networks.lock(home):
                    for network in networks.all_of(home):
                        networks.remove(home, network)
                    firewalling.rebuild(home)
                files.remove_tree(place)
                os.unlink(f"{place}.lock")


def end(home: Home, id: str) -> None:
    """Undo what a container had outside of itself."""
    networking.disconnect(home, id)
    files.remove_tree(home.live(id))
    files.remove_tree(home.container(id))


def live(home: Home, record: Record, rootfs: str, command: list[str]) -> int:
    """The life of a container that has its directories, to its exit code."""
    bundle = home.container(record.id)
    for name in ("rootfs", "upper", "work"):
        os.mkdir(f"{bundle}/{name}")
    os.chown(f"{bundle}/upper", USERS[0][1], USERS[0][1])
    naming.write_files(home, record)
    namespace = users.open_namespace(USERS, USERS)
    layers = [os.path.abspath(rootfs)]
    root = overlay.mount(layers, f"{bundle}/upper", f"{bundle}/work", users=namespace)
    os.close(namespace)
    spec = describe(command, bundle)
    spec["linux"]["resources"] |= resources.throttle(rootfs, 8 << 20)
    with networking.Connection(home, record) as network:

        def connect(process: Process) -> None:
            forward_signals(process)
            network.make(process)

        try:
            process = start.start(spec, bundle, root, (0, 1, 2), connect)
        finally:
            os.close(root)
        try:
            return supervise.supervise(process, [], services=network.services)
        finally:
            process.close()
            start.remove_cgroup(spec, bundle)


def describe(command: list[str], bundle: str) -> dict[str, Any]:
    """The OCI runtime specification of the container. bundle: where its files about names are."""
    safe = ["nosuid", "noexec", "nodev"]
    mount = specification.mount
    table = [{"containerID": inside, "hostID": host, "size": n} for inside, host, n in USERS]
    return {
        "ociVersion": specification.VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": [f"PATH={DEFAULT_PATH}", "HOME=/root", "TERM=xterm"],
            "cwd": "/",
            "capabilities": specification.capability_sets(capabilities.DEFAULT, 0),
        },
        "root": {"path": "rootfs"},
        "hostname": "container",
        "mounts": [
            mount("/proc", "proc", "proc", safe),
            mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", terminal.DEVPTS_WORDS),
            mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", "size=67108864"]),
            mount("/dev/mqueue", "mqueue", "mqueue", safe),
            mount("/sys", "sysfs", "sysfs", [*safe, "ro"]),
            *(
                mount(f"/etc/{name}", "bind", f"{bundle}/{name}", ["rbind", "rprivate"])
                for name in naming.FILES
            ),
        ],
        "linux": {
            "namespaces": [
                {"type": kind}
                for kind in ("user", "mount", "uts", "ipc", "pid", "cgroup", "network")
            ],
            "uidMappings": table,
            "gidMappings": table,
            "maskedPaths": list(devices.MASKED),
            "readonlyPaths": list(devices.READONLY),
            "resources": {
                "memory": {"limit": 64 << 20, "swap": 64 << 20},
                "cpu": {"quota": 50_000, "period": 100_000},
                "pids": {"limit": 64},
                "devices": devicefilter.DOCKER,
            },
            "seccomp": seccomp_profile.select(
                seccomp_default.profile(),
                capabilities.DEFAULT,
                os.uname().machine,
                os.uname().release,
            ),
        },
    }


if __name__ == "__main__":
    sys.exit(command_line.main(run))

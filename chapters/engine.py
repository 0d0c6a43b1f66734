"""The engine as the last stage: the same command line, started by minicontainer's own runtime.

Run it: sudo python3 -m chapters.engine ROOTFS COMMAND [ARGUMENT…]

It stands where a chapter's container.py stands, so that a chapter's tests and attack can be
turned on what came of it all. The specification is what `minicontainer run --network host` writes,
with the limits of chapter 08: `-m 64m --memory-swap 64m --cpus 0.5 --pids-limit 64`, and with the
users of chapter 11, as `--userns remap` gives them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from chapters import command_line
from minicontainer.engine import spec as specification
from minicontainer.engine.create import DEFAULT_PATH
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
from minicontainer.kernel.process import forward_signals
from minicontainer.runtime import start, supervise

USERS = [(0, 100000, 65536)]


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system, as the engine does; its exit code."""
    with tempfile.TemporaryDirectory(prefix="chapters-engine-") as bundle:
        for name in ("rootfs", "upper", "work"):
            os.mkdir(f"{bundle}/{name}")
        os.chown(f"{bundle}/upper", USERS[0][1], USERS[0][1])
        namespace = users.open_namespace(USERS, USERS)
        layers = [os.path.abspath(rootfs)]
        root = overlay.mount(layers, f"{bundle}/upper", f"{bundle}/work", users=namespace)
        os.close(namespace)
        spec = describe(command)
        spec["linux"]["resources"] |= resources.throttle(rootfs, 8 << 20)
        try:
            process = start.start(spec, bundle, root, (0, 1, 2), forward_signals)
        finally:
            os.close(root)
        try:
            return supervise.supervise(process, [])
        finally:
            process.close()
            start.remove_cgroup(spec, bundle)


def describe(command: list[str]) -> dict[str, Any]:
    """The OCI runtime specification of the container."""
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
            # A new sysfs would be for a network of its own, and this one shares the host's.
            mount("/sys", "bind", "/sys", ["bind", *safe, "ro"]),
        ],
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("user", "mount", "uts", "ipc", "pid", "cgroup")
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

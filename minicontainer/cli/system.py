"""`version` and `info`: what this engine is, and what machine it runs on."""

from __future__ import annotations

import os
import sys

from .. import __version__, jsonio
from ..engine import apparmor, ending, names, teardown
from ..engine.home import Home
from ..kernel import cgroups
from . import output
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = Option("--format -f", "json, or a template such as {{.Version}}", value="FORMAT")


def version(home: Home, values: Values) -> int:
    """The action of `minicontainer version`."""
    machine = os.uname()
    _print(
        {
            "Version": __version__,
            "Python": ".".join(map(str, sys.version_info[:3])),
            "Os": "linux",
            "Arch": machine.machine,
            "KernelVersion": machine.release,
        },
        values.text("format"),
    )
    return 0


def info(home: Home, values: Values) -> int:
    """The action of `minicontainer info`."""
    teardown.reconcile(home)
    records = names.all_records(home)
    running = sum(1 for record in records if ending.state(home, record).running)
    machine = os.uname()
    _print(
        {
            "Containers": len(records),
            "ContainersRunning": running,
            "ContainersStopped": len(records) - running,
            "Images": len(home.store().images()),
            "ServerVersion": __version__,
            "Driver": "overlay",
            "CgroupVersion": cgroup_mode(),
            "DeviceFilter": cgroups.unguarded() or "in force",
            "AppArmor": apparmor.unavailable() or apparmor.DEFAULT,
            "KernelVersion": machine.release,
            "OperatingSystem": _system(),
            "Architecture": machine.machine,
            "NCPU": os.cpu_count(),
            "Name": machine.nodename,
            "RootDir": home.root,
            "RunDir": home.run,
        },
        values.text("format"),
    )
    return 0


def cgroup_mode() -> str:
    """Which control groups this machine has: `v2`, `v1`, `hybrid` (both) or `none`."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2"
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        return "hybrid"
    return "v1" if os.path.isdir("/sys/fs/cgroup/memory") else "none"


def _system() -> str:
    try:
        with open("/etc/os-release") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return "Linux"


def _print(fields: dict[str, Any], template: str | None) -> None:
    if template == "json":
        print(jsonio.dumps(fields))
    elif template is not None:
        print(output.render(template, fields))
    else:
        width = max(map(len, fields)) + 2
        for name, value in fields.items():
            print(f"{name + ':':<{width}}{value}")


VERSION = Command("version", "", "Show the version", version, (FORMAT,), maximum=0)

INFO = Command(
    "info", "", "Show what this engine has, and the machine it runs on", info, (FORMAT,), maximum=0
)

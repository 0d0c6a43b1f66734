"""What a container may take, from the words of the OCI specification to the files of a cgroup.

The specification speaks the language of version 1 (shares, memory and swap together); what it
means in version 2 is fixed by what runc makes of it (libcontainer/cgroups/fs2 and utils).
Pure functions, all but `throttle`: (file, value) pairs come out, in the order in which they must be
written.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENODEV, ERANGE

from ..errors import EngineError
from . import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Pairs = list[tuple[str, str]]

CHAPTER = 8

KNOWN = {
    "memory": {"limit", "swap", "reservation", "swappiness", "disableOOMKiller"},
    "cpu": {"shares", "quota", "period", "burst", "cpus", "mems", "idle"},
    "pids": {"limit"},
    "blockIO": {
        "weight",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    },
}
# The throttles, in both worlds.
THROTTLES = (
    ("throttleReadBpsDevice", "rbps", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "wbps", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "riops", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "wiops", "blkio.throttle.write_iops_device"),
)
HINTS = {
    ("io.max", ENODEV): "only a whole disk can be limited, not a partition: see lsblk",
    ("blkio.throttle.read_bps_device", ENODEV): "only a whole disk can be limited: see lsblk",
    ("blkio.throttle.write_bps_device", ENODEV): "only a whole disk can be limited: see lsblk",
    ("cpuset.cpus", EINVAL): "the machine has no such processor: see nproc",
    ("cpuset.cpus", ERANGE): "the machine has no such processor: see nproc",
    ("cpuset.mems", EINVAL): "the machine has no such memory node: see lscpu",
    ("memory.limit_in_bytes", EBUSY): "the container takes more than that already",
    ("cpu.cfs_quota_us", EINVAL): "a quota above that of the cgroup it is in",
}


def check(wanted: dict[str, Any]) -> None:
    """EngineError for what an OCI `linux.resources` object asks for and nobody here gives."""
    for section, value in wanted.items():
        if section in ("devices", "unified", "hugepageLimits") or not value:
            continue
        if section not in KNOWN:
            raise EngineError(f"linux.resources.{section} cannot be had here")
        for name, given in value.items():
            if name not in KNOWN[section] and given:
                raise EngineError(f"linux.resources.{section}.{name} cannot be had here")
    if (wanted.get("memory") or {}).get("disableOOMKiller"):
        raise EngineError(
            "linux.resources.memory.disableOOMKiller cannot be had: without the OOM killer a "
            "container at its limit stands still for ever, and version 2 has no such switch"
        )


def throttle(path: str, rate: int) -> dict[str, Any]:
    """`blockIO` for the disk that a file lies on: no more than `rate` bytes a second are read from
    it. Nothing where that cannot be had: on a tmpfs, on several disks, without the controller."""
    number = os.stat(path).st_dev
    node = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    disk = f"{node}/../dev" if os.path.exists(f"{node}/partition") else f"{node}/dev"
    new = "io" in cgroupfs.words(f"{cgroupfs.MOUNT}/cgroup.controllers")
    if not os.path.exists(disk) or not (new or os.path.isdir(f"{cgroupfs.MOUNT}/blkio")):
        return {}
    with open(disk) as file:
        major, minor = map(int, file.read().split(":"))
    return {"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": rate}]}}


def to_v2(wanted: dict[str, Any], has: Callable[[str], bool]) -> Pairs:
    """The files of version 2 for an OCI `linux.resources` object.

    has: whether the cgroup has a file, where two schedulers bring two names.
    """
    check(wanted)
    memory, cpu, pids, io = (wanted.get(k) or {} for k in ("memory", "cpu", "pids", "blockIO"))
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    pairs = [
        ("memory.swap.max", swap_alone(swap, limit) if swap else ""),
        ("memory.max", _or_max(limit)),
        ("memory.low", _or_max(memory.get("reservation") or 0)),
        ("cpu.weight", str(weight_of_shares(cpu["shares"])) if cpu.get("shares") else ""),
        ("cpu.idle", str(cpu["idle"]) if cpu.get("idle") is not None else ""),
        ("cpu.max", _cpu_max(cpu)),
        ("cpu.max.burst", str(cpu.get("burst") or "")),
        ("cpuset.cpus", cpu.get("cpus") or ""),
        ("cpuset.mems", cpu.get("mems") or ""),
        ("pids.max", _or_max(pids.get("limit") or 0)),
    ]
    if memory.get("swappiness") is not None:
        raise EngineError("memory.swappiness is a limit of cgroup version 1: here it has no file")
    if io.get("weight"):
        if has("io.bfq.weight"):
            pairs.append(("io.bfq.weight", str(io["weight"])))
        else:
            pairs.append(("io.weight", f"default {weight_of_blkio(io['weight'])}"))
    for name, key, _ in THROTTLES:
        for entry in io.get(name) or []:
            pairs.append(("io.max", f"{entry['major']}:{entry['minor']} {key}={_rate(entry)}"))
    for page in wanted.get("hugepageLimits") or []:
        pairs.append((f"hugetlb.{page['pageSize']}.max", str(page["limit"])))
    for file, value in (wanted.get("unified") or {}).items():
        if "/" in file or "." not in file:
            raise EngineError(f"linux.resources.unified: {file!r} is no file of a cgroup")
        pairs += [(file, line) for line in value.splitlines()]
    return [(file, value) for file, value in pairs if value]


def to_v1(wanted: dict[str, Any], has: Callable[[str], bool]) -> Pairs:
    """The files of version 1, by the same words."""
    check(wanted)
    if wanted.get("unified"):
        raise EngineError("linux.resources.unified needs cgroup version 2, which is not here")
    memory, cpu, pids, io = (wanted.get(k) or {} for k in ("memory", "cpu", "pids", "blockIO"))
    pairs = [
        ("memory.limit_in_bytes", str(memory.get("limit") or "")),
        ("memory.memsw.limit_in_bytes", _memory_and_swap(memory.get("swap") or 0, has)),
        ("memory.soft_limit_in_bytes", str(memory.get("reservation") or "")),
        (
            "memory.swappiness",
            "" if memory.get("swappiness") is None else str(memory["swappiness"]),
        ),
        ("cpu.shares", str(cpu.get("shares") or "")),
        ("cpu.idle", str(cpu["idle"]) if cpu.get("idle") is not None else ""),
        ("cpu.cfs_period_us", str(cpu.get("period") or "")),
        ("cpu.cfs_quota_us", str(cpu.get("quota") or "")),
        ("cpu.cfs_burst_us", str(cpu.get("burst") or "")),
        ("cpuset.cpus", cpu.get("cpus") or ""),
        ("cpuset.mems", cpu.get("mems") or ""),
        ("pids.max", _or_max(pids.get("limit") or 0)),
    ]
    if io.get("weight"):
        weight = "blkio.bfq.weight" if has("blkio.bfq.weight") else "blkio.weight"
        pairs.append((weight, str(io["weight"])))
    for name, _, file in THROTTLES:
        for entry in io.get(name) or []:
            pairs.append((file, f"{entry['major']}:{entry['minor']} {entry['rate']}"))
    for page in wanted.get("hugepageLimits") or []:
        pairs.append((f"hugetlb.{page['pageSize']}.limit_in_bytes", str(page["limit"])))
    return [(file, value) for file, value in pairs if value]


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1 to 10000, default 100) for cpu.shares (2 to 262144, default 1024)."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def weight_of_blkio(weight: int) -> int:
    """io.weight (1 to 10000) for blkio.weight (10 to 1000)."""
    return 1 + (weight - 10) * 9999 // 990


def swap_alone(swap: int, memory: int) -> str:
    """memory.swap.max, which is swap alone, for version 1's limit of memory and swap together."""
    if swap < 0:
        return "max"
    if memory <= 0:
        raise EngineError("a limit on swap needs a limit on memory")
    if swap < memory:
        raise EngineError("a limit on memory and swap together must not be below that on memory")
    return str(swap - memory)


def why_not(controller: str, where: str) -> str:
    """Why a controller is missing at the top of what we see, in words (/proc/cgroups)."""
    with open("/proc/cgroups") as file:
        rows = {row.split()[0]: row.split() for row in file if not row.startswith("#")}
    name = "blkio" if controller == "io" else controller
    if name not in rows:
        return f"this kernel has no {controller} controller"
    if rows[name][3] == "0":
        return f"the {controller} controller is off (cgroup_disable= on the kernel's command line)"
    if rows[name][1] != "0":
        return f"the {controller} controller is in a version 1 hierarchy on this machine"
    if where == "/":
        return f"no mounted hierarchy has the {controller} controller"
    return f"the cgroup {where} was not given the {controller} controller"


def _or_max(number: int) -> str:
    """A limit as a file takes it: nothing for 0, `max` below."""
    return "max" if number < 0 else str(number or "")


def _memory_and_swap(swap: int, has: Callable[[str], bool]) -> str:
    """Without a limit that is how it is anyway, also where the kernel counts no swap."""
    return str(swap or "") if swap >= 0 or has("memory.memsw.limit_in_bytes") else ""


def _rate(entry: dict[str, Any]) -> str:
    return str(entry["rate"] or "max")


def _cpu_max(cpu: dict[str, Any]) -> str:
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if not quota and not period:
        return ""
    return f"{quota if quota > 0 else 'max'} {period or 100_000}"

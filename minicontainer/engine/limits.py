"""What a container may take: docker's HostConfig fields, checked by docker's rules, and the OCI
resources that come of them (moby, daemon/daemon_unix.go).
"""

from __future__ import annotations

import os
import stat

from ..errors import EngineError
from ..kernel import cgroups, devicefilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# docker's names and what they are when nobody asks. Sizes in bytes, times in microseconds.
FIELDS: dict[str, Any] = {
    "Memory": 0,
    "MemorySwap": 0,
    "MemoryReservation": 0,
    "NanoCpus": 0,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuShares": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "PidsLimit": None,
    "BlkioWeight": 0,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
}
_THROTTLES = {
    "BlkioDeviceReadBps": "throttleReadBpsDevice",
    "BlkioDeviceWriteBps": "throttleWriteBpsDevice",
    "BlkioDeviceReadIOps": "throttleReadIOPSDevice",
    "BlkioDeviceWriteIOps": "throttleWriteIOPSDevice",
}
LEAST_MEMORY = 6 << 20
PERIOD = 100_000
# Which of docker's sysctls belong to a namespace (docker/cli, opts.ValidateSysctl).
_IPC = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")


def check(limits: dict[str, Any]) -> dict[str, Any]:
    """The limits as docker keeps them, with what one of them implies; EngineError for those that
    contradict each other or are out of range."""
    found = {**limits}
    memory, swap = found.get("Memory", 0), found.get("MemorySwap", 0)
    reservation = found.get("MemoryReservation", 0)
    if memory and memory < LEAST_MEMORY:
        raise EngineError("minimum memory limit allowed is 6MB")
    if swap > 0 and not memory:
        raise EngineError("you should always set the memory limit when using the memoryswap limit")
    if 0 < swap < memory:
        raise EngineError("minimum memoryswap limit should be larger than memory limit")
    if reservation and reservation < LEAST_MEMORY:
        raise EngineError("minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise EngineError("minimum memory limit can not be less than memory reservation limit")
    if memory and not swap:
        # Where swap cannot be counted, docker too takes the limit on memory alone.
        found["MemorySwap"] = 2 * memory if cgroups.counts_swap() else -1
    for name, text in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if found.get("NanoCpus") and found.get(name):
            raise EngineError(f"conflicting options: Nano CPUs and {text} cannot both be set")
    count = os.cpu_count() or 1
    if found.get("NanoCpus") and not 10**7 <= found["NanoCpus"] <= count * 10**9:
        raise EngineError(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if found.get("CpuPeriod") and not 1000 <= found["CpuPeriod"] <= 1_000_000:
        raise EngineError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < found.get("CpuQuota", 0) < 1000:
        raise EngineError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if found.get("CpuShares", 0) < 0:
        raise EngineError(f"the minimum allowed cpu-shares is 2, not {found['CpuShares']}")
    weight = found.get("BlkioWeight", 0)
    if weight and not 10 <= weight <= 1000:
        raise EngineError("range of blkio weight is from 10 to 1000")
    for name in ("CpusetCpus", "CpusetMems"):
        check_set(found.get(name, ""), name.lower().removeprefix("cpuset"))
    if found.get("PidsLimit") is not None and found["PidsLimit"] <= 0:
        found["PidsLimit"] = None
    return found


def check_set(text: str, what: str) -> None:
    """A list of processors or memory nodes: `0-2,7`; EngineError otherwise (cpuset(7))."""
    for part in text.split(",") if text else ():
        ends = part.split("-")
        numbers = all(end.isascii() and end.isdigit() for end in ends)
        if len(ends) > 2 or not numbers or int(ends[0]) > int(ends[-1]):
            raise EngineError(f"invalid value {text} for cpuset {what}")


def to_oci(limits: dict[str, Any]) -> dict[str, Any]:
    """The OCI `linux.resources` of checked limits; EngineError for a device that is not there."""
    memory: dict[str, Any] = {
        "limit": limits.get("Memory"),
        "swap": limits.get("MemorySwap"),
        "reservation": limits.get("MemoryReservation"),
    }
    cpu: dict[str, Any] = {
        "shares": limits.get("CpuShares"),
        "period": limits.get("CpuPeriod"),
        "quota": limits.get("CpuQuota"),
        "cpus": limits.get("CpusetCpus"),
        "mems": limits.get("CpusetMems"),
    }
    if limits.get("NanoCpus"):
        cpu["period"], cpu["quota"] = PERIOD, limits["NanoCpus"] * PERIOD // 10**9
    io: dict[str, Any] = {"weight": limits.get("BlkioWeight")}
    for name, word in _THROTTLES.items():
        io[word] = [
            {**_numbers(entry["Path"]), "rate": entry["Rate"]} for entry in limits.get(name) or ()
        ]
    sections = {
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": limits.get("PidsLimit")},
        "blockIO": io,
    }
    kept = {
        section: {name: value for name, value in values.items() if value}
        for section, values in sections.items()
    }
    return {section: values for section, values in kept.items() if values}


def _numbers(path: str) -> dict[str, int]:
    """The numbers of a block device whose speed is limited."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise EngineError(f"cannot limit the device {path}: {_reason(error)}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise EngineError(f"cannot limit the device {path}: it is not a block device")
    return {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}


def devices(given: list[dict[str, str]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """OCI devices to make and rules that let them in, for `--device` (docker's DeviceMapping:
    PathOnHost, PathInContainer, CgroupPermissions). A directory stands for all devices in it."""
    made, rules = [], []
    for entry in given:
        for source, target in _walk(entry["PathOnHost"], entry["PathInContainer"]):
            found = os.stat(source)
            kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
            major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
            made.append(
                {
                    "path": target,
                    "type": kind,
                    "major": major,
                    "minor": minor,
                    "fileMode": stat.S_IMODE(found.st_mode),
                    "uid": found.st_uid,
                    "gid": found.st_gid,
                }
            )
            rules.append(devicefilter.rule(True, kind, major, minor, entry["CgroupPermissions"]))
    return made, rules


def _walk(source: str, target: str) -> list[tuple[str, str]]:
    act = f'error gathering device information while adding custom device "{source}"'
    try:
        mode = os.stat(source).st_mode
        names = sorted(os.listdir(source)) if stat.S_ISDIR(mode) else []
    except OSError as error:
        raise EngineError(f"{act}: {_reason(error)}") from None
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return [(source, target)]
    found = []
    for name in names:
        below = os.stat(f"{source}/{name}", follow_symlinks=False).st_mode
        # runc leaves these out too: they are made anew for each container, or lead elsewhere.
        if name in ("pts", "shm", "fd", "mqueue", "console", ".lxc") or stat.S_ISLNK(below):
            continue
        if stat.S_ISDIR(below) or stat.S_ISCHR(below) or stat.S_ISBLK(below):
            found += _walk(f"{source}/{name}", f"{target}/{name}")
    if not found and not stat.S_ISDIR(mode):
        raise EngineError(f"{act}: not a device node")
    return found


def check_sysctls(given: dict[str, str], network: str) -> dict[str, str]:
    """Only kernel parameters that belong to a namespace of the container; EngineError for one
    that would change the host."""
    for name in given:
        if name.startswith("net.") and network == "host":
            raise EngineError(f"sysctl '{name}' is not allowed in the host's network namespace")
        ipc = name.startswith("kernel.") and name.removeprefix("kernel.") in _IPC
        if not ipc and not name.startswith(("fs.mqueue.", "net.")):
            raise EngineError(
                f"sysctl '{name}' is not allowed: it belongs to no namespace, so it would change "
                "the host"
            )
        if any(part in ("", "..") or "/" in part for part in name.split(".")):
            raise EngineError(f"sysctl '{name}' is no name of a kernel parameter")
    return given


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

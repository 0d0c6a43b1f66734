"""A running container under its cgroup: pause and go on, change the limits, meters, processes."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..kernel import cgroups
from . import ending
from . import limits as limiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .home import Home
    from .record import Live, Record

# docker's HostConfig fields by the section of OCI's resources that they are in.
_SECTIONS = {"Mem": "memory", "Cpu": "cpu", "Nan": "cpu", "Pid": "pids", "Blk": "blockIO"}


def pause(home: Home, record: Record) -> None:
    """Stop all processes of a container where they stand (kernel/cgroups, freeze)."""
    group = _group(ending.require_running(home, record))
    if group.is_frozen():
        raise EngineError(f"container {record.id} is already paused")
    group.freeze()


def unpause(home: Home, record: Record) -> None:
    """Let them go on."""
    group = _group(ending.require_running(home, record))
    if not group.is_frozen():
        raise EngineError(f"container {record.id} is not paused")
    group.thaw()


def update(home: Home, record: Record, changes: dict[str, Any]) -> None:
    """Change the limits of a container, at once when it runs, and for its next start.

    changes: docker's HostConfig fields. EngineError, with nothing changed, for limits that
    contradict those that it has.
    """
    old = record.limits
    if changes.get("Memory", 0) > old.get("MemorySwap", 0) > 0 and "MemorySwap" not in changes:
        raise EngineError(
            "memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    merged = limiting.check({**old, **changes})
    live = ending.state(home, record).live
    if live is not None:
        wanted = limiting.to_oci(merged)
        touched = {_SECTIONS[name[:3]] for name in changes}
        if merged.get("PidsLimit") is None and "PidsLimit" in changes:
            wanted["pids"] = {"limit": -1}
        _group(live).limit({name: wanted[name] for name in touched if name in wanted})
    record.limits = merged
    record.save(home)


def usage(home: Home, record: Record) -> dict[str, int]:
    """What a running container takes: as `cgroups.Cgroup.usage`, and the bytes that its network
    adapters have `received` and `sent`."""
    live = ending.require_running(home, record)
    found: dict[str, int] = _group(live).usage()
    received = sent = 0
    try:
        with open(f"/proc/{live.pid}/net/dev") as file:
            for line in file:
                name, colon, numbers = line.partition(":")
                if colon and name.strip() != "lo" and record.network != "host":
                    received += int(numbers.split()[0])
                    sent += int(numbers.split()[8])
    except FileNotFoundError:
        pass  # it ends this moment
    return {**found, "received": received, "sent": sent}


def processes(home: Home, record: Record) -> list[int]:
    """The processes of a running container, as the host numbers them."""
    live = ending.require_running(home, record)
    if live.cgroup:
        found: list[int] = cgroups.choose(live.cgroup).pids()
        return found
    own = os.stat(f"/proc/{live.pid}/ns/pid").st_ino
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_in(pid, own)]


def _is_in(pid: int, namespace: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == namespace
    except OSError:
        return False


def _group(live: Live) -> Any:
    if not live.cgroup:
        raise EngineError("the container has no cgroup: this machine had none when it was started")
    return cgroups.choose(live.cgroup)

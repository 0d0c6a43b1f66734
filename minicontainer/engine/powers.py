"""What a container can really do, read from the kernel: its process' status, namespaces and mount
table, its /dev, its control groups. Not from the record: that says what was asked for.

Two filters are programs, which the kernel does not show: that they are there is asked of it, and
what they say is told from the rules that they were made of.

Each part has the number of the book's chapter about it.
"""

from __future__ import annotations

import os
import stat

from ..errors import EngineError
from ..kernel import (
    apparmor,
    capabilities,
    devicefilter,
    devices,
    namespaces,
    paths,
    process,
    seccomp_compiler,
    users,
)
from . import apparmor as profiles
from . import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .record import Live

    Part = dict[str, Any]

# Namespace: the chapter about it.
_NAMESPACES = {
    "mount": 3, "uts": 4, "ipc": 4, "pid": 5, "cgroup": 8, "user": 11, "network": 12,
}  # fmt: skip
# File systems whose files are the kernel's own variables.
_KERNEL = {
    "proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf", "configfs",
    "pstore", "efivarfs", "fusectl",
}  # fmt: skip
_SECCOMP = {"0": "none", "1": "strict", "2": "filter"}
# Limit: (controller, its file in v2, in v1).
_LIMITS = {
    "Memory": ("memory", "memory.max", "memory.limit_in_bytes"),
    "Processors": ("cpu", "cpu.max", "cpu.cfs_quota_us"),
    "Processes": ("pids", "pids.max", "pids.max"),
}
_MOST = 1000


def read(live: Live, spec: Part) -> Part:
    """What the first process of a running container can do, part by part.

    spec: its config.json. EngineError when it ends meanwhile.
    """
    pid = live.pid
    try:
        status = _status(pid)
        mounts = _mounts(pid)
        found = {
            "Pid": pid,
            "User": _user(pid, status),
            "Capabilities": _capabilities(pid, status),
            "Seccomp": _seccomp(status, spec["linux"].get("seccomp")),
            "AppArmor": _apparmor(pid),
            "Namespaces": _namespaces(pid),
            **_files(pid, mounts, spec["linux"].get("resources", {}).get("devices")),
            "Host": _host(mounts),
            "Limits": _limits(pid),
        }
        if process.start_time(pid) == live.start:
            return found
    except (FileNotFoundError, ProcessLookupError):
        pass  # told below
    raise EngineError(f"the container's process {pid} is gone")


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _user(pid: int, status: dict[str, str]) -> Part:
    """Who it is inside, and who that is on the host (user_namespaces(7), "/proc/PID/uid_map")."""
    with open(f"/proc/{pid}/uid_map") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    host = int(status["Uid"].split()[1])
    if _is_rootless(pid):
        # We are in its user namespace, and are told its numbers in there.
        inside = [host]
        host = next((high + host - low for low, high, n in rows if low <= host < low + n), host)
    else:
        inside = [low + host - high for low, high, size in rows if high <= host < high + size]
    return {
        "Chapter": 11,
        "Uid": (inside or [host])[0],
        "Gid": int(status["Gid"].split()[1]),
        "Groups": [int(word) for word in status["Groups"].split()],
        "HostUid": host,
        "UidMap": rows,
    }


def _is_rootless(pid: int) -> bool:
    """Is the process in the engine's own user namespace, and that not the host's?"""
    return users.is_mapped() and namespaces.identity(pid, "user") == namespaces.identity(
        "self", "user"
    )


def _capabilities(pid: int, status: dict[str, str]) -> Part:
    sets = capabilities.read(pid)
    names = {
        "Effective": "CapEff", "Permitted": "CapPrm", "Bounding": "CapBnd",
        "Inheritable": "CapInh", "Ambient": "CapAmb",
    }  # fmt: skip
    return {
        "Chapter": 9,
        **{name: capabilities.words(sets[field]) for name, field in names.items()},
        "NoNewPrivileges": status.get("NoNewPrivs") == "1",
    }


def _seccomp(status: dict[str, str], rules: Part | None) -> Part:
    """rules: linux.seccomp of the specification; a filter without them is the program's own."""
    found = {
        "Chapter": 10,
        "Mode": _SECCOMP.get(status.get("Seccomp", "0"), "unknown"),
        "Filters": int(status.get("Seccomp_filters", "0")),
    }
    if rules and found["Mode"] == "filter":
        refused, partly, calls = seccomp_compiler.sort_calls(rules)
        found |= {"Calls": calls, "Refused": refused, "RefusedWithSomeArguments": partly}
    return found


def _apparmor(pid: int) -> Part:
    """The profile of a process, and where it has none why it did not get the default."""
    return {"Chapter": 10, "Profile": apparmor.current(pid), "Skipped": profiles.unavailable()}


def _namespaces(pid: int) -> Part:
    """Which are the container's own, and which are those of the engine: the host's."""
    return {
        kind: {
            "Chapter": chapter,
            "Shared": namespaces.identity(pid, kind) == namespaces.identity("self", kind)
            and not (kind == "user" and users.is_mapped()),
        }
        for kind, chapter in _NAMESPACES.items()
    }


class _Mount:
    """One row of /proc/PID/mountinfo (proc(5))."""

    __slots__ = ("point", "root", "kind", "source", "readonly", "nodev")

    def __init__(self, line: str) -> None:
        fields = line.split()
        dash = fields.index("-")
        self.root, self.point = (_unescape(word) for word in fields[3:5])
        self.kind, self.source = fields[dash + 1 : dash + 3]
        options, whole = fields[5].split(","), fields[dash + 3].split(",")
        self.readonly = "ro" in options or "ro" in whole
        self.nodev = "nodev" in options


def _unescape(word: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(escape, character)
    return word


def _mounts(pid: int) -> list[_Mount]:
    with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as file:
        return [_Mount(line) for line in file]


def _covering(mounts: list[_Mount], path: str) -> _Mount:
    """The mount that a path leads to: the deepest, and of several at one place the last."""
    found = mounts[0]
    for mount in mounts:
        point = mount.point.rstrip("/")
        deeper = len(mount.point) >= len(found.point)
        if deeper and (path == mount.point or path.startswith(f"{point}/")):
            found = mount
    return found


def _files(pid: int, mounts: list[_Mount], rules: list[Part] | None) -> Part:
    root = specs.open_process_root(pid)
    try:
        return {
            "KernelPaths": {
                "Chapter": 6,
                "Writable": list(_writable(root, mounts)),
                "Unmasked": [p for p in devices.MASKED if _is_kernels(root, mounts, p)],
            },
            "Devices": {
                "Chapter": 6,
                "Nodes": list(_nodes(root, "/dev", _covering(mounts, "/dev").nodev))[:_MOST],
                # Where a device file that is made there, or that an image brought, works.
                "Live": sorted(
                    m.point
                    for m in mounts
                    if not (m.nodev or m.readonly or m.kind == "devpts")
                    and _is_directory(root, m.point)
                ),
                "Allowed": {"Chapter": 8, "Rules": _device_rules(pid, rules)},
            },
        }
    finally:
        os.close(root)


def _writable(root: int, mounts: list[_Mount]) -> Iterator[str]:
    """The places where writing a file changes the kernel, for whoever is user 0 in there."""
    # /proc is writable as a whole: every process has its own files there.
    points = {m.point for m in mounts if m.kind in _KERNEL and m.kind != "proc"}
    above = ""
    for path in sorted({*points, *devices.READONLY}):
        mount = _covering(mounts, path)
        inside = above and path.startswith(f"{above}/")
        if not (mount.readonly or inside) and _is_kernels(root, mounts, path):
            above = path  # what is below it is writable with it
            yield path


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def _is_kernels(root: int, mounts: list[_Mount], path: str) -> bool:
    """Whether a path is there, and the kernel's own rather than what covers it."""
    if _covering(mounts, path).kind not in _KERNEL:
        return False
    try:
        os.close(paths.open_in_root(root, path))
    except OSError:
        return False
    return True


def _nodes(root: int, directory: str, dead: bool) -> Iterator[Part]:
    """The device files below a directory of the container, whose names are the container's."""
    if dead:
        return
    try:
        descriptor = paths.open_in_root(root, directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        for name in sorted(os.listdir(descriptor)[:_MOST]):
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue  # gone, or not for us: a FUSE file system
            kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(found.st_mode))
            if kind:
                number = found.st_rdev
                yield {
                    "Path": f"{directory}/{name}",
                    "Type": kind,
                    "Major": os.major(number),
                    "Minor": os.minor(number),
                }
            elif stat.S_ISDIR(found.st_mode) and directory.count("/") < 6:
                yield from _nodes(root, f"{directory}/{name}", dead)
    finally:
        os.close(descriptor)


def _host(mounts: list[_Mount]) -> Part:
    """What of the host's file systems is mounted in the container, beside its own root."""
    ours = _KERNEL | {"tmpfs", "devpts", "mqueue", "devtmpfs"}
    return {
        "Chapter": 17,
        "Mounts": [
            {"Path": m.point, "Source": m.root, "Device": m.source, "Writable": not m.readonly}
            for m in mounts
            if m.point != "/" and m.kind not in ours
        ],
        "RootWritable": not _covering(mounts, "/").readonly,
    }


# ------------------------------------------------------------------------------- control groups


def _groups(pid: int) -> dict[str, tuple[str, str]]:
    """Controller: (where its tree is mounted, the process' group in it); the v2 tree is "" here
    (cgroups(7))."""
    trees = {
        "" if mount.kind == "cgroup2" else os.path.basename(mount.point): mount.point
        for mount in _mounts(os.getpid())
        if mount.kind in ("cgroup", "cgroup2")
    }
    found = {}
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for name in controllers.split(","):
                tree = trees.get(name) or trees.get(controllers)
                if tree:
                    found[name] = (tree, path)
    return found


def _limits(pid: int) -> Part:
    """Limits in the kernel's own words; "none", or "unknown" where no file tells."""
    groups = _groups(pid)
    found: Part = {"Chapter": 8}
    for name, (controller, new, old) in _LIMITS.items():
        text = None
        # Where both are mounted a controller is in one of them (a hybrid host).
        key, file = (controller, old) if controller in groups else ("", new)
        if key in groups:
            tree, path = groups[key]
            # The root of a tree has no limit, nor a file for it.
            text = _first_line(f"{tree}{path}/{file}") or ("max" if path == "/" else None)
        # No limit is `max` in v2; in v1 it is -1, or the largest number of pages.
        free = text is not None and (text.split()[:1] == ["max"] or text[:5] in ("-1", "92233"))
        found[name] = "none" if free else text or "unknown"
    return found


def _device_rules(pid: int, rules: list[Part] | None) -> list[str] | None:
    """The rules of its cgroup for devices, of which the last that fits decides: version 1's list;
    in version 2 those that the program was made of. None where there are none."""
    groups = _groups(pid)
    try:
        if "devices" in groups:
            with open("{}{}/devices.list".format(*groups["devices"])) as file:
                return file.read().splitlines()
        descriptor = os.open("{}{}".format(*groups[""]), os.O_RDONLY | os.O_DIRECTORY)
    except (KeyError, OSError):
        return None
    try:
        there = devicefilter.count(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return [_rule(entry) for entry in devicefilter.complete(rules)] if there and rules else None


def _rule(entry: Part) -> str:
    """A rule as version 1 lists it, with `not` before one that forbids: `c 1:3 rwm`."""
    major, minor = (
        "*" if entry.get(key, devicefilter.ANY) == devicefilter.ANY else entry[key]
        for key in ("major", "minor")
    )
    word = "" if entry["allow"] else "not "
    return f"{word}{entry.get('type', 'a')} {major}:{minor} {entry.get('access') or 'rwm'}"


def _first_line(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return None

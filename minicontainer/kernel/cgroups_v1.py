"""Control groups, version 1: the same face as `cgroups.Cgroup`, for hosts that still have it.

Here each controller is a hierarchy of its own, with its own directories, mounted at its own
place; a cgroup is a directory in each of them. A process cannot be born inside: the child writes
itself into every one, as its first act, before it has read a byte that a stranger wrote.
"""

from __future__ import annotations

import os
import select
import time

from ..errors import EngineError
from . import cgroupfs, devicefilter, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 8

CONTROLLERS = (
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "pids",
    "blkio",
    "devices",
    "freezer",
    "hugetlb",
)


class Cgroup:
    """One cgroup: a directory in the hierarchy of every controller that is mounted.

    path: below each mount. directories: {controller: directory}; those mounted together share one.
    """

    def __init__(self, path: str, directories: dict[str, str] | None = None) -> None:
        self.path = path
        if directories is None:
            directories = {name: mount + path for name, mount in hierarchies().items()}
        self.directories = directories
        self.descriptor = None
        self._doors: list[int] = []

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def create(self) -> None:
        """As `cgroups.Cgroup.create`; also opens the doors that a child enters by."""
        try:
            for controller, directory in self.directories.items():
                try:
                    os.mkdir(directory, 0o755)
                except FileNotFoundError:
                    self._make_parents(directory, controller)
                    os.mkdir(directory, 0o755)
                except FileExistsError:
                    if self.pids():
                        raise EngineError(f"the cgroup {self.path} is in use") from None
                    os.rmdir(directory)
                    os.mkdir(directory, 0o755)
            self.open_doors()
        except OSError as error:
            for directory in self.directories.values():
                cgroupfs.remove_empty(directory)
            raise EngineError(
                f"cannot make the cgroup {self.path}: {(error.strerror or '').lower()}",
                hint="cgroups are the host's: this needs root there, and /sys/fs/cgroup writable",
            ) from error

    def _make_parents(self, directory: str, controller: str) -> None:
        made = directory.removesuffix(self.path)
        for name in self.path.strip("/").split("/")[:-1]:
            made = f"{made}/{name}"
            cgroupfs.make_directory(made)
            if controller == "cpuset":
                fill_cpuset(made)

    def open_doors(self) -> None:
        """Open each directory's `tasks`, for a child that may not find them any more."""
        for directory in dict.fromkeys(self.directories.values()):
            self._doors.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))

    def enter(self) -> None:
        """For the child, first of all: write ourselves into every directory.

        `0` is whoever writes. By `tasks` and not `cgroup.procs`: for its own one thread the kernel
        need not stop all forks of the machine meanwhile.
        """
        for door in self._doors:
            os.write(door, b"0")
            os.close(door)

    def limit(self, wanted: dict[str, Any]) -> None:
        """As `cgroups.Cgroup.limit`."""
        pairs = resources.to_v1(wanted, self.has)
        memory = [
            pair for pair in pairs if pair[0].endswith(("y.limit_in_bytes", "memsw.limit_in_bytes"))
        ]
        if len(memory) == 2 and 0 < int(self.read(memory[1][0]) or 0) < int(memory[0][1]):
            # Memory must never be above memory and swap together: raise that one first.
            pairs = [memory[1], memory[0], *(pair for pair in pairs if pair not in memory)]
        for file, value in pairs:
            self.write(file, value)

    def guard(self, rules: list[dict[str, Any]]) -> None:
        """As `cgroups.Cgroup.guard`, by the files that version 1 has for it."""
        self.write("devices.deny", "a")
        for entry in devicefilter.complete(rules):
            allow, kind, major, minor, access = devicefilter.numbers(entry)
            letters = "".join(k for k, bit in devicefilter.ACCESS.items() if bit & access)
            numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
            word = f"{' bc'[kind]} {numbers} {letters}" if kind else "a"
            if not kind and (major, minor, access) != (-1, -1, devicefilter.EVERYTHING):
                for letter in "bc":
                    self.write(_list(allow), f"{letter} {numbers} {letters}")
                continue
            self.write(_list(allow), word)

    def has(self, file: str) -> bool:
        """Whether a control file is here."""
        return os.path.exists(self._file(file))

    def read(self, file: str) -> str:
        """A control file's text; "" where it is missing."""
        try:
            with open(self._file(file)) as opened:
                return opened.read()
        except FileNotFoundError:
            return ""

    def write(self, file: str, value: str) -> None:
        """As `cgroups.Cgroup.write`."""
        controller = file.partition(".")[0]
        if controller not in self.directories:
            raise EngineError(f"cannot set {file}: {resources.why_not(controller, '/')}")
        try:
            descriptor = os.open(self._file(file), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise EngineError(
                f"cannot set {file}: this kernel's {controller} controller has no such file",
                hint="limits on swap need swapaccount=1 on the kernel's command line"
                if "memsw" in file
                else None,
            ) from None
        try:
            os.write(descriptor, value.encode())
        except OSError as error:
            raise EngineError(
                f"cannot set {file} to {value!r}: {(error.strerror or '').lower()}",
                hint=resources.HINTS.get((file, error.errno or 0)),
            ) from error
        finally:
            os.close(descriptor)

    def pids(self) -> list[int]:
        """The processes inside."""
        found: set[int] = set()
        for directory in dict.fromkeys(self.directories.values()):
            for below, _, _ in os.walk(directory):  # of nothing when it is not there
                with open(f"{below}/cgroup.procs") as file:
                    found.update(int(word) for word in file.read().split())
        return sorted(found)

    def kill(self) -> None:
        """Kill all processes inside. There is no switch for it: frozen, none can fork away."""
        for _ in range(10):
            inside = self.pids()
            if not inside:
                return
            if self.has("freezer.state"):
                self.write("freezer.state", "FROZEN")
            for pid in self.pids():
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
            self.thaw()
            for pid in inside:
                _wait(pid, 0.2)

    def freeze(self) -> None:
        """As `cgroups.Cgroup.freeze`."""
        deadline = time.monotonic() + cgroupfs.PATIENCE
        self.write("freezer.state", "FROZEN")
        while self.read("freezer.state").strip() != "FROZEN":
            if time.monotonic() > deadline:
                self.thaw()
                raise EngineError(f"the cgroup {self.path} cannot be frozen")
            time.sleep(0.001)

    def thaw(self) -> None:
        """As `cgroups.Cgroup.thaw`."""
        if self.has("freezer.state"):
            self.write("freezer.state", "THAWED")

    def is_frozen(self) -> bool:
        """As `cgroups.Cgroup.is_frozen`."""
        return self.read("freezer.state").strip() in ("FROZEN", "FREEZING")

    def usage(self) -> dict[str, int]:
        """As `cgroups.Cgroup.usage`."""
        memory = cgroupfs.fields(self.read("memory.stat"))
        most = int(self.read("memory.limit_in_bytes") or 0)
        io = [
            row.split()
            for row in self.read("blkio.throttle.io_service_bytes_recursive").splitlines()
        ]
        taken = int(self.read("memory.usage_in_bytes") or 0) - memory.get("total_inactive_file", 0)
        return {
            "memory": max(taken, 0),
            # Without a limit the file holds the highest number of whole pages.
            "limit": 0 if most >= 1 << 62 else most,
            "cpu": int(self.read("cpuacct.usage") or 0),
            "pids": int(self.read("pids.current") or 0),
            "read": sum(int(row[2]) for row in io if row[1:2] == ["Read"]),
            "written": sum(int(row[2]) for row in io if row[1:2] == ["Write"]),
        }

    def oom_kills(self) -> int:
        """As `cgroups.Cgroup.oom_kills` (Linux 4.13)."""
        return cgroupfs.fields(self.read("memory.oom_control")).get("oom_kill", 0)

    def remove(self) -> None:
        """As `cgroups.Cgroup.remove`."""
        self.close()
        directories = []
        for directory in dict.fromkeys(self.directories.values()):
            try:
                os.rmdir(directory)  # as a rule nobody is inside any more
            except FileNotFoundError:
                continue
            except OSError:
                directories.append(directory)
        if not directories:
            return
        self.directories = {k: d for k, d in self.directories.items() if d in directories}
        self.kill()
        deadline = time.monotonic() + cgroupfs.PATIENCE
        for directory in directories:
            for below, _, _ in os.walk(directory, topdown=False):
                cgroupfs.remove_directory(below, deadline)

    def close(self) -> None:
        """Close the doors."""
        for door in self._doors:
            os.close(door)
        self._doors = []

    def _file(self, name: str) -> str:
        return f"{self.directories.get(name.partition('.')[0], '/nowhere')}/{name}"


def hierarchies() -> dict[str, str]:
    """Where each controller is mounted: {"memory": "/sys/fs/cgroup/memory"}; /proc/self/mountinfo
    tells. EngineError when there are none: the machine has no cgroups that we could use."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo") as table:
        for line in table:
            if " - cgroup " in line:
                left, _, right = line.partition(" - ")
                place, words = left.split()[4], right.split()[2].split(",")
                for controller in CONTROLLERS:
                    if controller in words:
                        found.setdefault(controller, place)
    if not found:
        raise EngineError(
            "this machine has no control groups that could be used",
            hint=f"mount them: mount -t cgroup2 none {cgroupfs.MOUNT}",
        )
    return found


def fill_cpuset(directory: str) -> None:
    """Give a new cpuset its parent's processors and memory, and those below it theirs of itself:
    an empty one takes no process (cpuset(7), `cgroup.clone_children`)."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{directory}/{file}") as own:
            if own.read().strip():
                continue
        with open(f"{os.path.dirname(directory)}/{file}") as above:
            value = above.read().strip()
        with open(f"{directory}/{file}", "w") as own:
            own.write(value)
    with open(f"{directory}/cgroup.clone_children", "w") as own:
        own.write("1")


def of(pid: int) -> Cgroup:
    """As `cgroups.of`."""
    mounts = hierarchies()
    directories = {}
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                if controller in mounts:
                    directories[controller] = mounts[controller] + path
    group = Cgroup("", directories)
    group.open_doors()
    return group


def _list(allow: bool) -> str:
    return "devices.allow" if allow else "devices.deny"


def _wait(pid: int, seconds: float) -> None:
    """Wait until a process has ended; it may be nobody's child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)

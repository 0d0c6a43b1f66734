"""Control groups, version 2: how much a set of processes may take, and one switch for them all.

A cgroup is a directory; the files in it are its limits, its meters and its switches, and every
process of the machine is in exactly one. The kernel's rules, which shape all that is done here:

- A *controller* (memory, cpu, pids, io…) works in a directory only if the directory above hands
  it down, by its `cgroup.subtree_control`.
- No internal processes: a directory that hands controllers down has no processes of its own;
  they are in leaves. Only the root of all is free of that.
- Where a manager such as systemd owns the tree, others stay in what was *delegated* to them.

cgroups(7); the kernel's Documentation/admin-guide/cgroup-v2.rst. Hosts whose controllers are in
version 1 hierarchies get `cgroups_v1`, the same in small.
"""

from __future__ import annotations

import os
import select
import time
from errno import EACCES, EBUSY, EOPNOTSUPP, EPERM, EROFS

from ..errors import EngineError
from . import cgroupfs, devicefilter, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CHAPTER = 8

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# Where ours are, below the place that is ours to use.
OURS = "minicontainer"
# The leaf that the engine itself moves to, when it is alone in a cgroup delegated to it.
ENGINE = "engine"


class Cgroup:
    """One cgroup; `cgroups_v1.Cgroup` has the same face.

    path: below the mount, `/minicontainer/…`; descriptor: of its directory, for clone3, once it
    is created (None where a child must `enter` by itself).
    """

    def __init__(self, path: str, mount: str = cgroupfs.MOUNT) -> None:
        self.path = path
        self.mount = mount
        self.directory = mount + path
        self.descriptor: int | None = None

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def create(self) -> None:
        """Make the directory, and have the controllers handed down to it from the top.

        An empty one of the same name, left by somebody who was killed, is replaced; EngineError
        when it is in use, or when the place is not ours to write.
        """
        try:
            above = self.mount
            for name in self.path.strip("/").split("/")[:-1]:
                hand_down(above)
                above = f"{above}/{name}"
                cgroupfs.make_directory(above)
            hand_down(above)
            if not cgroupfs.make_directory(self.directory):
                if self.pids():
                    raise EngineError(f"the cgroup {self.path} is in use")
                self.remove()
                cgroupfs.make_directory(self.directory)
            self.descriptor = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            cgroupfs.remove_empty(self.directory)
            raise EngineError(
                f"cannot make the cgroup {self.path}: {(error.strerror or '').lower()}",
                hint=_hint(error),
            ) from error

    def limit(self, wanted: dict[str, Any]) -> None:
        """Set what an OCI `linux.resources` object asks for (config-linux.md, "Control groups").

        EngineError names the controller that is missing and why: nothing is left out in silence.
        """
        for file, value in resources.to_v2(wanted, has=self.has):
            self.write(file, value)

    def guard(self, rules: list[dict[str, Any]]) -> None:
        """Allow the devices of a list and no others, to all processes inside for all time."""
        if self.descriptor is None:
            self.descriptor = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        devicefilter.attach(self.descriptor, rules)

    def has(self, file: str) -> bool:
        """Whether a control file is here: whether its controller works in this cgroup."""
        return os.path.exists(f"{self.directory}/{file}")

    def read(self, file: str) -> str:
        """A control file's text; "" where it is missing."""
        try:
            with open(f"{self.directory}/{file}") as opened:
                return opened.read()
        except FileNotFoundError:
            return ""

    def write(self, file: str, value: str) -> None:
        """Write a control file; EngineError when it is missing, or when the kernel refuses."""
        try:
            descriptor = os.open(f"{self.directory}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise EngineError(
                f"cannot set {file}: {self.explain_missing(file.partition('.')[0])}"
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

    def explain_missing(self, controller: str) -> str:
        """Why a controller does not work in this cgroup, in words."""
        if controller not in CONTROLLERS:
            return f"the kernel has no such file in the cgroup {self.path}"
        above = self.mount
        for name in ["", *self.path.strip("/").split("/")[:-1]]:
            above = f"{above}/{name}".rstrip("/")
            where = above.removeprefix(self.mount) or "/"
            if controller not in cgroupfs.words(f"{above}/cgroup.controllers"):
                return resources.why_not(controller, where)
            if controller not in cgroupfs.words(f"{above}/cgroup.subtree_control"):
                refused = f"the cgroup {where} does not hand the {controller} controller down"
                # The root of all has no type; only it may have processes and hand down.
                if os.path.exists(f"{above}/cgroup.type") and cgroupfs.words(
                    f"{above}/cgroup.procs"
                ):
                    return f"{refused}: {NO_INTERNAL}"
                try:
                    cgroupfs.write(f"{above}/cgroup.subtree_control", f"+{controller}")
                except OSError as error:
                    return f"{refused}: {(error.strerror or '').lower()}"
        return f"this kernel's {controller} controller has no such file"

    def enter(self) -> None:
        """For the child, first of all: be inside. Here it was born inside (CLONE_INTO_CGROUP)."""

    def pids(self) -> list[int]:
        """The processes inside, those of cgroups below it too."""
        found = []
        for directory in self._tree():
            found += [int(word) for word in cgroupfs.words(f"{directory}/cgroup.procs")]
        return sorted(found)

    def kill(self) -> None:
        """Kill all processes inside, at once and with none forking away (Linux 5.14)."""
        try:
            cgroupfs.write(f"{self.directory}/cgroup.kill", "1")
        except FileNotFoundError:
            return  # no cgroup; or an older kernel, where the PID namespace has done it

    def freeze(self) -> None:
        """Stop all processes inside, and wait until they stand still."""
        self.write("cgroup.freeze", "1")
        self._wait("cgroup.events", "frozen 1")

    def thaw(self) -> None:
        """Let all processes inside go on."""
        self.write("cgroup.freeze", "0")

    def is_frozen(self) -> bool:
        """Whether it was frozen and not thawed since."""
        return self.read("cgroup.freeze").strip() == "1"

    def usage(self) -> dict[str, int]:
        """What it takes now: `memory` (bytes, without page cache that can be dropped), `limit`
        (bytes, 0: none), `cpu` (nanoseconds since its birth), `pids`, `read` and `written` (bytes
        of block devices)."""
        memory = cgroupfs.fields(self.read("memory.stat"))
        io = [word.partition("=") for word in self.read("io.stat").split() if "=" in word]
        most = self.read("memory.max").strip()
        return {
            "memory": max(_number(self.read("memory.current")) - memory.get("inactive_file", 0), 0),
            "limit": 0 if most in ("", "max") else int(most),
            "cpu": cgroupfs.fields(self.read("cpu.stat")).get("usage_usec", 0) * 1000,
            "pids": _number(self.read("pids.current")),
            "read": sum(int(value) for key, _, value in io if key == "rbytes"),
            "written": sum(int(value) for key, _, value in io if key == "wbytes"),
        }

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed because memory ran out."""
        return cgroupfs.fields(self.read("memory.events")).get("oom_kill", 0)

    def remove(self) -> None:
        """Remove it and what is below it; nothing happens when it is gone. What still runs in it
        is killed. EngineError when it does not end."""
        self.close()
        try:
            os.rmdir(self.directory)  # as a rule nobody is inside any more
            return
        except FileNotFoundError:
            return
        except OSError:
            self.kill()
        deadline = time.monotonic() + cgroupfs.PATIENCE
        for directory in self._tree():
            cgroupfs.remove_directory(directory, deadline)

    def close(self) -> None:
        """Close the descriptor; the cgroup stays."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _tree(self) -> Iterator[str]:
        """The directory and all below it, the deepest first."""
        for directory, _, _ in os.walk(self.directory, topdown=False):
            yield directory

    def _wait(self, file: str, line: str) -> None:
        """Wait until a file of events has a line: the kernel wakes a poll(2) for POLLPRI."""
        with open(f"{self.directory}/{file}") as opened:
            poll = select.poll()
            poll.register(opened, select.POLLPRI)
            deadline = time.monotonic() + cgroupfs.PATIENCE
            while line not in opened.read().splitlines():
                if time.monotonic() > deadline:
                    raise EngineError(f"the cgroup {self.path} does not get to {line!r}")
                poll.poll(100)
                opened.seek(0)


NO_INTERNAL = (
    "it has processes of its own, and a cgroup that hands controllers down must have none (the "
    "rule of no internal processes)"
)


def hand_down(directory: str) -> None:
    """Have a cgroup hand its controllers down to those below it (`cgroup.subtree_control`).

    What it will not hand down is found out by whoever asks for it (`explain_missing`).
    """
    enabled = cgroupfs.words(f"{directory}/cgroup.subtree_control")
    wanted = [c for c in cgroupfs.words(f"{directory}/cgroup.controllers") if c in CONTROLLERS]
    missing = [f"+{controller}" for controller in wanted if controller not in enabled]
    if not missing:
        return
    control = f"{directory}/cgroup.subtree_control"
    try:
        cgroupfs.write(control, " ".join(missing))
    except OSError as error:
        if error.errno in (EBUSY, EOPNOTSUPP):  # the rule of no internal processes
            if leave(directory):
                cgroupfs.write(control, " ".join(missing))
            # One by one it would take some: by making the cgroup a "threaded" one, below which
            # no process can be put (cgroup-v2.rst, "Threads").
            return
        # One that cannot be had must not take the others with it.
        for word in missing:
            try:
                cgroupfs.write(control, word)
            except OSError:
                continue  # allowed: asked for, it is missed by name


def leave(directory: str) -> bool:
    """Leave a cgroup for a leaf below it, if we are the only one in there: then it is ours, and
    has no internal process any more. Says whether it was so."""
    if cgroupfs.words(f"{directory}/cgroup.procs") != [str(os.getpid())] or not is_delegated(
        directory
    ):
        return False
    cgroupfs.make_directory(f"{directory}/{ENGINE}")
    cgroupfs.write(f"{directory}/{ENGINE}/cgroup.procs", "0")
    return True


def settle() -> None:
    """The same for whoever is about to start a process of its own: two of them would be in the
    way of each other."""
    if is_v2():
        leave(cgroupfs.MOUNT + own_path())


def is_delegated(directory: str) -> bool:
    """Whether systemd has given this cgroup away (`Delegate=yes`): it marks it so."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue  # not marked
    return False


def place(mount: str = cgroupfs.MOUNT) -> str:
    """The cgroup below which ours go: the nearest above us that was delegated, else the top.

    At the top of a systemd host nothing was delegated to anybody. A directory of our own there,
    beside systemd's, is what docker's and runc's `cgroupfs` driver make: systemd leaves alone what
    it does not know, and cannot take back controllers that our directory hands down.
    """
    path = own_path()
    while path not in ("", "/"):
        if is_delegated(mount + path):
            return path
        path = os.path.dirname(path)
    return ""


def own_path(pid: int | str = "self") -> str:
    """The cgroup of a process in the v2 hierarchy, as our cgroup namespace names it."""
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return "/"


def is_v2() -> bool:
    """Whether the version 2 hierarchy is the machine's only one, with all controllers in it."""
    return os.path.exists(f"{cgroupfs.MOUNT}/cgroup.controllers")


def choose(path: str) -> Any:
    """The cgroup of a path (OCI `linux.cgroupsPath`), in what this machine has: v2, or the twin.

    path: absolute, below the mount; or relative, below the place that is ours. It need not exist.
    EngineError when the machine has no cgroups that we could use.
    """
    if ".." in path.split("/") or not path.strip("/"):
        raise EngineError(f"the cgroup path {path!r} is not a path below the top")
    if is_v2():
        return Cgroup(os.path.normpath(path if path[0] == "/" else f"{place()}/{OURS}/{path}"))
    from . import cgroups_v1

    return cgroups_v1.Cgroup(os.path.normpath(path if path[0] == "/" else f"/{OURS}/{path}"))


def create(path: str, wanted: dict[str, Any]) -> Any:
    """Make a cgroup with its limits set and its devices guarded, before any process is in it.

    wanted: OCI `linux.resources`. EngineError, with nothing left, when it cannot be as asked for.
    """
    group = choose(path)
    group.create()
    try:
        group.limit(wanted)
        if wanted.get("devices"):
            group.guard(wanted["devices"])
    except BaseException:
        group.remove()
        raise
    return group


def of(pid: int) -> Any:
    """The cgroup that a process is in, to put another one beside it."""
    if is_v2():
        group = Cgroup(own_path(pid))
        group.descriptor = os.open(group.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return group
    from . import cgroups_v1

    return cgroups_v1.of(pid)


def counts_swap() -> bool:
    """Whether this machine can limit swap: v1 only with swapaccount=1."""
    if is_v2():
        return os.path.exists("/proc/swaps")
    from . import cgroups_v1

    return cgroups_v1.Cgroup("").has("memory.memsw.limit_in_bytes")


def unguarded() -> str:
    """Why this machine cannot keep a container from its devices; "" where it can."""
    try:
        if not is_v2():
            from . import cgroups_v1

            directory = cgroups_v1.hierarchies().get("devices")
            if directory is None:
                return resources.why_not("devices", "/")
        else:
            directory = cgroupfs.MOUNT
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                devicefilter.count(descriptor)
            finally:
                os.close(descriptor)
        return "" if os.access(directory, os.W_OK) else f"{directory} is read-only"
    except OSError as error:
        return f"the device filter is not to be had: {error}"
    except EngineError as error:
        return error.message


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _hint(error: OSError) -> str | None:
    if error.errno in (EACCES, EPERM, EROFS):
        return "cgroups are the host's: this needs root there, and /sys/fs/cgroup not read-only"
    return None

"""What the host has, so that a test can be held to leaving it as it was (after xv6's usertests).

A snapshot costs well under a millisecond: names and links are listed, nothing is walked.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import threading
import time

from chapters import patience
from tests.support import network

PR_SET_TIMERSLACK = 29
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE, MS_SHARED = 1 << 14, 1 << 18, 1 << 20

# How long a process that is already on its way out may take to be gone, in seconds.
GRACE = patience.seconds(3)


def _tag_descendants() -> int:
    """Mark this process and all that it will start, orphans included, and return the mark.

    The timer slack is inherited over fork and execve (prctl(2), PR_SET_TIMERSLACK), cannot be
    lost by clearing the environment, and a few nanoseconds more or less change nothing. So
    processes that others start on this machine at the same time are not ours.
    """
    slack = random.randint(50_001, 59_999)
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(slack), 0, 0, 0)
    return slack


TAG = _tag_descendants()


def isolate() -> None:
    """Give the whole test run a network of its own, and a mount namespace in which / is shared.

    So mounts that others make on this machine meanwhile are not taken for leaks, and ours would
    propagate as they do on a host that systemd has set up, whatever this one is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS) for the test run")
    for how in (MS_PRIVATE, MS_SHARED):
        if libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | how), None):
            raise OSError(ctypes.get_errno(), "mount(MS_REC) for the test run")
        if how == MS_PRIVATE:
            network.isolate()


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()


def _mounts() -> dict[str, str]:
    with open("/proc/self/mountinfo") as table:
        lines = table.read().splitlines()
    # mount id -> where and what: "36 35 98:0 /root /mnt rw,relatime … - ext4 /dev/sda …"
    return {line.split(" ", 1)[0]: line for line in lines}


def _cgroup_roots() -> list[str]:
    with open("/proc/self/mountinfo") as table:
        fields = [line.split() for line in table]
    return [field[4] for field in fields if field[field.index("-") + 1] in ("cgroup", "cgroup2")]


CGROUP_ROOTS = _cgroup_roots()


def _cgroups() -> set[str]:
    """What is below `minicontainer` in every hierarchy. That directory itself stays for the next
    container, as docker's does: it is empty, and to make it anew would cost each start."""
    found = set()
    for root in CGROUP_ROOTS:
        for name in _names(root):
            if name.startswith("minicontainer"):
                if name != "minicontainer":
                    found.add(f"{root}/{name}")
                found.update(
                    f"{root}/{name}/{below}"
                    for below in _names(f"{root}/{name}")
                    if os.path.isdir(f"{root}/{name}/{below}")
                )
    return found


def _stayed(paths: set[str]) -> list[str]:
    """The new cgroups that do not go, without those in which somebody else's processes are: others
    may start containers on this machine at the same time."""
    deadline = time.monotonic() + GRACE
    while True:
        left = [path for path in sorted(paths) if os.path.isdir(path) and not _is_others(path)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)  # allowed: no event tells that a cgroup of somebody else is removed


def _is_others(path: str) -> bool:
    try:
        with open(f"{path}/cgroup.procs") as file:
            inside = file.read().split()
    except OSError:
        return False
    return bool(inside) and not any(map(_is_ours, inside))


def _files() -> set[str]:
    found = set()
    # The machine's own store: a developer may be using it meanwhile, on CI nobody does.
    on_ci = os.environ.get("CI") == "true"
    for root in ("/var/lib/minicontainer", "/run/minicontainer") if on_ci else ():
        for below in ("", "/containers", "/names", "/tmp"):
            found.update(f"{root}{below}/{name}" for name in _names(root + below))
    found.update(f"/run/netns/{name}" for name in _names("/run/netns"))
    return found


def _descriptors() -> dict[str, str]:
    found = {}
    for name in _names("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def processes() -> set[str]:
    """The pids of all processes on the machine."""
    return {name for name in _names("/proc") if name.isdecimal()}


def _is_ours(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/timerslack_ns") as file:
            return int(file.read()) == TAG
    except OSError:
        return False


def _belongs_to(pid: str, others: set[str]) -> bool:
    """Whether a process of ours that was there before has started it: a browser's own affair."""
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                pid = file.read().rpartition(") ")[2].split()[1]
        except OSError:
            return False
        if pid == str(os.getpid()) or not _is_ours(pid):
            return False
        if pid in others:
            return True


def _gone(pid: str, deadline: float) -> bool:
    """Wait until the process is gone; a zombie of ours that nobody waits for never is."""
    try:
        descriptor = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return True
    try:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
    finally:
        os.close(descriptor)
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as children:
        return pid not in children.read().split()


def _describe(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        with open(f"/proc/{pid}/stat") as file:
            name, state = file.read().partition(" (")[2].rpartition(") ")[::2]
    except OSError:
        return pid
    return f"{pid} {command or name} (state {state[:1]})"


def _outermost(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of a firewall's table that is new as a whole, the table alone; all the rest."""
    return [
        (kind, which)
        for kind, which in sorted(found)
        if (kind, which.partition(": ")[0]) not in found or ": " not in which
    ]


class Snapshot:
    """The host at one moment."""

    def __init__(self, temporary: str | None = None) -> None:
        self.temporary = temporary
        self.mounts = _mounts()
        self.network = network.state()
        self.cgroups = _cgroups()
        self.files = _files()
        self.temporaries = _names(temporary) if temporary else set()
        self.processes = processes()
        self.descriptors = _descriptors()

    def leaks(self) -> list[str]:
        """What is there now and was not there then; one line each. Empty when all is well."""
        now = Snapshot(self.temporary)
        new_processes = [
            pid
            for pid in now.processes - self.processes
            if _is_ours(pid) and not _belongs_to(pid, self.processes)
        ]
        deadline = time.monotonic() + GRACE
        stayed = [_describe(p) for p in new_processes if not _gone(p, deadline)]
        if new_processes and not stayed:
            now = Snapshot(self.temporary)  # what the last of them held goes with them
        found = [f"process left: {text}" for text in stayed]
        found += [
            f"mount left: {line}" for key, line in now.mounts.items() if key not in self.mounts
        ]
        found += [
            f"mount lost: {line}" for key, line in self.mounts.items() if key not in now.mounts
        ]
        found += self._network()
        found += [f"cgroup left: {path}" for path in _stayed(now.cgroups - self.cgroups)]
        found += [f"file left: {path}" for path in sorted(now.files - self.files)]
        found += [
            f"file left: {self.temporary}/{name}"
            for name in sorted(now.temporaries - self.temporaries)
        ]
        return found + self._open_descriptors()

    def _network(self) -> list[str]:
        """What the network has more or less, after a moment for the kernel: the links of a
        namespace that nobody is in any more go in their own time."""
        deadline = time.monotonic() + GRACE
        while True:
            now = network.state()
            if now == self.network or time.monotonic() > deadline:
                return [
                    f"{kind} left: {which}" for kind, which in _outermost(now - self.network)
                ] + [f"{kind} lost: {which}" for kind, which in _outermost(self.network - now)]
            time.sleep(0.01)  # allowed: the end of a namespace sends no event

    def _open_descriptors(self) -> list[str]:
        """The descriptors that stay open, after a moment for the threads of a test's server."""
        deadline = time.monotonic() + GRACE
        while True:
            left = [
                f"descriptor left open: {key} -> {target}"
                for key, target in _descriptors().items()
                if self.descriptors.get(key) != target and not target.startswith("/proc/")
            ]
            if not left or threading.active_count() == 1 or time.monotonic() > deadline:
                return left
            time.sleep(0.01)  # allowed: no event tells that another thread closes a descriptor

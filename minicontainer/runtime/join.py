"""One more process inside a running container: what `exec` is."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..kernel import chroot, flags, namespaces, paths, process, seccomp, syscalls, terminal
from . import child
from . import spec as specification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The user namespace comes with chapter 11; the PID namespace is joined by the parent.
_JOINED = ("mount", "uts", "ipc", "network", "cgroup")


def open_container(pid: int, started: int) -> int:
    """A pidfd of a container's first process; EngineError when it is not that process any more.

    started: its start time as recorded (process.start_time). The pidfd is taken before the
    check, so a reused number cannot slip in between.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise EngineError(f"the container's process {pid} is gone") from None
    try:
        same = process.start_time(pid) == started
    except ProcessLookupError:
        same = False
    if not same:
        os.close(pidfd)
        raise EngineError(f"the container's process {pid} is gone")
    return pidfd


def open_terminal(pid: int) -> tuple[int, int]:
    """A new terminal on the container's own devpts: (our end, the container's end)."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        devpts = paths.open_in_root(root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
        try:
            return terminal.open_pair(devpts)
        finally:
            os.close(devpts)
    except OSError as error:
        raise EngineError(f"the container has no /dev/pts for a terminal: {error}") from None
    finally:
        os.close(root)


def join(
    pid: int,
    started: int,
    wanted: dict[str, Any],
    streams: tuple[int, int, int],
    *,
    has_terminal: bool = False,
    filter: seccomp.Filter | None = None,
    fork: bool = False,
) -> process.Process:
    """Start a process in the namespaces of a container; returns once it is its program.

    pid, started: the container's first process and its start time. wanted: an OCI `process`
    object, whose user, capabilities and limits hold here as they do in `run`. streams: its
    standard input, output and error. filter: the container's system-call filter, which no one
    who comes later gets by himself. Raises EngineError (126, 127 or 125).
    """
    specification.check_process(wanted)
    pidfd = open_container(pid, started)
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = {kind: namespaces.identity("self", kind) for kind in _JOINED}
        how = namespaces.bits([k for k in _JOINED if namespaces.identity(pid, k) != own[k]])
        # The PID namespace is for children born after: one clone3 then makes the process a
        # child of ours *and* a member there, and we go back.
        namespaces.join(pidfd, flags.CLONE_NEWPID)
        try:
            joined = process.spawn(
                lambda: _enter(pidfd, root, how, wanted, streams, has_terminal, filter), fork=fork
            )
        finally:
            syscalls.setns(own_pids, flags.CLONE_NEWPID)
        try:
            joined.wait_exec(wanted["args"][0])
        except BaseException:
            joined.signal(9)
            joined.wait()
            joined.close()
            raise
        return joined
    finally:
        os.close(root)
        os.close(own_pids)
        os.close(pidfd)


def _enter(
    pidfd: int,
    root: int,
    how: int,
    wanted: dict[str, Any],
    streams: tuple[int, int, int],
    has_terminal: bool,
    filter: seccomp.Filter | None,
) -> None:
    # Before we join: whoever is inside may trace or open what it can see and may dump.
    syscalls.prctl(flags.PR_SET_DUMPABLE, 0)
    syscalls.through("setsid", os.setsid)
    namespaces.join(pidfd, how)
    # setns leads to the root of the mount namespace, which is not the container's where the
    # engine itself ran in a chroot: there pivot_root leaves the top of the tree as it was.
    syscalls.through("fchdir", os.fchdir, root)
    chroot.chroot(".")
    os.close(root)
    child.confine(wanted, streams, has_terminal, False, filter)

"""One more process inside a running container: what `exec` is."""

from __future__ import annotations

import os
import struct

from ..errors import EngineError
from ..kernel import (
    apparmor,
    cgroups,
    chroot,
    flags,
    namespaces,
    paths,
    process,
    seccomp,
    stubs,
    syscalls,
    terminal,
    users,
)
from . import child
from . import spec as specification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_JOINED = ("user", "mount", "uts", "ipc", "network", "cgroup")


def open_container(pid: int, started: int) -> int:
    """A pidfd of a container's first process; EngineError when it is not that process any more.

    started: its start time as recorded (process.start_time).
    """
    pidfd = process.open_pid(pid, started)
    if pidfd is None:
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
    limited: bool = False,
    filter: seccomp.Filter | None = None,
    fork: bool = False,
) -> process.Process:
    """Start a process in the namespaces of a container; returns once it is its program.

    pid, started: the container's first process and its start time. wanted: an OCI `process`
    object, whose user, capabilities and limits hold here as they do in `run`. streams: its
    standard input, output and error. limited: the container has a cgroup, which the process is
    born into. filter: the container's system-call filter, which no one who comes later gets by
    himself. Raises EngineError (126, 127 or 125).
    """
    specification.check_process(wanted)
    pidfd = open_container(pid, started)
    root = -1
    if users.is_mapped():
        users.may_set_groups()  # to be known where it cannot be asked
    group = cgroups.of(pid) if limited else None
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own = {kind: namespaces.identity("self", kind) for kind in _JOINED}
        others = [kind for kind in _JOINED if namespaces.identity(pid, kind) != own[kind]]
        how = namespaces.bits([*others, "pid"])
        pids = namespaces.identity(pid, "pid")
        helper = process.spawn(
            lambda: _enter(pidfd, root, how, wanted, streams, has_terminal, group, filter),
            cgroup=group.descriptor if group is not None else None,
            fork=fork,
        )
    except FileNotFoundError:  # /proc tells nothing of one that has ended
        raise EngineError(f"the container's process {pid} is gone") from None
    finally:
        if group is not None:
            group.close()
        if root >= 0:
            os.close(root)
        os.close(pidfd)
    try:
        report = helper.read_report()
    finally:
        helper.end()
        helper.close()
    return _sibling(report, pids, wanted["args"][0])


def _enter(
    pidfd: int,
    root: int,
    how: int,
    wanted: dict[str, Any],
    streams: tuple[int, int, int],
    has_terminal: bool,
    group: Any,
    filter: seccomp.Filter | None,
) -> None:
    """Go into the container with all but the number, and become the stub that has the program born.

    Joining a PID namespace moves only children born from then on (pid_namespaces(7)). So we are
    never seen inside: to trace us, which CAP_SYS_PTRACE allows whatever we hold, one must name us.
    """
    if group is not None:
        group.enter()
    syscalls.prctl(flags.PR_SET_DUMPABLE, 0)
    label = apparmor.open_on_exec(wanted.get("apparmorProfile"))
    namespaces.join(pidfd, how)
    # setns leads to the root of the mount namespace, which is not the container's where the
    # engine itself ran in a chroot: there pivot_root leaves the top of the tree as it was.
    syscalls.through("fchdir", os.fchdir, root)
    chroot.chroot(".")
    os.close(root)
    inner = 0 if has_terminal else -1
    child.confine(wanted, streams, lambda report: stubs.join_stub(report, inner), filter, label)


def _sibling(report: bytes, pids: int, program: str) -> process.Process:
    """The process that the stub's report tells of: a child of ours now, since the stub had it born
    so (CLONE_PARENT).

    pids: its PID namespace. Raises EngineError when it is not its program; nothing is left then.
    """
    whole = len(report) // 4 * 4
    numbers = struct.unpack(f"<{whole // 4}i", report[:whole])
    born = [-number for number in numbers if number < 0]
    errors = [number for number in numbers if number >= 0]
    # The stub has written the newborn's number, whatever else somebody inside, who may trace the
    # newborn, writes with its hand: if there is but one it is true.
    if len(report) != whole or len(born) > 1 or len(errors) > 1:
        for number in born:
            _kill_sibling(number, pids)
        raise process.interference()
    if not born:
        why = os.strerror(errors[0]).lower() if errors else "what joined it was killed"
        raise EngineError(f"cannot start a process in the container: {why}")
    sibling = process.Process(born[0], os.pidfd_open(born[0]))
    if errors:
        sibling.end()
        sibling.close()
        raise process.exec_error(program, errors[0])
    return sibling


def _kill_sibling(pid: int, pids: int) -> None:
    """Kill a process that is a child of ours and in that PID namespace, and no other."""
    try:
        sibling = process.Process(pid, os.pidfd_open(pid))
    except OSError:
        return
    try:
        # ECHILD: not ours. Of one that has ended, /proc tells no namespace.
        os.waitid(os.P_PIDFD, sibling.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if namespaces.identity(pid, "pid") == pids:
            sibling.end()
    except OSError:
        return
    finally:
        sibling.close()

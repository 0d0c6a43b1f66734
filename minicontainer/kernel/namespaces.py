"""Namespaces: a name of one's own, System V IPC of one's own; and how to join another's.

A namespace wraps one global thing of the kernel, so that those inside have their own copy. The
UTS namespace holds the host name, the IPC namespace System V objects and message queues. All
kinds are made and joined alike (namespaces(7)).
"""

from __future__ import annotations

import os
from errno import EDQUOT, ENOSYS

from . import flags, syscalls

CHAPTER = 4

# The OCI runtime specification's names (config-linux.md, "Namespaces").
KINDS = {
    "pid": flags.CLONE_NEWPID,
    "network": flags.CLONE_NEWNET,
    "mount": flags.CLONE_NEWNS,
    "ipc": flags.CLONE_NEWIPC,
    "uts": flags.CLONE_NEWUTS,
    "user": flags.CLONE_NEWUSER,
    "cgroup": flags.CLONE_NEWCGROUP,
    "time": flags.CLONE_NEWTIME,
}
_FILES = {"network": "net", "mount": "mnt"}


def bits(kinds: list[str]) -> int:
    """The CLONE_NEW… flags for a list of kinds; KeyError for an unknown one."""
    how = 0
    for kind in kinds:
        how |= KINDS[kind]
    return how


def set_hostname(name: str) -> None:
    """Name the machine as this UTS namespace sees it (sethostname(2); at most 64 bytes)."""
    syscalls.sethostname(name)


def leave_session_keyring() -> None:
    """Give this process a session keyring of its own: the kernel's keys are in no namespace, and
    the caller's (Kerberos tickets, disk keys) would be inherited (session-keyring(7)).

    Nothing happens on a kernel without keys, or where no more keyrings can be had: ENOSYS, EDQUOT.
    """
    try:
        syscalls.keyctl_join_session_keyring()
    except OSError as error:
        if error.errno not in (ENOSYS, EDQUOT):
            raise


def identity(pid: int | str, kind: str) -> int:
    """Which namespace of a kind a process is in: its inode number, as `lsns` shows it.

    pid: a number, or "self". Two processes share a namespace when the numbers are equal.
    """
    return os.stat(f"/proc/{pid}/ns/{_FILES.get(kind, kind)}").st_ino


def join(pidfd: int, how: int) -> None:
    """Enter the namespaces of a process, all in one step (setns(2) with a pidfd, Linux 5.8).

    how: CLONE_NEW… flags. Joining a PID namespace moves only children born from now on.
    """
    syscalls.setns(pidfd, how)


def join_file(path: str, kind: str) -> None:
    """Enter the namespace that a file under /proc/PID/ns, or a bind mount of one, stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(descriptor, KINDS[kind])
    finally:
        os.close(descriptor)

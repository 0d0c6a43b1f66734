"""Users: who a process is (credentials(7))."""

from __future__ import annotations

import os

from . import flags, syscalls

CHAPTER = 11


def change(uid: int, gid: int, groups: list[int]) -> None:
    """Become another user and group for good, keeping the permitted capabilities for now.

    Groups first, then the group, then the user: each needs a power that the next step gives up.
    Without PR_SET_KEEPCAPS the change from root would empty all capability sets at once, and
    nothing of them could be left to a user who is not root (capabilities(7), "Effect of user ID
    changes on capabilities").
    """
    syscalls.prctl(flags.PR_SET_KEEPCAPS, 1)
    syscalls.through("setgroups", os.setgroups, groups)
    syscalls.through("setresgid", os.setresgid, gid, gid, gid)
    syscalls.through("setresuid", os.setresuid, uid, uid, uid)
    syscalls.prctl(flags.PR_SET_KEEPCAPS, 0)


def home(uid: int, table: str = "/etc/passwd") -> str:
    """The home directory of a user by the passwd file of this root; `/` when it is not there.

    The file may be anything: an image wrote it. At most 1 MiB is read (passwd(5)).
    """
    try:
        descriptor = os.open(table, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "/"
    try:
        text = os.read(descriptor, 1 << 20)
    except OSError:
        return "/"
    finally:
        os.close(descriptor)
    for line in text.decode(errors="replace").split("\n"):
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(uid):
            return fields[5] or "/"
    return "/"

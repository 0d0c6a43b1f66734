"""Users: who a process is, and user namespaces, where root is somebody else outside.

A user namespace has numbers of its own: a table says which user of the host each of its users is
(`0 100000 65536`: user 0 inside is 100000 outside, and so on for 65,536 of them). Whoever is born
into one has all capabilities *there*: over the namespaces, mounts and processes that belong to it,
and over files whose owner its table knows. Over the host it has what user 100000 has: nothing
(user_namespaces(7), credentials(7)).
"""

from __future__ import annotations

import os
from errno import EPERM

from ..errors import EngineError
from . import flags, process, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # (first number inside, first number outside, how many)
    Row = tuple[int, int, int]

CHAPTER = 11

# What a number without a row is shown as (/proc/sys/kernel/overflowuid).
NOBODY = 65534
_WHOLE = [(0, 0, 2**32 - 1)]


def write_maps(pid: int | str, uids: Sequence[Row], gids: Sequence[Row]) -> None:
    """Say who the users of a new user namespace are outside. It can be done once, by a process
    outside that may become all of them: root, as a rule.

    pid: a process in it. SyscallError EPERM, EINVAL (user_namespaces(7), "Defining user and group
    ID mappings").
    """
    for name, rows in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
        # One write(2) is the whole table.
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            syscalls.through("write", os.write, descriptor, text.encode())
        finally:
            os.close(descriptor)


class Gate:
    """Where a process in a new user namespace waits until it has users there."""

    __slots__ = ("_read", "_write")

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)

    def wait(self) -> None:
        """In the process: wait. EngineError when nobody will open."""
        os.close(self._write)  # or we would wait for ourselves when the other side has died
        if os.read(self._read, 1) != b"m":
            raise EngineError("the engine ended before the container had its users")

    def open(self, pid: int, uids: Sequence[Row], gids: Sequence[Row]) -> None:
        """Outside: write the tables of the process, and let it go on."""
        write_maps(pid, uids, gids)
        os.write(self._write, b"m")


def read_map(pid: int | str, name: str = "uid_map") -> list[Row]:
    """The table of a process's user namespace, as the reader's own namespace sees it."""
    with open(f"/proc/{pid}/{name}") as file:
        rows = [line.split() for line in file]
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]


def is_mapped() -> bool:
    """Are we in a user namespace other than the machine's first?"""
    return read_map("self") != _WHOLE


def outside(rows: Sequence[Row], number: int) -> int:
    """Who a user of the namespace is outside; EngineError for one whom the table does not know.
    Without rows there is no namespace, and everybody is who they are."""
    if not rows:
        return number
    for first, host, count in rows:
        if first <= number < first + count:
            return host + number - first
    raise EngineError(
        f"user or group {number} does not exist in the container's user namespace",
        hint="it has " + ", ".join(f"{r[0]} to {r[0] + r[2] - 1}" for r in rows),
    )


_may_set_groups: bool | None = None


def become_root() -> None:
    """Become user and group 0 of the user namespace that we were born into, without groups.

    Until then we are who we were outside, whom the table may not know: the kernel lets nobody
    without a number own a new file (EOVERFLOW).
    """
    set_groups([])
    syscalls.through("setresgid", os.setresgid, 0, 0, 0)
    syscalls.through("setresuid", os.setresuid, 0, 0, 0)


def may_set_groups() -> bool:
    """False in a user namespace that an ordinary user mapped alone: who gives up a group could
    open what is closed to that group (user_namespaces(7), "The /proc/PID/setgroups file").

    Asked once: who joins a container has no number in the /proc that is there.
    """
    global _may_set_groups
    if _may_set_groups is None:
        with open("/proc/self/setgroups") as file:
            _may_set_groups = file.read().strip() != "deny"
    return _may_set_groups


def set_groups(groups: Sequence[int]) -> None:
    """Set the supplementary groups (setgroups(2)); where that is denied the caller's own stay."""
    try:
        syscalls.through("setgroups", os.setgroups, list(groups))
    except OSError as error:
        if error.errno != EPERM or may_set_groups():
            raise
        if any(group != os.getgid() for group in groups):
            raise EngineError(
                "groups cannot be changed in a user namespace with a single user",
                hint="see 'Rootless' in the installation page: newgidmap and /etc/subgid",
            ) from None


def open_namespace(uids: Sequence[Row], gids: Sequence[Row]) -> int:
    """A user namespace with these tables and nobody in it: its descriptor, for idmapped mounts
    (mount_setattr(2))."""
    stay_read, stay_write = os.pipe2(os.O_CLOEXEC)

    def wait() -> None:
        os.close(stay_write)
        os.read(stay_read, 1)
        os._exit(0)

    try:
        holder = process.spawn(wait, flags.CLONE_NEWUSER)
        try:
            write_maps(holder.pid, uids, gids)
            return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            holder.signal(9)
            holder.wait()
            holder.close()
    finally:
        os.close(stay_read)
        os.close(stay_write)


def change(uid: int, gid: int, groups: list[int]) -> None:
    """Become another user and group for good, keeping the permitted capabilities for now.

    Groups first, then the group, then the user: each needs a power that the next step gives up.
    Without PR_SET_KEEPCAPS the change from root would empty all capability sets at once, and
    nothing of them could be left to a user who is not root (capabilities(7), "Effect of user ID
    changes on capabilities").
    """
    syscalls.prctl(flags.PR_SET_KEEPCAPS, 1)
    set_groups(groups)
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

"""System calls: one table of prototypes, errors that show the call, a trace that tells it.

Python has no mount(2), and its OSError does not say what was asked of the kernel. Every call of
ours goes through a `Call` of the table below, so that each failure reads like

    move_mount(7, "", 5, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH): Invalid argument

and `run --explain` can print the same line for each success. Calls that Python has (chdir,
setgroups, mknod…) are Python's, passed through the same door.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time

from . import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHAPTER = 1

# Some errors of the kernel name another cause than the real one.
HINTS = {
    ("mount", errno.ENODEV): "the kernel has no file system of this type (see /proc/filesystems)",
    ("fsopen", errno.ENODEV): "the kernel has no file system of this type (see /proc/filesystems)",
    ("mount", errno.ENOSPC): "the mount namespace is full: see /proc/sys/fs/mount-max",
    ("move_mount", errno.ENOSPC): "the mount namespace is full: see /proc/sys/fs/mount-max",
    (
        "move_mount",
        errno.EINVAL,
    ): "the source is not detached, or the target's parent is shared",
    ("fsconfig", errno.ELOOP): "overlay layers overlap, or a layer is itself an overlay too deep",
    (
        "fsconfig",
        errno.ESRCH,
    ): "a layer or directory is on a file system that overlay refuses",
    (
        "pivot_root",
        errno.EINVAL,
    ): "the new root is no mount point, or it or its parent is "
    "shared, or the old root is the initramfs",
    ("pivot_root", errno.EBUSY): "the new root is the current root",
    ("clone3", errno.EPERM): "namespaces need root (CAP_SYS_ADMIN)",
    ("clone3", errno.ENOSPC): "too many namespaces: see /proc/sys/user/max_*_namespaces",
    ("unshare", errno.EPERM): "namespaces need root (CAP_SYS_ADMIN)",
    ("unshare", errno.ENOSPC): "too many namespaces: see /proc/sys/user/max_*_namespaces",
    ("setns", errno.EINVAL): "the process to join is gone, or has no such namespace",
    (
        "execve",
        errno.ENOENT,
    ): "the program, or the interpreter that its first line or its "
    "ELF header names, does not exist in this root",
    ("execve", errno.ETXTBSY): "somebody has the program open for writing",
    ("openat2", errno.ENOSYS): "Linux 5.6 or newer is needed",
}


def _now() -> float:
    """The time, where somebody is told of it. Else no clock is asked: where the kernel has none
    that can be read without a call, a strict filter would refuse the start that call."""
    return time.perf_counter() if trace is not None else 0.0


class SyscallError(OSError):
    """A failed system call: an OSError whose text shows the call as it was made.

    call: the rendered call; hint: what the errno means here, when it misleads, else None.
    """

    def __init__(self, number: int, call: str, hint: str | None) -> None:
        super().__init__(number, os.strerror(number))
        self.call = call
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.call}: {self.strerror}"


class Octal(int):
    """Mode bits, which people read in octal."""

    def __str__(self) -> str:
        return f"{int(self):#o}"


class Packed(bytes):
    """A struct for the kernel that remembers its fields, for the trace and for errors."""

    text: Callable[[], str]

    @classmethod
    def of(cls, layout: str, text: Callable[[], str], *values: int) -> Packed:
        packed = cls(struct.pack(layout, *values))
        packed.text = text
        return packed


class Kind:
    """How one argument is handed over, and how it is shown."""

    __slots__ = ("ctype", "show")

    def __init__(self, ctype: Any, show: Callable[[Any], str] = str) -> None:
        self.ctype = ctype
        self.show = show


def _bits(prefixes: str, ctype: Any = ctypes.c_ulong) -> Kind:
    return Kind(ctype, lambda value: flags.decode(prefixes, value))


def _quoted(value: bytes | str | None) -> str:
    return "NULL" if value is None else '"' + os.fsdecode(value).replace('"', '\\"') + '"'


INT, LONG, SIZE = Kind(ctypes.c_int), Kind(ctypes.c_ulong), Kind(ctypes.c_size_t)
TEXT = Kind(ctypes.c_char_p, _quoted)
FD = Kind(ctypes.c_int, lambda value: "AT_FDCWD" if value == flags.AT_FDCWD else str(value))
STRUCT = Kind(ctypes.c_char_p, lambda value: value.text())
OBJECT = Kind(
    ctypes.py_object, lambda value: _quoted(value) if isinstance(value, str) else str(value)
)

# Set by `run --explain`: called after every call with its text, its result and when it began.
trace: Callable[[str, str, float], None] | None = None

_libc = ctypes.CDLL(None, use_errno=True)


class Call:
    """One row of the table: a name, the kinds of its arguments, and the function behind it.

    number: for a call without a function in the C library, its number. The C library's
    `syscall` is fetched anew for each (by index), so each has its own prototype.
    """

    __slots__ = ("name", "kinds", "function")

    def __init__(
        self,
        name: str,
        *kinds: Kind,
        number: int | None = None,
        library: ctypes.CDLL = _libc,
    ) -> None:
        self.name = name
        self.kinds = kinds
        types = [kind.ctype for kind in kinds]
        self.function: Callable[..., int]
        if number is None:
            symbol = library[name]
            symbol.argtypes = types
            self.function = symbol
        else:
            raw = library["syscall"]
            raw.restype = ctypes.c_long
            raw.argtypes = [ctypes.c_long, *types]
            self.function = lambda *arguments: raw(number, *arguments)

    def __call__(self, *arguments: Any) -> int:
        """Make the call; the result, or SyscallError."""
        started = _now()
        passed = [os.fsencode(a) if type(a) is str else a for a in arguments]
        result = self.function(*passed)
        # Read at once: anything in between may make calls of its own.
        number = ctypes.get_errno() if result == -1 else 0
        if trace is not None:
            trace(self.render(arguments), os.strerror(number) if number else str(result), started)
        if number:
            raise self.failed(number, arguments)
        return result

    def failed(self, number: int, arguments: tuple[Any, ...]) -> SyscallError:
        """The error for an errno."""
        return SyscallError(number, self.render(arguments), HINTS.get((self.name, number)))

    def render(self, arguments: tuple[Any, ...]) -> str:
        """The call as a person would write it."""
        shown = ", ".join(
            kind.show(value) for kind, value in zip(self.kinds, arguments, strict=True)
        )
        return f"{self.name}({shown})"


def through(name: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Make a call that Python already has, with our errors and our trace."""
    started = _now()
    if trace is not None and name == "execve":
        trace(render(name, arguments, keywords), "no return", started)
    try:
        result = function(*arguments, **keywords)
    except OSError as error:
        number = error.errno or errno.EINVAL
        call = render(name, arguments, keywords)
        if trace is not None:
            trace(call, os.strerror(number), started)
        raise SyscallError(number, call, HINTS.get((name, number))) from None
    if trace is not None:
        trace(render(name, arguments, keywords), str(result or 0), started)
    return result


def render(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """A call of Python's as a person would write it."""
    shown = [OBJECT.show(value) for value in arguments]
    shown += [f"{key}={OBJECT.show(value)}" for key, value in keywords.items()]
    return f"{name}({', '.join(shown)})"


_CLONE_NEW = _bits("CLONE_NEW", ctypes.c_int)
_mount = Call("mount", TEXT, TEXT, TEXT, _bits("MS_"), TEXT)
_umount2 = Call("umount2", TEXT, _bits("MNT_ UMOUNT_", ctypes.c_int))
_unshare = Call("unshare", _CLONE_NEW)
_setns = Call("setns", FD, _CLONE_NEW)
_sethostname = Call("sethostname", TEXT, SIZE)
_setdomainname = Call("setdomainname", TEXT, SIZE)
_prctl = Call(
    "prctl", Kind(ctypes.c_int, lambda v: flags.name_of("PR_", v)), LONG, LONG, LONG, LONG
)
_pivot_root = Call("pivot_root", TEXT, TEXT, number=flags.NR_pivot_root)
_open_tree = Call("open_tree", FD, TEXT, _bits("OPEN_TREE_ AT_"), number=flags.NR_open_tree)
_move_mount = Call(
    "move_mount", FD, TEXT, FD, TEXT, _bits("MOVE_MOUNT_"), number=flags.NR_move_mount
)
_fsopen = Call("fsopen", TEXT, _bits("FSOPEN_"), number=flags.NR_fsopen)
_fsconfig = Call(
    "fsconfig",
    FD,
    Kind(ctypes.c_uint, lambda value: flags.name_of("FSCONFIG_", value)),
    TEXT,
    TEXT,
    INT,
    number=flags.NR_fsconfig,
)
_fsmount = Call("fsmount", FD, _bits("FSMOUNT_"), _bits("MOUNT_ATTR_"), number=flags.NR_fsmount)
_mount_setattr = Call(
    "mount_setattr", FD, TEXT, _bits("AT_"), STRUCT, SIZE, number=flags.NR_mount_setattr
)
_openat2 = Call("openat2", FD, TEXT, STRUCT, SIZE, number=flags.NR_openat2)
_KEYCTL = Kind(ctypes.c_int, lambda value: flags.name_of("KEYCTL_", value))
_keyctl = Call("keyctl", _KEYCTL, TEXT, number=flags.NR_keyctl)
_pidfd_getfd = Call("pidfd_getfd", FD, FD, INT, number=flags.NR_pidfd_getfd)
_close_range = Call("close_range", FD, LONG, _bits("CLOSE_RANGE_"), number=flags.NR_close_range)


def mount(
    source: str | None, target: str, fstype: str | None, how: int = 0, data: str | None = None
) -> None:
    """mount(2), the old all-in-one call: chapter 03 begins with it."""
    _mount(source, target, fstype, how, data)


def umount2(target: str, how: int = 0) -> None:
    """umount2(2). MNT_DETACH takes the mount out of sight at once, busy or not."""
    _umount2(target, how)


def unshare(namespaces: int) -> None:
    """unshare(2): give the calling process namespaces of its own (CLONE_NEW… flags)."""
    _unshare(namespaces)


def setns(descriptor: int, namespaces: int) -> None:
    """setns(2): join the namespace behind a /proc/PID/ns file, or several behind a pidfd."""
    _setns(descriptor, namespaces)


def sethostname(name: str) -> None:
    """sethostname(2), in the UTS namespace of the caller."""
    _sethostname(name, len(os.fsencode(name)))


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain name, in the UTS namespace of the caller."""
    _setdomainname(name, len(os.fsencode(name)))


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2); options that take fewer arguments want zeros in the others."""
    return _prctl(option, argument, second, 0, 0)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): make new_root the root mount of this mount namespace."""
    _pivot_root(new_root, put_old)


def open_tree(descriptor: int, path: str, how: int) -> int:
    """open_tree(2): a descriptor for a mount; with OPEN_TREE_CLONE for a detached copy of it."""
    return _open_tree(descriptor, path, how | flags.OPEN_TREE_CLOEXEC)


def move_mount(mount_fd: int, target_fd: int) -> None:
    """move_mount(2): attach a detached mount to the place that another descriptor holds.

    No path is walked here, so nobody can swap a directory for a link meanwhile.
    """
    how = flags.MOVE_MOUNT_F_EMPTY_PATH | flags.MOVE_MOUNT_T_EMPTY_PATH
    _move_mount(mount_fd, "", target_fd, "", how)


def fsopen(fstype: str) -> int:
    """fsopen(2): begin a new file system instance; the descriptor takes its options."""
    return _fsopen(fstype, flags.FSOPEN_CLOEXEC)


def fsconfig(
    descriptor: int, command: int, key: str | None = None, value: str | None = None
) -> None:
    """fsconfig(2): set one option of a file system context, or create the instance."""
    _fsconfig(descriptor, command, key, value, 0)


def fsmount(descriptor: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount (MOUNT_ATTR_…) of the instance just created."""
    return _fsmount(descriptor, flags.FSMOUNT_CLOEXEC, attributes)


def mount_setattr(
    descriptor: int,
    *,
    set_bits: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    users: int = 0,
) -> None:
    """mount_setattr(2) on the mount that a descriptor holds, and on all below if recursive.

    users: descriptor of the user namespace that MOUNT_ATTR_IDMAP shows the owners through."""
    shown = f", userns_fd={users}" if users else ""
    attributes = Packed.of(
        "QQQQ",
        lambda: (
            f"{{set={flags.decode('MOUNT_ATTR_', set_bits)}"
            f", clear={flags.decode('MOUNT_ATTR_', clear)}"
            f", propagation={flags.decode('MS_', propagation)}{shown}}}"
        ),
        set_bits,
        clear,
        propagation,
        users,
    )
    how = flags.AT_EMPTY_PATH | (flags.AT_RECURSIVE if recursive else 0)
    _mount_setattr(descriptor, "", how, attributes, len(attributes))


def openat2(descriptor: int, path: str, how: int, mode: int, resolve: int) -> int:
    """openat2(2): open with rules for the walk (RESOLVE_IN_ROOT: `/` and `..` stop at the
    directory behind the descriptor)."""
    packed = Packed.of(
        "QQQ",
        lambda: (
            f"{{flags={flags.decode('O_', how)}, mode={mode:#o}"
            f", resolve={flags.decode('RESOLVE_', resolve)}}}"
        ),
        how | os.O_CLOEXEC,
        mode,
        resolve,
    )
    attempts = 128  # as runc and umoci
    while True:
        try:
            return _openat2(descriptor, path, packed, len(packed))
        except SyscallError as error:
            # Somebody on this machine renamed or mounted something while the walk went through
            # a `..`: the kernel cannot tell that it stayed inside, and wants to be asked again.
            attempts -= 1
            if error.errno != errno.EAGAIN or not attempts:
                raise


def close_range(first: int, last: int = 0xFFFFFFFF, how: int = 0) -> None:
    """close_range(2): close all descriptors from first to last, or mark them close-on-exec."""
    _close_range(first, last, how)


def keyctl_join_session_keyring() -> int:
    """keyctl_join_session_keyring(3): leave the session keyring for a new, empty one; its id."""
    return _keyctl(flags.KEYCTL_JOIN_SESSION_KEYRING, None)


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """pidfd_getfd(2): a copy of another process's descriptor (needs the right to trace it)."""
    return _pidfd_getfd(pidfd, descriptor, 0)

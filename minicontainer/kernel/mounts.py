"""Mounts: a tree of one's own, and a root that cannot be climbed out of.

The new interface (fsopen, fsconfig, fsmount, open_tree, move_mount; Linux 5.2) takes mount(2)
apart: a file system is created, and mounted *detached*, belonging to no tree; it appears only
when it is attached. A detached mount is closed like a file, so a program that is killed leaves
no mount behind.
"""

from __future__ import annotations

import os

from ..errors import EngineError
from . import flags, paths, syscalls

CHAPTER = 3

# mount(8)'s words for the attributes of a mount: (set, clear).
_ATTRIBUTES = {
    "ro": (flags.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, flags.MOUNT_ATTR_RDONLY),
    "nosuid": (flags.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, flags.MOUNT_ATTR_NOSUID),
    "nodev": (flags.MOUNT_ATTR_NODEV, 0),
    "dev": (0, flags.MOUNT_ATTR_NODEV),
    "noexec": (flags.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, flags.MOUNT_ATTR_NOEXEC),
    "nosymfollow": (flags.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, flags.MOUNT_ATTR_NOSYMFOLLOW),
    "nodiratime": (flags.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, flags.MOUNT_ATTR_NODIRATIME),
    "noatime": (flags.MOUNT_ATTR_NOATIME, flags.MOUNT_ATTR__ATIME),
    "strictatime": (flags.MOUNT_ATTR_STRICTATIME, flags.MOUNT_ATTR__ATIME),
    "relatime": (0, flags.MOUNT_ATTR__ATIME),
}
_PROPAGATION = {
    "private": flags.MS_PRIVATE,
    "slave": flags.MS_SLAVE,
    "shared": flags.MS_SHARED,
    "unbindable": flags.MS_UNBINDABLE,
}
_NEITHER = {"defaults", "async", "bind", "rbind"}


class Options:
    """Mount options, sorted: words for the mount (ro, nosuid…), for its propagation, and the
    rest, which are the file system's own (`size=64m`).

    set_bits, clear, propagation: for mount_setattr(2); recursive: a bind of all below too, and
    recursive_bits: attributes for all below (`rro`); own: [(key, value or None)].
    """

    __slots__ = ("set_bits", "clear", "propagation", "recursive", "recursive_bits", "own")

    def __init__(self, words: list[str]) -> None:
        self.set_bits = self.clear = self.propagation = self.recursive_bits = 0
        self.recursive = "rbind" in words
        self.own: list[tuple[str, str | None]] = []
        for word in words:
            if word in _ATTRIBUTES:
                bits, clear = _ATTRIBUTES[word]
                self.set_bits = self.set_bits & ~clear | bits
                self.clear = self.clear & ~bits | clear
            elif word in _PROPAGATION:
                self.propagation = _PROPAGATION[word]
            elif word[:1] == "r" and word[1:] in _PROPAGATION:
                self.propagation = _PROPAGATION[word[1:]] | flags.MS_REC
            elif word[:1] == "r" and word[1:] in _ATTRIBUTES:
                self.recursive_bits |= _ATTRIBUTES[word[1:]][0]
            elif word not in _NEITHER:
                key, equals, value = word.partition("=")
                self.own.append((key, value if equals else None))


def make_private() -> None:
    """Cut this mount namespace off from the host's: nothing mounted or unmounted here is seen
    there. Caller must be in a mount namespace of its own.

    A new mount namespace is a copy, and on most distributions its mounts stay *shared* with
    the originals (mount_namespaces(7), "Shared subtrees").
    """
    syscalls.mount(None, "/", None, flags.MS_REC | flags.MS_PRIVATE)


def create(fstype: str, words: list[str], source: str | None = None) -> int:
    """A new instance of a file system, mounted detached; its descriptor.

    words: mount(8) options. source: shown in /proc/mounts. Raises SyscallError, with the
    kernel's own reason where it gives one (fsopen(2), "message retrieval").
    """
    options = Options(words)
    context = syscalls.fsopen(fstype)
    try:
        syscalls.fsconfig(context, flags.FSCONFIG_SET_STRING, "source", source or fstype)
        for key, value in options.own:
            command = flags.FSCONFIG_SET_FLAG if value is None else flags.FSCONFIG_SET_STRING
            syscalls.fsconfig(context, command, key, value)
        syscalls.fsconfig(context, flags.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, options.set_bits)
    except syscalls.SyscallError as error:
        error.hint = complaint(context) or error.hint
        raise
    finally:
        os.close(context)


def complaint(context: int) -> str | None:
    """What the kernel says about a file system context that failed: one message a read."""
    try:
        text = os.read(context, 4096).decode(errors="replace").strip()
    except OSError:
        return None
    return f"the kernel says: {text[2:]}" if text[:2] in ("e ", "w ", "i ") else text


def clone(path: str, words: list[str], at: int = flags.AT_FDCWD) -> int:
    """A detached copy of what is mounted at a path, or of a part of it: the source half of a
    bind mount. With `rbind` all mounts below come along (open_tree(2))."""
    options = Options(words)
    how = flags.OPEN_TREE_CLONE | (flags.AT_RECURSIVE if options.recursive else 0)
    if not path:
        how |= flags.AT_EMPTY_PATH
    tree = syscalls.open_tree(at, path, how)
    try:
        if options.set_bits or options.clear:
            syscalls.mount_setattr(tree, set_bits=options.set_bits, clear=options.clear)
        if options.recursive_bits:
            syscalls.mount_setattr(tree, set_bits=options.recursive_bits, recursive=True)
    except BaseException:
        os.close(tree)
        raise
    return tree


def map_owners(mount: int, users: int) -> None:
    """Show the files of a detached mount as if the container's user 0, on the host 100000, owned
    what 0 owns on the disk, and so on for all that a user namespace maps. Nothing is written.

    users: its descriptor. SyscallError EINVAL where the file system cannot (mount_setattr(2), "ID-
    mapped mounts"; Linux 5.12, ext4 and xfs first).
    """
    syscalls.mount_setattr(mount, set_bits=flags.MOUNT_ATTR_IDMAP, users=users)


def attach(mount: int, target: int) -> None:
    """Put a detached mount where a descriptor points (move_mount(2)); closes the target."""
    try:
        syscalls.move_mount(mount, target)
    finally:
        os.close(target)


def attach_below(root: int, mount: int, path: str) -> None:
    """Put a detached mount at a path inside a root; the mount point is made when missing."""
    make = paths.make_directories if paths.is_directory(mount) else paths.make_file
    attach(mount, make(root, path))


def attach_root(mount: int, directory: str) -> int:
    """Put the container's root in place, in this mount namespace only; a descriptor of it.

    A copy that was taken of a shared mount, as systemd makes all of a host's, is shared with the
    original: pivot_root(2) refuses it, and the container's mounts would appear on the host.
    """
    set_propagation(mount, flags.MS_PRIVATE | flags.MS_REC)
    attach(mount, os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def set_propagation(mount: int, kind: int) -> None:
    """Set how a mount shares later mounts below it (MS_PRIVATE and so on, with MS_REC)."""
    syscalls.mount_setattr(
        mount, propagation=kind & ~flags.MS_REC, recursive=bool(kind & flags.MS_REC)
    )


def make_readonly(mount: int) -> None:
    """Make one mount read-only for everyone who reaches the files through it."""
    syscalls.mount_setattr(mount, set_bits=flags.MOUNT_ATTR_RDONLY)


def forbid_devices(mount: int) -> None:
    """Make the device nodes of one mount dead: they can be made and seen, and not opened."""
    syscalls.mount_setattr(mount, set_bits=flags.MOUNT_ATTR_NODEV)


def pivot_root(root: int) -> None:
    """Make the mount behind a descriptor the root, and take the old root away.

    After chroot the host's tree is still there, one `..` trick away. After pivot_root it is not
    in this mount namespace at all. `pivot_root(".", ".")` puts the old root on top of the new
    one, from where it is taken off again: no directory for it is needed (pivot_root(2), NOTES).
    """
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.through("fchdir", os.fchdir, root)
        syscalls.pivot_root(".", ".")
        syscalls.through("fchdir", os.fchdir, old)
        syscalls.umount2(".", flags.MNT_DETACH)
        syscalls.through("chdir", os.chdir, "/")
    finally:
        os.close(old)


def enter(directory: str) -> int:
    """Give this process a mount namespace whose root is `directory`; a descriptor of the root.

    The whole of chapter 03 for callers that are in a new mount namespace already and need
    nothing mounted before the change of root.
    """
    make_private()
    root = attach_root(clone(directory, ["rbind"]), directory)
    pivot_root(root)
    return root


def check_absolute(path: str) -> str:
    """A mount point must be an absolute path without `..`; EngineError otherwise."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise EngineError(f"mount point {path!r} is not an absolute path inside the container")
    return path

"""Overlay: many read-only layers and one writable directory, seen as one tree.

A file that is only read comes from its layer; the first write copies it up into `upper`, and a
removed one is remembered there as a *whiteout*. So any number of containers share an image, and
each sees only its own writes (Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
from errno import EINVAL

from . import flags, mounts, process, syscalls

CHAPTER = 7


def mount(
    lower: list[str],
    upper: str,
    work: str,
    *,
    volatile: bool = False,
    by_path: bool = False,
    users: int | None = None,
    userxattr: bool = False,
) -> int:
    """Mount layers as one tree, detached; its descriptor.

    lower: layer directories, the topmost first, at most 500. upper, work: empty directories on
    one file system; upper keeps the writes. volatile: never sync upper to disk, for a tree that
    is thrown away at the end (saves a sync of the whole file system at unmount). by_path: use
    mount(2), as for kernels before 6.8. users: descriptor of a user namespace through which the
    layers' owners are shown (see mounts.map_owners). userxattr: keep overlay's own notes in user.*
    attributes, as in a user namespace, where trusted.* cannot be written.
    """
    words = ["volatile"] * volatile + ["userxattr"] * userxattr
    if by_path:
        return _mount_by_path(lower, upper, work, words, users)
    shifted: list[int] = []
    try:
        for layer in lower if users is not None else ():
            shifted.append(mounts.clone(layer, []))
            mounts.map_owners(shifted[-1], users or 0)
        if not shifted:
            return _mount(lower, upper, work, words)
        named = [f"/proc/self/fd/{layer}" for layer in shifted]
        return _mount(named, upper, work, words, (lower, users))
    finally:
        for descriptor in shifted:
            os.close(descriptor)


def _mount(
    lower: list[str],
    upper: str,
    work: str,
    words: list[str],
    shifted: tuple[list[str], int | None] | None = None,
) -> int:
    """mount() by the new interface. shifted: when `lower` are idmapped mounts, whose."""
    context = syscalls.fsopen("overlay")
    try:
        set_string = flags.FSCONFIG_SET_STRING
        syscalls.fsconfig(context, set_string, "source", "overlay")
        for layer in lower:
            syscalls.fsconfig(context, set_string, "lowerdir+", layer)
        syscalls.fsconfig(context, set_string, "upperdir", upper)
        syscalls.fsconfig(context, set_string, "workdir", work)
        for word in words:
            syscalls.fsconfig(context, flags.FSCONFIG_SET_FLAG, word)
        syscalls.fsconfig(context, flags.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context)
    except syscalls.SyscallError as error:
        # Before Linux 6.8 there is no `lowerdir+`, and a value holds at most 255 bytes. Linux 6.5
        # to 6.7 refuse it here; older ones take any option, and refuse the whole at the end.
        if error.errno == EINVAL:
            layers, users = shifted or (lower, None)
            return _mount_by_path(layers, upper, work, words, users)
        error.hint = mounts.complaint(context) or error.hint
        raise
    finally:
        os.close(context)


def adopt_root(layer: str, upper: str) -> None:
    """Give an empty upper directory the owner and mode of the topmost layer's root: of merged
    directories overlay shows what the topmost says, and the container's `/` is upper's."""
    found = os.stat(layer)
    os.chown(upper, found.st_uid, found.st_gid)
    os.chmod(upper, found.st_mode & 0o7777)


def _mount_by_path(
    lower: list[str], upper: str, work: str, words: list[str], users: int | None
) -> int:
    """The same by mount(2), which mounts nothing detached: a helper process mounts the tree in
    a mount namespace of its own, takes a detached copy, and we fetch the copy's descriptor.

    The options of mount(2) are one page: 4,096 bytes, some 45 layers by path. So each layer is
    opened, and named as /proc/self/fd/N.
    """
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    stay_read, stay_write = os.pipe2(os.O_CLOEXEC)

    def helper() -> None:
        os.close(stay_write)
        mounts.make_private()
        layers = [_open_layer(path, users) for path in lower]
        stack = ":".join(f"/proc/self/fd/{layer}" for layer in layers)
        data = ",".join([f"lowerdir={stack},upperdir={upper},workdir={work}", *words])
        place = os.path.dirname(upper)
        syscalls.mount("overlay", place, "overlay", 0, data)
        tree = mounts.clone(place, [])
        os.write(told_write, tree.to_bytes(4, "little"))
        os.read(stay_read, 1)

    try:
        child = process.spawn(helper, flags.CLONE_NEWNS)
        try:
            os.close(told_write)
            told_write = -1
            told = os.read(told_read, 4)
            if not told:
                child.wait_exec()
            return syscalls.pidfd_getfd(child.pidfd, int.from_bytes(told, "little"))
        finally:
            os.close(stay_write)
            stay_write = -1
            child.wait()
            child.close()
    finally:
        for descriptor in (told_read, told_write, stay_read, stay_write):
            if descriptor >= 0:
                os.close(descriptor)


def _open_layer(path: str, users: int | None) -> int:
    """A layer's directory, its owners shown through a user namespace: before Linux 6.15 overlay
    takes only what is mounted in the caller's tree, so the mapped copy covers the layer itself."""
    if users is not None:
        shifted = mounts.clone(path, [])
        mounts.map_owners(shifted, users)
        mounts.attach(shifted, os.open(path, os.O_PATH | os.O_DIRECTORY))
    return os.open(path, os.O_PATH | os.O_DIRECTORY)

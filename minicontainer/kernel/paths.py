"""Paths inside somebody else's tree: walked by the kernel, and never out of it.

A path in an image is written by a stranger: `/etc` may be a link to `/`, and a string joined on
the host (`rootfs + "/etc/passwd"`) follows it to the *host's* file. With RESOLVE_IN_ROOT the
kernel itself stops `..` and absolute links at the directory that a descriptor holds, and what
comes back is a descriptor: nothing is looked up twice (openat2(2)).
"""

from __future__ import annotations

import os
from errno import EINVAL, ELOOP, ENOENT, ENOTDIR

from . import flags, syscalls

CHAPTER = 3

# How many links to nowhere are followed in a row: as many as the kernel follows in a path.
_LINKS = 40


def open_in_root(root: int, path: str, how: int = os.O_PATH, mode: int = 0) -> int:
    """Open a path as if the directory behind `root` were `/`; a descriptor, or SyscallError."""
    return syscalls.openat2(root, path, how, mode, flags.RESOLVE_IN_ROOT)


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Make a directory and its missing parents inside the root; an O_PATH descriptor of it.

    Links on the way are followed inside the root, as the container itself would. SyscallError when
    a file (ENOTDIR) or a link to nowhere (EEXIST) is in the way.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno != ENOENT:
            raise
    above, _, name = path.rstrip("/").rpartition("/")
    parent = make_directories(root, above or "/", mode)
    try:
        # A link to nowhere is also "no such file": mkdir then says EEXIST, and we stop.
        syscalls.through("mkdirat", os.mkdir, name, syscalls.Octal(mode), dir_fd=parent)
        how = os.O_PATH | os.O_DIRECTORY
        return syscalls.openat2(parent, name, how, 0, flags.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(parent)


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """Make an empty file (and its parents) inside the root unless something is there already;
    an O_PATH descriptor of it: the target of a bind mount of a file.

    A link to nowhere is followed, inside the root, and its target made: in the images of systemd's
    distributions /etc/resolv.conf is one.
    """
    for _ in range(_LINKS):
        try:
            return open_in_root(root, path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                raise
        parent, _, name = path.rstrip("/").rpartition("/")
        directory = make_directories(root, parent or "/")
        try:
            how = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
            try:
                os.close(os.open(name, how, mode, dir_fd=directory))
                return syscalls.openat2(directory, name, os.O_PATH, 0, flags.RESOLVE_NO_SYMLINKS)
            except FileExistsError:
                target = os.readlink(name, dir_fd=directory)
                path = target if target.startswith("/") else f"{parent}/{target}"
        except OSError as error:
            if error.errno != EINVAL:  # no link: somebody made it this moment, so look again
                raise
        finally:
            os.close(directory)
    raise OSError(ELOOP, os.strerror(ELOOP), path)


def is_directory(descriptor: int) -> bool:
    """Is it a directory that this descriptor holds?"""
    return (os.fstat(descriptor).st_mode & 0o170000) == 0o040000

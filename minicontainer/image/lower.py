"""The layers below one layer, looked up the way overlayfs will show them.

Overlayfs takes a merged directory's owner and mode from the topmost layer that has it. A layer's
archive may use `tmp/x` without an entry for `tmp`; made with 0755 it would take the sticky bit off
the image's /tmp. So whoever makes such a directory looks here for what is below.
"""

from __future__ import annotations

import os
import stat
from errno import ELOOP, ENOTDIR

from . import xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # mode, uid, gid, mtime in nanoseconds, extended attributes
    Metadata = tuple[int, int, int, int, dict[bytes, bytes]]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Found:
    """What the layers show at a path: metadata of a directory, or a link's target, or neither."""

    __slots__ = ("metadata", "link")

    def __init__(self, metadata: Metadata | None = None, link: bytes | None = None) -> None:
        self.metadata = metadata
        self.link = link


def find(layers: Sequence[int], place: bytes) -> Found | None:
    """Look a place up in layers, given as directory descriptors, top first.

    place: relative, no `.` or `..` in it; symbolic links on the way are not followed (None), so
    nothing outside the layers is ever reached. None when nothing is there or a whiteout hides it.
    """
    names = place.split(b"/") if place else []
    merged: list[int] = list(layers)
    opened: list[int] = []
    try:
        for depth, name in enumerate(names, 1):
            next_level: list[int] = []
            previous, opened = opened, next_level
            try:
                for directory in merged:
                    child = _open_directory(directory, name)
                    if child is not None and child >= 0:
                        next_level.append(child)
                        if xattrs.has(child, xattrs.opaque(), b"y"):
                            break
                    elif child is not None:
                        # A file ends what is merged: a directory above it hides the rest.
                        if not next_level:
                            return _describe_file(directory, name) if depth == len(names) else None
                        break
            finally:
                for descriptor in previous:
                    os.close(descriptor)
            if not next_level:
                return None
            merged = next_level
        if not merged:
            return None
        status = os.fstat(merged[0])
        mode = stat.S_IMODE(status.st_mode)
        return Found(
            (mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs.read(merged[0]))
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_directory(parent: int, name: bytes) -> int | None:
    """A descriptor; None when there is nothing of that name; -1 when it is no directory."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (ENOTDIR, ELOOP):
            raise
        return -1


def _describe_file(directory: int, name: bytes) -> Found | None:
    status = os.lstat(name, dir_fd=directory)
    if stat.S_ISLNK(status.st_mode):
        return Found(link=os.readlink(name, dir_fd=directory))
    whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    return None if whiteout else Found()

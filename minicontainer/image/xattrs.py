"""Extended attributes of an image's files: which ones an archive may set, and under what name."""

from __future__ import annotations

import os
from errno import EINVAL, ENODATA, ENOTSUP, EPERM

from ..kernel import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# overlayfs keeps its own notes ("opaque", "redirect": look elsewhere) in attributes of the layers.
# One that an archive could write would lead a lookup to any directory of any layer.
_OVERLAY = b"trusted.overlay."
# The rest of security.* are labels of the host's own policy (SELinux, Smack, EVM): not an image's
# to give.
_SECURITY = (b"security.capability", b"security.ima")


_opaque = ""


def opaque() -> str:
    """overlayfs's own name for "nothing from below" on a directory. trusted.* is the host's root's
    to write; an overlay that a user namespace mounts reads user.* instead (`userxattr`).

    Asked for the first time while there is a /proc, it is known afterwards.
    """
    global _opaque
    _opaque = _opaque or f"{'user' if users.is_mapped() else 'trusted'}.overlay.opaque"
    return _opaque


def placed_name(name: bytes) -> bytes | None:
    """The name under which an archive's attribute is stored; None when it is dropped.

    overlayfs's own names are escaped the way overlayfs itself escapes them for a nested overlay:
    Linux 6.7 and newer show them to the container under their first name, older ones not at all
    (filesystems/overlayfs.rst, "Nesting overlayfs mounts").
    """
    if name.startswith(_OVERLAY):
        return _OVERLAY + b"overlay." + name[len(_OVERLAY) :]
    if name.startswith(b"user.overlay."):
        return None  # the same names, for overlays that a user mounted
    if name.startswith(b"security.") and name not in _SECURITY:
        return None
    return name


def write(target: int | bytes, attributes: Mapping[bytes, bytes]) -> None:
    """Set an archive's attributes on a descriptor, or on a name in the working directory.

    A symbolic link is not followed. Raises OSError, but for user.* where the file cannot have them
    (links and devices) or the file system has none, which docker passes over too.
    """
    follow = isinstance(target, int)
    for given, value in attributes.items():
        name = placed_name(given)
        if name is None:
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if not (name.startswith(b"user.") and error.errno in (EPERM, ENOTSUP)):
                error.strerror = f"{error.strerror} (attribute {given!r}, {len(value)} bytes)"
                raise


def read(descriptor: int) -> dict[bytes, bytes]:
    """The attributes of an open file that a copy of it would take along."""
    found = {}
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno == ENOTSUP:
            return {}
        raise
    for name in map(os.fsencode, names):
        if placed_name(name) == name:
            found[name] = os.getxattr(descriptor, name)
    return found


def has(descriptor: int, name: str, value: bytes) -> bool:
    """Does an open file have this attribute with this value?"""
    try:
        return os.getxattr(descriptor, name) == value
    except OSError as error:
        if error.errno in (ENODATA, ENOTSUP, EINVAL):
            return False
        raise

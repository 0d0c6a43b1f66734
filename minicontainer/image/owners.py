"""What of a layer can be unpacked in a user namespace: no devices, and owners that exist there."""

from __future__ import annotations

from ..kernel import users
from . import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def adapter() -> Callable[[tar.Entry], bool] | None:
    """A function that changes an entry to what this process can make; False when it can make
    nothing of it. None outside of a user namespace, where everything can be made.

    With a single user (no range in /etc/subuid) everything is root's. A device cannot be made at
    all, nor an attribute trusted.*: rootless podman and docker leave them out too.
    """
    if not users.is_mapped():
        return None
    alone = sum(count for _, _, count in users.read_map("self")) == 1

    def adapt(entry: tar.Entry) -> bool:
        if entry.kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
            return False
        if alone:
            entry.uid = entry.gid = 0
        if entry.xattrs:
            entry.xattrs = {
                name: value
                for name, value in entry.xattrs.items()
                if not name.startswith(b"trusted.")
            }
        return True

    return adapt

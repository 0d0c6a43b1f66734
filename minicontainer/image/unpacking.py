"""From blobs to the directories that a container's root is made of.

A layer is unpacked once, whatever images share it, into layers/<hex of its diff id>. A layer
that cannot be told without those below it (a hard link to a file of a lower layer) is unpacked
into layers/<hex of its chain id> instead: its content then depends on them.
"""

from __future__ import annotations

import os

from .. import jsonio
from ..files import Lock, write_atomic
from .digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .digest import Descriptor
    from .store import Image, Store


def unpack_image(
    store: Store, image: Image, progress: Callable[[Descriptor, str], None] | None = None
) -> None:
    """Unpack what is missing, the lowest layer first, and write the stack file last."""
    if store.is_unpacked(image):
        return
    names: list[str] = []
    sizes: list[int] = []
    chain = ""
    for layer, diff_id in image.layers():
        chain = chain_id(chain, diff_id)
        name, size = unpack_layer(store, layer, diff_id, chain, names, progress)
        names.insert(0, name)
        sizes.insert(0, size)
    write_stack(store, image, names, sizes)


def unpack_layer(
    store: Store,
    layer: Descriptor,
    diff_id: str,
    chain: str,
    below: list[str],
    progress: Callable[[Descriptor, str], None] | None = None,
) -> tuple[str, int]:
    """Unpack one layer unless it is there; its name below layers/ and the bytes of its files.

    chain: its chain id. below: the names of the layers under it, top first. Of two processes
    that want the same layer, one works and the other waits for it; several threads may unpack
    different layers at once.
    """
    from . import layer as unpacker

    with Lock(f"{store.unfinished}/{diff_id[7:]}.lock"):
        for name in (diff_id[7:], chain[7:]):
            if os.path.isdir(f"{store.layers}/{name}"):
                if progress:
                    progress(layer, "exists")
                return name, _known_size(store, name)
        if progress:
            progress(layer, "unpacking")
        name = diff_id[7:]
        path = store.blob_path(layer.digest)
        unpacker.unpack(path, layer.media_type, diff_id, f"{store.layers}/{name}")
        if progress:
            progress(layer, "unpacked")
        return name, _size_of(f"{store.layers}/{name}")


def chain_id(below: str, diff_id: str) -> str:
    """The identity of a layer on top of others (image-spec config.md, "Layer ChainID").

    below: the chain id of the layers under it, "" for the lowest.
    """
    return digest_of(f"{below} {diff_id}".encode()) if below else diff_id


def write_stack(store: Store, image: Image, names: list[str], sizes: list[int]) -> None:
    """Say that the image is unpacked: its layers' names, top first, and the bytes of each."""
    stack = {"layers": names, "sizes": sizes}
    write_atomic(f"{store.stacks}/{image.id[7:]}.json", jsonio.dumps(stack))


def read_stacks(store: Store) -> dict[str, dict[str, Any]]:
    """All stack files: the hex of the image's id and what the file says."""
    found = {}
    for file in os.listdir(store.stacks):
        hex, _, rest = file.partition(".")
        if rest == "json":
            found[hex] = jsonio.read(f"{store.stacks}/{file}")
    return found


def _known_size(store: Store, name: str) -> int:
    """The size that another image's stack file remembers, so that nothing is walked twice."""
    for stack in read_stacks(store).values():
        if name in stack["layers"]:
            size: int = stack["sizes"][stack["layers"].index(name)]
            return size
    return _size_of(f"{store.layers}/{name}")


def _size_of(directory: str) -> int:
    """Bytes of the regular files below a directory; a file with several links counts once."""
    total = 0
    counted: set[int] = set()
    waiting = [directory]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.inode() not in counted:
                    counted.add(entry.inode())
                    total += entry.stat(follow_symlinks=False).st_size
    return total

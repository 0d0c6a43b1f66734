"""From blobs to the directories that a container's root is made of.

A layer is unpacked once, whatever images share it, into layers/<hex of its diff id>. Few layers
cannot be told without those below (see layer.py): those are unpacked again, for their stack, into
layers/<hex of their chain id>. A file layers/<hex>.json beside each says what unpacking it told.
"""

from __future__ import annotations

import os

from .. import jsonio
from ..files import Lock, write_atomic
from .blobs import explain
from .digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .digest import Descriptor
    from .store import Image, Store

    Progress = Callable[[Descriptor, str], None]


def unpack_image(store: Store, image: Image, progress: Progress | None = None) -> None:
    """Unpack what is missing, the lowest layer first, and write the stack file last.

    Damage, hostile content, a full disk: EngineError, and the image is not unpacked.
    """
    from . import layer as unpacker

    if store.is_unpacked(image):
        return
    layers = image.layers()
    ahead = _unpack_ahead(store, layers, progress)
    names: list[str] = []
    sizes: list[int] = []
    chain = ""
    for layer, diff_id in layers:
        chain = chain_id(chain, diff_id)
        told = None if diff_id in ahead else progress
        name = unpack_layer(store, layer, diff_id, chain, names, told)
        sizes.insert(0, _record(store, name)["size"])
        # Overlayfs does not look for "nothing from below" on the root of a layer.
        names = [name] if unpacker.is_opaque(f"{store.layers}/{name}") else [name, *names]
    stack = {"layers": names, "sizes": sizes}
    try:
        write_atomic(f"{store.stacks}/{image.id[7:]}.json", jsonio.dumps(stack))
    except OSError as error:
        raise explain(f"unpack image {image.short_id}", error)


def _unpack_ahead(
    store: Store, layers: list[tuple[Descriptor, str]], progress: Progress | None
) -> set[str]:
    """Unpack the missing layers, where there are several, on all processors; their diff ids."""
    missing = {
        diff_id: layer
        for layer, diff_id in layers
        if not os.path.isdir(f"{store.layers}/{diff_id[7:]}")
    }
    if len(missing) < 2:
        return set()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        work = [
            pool.submit(unpack_layer, store, layer, diff_id, diff_id, [], progress)
            for diff_id, layer in missing.items()
        ]
        try:
            for each in work:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return set(missing)


def unpack_layer(
    store: Store,
    layer: Descriptor,
    diff_id: str,
    chain: str,
    below: list[str],
    progress: Progress | None = None,
    on_bytes: Callable[[int, int], None] | None = None,
) -> str:
    """Unpack one layer unless it is there; its name below layers/.

    chain: its chain id. below: the names of the layers under it, top first. Without any it is
    unpacked by itself, which is all that most layers need: so several threads may work ahead, and
    unpack_image() says afterwards which ones must be done again for their stack. Of two processes
    that want the same layer, one works and the other waits for it. on_bytes: see layer.unpack.
    """
    from . import layer as unpacker

    name = diff_id[7:]
    try:
        if _unpack_once(store, layer, diff_id, name, [], progress, on_bytes) and progress:
            progress(layer, "exists")
        directories = [f"{store.layers}/{each}" for each in below]
        implicit = _record(store, name)["implicit"]
        if below and implicit and unpacker.depends_on_lower(implicit, directories):
            name = chain[7:]
            _unpack_once(store, layer, diff_id, name, directories, progress, on_bytes)
    except OSError as error:
        raise explain(f"unpack layer {diff_id[7:19]}", error)
    return name


def _unpack_once(
    store: Store,
    layer: Descriptor,
    diff_id: str,
    name: str,
    lower: list[str],
    progress: Progress | None,
    on_bytes: Callable[[int, int], None] | None,
) -> bool:
    """Unpack into layers/<name>, or find it there: then True."""
    from . import layer as unpacker

    directory = f"{store.layers}/{name}"
    if os.path.isdir(directory):
        return True
    lock = Lock(f"{store.unfinished}/layer-{name}.lock")
    with lock:
        try:
            if os.path.isdir(directory):
                return True
            if progress:
                progress(layer, "unpacking")
            # Aside first, so that the record is there before the directory can be found.
            aside = f"{store.unfinished}/{name}"
            blob = store.blob_path(layer.digest)
            done = unpacker.unpack(blob, layer.media_type, diff_id, aside, lower, on_bytes)
            record = {"size": done.content, "implicit": done.implicit}
            write_atomic(f"{directory}.json", jsonio.dumps(record))
            os.rename(aside, directory)
        finally:
            os.unlink(lock.path)  # those who wait for it make another
    if progress:
        progress(layer, "unpacked")
    return False


def _record(store: Store, name: str) -> dict[str, Any]:
    """What unpacking told: "size" in bytes, "implicit" as layer.Unpacked has it."""
    value: dict[str, Any] = jsonio.read(f"{store.layers}/{name}.json")
    return value


def chain_id(below: str, diff_id: str) -> str:
    """The identity of a layer on top of others (image-spec config.md, "Layer ChainID").

    below: the chain id of the layers under it, "" for the lowest.
    """
    return digest_of(f"{below} {diff_id}".encode()) if below else diff_id

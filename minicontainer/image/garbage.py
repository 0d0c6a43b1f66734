"""What nobody needs any more: blobs, stacks and layers without an image, leftovers of the killed.

The roots are the entries of index.json; everything they reach stays. Whoever adds content holds
the content lock shared from before the first byte until its name is written, so with the lock
held exclusively there is no content on its way to a name.
"""

from __future__ import annotations

import os

from ..errors import EngineError
from ..files import Lock, remove_tree
from .digest import Descriptor, is_hex
from .manifest import Manifest, parse, parse_config
from .unpacking import chain_id, read_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import Store


def sweep(store: Store) -> None:
    """Remove unfinished files and half-made directories; the caller holds the lock exclusively."""
    for directory in (
        store.unfinished,
        store.layers,
        store.stacks,
        store.blobs.directory,
        store.layout,
    ):
        for name in os.listdir(directory):
            if directory == store.unfinished or _is_leftover(directory, name, store):
                path = f"{directory}/{name}"
                if os.path.isdir(path) and not os.path.islink(path):
                    remove_tree(path)
                else:
                    os.unlink(path)


def _is_leftover(directory: str, name: str, store: Store) -> bool:
    if directory == store.layout:
        # An index.json.PID.tmp may be a living one's: index.json changes under another lock.
        return False
    stem = name.removesuffix(".json") if directory == store.stacks else name
    return not (len(stem) == 64 and is_hex(stem))


def collect(store: Store) -> list[str]:
    """Remove what no image needs; the digests of the blobs that went, sorted.

    Nothing happens while somebody adds content, and nothing is removed when an image cannot be
    read: what it needs is unknown then (EngineError).
    """
    store.create()
    try:
        with Lock(f"{store.root}/content.lock", block=False):
            sweep(store)
            return _collect(store)
    except BlockingIOError:
        return []
    except OSError as error:
        raise EngineError(f"cannot remove unused images: {error.strerror}") from error


def _collect(store: Store) -> list[str]:
    blobs: set[str] = set()
    layers: set[str] = set()
    images: set[str] = set()
    for entry in store.entries():
        _mark(store, Descriptor.from_json(entry), blobs, layers, images)
    stacks = read_stacks(store)
    for hex in stacks.keys() - images:
        # The stack goes first: it is what says that the layers are there.
        os.unlink(f"{store.stacks}/{hex}.json")
    for name in set(os.listdir(store.layers)) - layers:
        # Out of sight in one step: a kill half-way must not leave a layer with holes.
        grave = f"{store.unfinished}/{name}"
        os.rename(f"{store.layers}/{name}", grave)
        remove_tree(grave)
    unused = sorted(set(os.listdir(store.blobs.directory)) - blobs)
    for name in unused:
        os.unlink(f"{store.blobs.directory}/{name}")
    return [f"sha256:{name}" for name in unused]


def _mark(
    store: Store, item: Descriptor, blobs: set[str], layers: set[str], images: set[str]
) -> None:
    """Add the hex names of all that the manifest or index needs."""
    if item.hex in blobs:
        return
    blobs.add(item.hex)
    value = parse(store.read_blob(item.digest), item.media_type)
    if not isinstance(value, Manifest):
        for manifest in value:
            # An index names the builds for all platforms; only some of them are here.
            if store.has_blob(manifest.digest):
                _mark(store, manifest, blobs, layers, images)
        return
    images.add(value.config.hex)
    blobs.add(value.config.hex)
    blobs.update(layer.hex for layer in value.layers)
    chain = ""
    for diff_id in parse_config(store.read_blob(value.config.digest))["rootfs"]["diff_ids"]:
        chain = chain_id(chain, diff_id)
        layers.update((diff_id[7:], chain[7:]))

"""What nobody needs any more: blobs, stacks and layers without an image, leftovers of the killed.

The roots are the entries of index.json; everything they reach stays. Whoever adds content holds
the content lock shared from before the first byte until its name is written, so with the lock
held exclusively there is no content on its way to a name.
"""

from __future__ import annotations

import os

from ..files import Lock, remove_tree
from .blobs import explain
from .digest import Descriptor, is_hex
from .manifest import Manifest, parse, parse_config
from .unpacking import chain_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import Store


def sweep(store: Store) -> None:
    """Remove unfinished files and half-made directories; the caller holds the lock exclusively."""
    for name in os.listdir(store.unfinished):
        path = f"{store.unfinished}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            os.unlink(path)
    _sweep_temporaries(store.layers)
    _sweep_temporaries(store.stacks)
    try:
        # The names have a lock of their own, which may be held; another sweep will come.
        with Lock(f"{store.root}/images.lock", block=False):
            _sweep_temporaries(store.layout)
    except BlockingIOError:
        pass


def _sweep_temporaries(directory: str) -> None:
    """Remove what write_atomic() left when it was killed."""
    for name in os.listdir(directory):
        if name.endswith(".tmp"):
            os.unlink(f"{directory}/{name}")


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
        raise explain("remove unused images", error)


def _collect(store: Store) -> list[str]:
    blobs: set[str] = set()
    layers: set[str] = set()
    images: set[str] = set()
    for entry in store.entries():
        _mark(store, Descriptor.from_json(entry), blobs, layers, images)
    # Stacks go before layers, layers before blobs, each layer out of sight in one step: whatever
    # is still named after a kill half-way is whole.
    for name in _unused(store.stacks, images):
        os.unlink(f"{store.stacks}/{name}")
    unused = _unused(store.layers, layers)
    for name in unused:
        if not name.endswith(".json"):
            os.rename(f"{store.layers}/{name}", f"{store.unfinished}/{name}")
            remove_tree(f"{store.unfinished}/{name}")
    for name in unused:
        if name.endswith(".json"):
            os.unlink(f"{store.layers}/{name}")
    gone = _unused(store.blobs.directory, blobs)
    for name in gone:
        os.unlink(store.blobs.path(f"sha256:{name}"))
    return [f"sha256:{name}" for name in gone]


def _unused(directory: str, needed: set[str]) -> list[str]:
    """The files named by a digest that is not needed; files with other names are not ours."""
    found = []
    for name in sorted(os.listdir(directory)):
        # <hex>.json tells of a layer, <hex>.<tables> is its copy with other owners (shift.py).
        hex = name.partition(".")[0]
        if len(hex) == 64 and is_hex(hex) and hex not in needed:
            found.append(name)
    return found


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

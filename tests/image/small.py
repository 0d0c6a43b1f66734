"""Small images for tests: made in memory, put into a store, a directory or an archive."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from minicontainer.image import manifest as kinds
from minicontainer.image.digest import Descriptor
from minicontainer.image.platform import Platform
from minicontainer.image.reference import Reference
from minicontainer.image.store import Image, Store


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """An archive of regular files; a TarInfo is taken as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.linkname = target
    return entry


def config(layers: list[bytes], **fields: Any) -> bytes:
    """The config of an image with these plain layers."""
    value: dict[str, Any] = {
        **Platform.host().to_json(),
        "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps(value | fields).encode()


def add(
    store: Store,
    name: str | None,
    layers: list[bytes],
    *,
    repo_digest: str | None = None,
    unpack: bool = False,
    **fields: Any,
) -> Image:
    """Put an image into the store, and give it the name."""
    with store.adding():
        descriptor = put(store, layers, **fields)
        if unpack:
            store.unpack(store.image_of(descriptor))
        return store.tag(descriptor, Reference.parse(name) if name else None, repo_digest)


def put(store: Store, layers: list[bytes], **fields: Any) -> Descriptor:
    """Put the blobs of an image into the store; its manifest."""
    value = {
        "schemaVersion": 2,
        "mediaType": kinds.OCI_MANIFEST,
        "config": store.add_blob(kinds.OCI_CONFIG, config(layers, **fields)).to_json(),
        "layers": [store.add_blob(kinds.OCI_LAYER, layer).to_json() for layer in layers],
    }
    return store.add_blob(kinds.OCI_MANIFEST, json.dumps(value).encode())

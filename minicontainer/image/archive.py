"""Archives of images: what `docker save`, podman and skopeo write, read from a file or a pipe.

Two forms, often both in one file: docker's (manifest.json names configs and layer tars) and OCI's
(an image layout in a tar: image-layout.md). manifest.json may be the last entry, so every file is
received first, hashed, and becomes a blob once a manifest that names it has been checked.
"""

from __future__ import annotations

import os

from .. import jsonio
from ..errors import EngineError
from . import compression, index, tar
from .blobs import explain
from .digest import ContentMismatch, Descriptor, is_hex
from .manifest import (
    LIMIT,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Manifest,
    parse,
    parse_config,
)
from .platform import Platform, choose, is_attestation
from .reference import Reference
from .tarfields import TarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from .store import Image, Store

    Progress = Callable[[Descriptor, str], None]

# Real archives have some hundred entries; this bounds the files that a hostile one can make.
MAX_FILES = 20_000
HINT = "'load' takes what 'docker save', 'podman save' or 'skopeo copy … docker-archive:' write"
_CONTAINERD_NAME = "io.containerd.image.name"


def load(store: Store, stream: BinaryIO, on_progress: Progress | None = None) -> list[str]:
    """Load and unpack every image of an archive; their short names, or the id where one has none.

    stream: a file or a pipe, plain, gzip or zstd. on_progress: see Store.unpack. EngineError when
    the archive is hostile, damaged or not one of images: nothing is left then.
    """
    names: list[str] = []
    try:
        with store.adding(), _Receiver(store, _named(stream)) as files:
            files.receive(stream.fileno())
            for manifest, wanted in _images(store, files):
                image = store.image_of(manifest)
                store.unpack(image, on_progress)
                names.extend(_name(store, image, wanted))
    except BaseException:
        # Blobs of an image that did not make it; the lock of adding() is free again.
        store.collect()
        raise
    return names


def _named(stream: BinaryIO) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


def _name(store: Store, image: Image, wanted: list[Reference]) -> list[str]:
    image.manifest.platform = Platform.from_json(image.config()).to_json()
    for reference in wanted:
        store.tag(image.manifest, reference)
    if not wanted:
        store.tag(image.manifest, None)
    return [reference.familiar() for reference in wanted] or [image.id]


def _images(store: Store, files: _Receiver) -> Iterator[tuple[Descriptor, list[Reference]]]:
    """The manifest of each image, its blobs in the store, and the names that it asks for."""
    if files.has("oci-layout") and files.has("index.json"):
        yield from _oci_images(files)
    elif files.has("manifest.json"):
        yield from _docker_images(store, files, files.json("manifest.json"))
    else:
        raise files.foreign()


# OCI


def _oci_images(files: _Receiver) -> Iterator[tuple[Descriptor, list[Reference]]]:
    """The images of the layout. One image has an index entry for each of its names."""
    layout = parse(files.bytes("index.json"), OCI_INDEX)
    assert isinstance(layout, list)
    found: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for item in layout:
        if is_attestation(item):
            continue
        annotations = item.annotations or {}
        text = annotations.get(_CONTAINERD_NAME) or annotations.get(index.NAME)
        manifest = _oci_manifest(files, item)
        names = found.setdefault(manifest.digest, (manifest, []))[1]
        if text and (name := Reference.parse(text)) not in names:
            names.append(name)
    yield from found.values()


def _oci_manifest(files: _Receiver, item: Descriptor, depth: int = 0) -> Descriptor:
    """The image manifest that a descriptor leads to; its blobs become the store's."""
    files.keep(item, "manifest")
    value = parse(files.store.read_blob(item.digest), item.media_type)
    if not isinstance(value, Manifest):
        if depth == 3:
            raise EngineError("the archive has an index in an index in an index")
        chosen = choose(value, Platform.host(), "the archived image")
        return _oci_manifest(files, chosen, depth + 1)
    files.keep(value.config, "config")
    for number, layer in enumerate(value.layers, 1):
        files.keep(layer, f"layer {number}")
    item.annotations = None
    return item


# Docker


def _docker_images(
    store: Store, files: _Receiver, manifest: Any
) -> Iterator[tuple[Descriptor, list[Reference]]]:
    """The images of manifest.json, each with an OCI manifest made up for it."""
    if not isinstance(manifest, list):
        raise EngineError("malformed manifest.json: not a list")
    for item in manifest:
        if not isinstance(item, dict):
            raise EngineError("malformed manifest.json: an entry is not a JSON object")
        layers = _strings(item, "Layers")
        names = [Reference.parse(text) for text in _strings(item, "RepoTags")]
        if not isinstance(item.get("Config"), str):
            raise EngineError("malformed manifest.json: Config is not a string")
        config = parse_config(files.bytes(item["Config"]), len(layers))
        described = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": files.keep_file(item["Config"], OCI_CONFIG).to_json(),
            "layers": [
                _docker_layer(files, path, diff_id).to_json()
                for path, diff_id in zip(layers, config["rootfs"]["diff_ids"], strict=True)
            ],
        }
        yield store.add_blob(OCI_MANIFEST, jsonio.dumps(described).encode()), names


def _docker_layer(files: _Receiver, path: str, diff_id: str) -> Descriptor:
    """The blob of a layer: a plain tar is its own diff id, a compressed one is checked later."""
    kind = compression.sniff(files.head(path))
    if kind == "none" and files.digest(path) != diff_id:
        raise ContentMismatch(f"{path!r} in the archive is not the layer {diff_id} of its config")
    return files.keep_file(path, OCI_LAYER if kind == "none" else f"{OCI_LAYER}+{kind}")


def _strings(item: dict[str, Any], name: str) -> list[str]:
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise EngineError(f"malformed manifest.json: {name} is not a list of strings")
    return value


# The files of an archive


class _File:
    """A received file: where it grew, its digest and size; or a blob that was there before."""

    __slots__ = ("path", "digest", "size")

    def __init__(self, path: str, digest: str, size: int) -> None:
        self.path = path
        self.digest = digest
        self.size = size


class _Receiver:
    """Receives the files of an archive below the store's tmp; those not kept vanish at the end."""

    def __init__(self, store: Store, source: str) -> None:
        self.store = store
        self._source = source
        self._files: dict[str, _File] = {}
        self._links: dict[str, str] = {}
        self._temporary: set[str] = set()

    def __enter__(self) -> _Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._temporary:
            os.unlink(path)

    def receive(self, descriptor: int) -> None:
        """Read the whole archive; EngineError for a name or link that leads out of it."""
        reader = tar.Reader(self._chunks(descriptor))
        while entry := self._next(reader):
            name = _inside(os.fsdecode(entry.name), "")
            if len(self._files) + len(self._links) >= MAX_FILES:
                raise EngineError(f"the archive has more than {MAX_FILES} files")
            if entry.kind == tar.FILE:
                self._links.pop(name, None)
                self._files[name] = self._receive_file(reader, name, entry.size)
            elif entry.kind in (tar.SYMLINK, tar.LINK):
                # `docker save` once wrote a layer that two images share as a symbolic link.
                base = name.rpartition("/")[0] if entry.kind == tar.SYMLINK else ""
                self._links[name] = _inside(os.fsdecode(entry.link), base)
            elif entry.kind != tar.DIRECTORY:
                raise EngineError(f"the archive has a device or pipe, {name!r}")
        reader.drain()

    def _next(self, reader: tar.Reader) -> tar.Entry | None:
        try:
            return reader.next()
        except TarError as error:
            if reader.has_begun:
                raise  # an archive, but a damaged one
            raise self.foreign() from error

    def foreign(self) -> EngineError:
        """What to say of something else: a text, a root file system."""
        return EngineError(f"{self._source} is no archive of images", hint=HINT)

    def _chunks(self, descriptor: int) -> Iterator[bytes]:
        head = b""
        while len(head) < 6 and (more := os.read(descriptor, 6 - len(head))):
            head += more
        kind = compression.sniff(head)
        if not head:
            raise EngineError(f"{self._source} is empty", hint=HINT)
        if kind == "none":
            yield head
            yield from compression.decoder(kind)(descriptor)
            return
        # A decoder wants the first bytes back: what cannot seek is written to a file first.
        path, spool = self._new_file()
        try:
            os.write(spool, head)
            while chunk := os.read(descriptor, compression.OUTPUT):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(spool, view) :]
            os.close(spool)
            spool = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._forget(path)
            yield from compression.decoder(kind)(spool)
        except OSError as error:
            raise explain("receive the archive", error)
        finally:
            os.close(spool)

    def _receive_file(self, reader: tar.Reader, name: str, size: int) -> _File:
        from hashlib import file_digest

        promised = None
        if name.startswith("blobs/sha256/") and is_hex(name[13:]) and len(name) == 13 + 64:
            promised = f"sha256:{name[13:]}"
            if self.store.has_blob(promised, size):
                return _File("", promised, size)  # its content is skipped, not trusted
        path, file = self._new_file()
        try:
            reader.copy(file)
        except OSError as error:
            raise explain("receive the archive", error)
        finally:
            os.close(file)
        with open(path, "rb", buffering=0) as content:
            digest = f"sha256:{file_digest(content, 'sha256').hexdigest()}"
        if promised and digest != promised:
            raise ContentMismatch(f"{name!r} in the archive has another content: {digest}")
        return _File(path, digest, size)

    def _new_file(self) -> tuple[str, int]:
        path, file = self.store.blobs.new_file()
        self._temporary.add(path)
        return path, file

    def _forget(self, path: str) -> None:
        os.unlink(path)
        self._temporary.discard(path)

    def _find(self, name: str) -> _File:
        path = _inside(name, "")
        for _ in range(10):
            if path in self._files:
                return self._files[path]
            if path not in self._links:
                break
            path = self._links[path]
        raise EngineError(f"the archive lacks {name!r}, which its manifest names")

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name."""
        return name in self._files

    def digest(self, name: str) -> str:
        """The digest of a file's content."""
        return self._find(name).digest

    def head(self, name: str) -> bytes:
        """Its first bytes, enough to tell the compression."""
        file = self._find(name)
        with open(file.path or self.store.blob_path(file.digest), "rb", buffering=0) as content:
            return content.read(6)

    def bytes(self, name: str) -> bytes:
        """The whole of a small file; EngineError when it has more than 4 MiB."""
        file = self._find(name)
        if file.size > LIMIT:
            raise EngineError(f"{name!r} in the archive has more than {LIMIT >> 20} MiB")
        with open(file.path or self.store.blob_path(file.digest), "rb") as content:
            return content.read(LIMIT)

    def json(self, name: str) -> Any:
        """A small file's JSON; EngineError when it is not."""
        try:
            return jsonio.loads(self.bytes(name))
        except ValueError as error:
            raise EngineError(f"malformed {name} in the archive: {str(error)[:200]}") from error

    def keep_file(self, name: str, media_type: str) -> Descriptor:
        """Make a received file a blob of the store; its descriptor."""
        file = self._find(name)
        if file.path:
            self.store.blobs.adopt(file.path, file.digest)
            self._temporary.discard(file.path)
            file.path = ""
        return Descriptor(media_type, file.digest, file.size)

    def keep(self, item: Descriptor, what: str) -> None:
        """Make the file that a descriptor names a blob; EngineError when it is not there."""
        name = f"blobs/sha256/{item.hex}"
        if name in self._files or name in self._links:
            if self.digest(name) != item.digest or self._find(name).size != item.size:
                raise ContentMismatch(f"{what} {item.digest} of the archive has another size")
            self.keep_file(name, item.media_type)
        elif not self.store.has_blob(item.digest, item.size):
            raise EngineError(f"the archive lacks {what} {item.digest}")


def _inside(name: str, base: str) -> str:
    """A name of the archive, from its root and without dots; EngineError when it leads out.

    base: the directory that a symbolic link's target is relative to.
    """
    parts: list[str] = []
    for part in f"{base}/{name}".split("/"):
        if part == "..":
            if not parts:
                break
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    else:
        if not name.startswith("/"):
            return "/".join(parts)
    raise EngineError(f"the archive is hostile: {name[:300]!r} leads out of it")

"""The content store: images by name, blobs by digest, layers unpacked, all on plain files.

Names and blobs are an OCI image layout (image-spec, image-layout.md), so skopeo, umoci and
others read it as it is: `skopeo inspect oci:ROOT/images:docker.io/library/alpine:latest`.

    images/       oci-layout, index.json (see index.py), blobs/sha256/<hex> (see blobs.py)
    layers/<hex>  one unpacked layer, named by its diff id or chain id (see unpacking.py)
    stacks/<hex of the image id>.json  its layers, top first; written last: "it is unpacked"
    tmp/images/   what is unfinished

A file gets its name by rename(2) when it is complete, and names come after what they name. So a
kill at any moment leaves a good store, and at most something in tmp/images for the next writer
to sweep. Two locks, both flock(2) and so released by a kill:

    images.lock   short: exclusive while index.json changes; shared by a start from resolve() until
                  the container's record names the image, so that rmi sees the container
    content.lock  long: shared while blobs and layers are added; exclusive while garbage goes
"""

from __future__ import annotations

import os

from .. import jsonio
from ..errors import EngineError
from ..files import Lock, write_atomic
from . import index
from .blobs import Blobs, BlobWriter, explain
from .digest import Descriptor, is_hex
from .manifest import INDEXES, LIMIT, parse, parse_config, parse_manifest
from .reference import Reference, ReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .index import Entry


class ImageNotFound(EngineError):
    """No image in the store has that name or id."""


class Image:
    """One image in the store, for one platform.

    id: the digest of its config, docker's image id. manifest: its descriptor.
    names: its whole names with tags, sorted. repo_digests: `repository@digest`, whole, sorted.
    """

    __slots__ = ("store", "id", "manifest", "names", "repo_digests", "_config")

    def __init__(
        self,
        store: Store,
        id: str,
        manifest: Descriptor,
        names: list[str],
        repo_digests: list[str],
    ) -> None:
        self.store = store
        self.id = id
        self.manifest = manifest
        self.names = names
        self.repo_digests = repo_digests
        self._config: dict[str, Any] | None = None

    def config(self) -> dict[str, Any]:
        """The image config, checked (config.md): what it runs, its environment, its history."""
        if self._config is None:
            self._config = parse_config(self.store.read_blob(self.id))
        return self._config

    def manifest_json(self) -> dict[str, Any]:
        """The manifest as it stands in the blob."""
        value: dict[str, Any] = jsonio.loads(self.store.read_blob(self.manifest.digest))
        return value

    def layers(self) -> list[tuple[Descriptor, str]]:
        """Each layer's descriptor and diff id, the lowest first."""
        manifest = parse_manifest(
            self.store.read_blob(self.manifest.digest), self.manifest.media_type
        )
        config = parse_config(self.store.read_blob(self.id), len(manifest.layers))
        return list(zip(manifest.layers, config["rootfs"]["diff_ids"], strict=True))

    @property
    def created(self) -> str:
        """When it was made, RFC 3339; "" when the config does not say."""
        return self.config().get("created") or ""

    @property
    def short_id(self) -> str:
        """Twelve hex digits, as docker prints it."""
        return self.id[7:19]

    def __repr__(self) -> str:
        return f"<Image {self.short_id} {' '.join(self.names)}>"


class Store:
    """All images below one data root; making the object touches nothing."""

    __slots__ = ("root", "layout", "index_path", "blobs", "layers", "stacks", "unfinished")

    def __init__(self, root: str) -> None:
        self.root = root
        self.layout = f"{root}/images"
        self.index_path = f"{self.layout}/index.json"
        self.layers = f"{root}/layers"
        self.stacks = f"{root}/stacks"
        self.unfinished = f"{root}/tmp/images"
        self.blobs = Blobs(f"{self.layout}/blobs/sha256", self.unfinished)

    # Locks

    def using(self) -> Lock:
        """Held from resolve() until a container's record names the image: no rmi comes between.

        Not to be held while the same process tags or removes: those want it for themselves.
        """
        self.create()
        return Lock(f"{self.root}/images.lock", shared=True)

    def adding(self) -> Lock:
        """Held by pull, load and build from their first has_blob() until tag(): what they find or
        write is not collected meanwhile. What killed writers left is swept first."""
        self.create()
        path = f"{self.root}/content.lock"
        try:
            with Lock(path, block=False):
                from . import garbage

                garbage.sweep(self)
        except BlockingIOError:
            pass
        except OSError as error:
            raise explain(f"write to the image store {self.root}", error)
        return Lock(path, shared=True)

    def create(self) -> None:
        """Make the directories and the empty layout; nothing happens when they are there."""
        if os.path.exists(self.index_path):
            return
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            for path in (self.blobs.directory, self.layers, self.stacks, self.unfinished):
                os.makedirs(path, exist_ok=True)
            # Made here, where a full disk has its sentence.
            with Lock(f"{self.root}/content.lock", shared=True):
                pass
            with Lock(f"{self.root}/images.lock"):
                if not os.path.exists(self.index_path):
                    write_atomic(f"{self.layout}/oci-layout", '{"imageLayoutVersion":"1.0.0"}')
                    index.write(self.index_path, [])
        except OSError as error:
            raise explain(f"make the image store {self.root}", error)

    # Names

    def resolve(self, text: str) -> Image:
        """The image of that name (tag or digest), or of that id or a unique beginning of it.

        ImageNotFound when there is none, ReferenceError when it could not be a name,
        EngineError when the beginning of an id fits several images. Reads index.json alone.
        """
        return self.find(self.entries(), text)

    def images(self) -> list[Image]:
        """Every image, the newest first; of the same age by id."""
        entries = self.entries()
        first: dict[str, Entry] = {}
        for entry in entries:
            first.setdefault(self.id_of(entry), entry)
        found = [self._image(entries, id, entry) for id, entry in sorted(first.items())]
        found.sort(key=lambda image: image.created, reverse=True)
        return found

    def tag(
        self,
        image: Image | Descriptor,
        reference: Reference | None,
        repo_digest: str | None = None,
    ) -> Image:
        """Give the image a name; another image that had it stays, by its digest or nameless.

        image: one that has been found here (ImageNotFound when it went meanwhile), or under
        adding() the descriptor of a manifest whose blobs are all there.
        reference: by tag or by digest; None keeps the image without a name.
        repo_digest: the digest by which the registry serves the name (of the index, where there
        is one). Durable: the name survives a power cut.
        """
        manifest = image.manifest if isinstance(image, Image) else image
        id = image.id if isinstance(image, Image) else self._config_of(manifest)
        new = index.make_entry(manifest, id, reference, repo_digest)

        def change(entries: list[Entry]) -> list[Entry]:
            if isinstance(image, Image):
                self.find(entries, id)
            others = [
                index.without_tag(old) if reference and index.is_named(old, reference) else old
                for old in entries
                if old["digest"] != new["digest"]
                or index.annotation(old, index.NAME) != index.annotation(new, index.NAME)
            ]
            return index.tidy([*others, new])

        self.change_index(change)
        return self.resolve(id)

    def untag(self, reference: Reference) -> None:
        """Take the name away; the image stays, nameless when it was its last (see remove)."""
        self.resolve(str(reference))
        self.change_index(
            lambda entries: index.tidy(
                [index.without_tag(e) if index.is_named(e, reference) else e for e in entries]
            )
        )

    def image_of(self, manifest: Descriptor) -> Image:
        """The image of a manifest whose blobs are all there, named or not: to unpack, then tag."""
        return Image(self, self._config_of(manifest), self._for_host(manifest), [], [])

    def entries(self) -> list[Entry]:
        """The entries of index.json (see index.py)."""
        try:
            return index.read(self.index_path)
        except OSError as error:
            raise explain(f"read {self.index_path}", error)

    def change_index(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Replace the entries of index.json by what `change` makes of them, under the lock."""
        self.create()
        with Lock(f"{self.root}/images.lock"):
            before = self.entries()
            after = change(before)
            if after != before:
                try:
                    index.write(self.index_path, after)
                except OSError as error:
                    raise explain(f"write {self.index_path}", error)

    def find(self, entries: list[Entry], text: str) -> Image:
        """resolve() among entries that were read before."""
        if text.startswith("sha256:") or (len(text) == 64 and is_hex(text)):
            return self._by_id(entries, text.removeprefix("sha256:"), text)
        try:
            reference = Reference.parse(text)
        except ReferenceError:
            if not is_hex(text):
                raise
        else:
            for entry in entries:
                if index.is_named(entry, reference):
                    return self._image(entries, self.id_of(entry), entry)
        return self._by_id(entries, text, text)

    def id_of(self, entry: Entry) -> str:
        """The image id of an entry; those that skopeo or umoci wrote do not carry it."""
        known = index.annotation(entry, index.IMAGE_ID)
        return known or self._config_of(Descriptor.from_json(entry))

    def _by_id(self, entries: list[Entry], start: str, text: str) -> Image:
        found: dict[str, Entry] = {}
        if is_hex(start):
            for entry in entries:
                id = self.id_of(entry)
                if id[7:].startswith(start):
                    found.setdefault(id, entry)
        if len(found) > 1:
            raise EngineError(f"several images have an id that begins with {start}")
        for id, entry in found.items():
            return self._image(entries, id, entry)
        raise ImageNotFound(f"no such image: {text}", hint="`minicontainer images` lists them")

    def _image(self, entries: list[Entry], id: str, entry: Entry) -> Image:
        """The image of an entry, with the names of all entries of that image."""
        names = set()
        digests = set()
        for other in entries:
            if other["digest"] != entry["digest"] and self.id_of(other) != id:
                continue
            reference = index.reference_of(other)
            if reference is not None:
                if reference.tag:
                    names.add(str(reference))
                digest = index.annotation(other, index.REPO_DIGEST) or reference.digest
                if digest:
                    digests.add(str(reference.with_digest(digest)))
        manifest = self._for_host(Descriptor.from_json(entry))
        manifest.annotations = None
        return Image(self, id, manifest, sorted(names), sorted(digests))

    def _for_host(self, descriptor: Descriptor) -> Descriptor:
        """The descriptor; of an index, which another tool can have put here, the host's build."""
        if descriptor.media_type not in INDEXES:
            return descriptor
        from .platform import Platform, choose

        value = parse(self.read_blob(descriptor.digest), descriptor.media_type)
        assert isinstance(value, list)
        return self._for_host(choose(value, Platform.host()))

    def _config_of(self, descriptor: Descriptor) -> str:
        """The digest of the config that the manifest names: the image's id."""
        manifest = self._for_host(descriptor)
        return parse_manifest(self.read_blob(manifest.digest), manifest.media_type).config.digest

    # Blobs (see blobs.py)

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is complete; size: and has that many bytes."""
        return self.blobs.has(digest, size)

    def blob_path(self, digest: str) -> str:
        """Where the blob is, or would be."""
        return self.blobs.path(digest)

    def read_blob(self, digest: str, limit: int = LIMIT) -> bytes:
        """The bytes of a small blob, verified; EngineError when it is larger than limit bytes."""
        return self.blobs.read(digest, limit)

    def write_blob(self, expected: Descriptor) -> BlobWriter:
        """A writer for `with`: the blob appears when the block ends well and size and digest are
        the expected ones; otherwise ContentMismatch, and nothing is left."""
        return self.blobs.write(expected.media_type, expected)

    def new_blob(self, media_type: str) -> BlobWriter:
        """A writer for content that we make: its `descriptor` is known after the `with` block."""
        return self.blobs.write(media_type)

    def add_blob(self, media_type: str, data: bytes) -> Descriptor:
        """Store bytes that we made; their descriptor."""
        return self.blobs.add(media_type, data)

    # Unpacked layers (see unpacking.py)

    def stack(self, image: Image) -> list[str]:
        """The directories of the unpacked layers, top first, as overlay.mount takes them."""
        return [f"{self.layers}/{name}" for name in self._read_stack(image)["layers"]]

    def is_unpacked(self, image: Image) -> bool:
        """Whether stack() would answer."""
        return os.path.exists(f"{self.stacks}/{image.id[7:]}.json")

    def sizes(self, image: Image) -> list[int]:
        """Bytes of the files in each layer, top first; empty before unpacking."""
        return list(self._read_stack(image)["sizes"]) if self.is_unpacked(image) else []

    def size(self, image: Image) -> int:
        """Bytes of the files in all layers, as `docker images` shows; 0 before unpacking."""
        return sum(self.sizes(image))

    def unpack(
        self, image: Image, progress: Callable[[Descriptor, str], None] | None = None
    ) -> None:
        """Unpack the layers that are not there yet, then write the stack file; under adding().

        progress: called with a layer's descriptor and "unpacking", "unpacked" or "exists".
        """
        from . import unpacking

        unpacking.unpack_image(self, image, progress)

    def _read_stack(self, image: Image) -> dict[str, Any]:
        try:
            value: dict[str, Any] = jsonio.read(f"{self.stacks}/{image.id[7:]}.json")
        except FileNotFoundError:
            raise EngineError(f"image {image.short_id} is not unpacked") from None
        return value

    # What a person wants to know (see describe.py)

    def inspect(self, image: Image) -> dict[str, Any]:
        """What `docker image inspect` shows."""
        from . import describe

        return describe.inspect(image)

    def history(self, image: Image) -> list[dict[str, Any]]:
        """The rows of `docker history`, the newest first: Id, Created, CreatedBy, Size, Comment."""
        from . import describe

        return describe.history(image)

    # Removal (see garbage.py and removal.py)

    def collect(self) -> list[str]:
        """Remove blobs, stacks and layers that no image needs, unless somebody adds right now
        (then the next collect does it); the digests of the blobs that went."""
        from . import garbage

        return garbage.collect(self)

    def remove(
        self,
        text: str,
        *,
        force: bool = False,
        containers: Callable[[], Iterable[tuple[str, str, bool]]] = lambda: (),
    ) -> list[str]:
        """rmi, see removal.remove; the lines that docker prints ("Untagged: …", "Deleted: …")."""
        from . import removal

        return removal.remove(self, text, force=force, containers=containers)

"""Layers: each one unpacked once, into a directory that overlayfs can mount as it is.

An image is a stack of archives. Each becomes a directory of its own in overlayfs's on-disk form
(placement.py), shared by all images that have the layer: starting a container unpacks nothing.

    unpacked = unpack(blob, media_type, diff_id, "layers/<hex of the diff id>")
    if unpacked.implicit and depends_on_lower(unpacked.implicit, lower):
        unpack(blob, media_type, diff_id, "layers/<hex of the chain id>", lower)

Most layers are the same directory whatever is below, and are stored by their diff id. A few use
directories that only a layer below describes (`tmp/x` without `tmp`; `bin/sh` where `bin` is a link
below), as bazel, ko and kaniko write them: those are unpacked for their stack, and stored under its
chain id. A caller who has the layers below at hand may pass them at once, under that same name.

Who stacks layers must stop at one that is_opaque(): the kernel does not look for that on a
layer's root.
"""

from __future__ import annotations

import os

from .. import files
from ..errors import EngineError
from . import compression, xattrs
from . import lower as below
from . import unpack as worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_GENERIC = ("", "application/octet-stream", "application/x-tar", "application/gzip")


class Unpacked:
    """What unpack() did. entries: how many the archive has; size: bytes of the archive, unpacked;
    content: bytes of the files in it, which is what docker shows as the layer's size.

    implicit: directories that the archive uses and does not describe, "." for the root. They have
    mode 0755 and owner root; depends_on_lower() says whether that is right.
    """

    __slots__ = ("entries", "size", "content", "implicit")

    def __init__(self, entries: int, size: int, content: int, implicit: list[str]) -> None:
        self.entries = entries
        self.size = size
        self.content = content
        self.implicit = implicit


def unpack(
    blob: str | int,
    media_type: str,
    diff_id: str,
    directory: str,
    lower: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Unpack one layer into a directory, which is there only once it is complete and verified.

    blob: path or descriptor of the layer as the registry has it (read from its start).
    media_type: of OCI or docker; the bytes decide between gzip, zstd and uncompressed.
    diff_id: `sha256:…` of the uncompressed archive, to its last byte (OCI image-spec config.md).
    directory: made by rename(2) from a sibling `<directory>.<random>.partial`, which is what a kill
    leaves behind. When somebody else was faster, theirs stays: the name tells the content.
    lower: directories of the layers below, top first, see above.
    progress: called with the bytes of the blob that are read, and all of them.
    EngineError when the layer is damaged, hostile, or not what diff_id says; then nothing is left.
    Safe to call from several threads. Needs root.
    """
    try:
        check_media_type(media_type)
        source = (
            os.open(blob, os.O_RDONLY | os.O_CLOEXEC) if isinstance(blob, str) else os.dup(blob)
        )
        try:
            os.lseek(source, 0, os.SEEK_SET)
            kind = compression.sniff(os.pread(source, 6, 0))
            with _Partial(directory) as partial:
                report = worker.run(source, kind, partial.path, lower, progress)
                if report["digest"] != diff_id:
                    raise EngineError(f"its content is {report['digest']}, not {diff_id}")
                partial.publish()
        finally:
            os.close(source)
    except EngineError as error:
        message = f"cannot unpack layer {diff_id[7:19]}: {error.message}"
        raise EngineError(message, hint=error.hint) from error
    except OSError as error:
        raise EngineError(f"cannot unpack layer {diff_id[7:19]}: {error}") from error
    return Unpacked(report["entries"], report["size"], report["content"], report["implicit"])


def depends_on_lower(implicit: Iterable[str], lower: Sequence[str]) -> bool:
    """Would these implicit directories hide something of the layers below that they should not?

    implicit: of Unpacked. lower: layer directories, top first. True when a layer below has another
    owner, mode or attributes for one of them, or something that is no directory in its place.
    """
    layers: list[int] = []
    try:
        for path in lower:
            layers.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for path in implicit:
            found = below.find(layers, b"" if path == "." else os.fsencode(path))
            if found is None:
                continue
            if found.metadata is None:
                return True
            mode, uid, gid, _, attributes = found.metadata
            if (mode, uid, gid) != (0o755, 0, 0) or attributes:
                return True
    finally:
        for descriptor in layers:
            os.close(descriptor)
    return False


def is_opaque(directory: str) -> bool:
    """Does this layer remove all that is below it (a whiteout `.wh..wh..opq` at its root)?"""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return xattrs.has(descriptor, xattrs.opaque(), b"y")
    finally:
        os.close(descriptor)


def check_media_type(media_type: str) -> None:
    """EngineError unless it can be a file system layer's: attestations and the like are listed as
    layers too."""
    if "encrypted" in media_type:
        raise EngineError(f"it is encrypted ({media_type})")
    if ".tar" not in media_type and media_type not in _GENERIC:
        raise EngineError(f"{media_type!r} is no file system layer")


class _Partial:
    """A directory in the making, removed at the end of `with` unless publish() named it."""

    __slots__ = ("path", "_directory")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.path = f"{directory}.{os.urandom(6).hex()}.partial"

    def __enter__(self) -> _Partial:
        os.mkdir(self.path, 0o700)
        # mkdir inherits a set-group-id bit from the parent, and all files would its group.
        os.chmod(self.path, 0o700)
        return self

    def publish(self) -> None:
        """Give the directory its name; or leave it to the one that has the name already."""
        try:
            os.rename(self.path, self._directory)
        except OSError:
            if not os.path.isdir(self._directory):
                raise

    def __exit__(self, *_: object) -> None:
        files.remove_tree(self.path)

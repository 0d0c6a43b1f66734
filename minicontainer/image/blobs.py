"""Blobs: files named by their digest. They appear whole and verified, or not at all."""

from __future__ import annotations

import itertools
import os

from ..errors import EngineError
from .digest import ContentMismatch, Descriptor, VerifiedWriter, digest_of
from .manifest import LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from types import TracebackType

_numbers = itertools.count()


class Blobs:
    """The blobs of a store.

    directory: where they are. unfinished: where they grow; on the same file system, so that
    rename(2) publishes them in one step.
    """

    __slots__ = ("directory", "unfinished")

    def __init__(self, directory: str, unfinished: str) -> None:
        self.directory = directory
        self.unfinished = unfinished

    def path(self, digest: str) -> str:
        """Where the blob is, or would be."""
        return f"{self.directory}/{digest[7:]}"

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is complete. Only verified content gets a blob's name, so its size
        tells enough (and finds the empty file that a power cut can leave)."""
        try:
            found = os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def open(self, digest: str) -> BufferedReader:
        """The blob as a file to read; EngineError when it is missing."""
        try:
            return open(self.path(digest), "rb")
        except OSError as error:
            raise explain(f"read blob {digest}", error)

    def read(self, digest: str, limit: int = LIMIT) -> bytes:
        """The bytes of a small blob, verified; EngineError when it is larger than limit bytes."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise EngineError(f"blob {digest} has more than {limit >> 20} MiB")
        if digest_of(data) != digest:
            raise ContentMismatch(
                f"blob {digest} in the store is damaged",
                hint=f"remove {self.path(digest)} and pull the image again",
            )
        return data

    def write(self, media_type: str, expected: Descriptor | None = None) -> BlobWriter:
        """A writer for a `with` block; the blob appears when the block ends well.

        expected: what the content must be, else ContentMismatch and nothing is left. Without it
        the content is ours, and `writer.descriptor` says what it became.
        """
        return BlobWriter(self, media_type, expected)

    def add(self, media_type: str, data: bytes) -> Descriptor:
        """Store bytes that we made; their descriptor."""
        with self.write(media_type) as writer:
            writer.write(data)
        assert writer.descriptor is not None
        return writer.descriptor

    def adopt(self, path: str, digest: str) -> None:
        """Make a finished, verified file below `unfinished` a blob."""
        try:
            os.rename(path, self.path(digest))
        except OSError as error:
            raise explain(f"keep blob {digest}", error)

    def new_file(self) -> tuple[str, int]:
        """Path and descriptor of an empty file of our own below `unfinished`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            path = f"{self.unfinished}/{os.getpid()}-{next(_numbers)}"
            try:
                return path, os.open(path, flags, 0o644)
            except FileExistsError:
                continue  # left by a killed process that had our number
            except OSError as error:
                raise explain("write to the image store", error)


class BlobWriter:
    """A blob on its way into the store; see Blobs.write."""

    __slots__ = ("descriptor", "_blobs", "_media_type", "_expected", "_path", "_file", "_writer")

    def __init__(self, blobs: Blobs, media_type: str, expected: Descriptor | None) -> None:
        self.descriptor = expected
        self._blobs = blobs
        self._media_type = media_type
        self._expected = expected

    def __enter__(self) -> BlobWriter:
        self._path, self._file = self._blobs.new_file()
        self._writer = VerifiedWriter(self._file, self._expected)
        return self

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of the data; ContentMismatch as soon as it is more than promised."""
        try:
            return self._writer.write(data)
        except OSError as error:
            raise explain(self._act(), error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.close(self._file)
            if kind is None:
                digest = self._writer.finish()
                os.rename(self._path, self._blobs.path(digest))
                self._path = ""
                self.descriptor = Descriptor(self._media_type, digest, self._writer.size)
        except OSError as failure:
            raise explain(self._act(), failure)
        finally:
            if self._path:
                os.unlink(self._path)

    def _act(self) -> str:
        return f"write blob {self._expected.digest}" if self._expected else "write a blob"


def explain(act: str, error: OSError) -> EngineError:
    """The sentence for a failed file operation of the store; act: "write blob sha256:…"."""
    import errno

    hint = None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, for instance with `minicontainer rmi`, or use another --root"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "run it as root, or use another --root"
    return EngineError(f"cannot {act}: {(error.strerror or str(error)).lower()}", hint=hint)

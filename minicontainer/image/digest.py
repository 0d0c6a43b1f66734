"""Content by its digest: descriptors, and streams that are verified while they flow.

Nothing is trusted by name. Bytes from a registry or an archive become a blob only when their
number and then their digest are what the descriptor says (OCI image spec, descriptor.md).
"""

from __future__ import annotations

import os

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Readable(Protocol):
        """Anything to read bytes from: a file, a socket's file, a response."""

        def read(self, size: int = -1, /) -> bytes: ...


_HEX = frozenset("0123456789abcdef")


class ContentMismatch(EngineError):
    """The bytes are not the ones that the descriptor promises: size or digest differ."""


class Descriptor:
    """What a blob is and how to know it: media type, digest, size in bytes (descriptor.md).

    platform, annotations, urls: as in the JSON, or None.
    """

    __slots__ = ("media_type", "digest", "size", "platform", "annotations", "urls")

    def __init__(
        self,
        media_type: str,
        digest: str,
        size: int,
        *,
        platform: dict[str, Any] | None = None,
        annotations: dict[str, str] | None = None,
        urls: list[str] | None = None,
    ) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.platform = platform
        self.annotations = annotations
        self.urls = urls

    @classmethod
    def from_json(cls, value: Any, what: str = "descriptor") -> Descriptor:
        """A descriptor from a stranger's JSON; EngineError where it is malformed.

        what: how the error calls it ("config", "layer 3").
        """
        if not isinstance(value, dict):
            raise EngineError(f"malformed {what}: not a JSON object")
        media_type = value.get("mediaType", "")
        size = value.get("size")
        platform = value.get("platform")
        annotations = value.get("annotations")
        urls = value.get("urls")
        if not isinstance(media_type, str):
            raise EngineError(f"malformed {what}: mediaType is not a string")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise EngineError(f"malformed {what}: size is not a number of bytes")
        if platform is not None and not isinstance(platform, dict):
            raise EngineError(f"malformed {what}: platform is not a JSON object")
        if annotations is not None and not (
            isinstance(annotations, dict)
            and all(isinstance(text, str) for text in annotations.values())
        ):
            raise EngineError(f"malformed {what}: annotations are not strings")
        if urls is not None and not (
            isinstance(urls, list) and all(isinstance(url, str) for url in urls)
        ):
            raise EngineError(f"malformed {what}: urls is not a list of strings")
        return cls(
            media_type,
            check_digest(value.get("digest"), what),
            size,
            platform=platform,
            annotations=annotations,
            urls=urls,
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor as a JSON object, without the fields that are not set."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        for name in ("platform", "annotations", "urls"):
            field = getattr(self, name)
            if field:
                value[name] = field
        return value

    @property
    def hex(self) -> str:
        """The digest without its algorithm: the name of the blob's file."""
        return self.digest[7:]

    def __repr__(self) -> str:
        return f"<{self.media_type} {self.digest[:19]} {self.size} bytes>"


def is_hex(text: str) -> bool:
    """Whether the text is lower-case hexadecimal digits alone (and at least one)."""
    return bool(text) and _HEX.issuperset(text)


def check_digest(text: Any, what: str = "digest") -> str:
    """The text, when it is `sha256:` and 64 lower-case hexadecimal digits; else EngineError.

    The digest becomes a file name, so this check is also what keeps `../` out of the store.
    """
    if not isinstance(text, str):
        raise EngineError(f"malformed {what}: it has no digest")
    algorithm, colon, encoded = text.partition(":")
    if colon and algorithm in ("sha384", "sha512"):
        raise EngineError(f"{what}: digest algorithm {algorithm} is not supported, only sha256 is")
    if algorithm != "sha256" or len(encoded) != 64 or not is_hex(encoded):
        raise EngineError(f"malformed {what}: {text[:100]!r} is not sha256: and 64 hex digits")
    return text


def digest_of(data: bytes) -> str:
    """The digest of bytes in memory, by the interpreter's built-in SHA-256.

    hashlib brings OpenSSL with it (5 ms); a manifest or a config is hashed in microseconds.
    """
    try:
        from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            from hashlib import sha256
    return f"sha256:{sha256(data).hexdigest()}"


class Verifier:
    """Counts and hashes bytes that flow by; size first, then digest.

    expected: the descriptor to hold the bytes to, or None to find out what they are.
    """

    __slots__ = ("expected", "size", "_hash", "_what")

    def __init__(self, expected: Descriptor | None, what: str = "") -> None:
        from hashlib import sha256

        self.expected = expected
        self.size = 0
        self._hash = sha256()
        self._what = what or (f"blob {expected.digest}" if expected else "blob")

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; ContentMismatch at the first byte past the promised size."""
        self.size += len(data)
        if self.expected is not None and self.size > self.expected.size:
            raise ContentMismatch(
                f"{self._what} is longer than the {self.expected.size} bytes of its descriptor"
            )
        self._hash.update(data)

    def finish(self) -> str:
        """The digest of all the bytes; ContentMismatch when they are not the promised ones."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if self.expected is not None:
            if self.size != self.expected.size:
                raise ContentMismatch(
                    f"{self._what} is cut short: {self.size} of {self.expected.size} bytes"
                )
            if digest != self.expected.digest:
                raise ContentMismatch(f"{self._what} has another content: its digest is {digest}")
        return digest


class VerifiedReader:
    """Reads a stream and raises ContentMismatch where it is not what the descriptor says.

    The end of the stream is reported only after the check, and one byte more than the promised
    size is asked for, so neither a short nor a longer stream passes.
    """

    __slots__ = ("_stream", "_verifier", "_done")

    def __init__(self, stream: Readable, expected: Descriptor, what: str = "") -> None:
        self._stream = stream
        self._verifier = Verifier(expected, what)
        self._done = False

    def read(self, size: int = -1) -> bytes:
        """At most size bytes (all of them for -1); b"" means the end, and that all was right."""
        if self._done or size == 0:
            return b""
        expected = self._verifier.expected
        assert expected is not None
        room = expected.size - self._verifier.size + 1
        if size < 0:
            parts = []
            while part := self.read(1 << 20):
                parts.append(part)
            return b"".join(parts)
        data = self._stream.read(min(size, room))
        if data:
            self._verifier.update(data)
        else:
            self._verifier.finish()
            self._done = True
        return data


class VerifiedWriter:
    """Writes to a file descriptor through a Verifier; close() says what was written.

    The one who opened the descriptor closes it, and decides what the file becomes.
    """

    __slots__ = ("_descriptor", "_verifier")

    def __init__(self, descriptor: int, expected: Descriptor | None, what: str = "") -> None:
        self._descriptor = descriptor
        self._verifier = Verifier(expected, what)

    @property
    def size(self) -> int:
        """The number of bytes so far."""
        return self._verifier.size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of the data; ContentMismatch before a byte too many reaches the file."""
        self._verifier.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        return len(data)

    def finish(self) -> str:
        """The digest of what was written; ContentMismatch when it is not the promised one."""
        return self._verifier.finish()

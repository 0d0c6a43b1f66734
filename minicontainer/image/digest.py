"""Content by its digest: descriptors, and streams that are verified while they flow.

Nothing is trusted by name. Bytes from a registry or an archive become a blob only when their
number and then their digest are what the descriptor says (OCI image spec, descriptor.md).
"""

from __future__ import annotations

import os

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


class VerifiedWriter:
    """Writes to a file descriptor what a descriptor promises: size first, then digest.

    expected: what the content must be, or None to find out what it is. The one who opened the
    file closes it, and decides what it becomes.
    """

    __slots__ = ("size", "_expected", "_file", "_hash")

    def __init__(self, file: int, expected: Descriptor | None) -> None:
        from hashlib import sha256

        self.size = 0
        self._file = file
        self._expected = expected
        self._hash = sha256()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of the data; ContentMismatch before a byte too many reaches the file."""
        self.size += len(data)
        if self._expected is not None and self.size > self._expected.size:
            raise ContentMismatch(
                f"blob {self._expected.digest} is longer than "
                f"the {self._expected.size} bytes of its descriptor"
            )
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        return len(data)

    def finish(self) -> str:
        """The digest of what was written; ContentMismatch when it is not what was promised."""
        digest = f"sha256:{self._hash.hexdigest()}"
        expected = self._expected
        if expected is not None and self.size != expected.size:
            raise ContentMismatch(
                f"blob {expected.digest} is cut short: {self.size} of {expected.size} bytes"
            )
        if expected is not None and digest != expected.digest:
            raise ContentMismatch(
                f"blob {expected.digest} has another content: its digest is {digest}"
            )
        return digest

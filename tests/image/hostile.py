"""Archives no honest program writes: each header made by hand, so that any field can lie."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

from minicontainer.image import layer

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: int = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_000_000_000,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
) -> bytes:
    """One header block; numbers may be given as raw bytes. tail: bytes from offset 345 on."""

    def field(value: int | bytes, width: int) -> bytes:
        text = value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)
        return text.ljust(width, b"\0")[:width]

    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            field(mode, 8),
            field(uid, 8),
            field(gid, 8),
            field(size, 12),
            field(mtime, 12),
            b" " * 8,
            kind,
            link[:100].ljust(100, b"\0"),
            magic.ljust(8, b"\0"),
            bytes(64),
            field(device[0], 8),
            field(device[1], 8),
            tail or prefix.ljust(155, b"\0"),
        )
    ).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(content: bytes) -> bytes:
    """Content as it stands in an archive."""
    return content + bytes(-len(content) % BLOCK)


def entry(name: bytes, kind: bytes = b"0", content: bytes = b"", **fields: object) -> bytes:
    """A header and its content; what is too long for it is said by PAX."""
    link = fields.get("link", b"")
    long = {b"path": name} if len(name) > 100 else {}
    if isinstance(link, bytes) and len(link) > 100:
        long[b"linkpath"] = link
    return (
        (pax(long) if long else b"") + header(name, kind, len(content), **fields) + padded(content)
    )  # type: ignore[arg-type]


def directory(name: bytes, **fields: object) -> bytes:
    return entry(name, b"5", **({"mode": 0o755} | fields))


def symlink(name: bytes, target: bytes) -> bytes:
    return entry(name, b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    return entry(name, b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record, whose length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def pax(records: dict[bytes, bytes] | list[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """A PAX header for the entry that follows (kind `x`) or for all of them (`g`)."""
    pairs = records.items() if isinstance(records, dict) else records
    return entry(b"pax", kind, b"".join(record(key, value) for key, value in pairs))


def archive(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def unpack(
    content: bytes, into: Path, lower: list[Path] | None = None, *, compress: bool = False
) -> layer.Unpacked:
    """Unpack an archive as the engine does: in a worker, verified by its diff id."""
    blob = into.with_name(into.name + ".blob")
    blob.write_bytes(gzip.compress(content, 1) if compress else content)
    kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
    return layer.unpack(
        str(blob), kind, digest(content), str(into), [os.fspath(path) for path in lower or ()]
    )

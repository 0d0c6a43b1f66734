"""Compression: a blob's bytes as the archive that was packed into them.

A decoder turns a descriptor into pieces of at most 1 MiB, whatever the blob says: a bomb (a few
bytes that unpack to gigabytes) costs time and disk, both bounded elsewhere, never memory.

Sources: RFC 1952 (gzip; "members" may follow each other), RFC 8878 (zstd; frames likewise).
"""

from __future__ import annotations

import os
import zlib

from .. import extras
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Decoder = Callable[[int], Iterator[bytes]]

INPUT = 256 << 10  # bytes read from the blob at once
OUTPUT = 1 << 20  # bytes given out at once; big enough that zlib works without the GIL for 3 ms

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}


class CompressionError(EngineError):
    """The blob does not decompress, or in a way that we do not know."""


def sniff(head: bytes) -> str:
    """How a blob with these first bytes is compressed: "gzip", "zstd" or "none".

    head: 6 bytes suffice. Docker too goes by the bytes and not by the media type, which is wrong
    in enough registries. CompressionError for the kinds that layers are not made of.
    """
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            if kind not in ("gzip", "zstd"):
                raise CompressionError(f"{kind} is no compression of a layer")
            return kind
    # A zstd stream may begin with a skippable frame (magic 0x184D2A50 to 0x184D2A5F).
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return "none"


def decoder(kind: str) -> Decoder:
    """The function that decompresses a kind that sniff() named, its library loaded.

    Loading comes first because the worker has no libraries left after its change of root.
    """
    if kind == "gzip":
        return _gunzip
    if kind == "zstd":
        return _zstd_decoder()
    return _read


def _read(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, OUTPUT):
        yield chunk


def _gunzip(descriptor: int) -> Iterator[bytes]:
    """All members of a gzip file; zeros after the last are padding, anything else is an error.

    Python's gzip module does the same at two thirds of the speed: small buffers, a second CRC.
    """
    member = None
    step = INPUT
    while chunk := os.read(descriptor, INPUT):
        view = memoryview(chunk)
        while view:
            if member is None:
                if view[0] == 0:
                    _expect_padding(view, descriptor)
                    return
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                output = member.decompress(view[:step], OUTPUT)
                view = view[step:]
                while output:
                    yield output
                    output = b""
                    if member.unconsumed_tail and not member.eof:
                        output = member.decompress(member.unconsumed_tail, OUTPUT)
            except zlib.error as error:
                raise CompressionError(f"the gzip data is damaged: {error}") from None
            if member.eof:
                # zlib copies what follows a member. Feeding a little at a time after one keeps
                # a blob of a million empty members from costing a million long copies.
                view = memoryview(chunk)[len(chunk) - len(view) - len(member.unused_data) :]
                member = None
                step = 4096
            else:
                step = min(2 * step, INPUT)
    if member is not None:
        raise CompressionError("the gzip data is cut short")


def _expect_padding(view: memoryview, descriptor: int) -> None:
    rest: Any = view
    while rest:
        if bytes(rest).strip(b"\0"):
            raise CompressionError("the gzip data is followed by something else")
        rest = os.read(descriptor, INPUT)


def _zstd_decoder() -> Decoder:
    """zstd by the standard library where it has it (Python 3.14), else by the `zstandard` extra."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        pass
    else:

        def read_standard(descriptor: int) -> Iterator[bytes]:
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                yield from _chunks(zstd.ZstdFile(file).read, (zstd.ZstdError, EOFError))

        return read_standard
    zstandard = extras.find("zstandard")
    if zstandard is None:
        raise CompressionError(
            "this layer is compressed with zstd, and this Python cannot read that",
            hint="install the extra: pip install 'minicontainer[zstd]', "
            "or the package python3-zstandard, or use Python 3.14",
        )

    def read_extra(descriptor: int) -> Iterator[bytes]:
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            reader = zstandard.ZstdDecompressor().stream_reader(
                file, read_size=INPUT, read_across_frames=True
            )
            yield from _chunks(reader.read, (zstandard.ZstdError,))

    return read_extra


def _chunks(read: Callable[[int], bytes], errors: tuple[type[Exception], ...]) -> Iterator[bytes]:
    while True:
        try:
            chunk = read(OUTPUT)
        except errors as error:
            raise CompressionError(f"the zstd data is damaged: {error}") from None
        if not chunk:
            return
        yield chunk


def ahead(chunks: Iterator[bytes], depth: int = 4) -> Iterator[bytes]:
    """The same chunks, made by a second thread up to `depth` chunks ahead of their use.

    zlib, zstd and hashlib work without the GIL, so decompressing overlaps with the system calls of
    placing. An error of the maker comes out where its chunk would have. The thread is abandoned
    when nobody reads on: for a process that ends then.
    """
    import queue
    import threading

    ready: queue.Queue[bytes | BaseException] = queue.Queue(depth)

    def make() -> None:
        try:
            for chunk in chunks:
                ready.put(chunk)
            ready.put(b"")
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=make, daemon=True).start()
    while chunk := ready.get():
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk

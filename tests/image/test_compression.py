"""gzip and zstd: all members, all frames, nothing else, and never much memory."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.image import compression

MANY = os.urandom(700_000) + bytes(3_000_000) + b"end"


def decode(blob: bytes, kind: str | None = None) -> bytes:
    file = os.memfd_create("blob")
    try:
        os.write(file, blob)
        os.lseek(file, 0, os.SEEK_SET)
        decoder = compression.decoder(kind or compression.sniff(blob))
        chunks = list(decoder(file))
        assert all(0 < len(chunk) <= compression.OUTPUT for chunk in chunks)
        return b"".join(chunks)
    finally:
        os.close(file)


def zstd_compress(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(content)
    zstandard = pytest.importorskip("zstandard")
    return bytes(zstandard.ZstdCompressor().compress(content))


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=5), st.integers(0, 600))
@settings(deadline=None)
def test_gzip_members_and_padding(members: list[bytes], padding: int) -> None:
    blob = b"".join(gzip.compress(member, 1) for member in members) + bytes(padding)
    assert decode(blob) == b"".join(members)


@pytest.mark.parametrize("split", [0, 1, 300_000, len(MANY)])
def test_gzip_larger_than_any_buffer(split: int) -> None:
    assert decode(gzip.compress(MANY[:split]) + gzip.compress(MANY[split:])) == MANY


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (gzip.compress(b"abc")[:-1], "cut short"),
        (gzip.compress(MANY)[:-9], "cut short"),
        (gzip.compress(b"abc")[:-8] + b"wrong sum", "damaged"),
        (gzip.compress(b"abc") + b"\1" * 20, "damaged"),
        (gzip.compress(b"abc") + b"\0\1", "followed by something else"),
        (gzip.compress(b"abc") + bytes(600_000) + b"\1", "followed by something else"),
        (gzip.compress(b"abc") + gzip.compress(b"def")[:5], "cut short"),
        (gzip.compress(b"abc")[:10] + b"\xff" * 20, "damaged"),
    ],
)
def test_refuses_gzip(blob: bytes, message: str) -> None:
    with pytest.raises(compression.CompressionError, match=message):
        decode(blob)


def test_a_bomb_takes_time_not_memory() -> None:
    """100 MB in 100 kB; neither held at once."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zeros = bytes(1 << 20)
    bomb = b"".join(squeeze.compress(zeros) for _ in range(100)) + squeeze.flush()
    file = os.memfd_create("bomb")
    os.write(file, bomb)
    os.lseek(file, 0, os.SEEK_SET)
    tracemalloc.start()
    try:
        assert sum(map(len, compression.decoder("gzip")(file))) == 100 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
        os.close(file)


def test_empty_members_cost_no_copies() -> None:
    """200,000 empty members: each once copied all that follows it in the buffer, 26 GB in all."""
    assert decode(gzip.compress(b"", 1) * 200_000 + gzip.compress(b"end")) == b"end"


def test_zstd() -> None:
    frames = zstd_compress(MANY[:1000]) + zstd_compress(MANY[1000:])
    assert decode(frames) == MANY
    skippable = b"\x5e\x2a\x4d\x18\x05\0\0\0table"
    assert decode(skippable + frames + skippable) == MANY
    for damage in (b"\x28\xb5\x2f\xfd" + b"\xff" * 20, b"something else", bytes(20)):
        with pytest.raises(compression.CompressionError, match="zstd data is damaged"):
            decode(frames + damage)


def test_zstd_without_a_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(compression.CompressionError) as caught:
        compression.decoder("zstd")
    assert "zstd" in caught.value.message
    assert "minicontainer[zstd]" in (caught.value.hint or "")


def test_sniff() -> None:
    assert compression.sniff(gzip.compress(b"")) == "gzip"
    assert compression.sniff(b"\x28\xb5\x2f\xfd..") == "zstd"
    assert compression.sniff(b"\x50\x2a\x4d\x18..") == "zstd"
    assert compression.sniff(b"etc/pa") == "none"
    assert compression.sniff(b"") == "none"
    for head in (b"BZh91A", b"\xfd7zXZ\0"):
        with pytest.raises(compression.CompressionError, match="no compression of a layer"):
            compression.sniff(head)


def test_uncompressed() -> None:
    assert decode(b"plain" + MANY) == b"plain" + MANY


def test_reading_ahead_keeps_order_and_hands_errors_on(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        for number in range(50):
            yield b"%d" % number
        raise compression.CompressionError("here")

    found = []
    with pytest.raises(compression.CompressionError, match="here"):
        for chunk in compression.ahead(chunks()):
            found.append(chunk)
    assert found == [b"%d" % number for number in range(50)]

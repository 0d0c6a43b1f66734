"""Descriptors and verified content: size first, then digest, not one byte more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image.digest import (
    ContentMismatch,
    Descriptor,
    VerifiedWriter,
    check_digest,
    digest_of,
)
from tests.image import small

CONTENT = b"the content of a layer"


def describe(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor("text/plain", small.digest(data), len(data) if size is None else size)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A descriptor that writes to tmp_path/blob."""
    descriptor = os.open(tmp_path / "blob", os.O_WRONLY | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_content_that_is_right_passes_in_pieces_of_any_size(file: int, tmp_path: Path) -> None:
    for size in (1, 7, len(CONTENT)):
        os.lseek(file, 0, os.SEEK_SET)
        writer = VerifiedWriter(file, describe(CONTENT))
        for at in range(0, len(CONTENT), size):
            assert writer.write(CONTENT[at : at + size]) == len(CONTENT[at : at + size])
        assert writer.finish() == small.digest(CONTENT)
        assert (tmp_path / "blob").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (CONTENT[:-1], "cut short: 21 of 22 bytes"),
        (b"", "cut short: 0 of 22 bytes"),
        (CONTENT + b"!", "longer than the 22 bytes"),
        (CONTENT[:-1] + b"?", "another content"),
    ],
)
def test_content_that_lies_is_an_error(file: int, sent: bytes, reason: str) -> None:
    writer = VerifiedWriter(file, describe(CONTENT))
    with pytest.raises(ContentMismatch, match=reason):
        writer.write(sent)
        writer.finish()


def test_the_byte_too_many_never_reaches_the_file(file: int, tmp_path: Path) -> None:
    writer = VerifiedWriter(file, describe(CONTENT))
    writer.write(CONTENT)
    with pytest.raises(ContentMismatch, match="longer"):
        writer.write(b"!")
    assert (tmp_path / "blob").read_bytes() == CONTENT


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_only_the_described_content_passes(described: bytes, sent: bytes) -> None:
    with open(os.devnull, "wb") as sink:
        writer = VerifiedWriter(sink.fileno(), describe(described))
        if described == sent:
            writer.write(sent)
            assert writer.finish() == small.digest(sent)
        else:
            with pytest.raises(ContentMismatch):
                writer.write(sent)
                writer.finish()


@given(st.binary(max_size=300))
def test_the_lean_hash_is_sha256(data: bytes) -> None:
    assert digest_of(data) == small.digest(data)


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "sha256", "sha256:", "sha256:abc", "sha256:" + "A" * 64, "sha256:" + "g" * 64,
     "md5:" + "0" * 32, "sha256:../" + "0" * 61, "sha256:" + "0" * 65],
)  # fmt: skip
def test_what_is_no_digest_never_becomes_a_file_name(text: object) -> None:
    with pytest.raises(EngineError, match="malformed layer 3"):
        check_digest(text, "layer 3")


def test_another_algorithm_is_named() -> None:
    with pytest.raises(EngineError, match="sha512 is not supported"):
        check_digest("sha512:" + "0" * 128)


def test_a_descriptor_is_read_and_written() -> None:
    value = {
        "mediaType": "a/b",
        "digest": small.digest(b""),
        "size": 0,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"},
        "annotations": {"a": "b"},
        "urls": ["https://example.com/x"],
    }
    assert Descriptor.from_json(value).to_json() == value


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", -1), ("size", True), ("size", "5"), ("size", 1 << 63), ("size", None), ("size", 1.5),
     ("mediaType", 5), ("digest", None), ("platform", []), ("annotations", {"a": 1}),
     ("urls", "https://x"), ("urls", [1])],
)  # fmt: skip
def test_a_malformed_descriptor_is_one_clear_line(field: str, value: object) -> None:
    good = {"mediaType": "a/b", "digest": small.digest(b""), "size": 0}
    with pytest.raises(EngineError) as caught:
        Descriptor.from_json(good | {field: value}, "config descriptor")
    assert caught.value.message.startswith("malformed config descriptor: ")
    assert "\n" not in caught.value.message

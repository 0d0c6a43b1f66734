"""The tar reader against tarfile and GNU tar, and against archives that lie."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image import tar, tarfields
from tests.image import hostile

# What an entry is made of, to be compared: content instead of size.
Row = tuple[bytes, int, int, int, int, int, bytes, bytes]


def pieces(content: bytes, length: int) -> Iterator[bytes]:
    for at in range(0, len(content), length):
        yield content[at : at + length]


def rows(content: bytes, length: int = 1 << 20) -> list[Row]:
    """All that our reader sees; files are copied through a real descriptor."""
    reader = tar.Reader(pieces(content, length))
    found: list[Row] = []
    while (entry := reader.next()) is not None:
        data = b""
        if entry.kind == tar.FILE:
            file = os.memfd_create("content")
            try:
                reader.copy(file)
                data = os.pread(file, 1 << 24, 0)
                assert len(data) == min(entry.size, 1 << 24)
            finally:
                os.close(file)
        found.append(
            (
                entry.name,
                entry.kind,
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime,
                entry.link,
                data,
            )
        )
    return found


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=80).filter(
        lambda name: name not in (".", "..")
    ),
    min_size=1,
    max_size=5,
).map("/".join)
ids = st.integers(0, 2**21 - 1) | st.integers(0, 2**32 - 2)
entries = st.builds(
    lambda name, kind, content, mode, uid, gid, mtime, link: (
        name, kind, content if kind == tarfile.REGTYPE else b"", mode, uid, gid, mtime,
        link if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "",
    ),
    names,
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
    st.binary(max_size=1500),
    st.integers(0, 0o7777),
    ids,
    ids,
    st.integers(-(2**31), 2**34),
    names,
)  # fmt: skip


@given(
    st.lists(entries, max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 3000),
)
@settings(max_examples=150, deadline=None)
def test_reads_what_tarfile_wrote(
    wanted: list[tuple[str, bytes, bytes, int, int, int, int, str]], form: int, length: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, kind, content, mode, uid, gid, mtime, link in wanted:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
            info.mtime, info.linkname, info.size = mtime, link, len(content)
            archive.addfile(info, io.BytesIO(content))
    expected = [
        (
            name.encode() + (b"/" if kind == tarfile.DIRTYPE else b""),
            kind[0], mode, uid, gid, mtime * 10**9, link.encode(), content,
        )
        for name, kind, content, mode, uid, gid, mtime, link in wanted
    ]  # fmt: skip
    found = rows(out.getvalue(), length)
    strip = [(row[0].rstrip(b"/"), *row[1:]) for row in found]
    assert strip == [(row[0].rstrip(b"/"), *row[1:]) for row in expected]


def sample() -> bytes:
    """An archive with one of everything."""
    return hostile.archive(
        hostile.pax({b"comment": b"all"}, b"g"),
        hostile.directory(b"d/"),
        hostile.entry(b"d/file", content=b"x" * 700),
        hostile.pax(
            {b"path": b"d/" + b"long" * 60, b"mtime": b"1.5", b"SCHILY.xattr.user.a": b"1"}
        ),
        hostile.entry(b"short", content=b"y"),
        hostile.entry(b"././@LongLink", b"L", b"d/" + b"gnu" * 60 + b"\0"),
        hostile.entry(b"short"),
        hostile.symlink(b"d/link", b"file"),
        hostile.pax(
            {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"5000"}
        ),
        hostile.entry(b"d/sparse", content=hostile.padded(b"1\n4000\n600\n") + b"z" * 600),
    )


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_archive_is_an_error_or_an_archive(data: st.DataObject) -> None:
    """No bytes at all make the reader fail in another way than by TarError."""
    content = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        mend_checksums(content)
    try:
        rows(bytes(content), data.draw(st.sampled_from([1 << 20, 513])))
    except EngineError:
        pass
    except OSError as error:
        # A size that no file system has is refused when it is placed.
        assert error.errno in (errno.EFBIG, errno.EINVAL), error


def mend_checksums(content: bytearray) -> None:
    """Make every block that looks like a header pass for one, so that damage gets deeper in."""
    for at in range(0, len(content), hostile.BLOCK):
        block = content[at : at + hostile.BLOCK]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            content[at + 148 : at + 156] = b"%06o\0 " % sum(block)


def test_a_cut_is_noticed_wherever_it_is() -> None:
    whole = sample()
    complete = rows(whole)
    for length in range(1, len(whole) - len(hostile.END), 97):
        try:
            found = rows(whole[:length])
        except tarfields.TarError:
            continue
        # Between two entries there is nothing to notice; the diff id does.
        assert len(found) < len(complete)
        assert found == complete[: len(found)]
        assert length % hostile.BLOCK == 0


def test_takes_an_archive_without_closing_zeros() -> None:
    assert len(rows(hostile.entry(b"a") + hostile.entry(b"b"))) == 2
    assert len(rows(hostile.entry(b"a") + bytes(512))) == 1
    assert rows(b"") == []


def test_refuses_what_a_second_reader_could_read_on_after() -> None:
    with pytest.raises(tarfields.TarError, match="lone block"):
        rows(hostile.entry(b"a") + bytes(512) + hostile.entry(b"b") + hostile.END)


@pytest.mark.parametrize("value", [b"1.5", b"1.500000000", b"0000001.5000"])
def test_pax_times_are_exact(value: bytes) -> None:
    assert rows(hostile.pax({b"mtime": value}) + hostile.entry(b"a"))[0][5] == 1_500_000_000
    assert rows(hostile.pax({b"mtime": b"-" + value}) + hostile.entry(b"a"))[0][5] == -1_500_000_000


def test_nanoseconds_survive() -> None:
    """A float would give …120."""
    archive = hostile.pax({b"mtime": b"1700000000.123456789"}) + hostile.entry(b"a")
    assert rows(archive)[0][5] == 1_700_000_000_123_456_789


def test_a_global_header_holds_until_an_entry_says_otherwise() -> None:
    found = rows(
        hostile.pax({b"uid": b"7", b"gid": b"8"}, b"g")
        + hostile.entry(b"a")
        + hostile.pax({b"uid": b"9"})
        + hostile.entry(b"b")
        + hostile.pax({b"uid": b""})
        + hostile.entry(b"c", uid=3)
        + hostile.pax({b"uid": b""}, b"g")
        + hostile.entry(b"d", uid=4)
    )
    assert [(row[3], row[4]) for row in found] == [(7, 8), (9, 8), (3, 8), (4, 8)]


def test_extended_attributes_may_hold_any_bytes() -> None:
    value = b"line\nline\0=end"
    reader = tar.Reader(
        iter([hostile.pax({b"SCHILY.xattr.user.x": value, b"path": b"p"}) + hostile.entry(b"a")])
    )
    entry = reader.next()
    assert entry is not None
    assert entry.xattrs == {b"user.x": value}
    assert entry.name == b"p"


def test_attributes_do_not_pass_to_the_next_entry() -> None:
    reader = tar.Reader(
        iter(
            [
                hostile.pax({b"SCHILY.xattr.user.x": b"1"})
                + hostile.entry(b"a")
                + hostile.entry(b"b")
            ]
        )
    )
    reader.next()
    entry = reader.next()
    assert entry is not None
    assert entry.xattrs is None


def test_a_prefix_is_only_what_ustar_says() -> None:
    assert rows(hostile.entry(b"name", prefix=b"dir"))[0][0] == b"dir/name"
    # GNU's header has times where ustar has the prefix.
    assert rows(hostile.entry(b"name", prefix=b"dir", magic=b"ustar  \0"))[0][0] == b"name"


def test_base_256_numbers() -> None:
    big = b"\x80" + (3_000_000_000).to_bytes(7, "big")
    assert rows(hostile.entry(b"a", uid=big))[0][3] == 3_000_000_000
    before = (-5).to_bytes(12, "big", signed=True)
    assert rows(hostile.entry(b"a", mtime=before))[0][5] == -5_000_000_000


def test_old_archives() -> None:
    """A directory was a file with a slash; the checksum of signed bytes."""
    assert rows(hostile.entry(b"d/", b"\0"))[0][1] == tar.DIRECTORY
    assert rows(hostile.entry(b"f", b"\0", b"x"))[0][1] == tar.FILE
    block = bytearray(hostile.header(b"\xff\xfe"))
    total = int(block[148:154], 8) - 2 * 256
    block[148:156] = b"%06o\0 " % total
    assert rows(bytes(block))[0][0] == b"\xff\xfe"


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (hostile.entry(b"a", b"0", uid=b"\xff" * 8), "no user or group id"),
        (hostile.pax({b"uid": b"4294967295"}) + hostile.entry(b"a"), "no user or group id"),
        (hostile.header(b"a", size=b"\xff" * 12), "no size of a file"),
        (hostile.header(b"a", size=b"\x80" + b"\xff" * 11), "no size of a file"),
        (hostile.header(b"a", size=b"-0000000010"), "not a number"),
        (hostile.header(b"a", size=b"0o777"), "not a number"),
        (hostile.header(b"a", size=b"1_000"), "not a number"),
        (hostile.header(b"a", size=b"00000000009"), "not a number"),
        (hostile.header(b"a", b"x", 2 << 20), "at most 1048576"),
        (hostile.header(b"a", b"L", 1 << 40), "at most 1048576"),
        (hostile.header(b"a", b"L", b"\xff" * 12), "no size of a file"),
        (hostile.header(b"a", size=1000) + b"short", "cut short"),
        (hostile.entry(b"a", b"V"), "unknown tar entry type 'V'"),
        (hostile.entry(b"a", b"x", b"99 path=a\n"), "length is wrong"),
        (hostile.entry(b"a", b"x", b"5 path=a\n"), "length is wrong"),
        (hostile.entry(b"a", b"x", b"0 path=a\n"), "length is wrong"),
        (hostile.entry(b"a", b"x", b"path=a\n"), "no length"),
        (hostile.entry(b"a", b"x", b"9 pathxa\n"), "not key=value"),
        (hostile.pax({b"size": b"-1"}) + hostile.entry(b"a"), "not a number"),
        (hostile.pax({b"size": b"9" * 30}) + hostile.entry(b"a"), "not a number"),
        (hostile.pax({b"mtime": b"nan"}) + hostile.entry(b"a"), "not a time"),
        (hostile.pax({b"path": b"a\0b"}) + hostile.entry(b"a"), "zero byte"),
        (hostile.pax({b"linkpath": b"a\0b"}) + hostile.symlink(b"a", b"b"), "zero byte"),
        (hostile.pax({b"path": b"a"}), "between a header's extension"),
        (b"\1" + hostile.entry(b"a")[1:], "checksum"),
    ],
)
def test_refuses(archive: bytes, message: str) -> None:
    with pytest.raises(tarfields.TarError, match=message):
        rows(archive)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"6"])
def test_only_files_have_content(kind: bytes) -> None:
    """A size on a link hides no data: what follows is the next header (as Go reads it)."""
    found = rows(hostile.header(b"a", kind, 512, link=b"b") + hostile.entry(b"next"))
    assert [row[0] for row in found] == [b"a", b"next"]


# --------------------------------------------------------------------------------- sparse files


@pytest.mark.tools("tar")
@pytest.mark.parametrize("length", [1 << 20, 512, 777])
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str], length: int) -> None:
    """30 pieces, so that GNU's old format needs two more headers; a hole at the end."""
    content = bytearray(4 << 20)
    for at in range(30):
        content[at * 100_000 : at * 100_000 + 4096] = bytes([at + 1]) * 4096
    with (tmp_path / "holes").open("wb") as file:
        for at in range(30):
            file.seek(at * 100_000)
            file.write(bytes([at + 1]) * 4096)
        file.truncate(len(content))
    (tmp_path / "after").write_bytes(b"after")
    command = [shutil.which("tar") or "tar", "-C", tmp_path, *options, "-S", "-cf", "-"]
    archive = subprocess.run([*command, "holes", "after"], capture_output=True, check=True).stdout
    assert len(archive) < 1 << 20, "GNU tar stored the holes"
    found = rows(archive, length)
    assert [(row[0], row[1]) for row in found] == [(b"holes", tar.FILE), (b"after", tar.FILE)]
    assert found[0][7] == bytes(content)
    assert found[1][7] == b"after"


def test_sparse_holes_take_no_room(tmp_path: Path) -> None:
    size = 1 << 40
    archive = hostile.pax(
        {b"GNU.sparse.size": b"%d" % size, b"GNU.sparse.map": b"%d,3" % (size - 3)}
    ) + hostile.entry(b"big", content=b"end")
    reader = tar.Reader(iter([archive]))
    entry = reader.next()
    assert entry is not None and entry.size == size
    with (tmp_path / "big").open("wb") as file:
        reader.copy(file.fileno())
        assert os.fstat(file.fileno()).st_size == size
        assert os.fstat(file.fileno()).st_blocks < 100


@pytest.mark.parametrize(
    ("records", "content", "message"),
    [
        ({b"size": b"10", b"map": b"5,2,4,1"}, b"abc", "backwards"),
        ({b"size": b"10", b"map": b"9,3"}, b"abc", "does not fit"),
        ({b"size": b"10", b"map": b"0,2"}, b"abc", "does not fit"),
        ({b"size": b"10", b"map": b"0,2,3"}, b"abc", "odd count"),
        ({b"size": b"10", b"map": b"0,-2"}, b"abc", "not a number"),
        ({b"size": b"10", b"numbytes": b"2"}, b"ab", "missing"),
        ({b"realsize": b"9", b"major": b"2"}, b"ab", "unknown sparse format"),
        ({b"realsize": b"9", b"major": b"1"}, b"1\n0\n2\nab", "cut short"),
        ({b"realsize": b"9", b"major": b"1"}, hostile.padded(b"9999999999\n"), "pieces"),
        ({b"realsize": b"9", b"major": b"1"}, b"1" * 2048, "endless"),
    ],
)
def test_refuses_sparse_maps(records: dict[bytes, bytes], content: bytes, message: str) -> None:
    header = hostile.pax({b"GNU.sparse." + key: value for key, value in records.items()})
    with pytest.raises(tarfields.TarError, match=message):
        rows(header + hostile.entry(b"s", content=content))


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_ENTRIES", 3)
    assert len(rows(hostile.entry(b"a") * 3)) == 3
    with pytest.raises(tarfields.TarError, match="more than 3 entries"):
        rows(hostile.entry(b"a") * 4)

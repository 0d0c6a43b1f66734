"""Tar: the format of a layer, read from a stream in one pass.

An archive is a row of 512-byte headers, each followed by its content padded to 512 bytes, and two
blocks of zeros. Forty years of extensions hide in that: long names (GNU 'L' and 'K', PAX 'path'),
big numbers (base 256, PAX 'size'), sparse files (four ways), extended attributes (PAX 'SCHILY').

Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; the GNU tar manual,
"Basic Tar Format" and "Storing Sparse Files"; Go's archive/tar where they are silent, because
that is what docker reads layers with.

Everything in an archive is a stranger's word. Here numbers, lengths and checksums are verified and
bounded; what a name may point at is the placer's business. `tarfile` is 3 times slower on 15,000
small files: it makes a Python object of each field, and copies each file in 16 KiB pieces.
"""

from __future__ import annotations

import os

from .tarfields import (
    BLOCK,
    Sparse,
    TarError,
    check_id,
    check_size,
    parse_decimal,
    parse_number,
    parse_records,
    parse_time,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ZEROS = bytes(BLOCK)

# Bounds on what an archive can make us hold in memory. No real image comes near.
MAX_ENTRIES = 4_000_000  # headers in one archive
MAX_EXTENSION = 1 << 20  # bytes of one PAX header or GNU long name; Go's archive/tar has the same

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
_KINDS = {0: FILE, ord("7"): FILE, ord("S"): FILE} | {kind: kind for kind in b"0123456"}


class Entry:
    """One entry of an archive, as the archive tells it: nothing in it is safe to use as a path.

    name, link: bytes, as written. kind: one of the constants above. size: bytes of the file when
    placed. mtime: nanoseconds since the epoch. device: (major, minor). xattrs: name to value, or
    None. segments: [(offset, bytes)] of the data of a sparse file, or None.
    """

    __slots__ = (
        "name", "kind", "mode", "uid", "gid", "size", "mtime", "link", "device", "xattrs",
        "segments",
    )  # fmt: skip

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes] | None
    segments: list[tuple[int, int]] | None


class Reader:
    """An archive as a row of entries: `while entry := reader.next(): …; reader.copy(fd)`.

    chunks: the archive in pieces of any size. The entry that next() returns is the same object each
    time. Content that nobody copies is skipped. Raises TarError, or what `chunks` raises.
    """

    __slots__ = (
        "_more", "_chunk", "_view", "_at", "_length", "_left", "_padding", "_count", "_entry",
        "_owners", "_global",
    )  # fmt: skip

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._more: Callable[[], bytes] = chunks.__next__
        self._chunk = b""
        self._view = memoryview(b"")
        self._at = self._length = 0  # in the chunk
        self._left = self._padding = 0  # of the current entry's content, in bytes
        self._count = 0
        self._entry = Entry()
        self._owners: dict[bytes, tuple[int, int, int]] = {}
        self._global: dict[bytes, bytes] = {}

    @property
    def has_begun(self) -> bool:
        """Whether there was a header: what has none is no tar."""
        return self._count > 0

    def next(self) -> Entry | None:
        """The next entry, or None at the end of the archive."""
        if self._left or self._padding:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        name = link = b""
        records: list[tuple[bytes, bytes]] | None = None
        while header := self._header():
            flag = header[156]
            if flag in _KINDS:
                return self._read(header, name, link, records or [])
            size = check_size(parse_number(header[124:136]))
            if flag in b"xX":
                records = parse_records(self._extension(size))
            elif flag in b"g":
                self._remember(parse_records(self._extension(size)))
            elif flag in b"L":
                name = self._extension(size).partition(b"\0")[0]
            elif flag in b"K":
                link = self._extension(size).partition(b"\0")[0]
            else:
                raise TarError(f"unknown tar entry type {chr(flag)!r} of {_name(header)!r}")
        if records is not None or name or link:
            raise TarError("the archive ends between a header's extension and its header")
        return None

    def _read(
        self, header: bytes, name: bytes, link: bytes, records: list[tuple[bytes, bytes]]
    ) -> Entry:
        """The entry of a header and of the extensions before it; stops where its content begins."""
        entry = self._entry
        flag = header[156]
        # Owner and mode are the same 24 bytes in almost every header of an archive.
        owner = self._owners.get(header[100:124])
        if owner is None:
            owner = self._owner(header[100:124])
        entry.mode, entry.uid, entry.gid = owner
        entry.mtime = parse_number(header[136:148]) * 1_000_000_000
        entry.name = name or _name(header)
        entry.link = b""
        entry.xattrs = entry.segments = None
        entry.kind = kind = _KINDS[flag]
        entry.size = check_size(parse_number(header[124:136]))
        if kind in (LINK, SYMLINK):
            entry.link = link or header[157:257].partition(b"\0")[0]
        elif kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = parse_number(header[329:337]), parse_number(header[337:345])
        sparse = Sparse() if records or self._global or flag in b"S" else None
        if sparse is not None:
            self._apply(records, sparse)
        if flag == 0 and entry.name[-1:] == b"/":
            entry.kind = DIRECTORY  # as before POSIX
        if b"\0" in entry.name or b"\0" in entry.link:
            raise TarError(f"a zero byte in the name {entry.name!r}")
        if entry.kind != FILE:
            # Links and directories have no content, whatever their size field says (Go).
            entry.size = 0
            return entry
        self._left = entry.size
        self._padding = -entry.size % BLOCK
        if sparse is None or not (sparse.used or flag in b"S"):
            return entry
        if flag in b"S":
            sparse.read_header(header, self._block)
        elif sparse.in_data:
            sparse.read_data(self._data_block)
        sparse.check(self._left, entry.name)
        entry.size, entry.segments = sparse.size, sparse.segments
        return entry

    def copy(self, descriptor: int) -> None:
        """Write the content of the current entry, holes left out, to a file opened at its start.

        Straight from the decompressor's buffer: a file of usual size is one write(2), no copy.
        """
        segments = self._entry.segments
        if segments is None:
            self._copy(descriptor, self._left)
            return
        for offset, length in segments:
            os.lseek(descriptor, offset, os.SEEK_SET)
            self._copy(descriptor, length)
        os.ftruncate(descriptor, self._entry.size)

    def _copy(self, descriptor: int, left: int) -> None:
        self._left -= left
        while left:
            at = self._at
            if at == self._length:
                self._fill()
                at = 0
            written = os.write(descriptor, self._view[at : at + left])
            self._at = at + written
            left -= written

    def drain(self) -> None:
        """Read all that follows the archive: its digest covers the padding too."""
        try:
            while True:
                self._more()
        except StopIteration:
            pass

    def _fill(self) -> None:
        """Get the next chunk; the archive must not end here."""
        chunk = b""
        try:
            while not chunk:
                chunk = self._more()
        except StopIteration:
            raise TarError("the archive is cut short") from None
        self._chunk = chunk
        self._view = memoryview(chunk)
        self._at = 0
        self._length = len(chunk)

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes (small: they are copied)."""
        at = self._at
        if at + size <= self._length:
            self._at = at + size
            return self._chunk[at : at + size]
        parts = []
        while size:
            if self._at == self._length:
                self._fill()
            part = self._chunk[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size > self._length - self._at:
            size -= self._length - self._at
            self._fill()
        self._at += size

    def _block(self) -> bytes:
        return self._take(BLOCK)

    def _data_block(self) -> bytes:
        """One block from the content of the current entry."""
        if self._left < BLOCK:
            raise TarError(f"the sparse map of {self._entry.name!r} is cut short")
        self._left -= BLOCK
        return self._take(BLOCK)

    def _header(self) -> bytes:
        """The next header, its checksum verified; b"" at the end of the archive."""
        if self._at == self._length:
            # Archives without the closing zeros exist, and docker takes them.
            try:
                self._fill()
            except TarError:
                return b""
        header = self._take(BLOCK)
        if header == _ZEROS:
            if self._at == self._length:
                try:
                    self._fill()
                except TarError:
                    return b""
            # Whoever reads on after a lone block of zeros sees other files than who stops.
            if self._take(BLOCK) != _ZEROS:
                raise TarError("a lone block of zeros in the middle of the archive")
            return b""
        # The sum is over the header with its own field taken as eight spaces. Old Suns added
        # signed bytes.
        stored = parse_number(header[148:156])
        total = sum(header) - sum(header[148:156]) + 8 * 32
        if stored != total:
            high = sum(1 for byte in header[:148] + header[156:] if byte > 127)
            if stored != total - 256 * high:
                raise TarError("a tar header is damaged: its checksum does not match")
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise TarError(f"the archive has more than {MAX_ENTRIES} entries")
        return header

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION:
            raise TarError(f"an extended tar header of {size} bytes; at most {MAX_EXTENSION} go")
        content = self._take(size)
        self._skip(-size % BLOCK)
        return content

    def _owner(self, field: bytes) -> tuple[int, int, int]:
        mode, uid, gid = (parse_number(field[at : at + 8]) for at in (0, 8, 16))
        owner = mode & 0o7777, check_id(uid), check_id(gid)
        if len(self._owners) > 1000:
            self._owners.clear()
        self._owners[field] = owner
        return owner

    def _remember(self, records: list[tuple[bytes, bytes]]) -> None:
        """Take over a global PAX header: what it says holds for all entries that follow."""
        for key, value in records:
            if value:
                self._global[key] = value
            else:
                self._global.pop(key, None)
        if sum(len(key) + len(value) for key, value in self._global.items()) > MAX_EXTENSION:
            raise TarError(f"global tar headers of more than {MAX_EXTENSION} bytes")

    def _apply(self, records: list[tuple[bytes, bytes]], sparse: Sparse) -> None:
        """Let PAX records override the header's fields; unknown ones are ignored (POSIX)."""
        entry = self._entry
        if self._global:
            own = {key for key, _ in records}
            records = [pair for pair in self._global.items() if pair[0] not in own] + records
        for key, value in records:
            if key.startswith(b"SCHILY.xattr."):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[13:]] = value
            elif key.startswith(b"GNU.sparse."):
                sparse.record(key[11:], value)
            elif not value:
                continue  # an empty value takes a global record back
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"mtime":
                entry.mtime = parse_time(value)
            elif key == b"size":
                entry.size = check_size(parse_decimal(value))
            elif key == b"uid":
                entry.uid = check_id(parse_decimal(value))
            elif key == b"gid":
                entry.gid = check_id(parse_decimal(value))
        if sparse.name:
            entry.name = sparse.name


def _name(header: bytes) -> bytes:
    """The name in a header; ustar keeps what does not fit into 100 bytes as a prefix."""
    end = header.find(0, 0, 100)
    name = header[:end] if end >= 0 else header[:100]
    if header[345] and header[257:263] == b"ustar\0":
        # Star kept times in the prefix's last bytes, and signed its archives.
        limit = 476 if header[508:512] == b"tar\0" else 500
        return header[345:limit].partition(b"\0")[0] + b"/" + name
    return name

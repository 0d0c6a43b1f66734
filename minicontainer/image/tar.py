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

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
_ZEROS = bytes(BLOCK)

# Bounds on what an archive can make us hold in memory. No real image comes near.
MAX_ENTRIES = 4_000_000  # headers in one archive
MAX_EXTENSION = 1 << 20  # bytes of one PAX header or GNU long name; Go's archive/tar has the same
MAX_SEGMENTS = 100_000  # pieces of one sparse file

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
_KINDS = {0: FILE, ord("7"): FILE, ord("S"): FILE} | {kind: kind for kind in b"0123456"}


class TarError(EngineError):
    """The archive is damaged, cut short, or asks for more than we grant."""


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

    def next(self) -> Entry | None:
        """The next entry, or None at the end of the archive."""
        if self._left or self._padding:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        entry = self._entry
        name = link = b""
        records: list[tuple[bytes, bytes]] | None = None
        while header := self._header():
            flag = header[156]
            kind = _KINDS.get(flag)
            if kind is None:
                size = _size(_number(header[124:136]))
                if flag in b"xX":
                    records = _records(self._extension(size))
                elif flag in b"L":
                    name = self._extension(size).partition(b"\0")[0]
                elif flag in b"K":
                    link = self._extension(size).partition(b"\0")[0]
                elif flag in b"g":
                    self._remember(_records(self._extension(size)))
                else:
                    raise TarError(f"unknown tar entry type {chr(flag)!r} of {_name(header)!r}")
                continue
            # Owner and mode are the same 24 bytes in almost every header of an archive.
            owner = self._owners.get(header[100:124])
            if owner is None:
                owner = self._owner(header[100:124])
            entry.mode, entry.uid, entry.gid = owner
            entry.mtime = _number(header[136:148]) * 1_000_000_000
            entry.name = name or _name(header)
            entry.link = b""
            entry.xattrs = entry.segments = None
            entry.kind = kind
            entry.size = _size(_number(header[124:136]))
            if kind in (LINK, SYMLINK):
                entry.link = link or header[157:257].partition(b"\0")[0]
            elif kind in (CHARACTER, BLOCK_DEVICE):
                entry.device = _number(header[329:337]), _number(header[337:345])
            sparse = _Sparse()
            if records is not None or self._global:
                self._apply(records or [], sparse)
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
            if flag in b"S":
                sparse.read_header(header, self._block)
                self._finish_sparse(sparse)
            elif sparse.used:
                if sparse.in_data:
                    sparse.read_data(self._data_block)
                self._finish_sparse(sparse)
            return entry
        if records is not None or name or link:
            raise TarError("the archive ends between a header's extension and its header")
        return None

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
        stored = _number(header[148:156])
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
        mode, uid, gid = _number(field[:8]), _number(field[8:16]), _number(field[16:])
        owner = mode & 0o7777, _id(uid), _id(gid)
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

    def _apply(self, records: list[tuple[bytes, bytes]], sparse: _Sparse) -> None:
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
                entry.mtime = _time(value)
            elif key == b"size":
                entry.size = _size(_decimal(value))
            elif key == b"uid":
                entry.uid = _id(_decimal(value))
            elif key == b"gid":
                entry.gid = _id(_decimal(value))
        if sparse.name:
            entry.name = sparse.name

    def _finish_sparse(self, sparse: _Sparse) -> None:
        """Check a sparse map against the content that the archive holds, and adopt it."""
        entry = self._entry
        end = data = 0
        for offset, length in sparse.segments:
            if offset < end:
                raise TarError(f"the sparse map of {entry.name!r} runs backwards")
            end = offset + length
            data += length
        if end > sparse.size or data != self._left:
            raise TarError(f"the sparse map of {entry.name!r} does not fit its size")
        entry.size = sparse.size
        entry.segments = sparse.segments


class _Sparse:
    """A sparse file's map while it is read: GNU's old header, or PAX formats 0.0, 0.1 and 1.0."""

    __slots__ = ("segments", "size", "name", "used", "in_data", "_offset")

    def __init__(self) -> None:
        self.segments: list[tuple[int, int]] = []
        self.size = 0
        self.name = b""
        self.used = self.in_data = False
        self._offset = -1

    def record(self, key: bytes, value: bytes) -> None:
        """Take one GNU.sparse.* record."""
        if key in (b"size", b"realsize"):
            self.size = _size(_decimal(value))
            self.used = True
        elif key == b"name":
            self.name = value
        elif key == b"major":
            self.in_data = value != b"0"
            if value not in (b"0", b"1"):
                raise TarError(f"unknown sparse format {value!r}")
        elif key == b"offset":
            self._offset = _decimal(value)
        elif key == b"numbytes":
            self._add(self._offset, _decimal(value))
        elif key == b"map":
            numbers = [_decimal(number) for number in value.split(b",") if value]
            if len(numbers) % 2:
                raise TarError("a sparse map with an odd count of numbers")
            for at in range(0, len(numbers), 2):
                self._add(numbers[at], numbers[at + 1])

    def read_header(self, header: bytes, block: Callable[[], bytes]) -> None:
        """GNU's old format: 4 pairs in the header, 21 in each block that follows it."""
        self.size = _size(_number(header[483:495]))
        self._pairs(header[386:482])
        more = header[482]
        while more:
            header = block()
            self._pairs(header[:504])
            more = header[504]

    def read_data(self, block: Callable[[], bytes]) -> None:
        """PAX format 1.0: the map is decimal lines at the start of the content."""
        buffer = b""
        numbers: list[int] = []
        count = 1
        while len(numbers) < count:
            line, newline, rest = buffer.partition(b"\n")
            if not newline:
                buffer += block()
                if len(buffer) > 2 * BLOCK:
                    raise TarError("a sparse map with an endless number")
                continue
            buffer = rest
            numbers.append(_decimal(line))
            if len(numbers) == 1:
                count = 1 + 2 * numbers[0]
                if numbers[0] > MAX_SEGMENTS:
                    raise TarError(f"a sparse file of more than {MAX_SEGMENTS} pieces")
        for at in range(1, count, 2):
            self._add(numbers[at], numbers[at + 1])

    def _pairs(self, fields: bytes) -> None:
        for at in range(0, len(fields), 24):
            if fields[at] == 0:
                return
            self._add(_number(fields[at : at + 12]), _number(fields[at + 12 : at + 24]))

    def _add(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0:
            raise TarError("a sparse map with a number missing or below zero")
        if len(self.segments) == MAX_SEGMENTS:
            raise TarError(f"a sparse file of more than {MAX_SEGMENTS} pieces")
        self.segments.append((offset, length))


def _name(header: bytes) -> bytes:
    """The name in a header; ustar keeps what does not fit into 100 bytes as a prefix."""
    end = header.find(0, 0, 100)
    name = header[:end] if end >= 0 else header[:100]
    if header[345] and header[257:263] == b"ustar\0":
        # Star kept times in the prefix's last bytes, and signed its archives.
        limit = 476 if header[508:512] == b"tar\0" else 500
        return header[345:limit].partition(b"\0")[0] + b"/" + name
    return name


def _number(field: bytes) -> int:
    """A numeric field: octal text, or base 256 when the top bit is set (GNU)."""
    text = field.strip(b" \0")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            pass
    elif not text:
        return 0
    elif field[0] & 0x80:
        number = int.from_bytes(field, "big") - (field[0] << 8 * (len(field) - 1))
        if field[0] == 0x80:
            return number
        if field[0] == 0xFF:
            return number - (1 << 8 * (len(field) - 1))
    elif b"\0" in text:
        return _number(text.partition(b"\0")[0])
    raise TarError(f"{field!r} is not a number of a tar header")


def _size(number: int) -> int:
    if not 0 <= number < 1 << 63:
        raise TarError(f"{number} is no size of a file")
    return number


def _id(number: int) -> int:
    # To chown(2) the highest number means "leave it": the file would stay root's.
    if not 0 <= number < 0xFFFFFFFF:
        raise TarError(f"{number} is no user or group id")
    return number


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarError(f"{text[:40]!r} is not a number of a PAX header")
    return int(text)


def _time(text: bytes) -> int:
    """`seconds[.fraction]`, exact to the nanosecond, which a float is not."""
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    if not (whole + fraction).isdigit() or len(whole) > 19:
        raise TarError(f"{text[:40]!r} is not a time of a PAX header")
    time = int(whole or b"0") * 1_000_000_000 + int((fraction + b"000000000")[:9])
    return -time if text[:1] == b"-" else time


def _records(content: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a PAX header: `length key=value newline`, the length counting itself."""
    records = []
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 20)
        length = content[at:space]
        if space < 0 or not length.isdigit():
            raise TarError("a PAX header is damaged: a record has no length")
        end = at + int(length)
        if not space < end <= len(content) or content[end - 1] != 10:
            raise TarError("a PAX header is damaged: a record's length is wrong")
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise TarError("a PAX header is damaged: a record is not key=value")
        records.append((key, value))
        at = end
    return records

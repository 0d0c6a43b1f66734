"""The words of a tar header: numbers, times, PAX records, the maps of sparse files."""

from __future__ import annotations

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 512
MAX_SEGMENTS = 100_000  # pieces of one sparse file; no real one comes near


class TarError(EngineError):
    """The archive is damaged, cut short, or asks for more than we grant."""


def parse_number(field: bytes) -> int:
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
        return parse_number(text.partition(b"\0")[0])
    raise TarError(f"{field!r} is not a number of a tar header")


def check_size(number: int) -> int:
    """The number, if a file can have so many bytes."""
    if not 0 <= number < 1 << 63:
        raise TarError(f"{number} is no size of a file")
    return number


def check_id(number: int) -> int:
    """The number, if a user or group can have it."""
    # To chown(2) the highest number means "leave it": the file would stay root's.
    if not 0 <= number < 0xFFFFFFFF:
        raise TarError(f"{number} is no user or group id")
    return number


def parse_decimal(text: bytes) -> int:
    """A number of a PAX record, zero or more."""
    if not text.isdigit() or len(text) > 19:
        raise TarError(f"{text[:40]!r} is not a number of a PAX header")
    return int(text)


def parse_time(text: bytes) -> int:
    """`seconds[.fraction]`, exact to the nanosecond, which a float is not."""
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if not (whole + fraction).isdigit() or len(whole) > 19:
        raise TarError(f"{text[:40]!r} is not a time of a PAX header")
    nanoseconds = int(whole or b"0") * 1_000_000_000 + int((fraction + b"000000000")[:9])
    return -nanoseconds if text[:1] == b"-" else nanoseconds


def parse_records(content: bytes) -> list[tuple[bytes, bytes]]:
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


class Sparse:
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
            self.size = check_size(parse_decimal(value))
            self.used = True
        elif key == b"name":
            self.name = value
        elif key == b"major":
            self.in_data = value != b"0"
            if value not in (b"0", b"1"):
                raise TarError(f"unknown sparse format {value!r}")
        elif key == b"offset":
            self._offset = parse_decimal(value)
        elif key == b"numbytes":
            self._add(self._offset, parse_decimal(value))
        elif key == b"map":
            numbers = [parse_decimal(number) for number in value.split(b",") if value]
            if len(numbers) % 2:
                raise TarError("a sparse map with an odd count of numbers")
            for at in range(0, len(numbers), 2):
                self._add(numbers[at], numbers[at + 1])

    def read_header(self, header: bytes, block: Callable[[], bytes]) -> None:
        """GNU's old format: 4 pairs in the header, 21 in each block that follows it."""
        self.size = check_size(parse_number(header[483:495]))
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
            numbers.append(parse_decimal(line))
            if len(numbers) == 1:
                count = 1 + 2 * numbers[0]
                if numbers[0] > MAX_SEGMENTS:
                    raise TarError(f"a sparse file of more than {MAX_SEGMENTS} pieces")
        for at in range(1, count, 2):
            self._add(numbers[at], numbers[at + 1])

    def check(self, data: int, name: bytes) -> None:
        """Hold the map against the bytes that the archive has for the file."""
        end = total = 0
        for offset, length in self.segments:
            if offset < end:
                raise TarError(f"the sparse map of {name!r} runs backwards")
            end = offset + length
            total += length
        if end > self.size or total != data:
            raise TarError(f"the sparse map of {name!r} does not fit its size")

    def _pairs(self, fields: bytes) -> None:
        for at in range(0, len(fields), 24):
            if fields[at] == 0:
                return
            self._add(parse_number(fields[at : at + 12]), parse_number(fields[at + 12 : at + 24]))

    def _add(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0:
            raise TarError("a sparse map with a number missing or below zero")
        if len(self.segments) == MAX_SEGMENTS:
            raise TarError(f"a sparse file of more than {MAX_SEGMENTS} pieces")
        self.segments.append((offset, length))

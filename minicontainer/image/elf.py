"""Which shared libraries a program loads, read from its file without running it.

What `ldd` prints, it learns by starting the program under the loader; the file says it as well: the
loader's path (PT_INTERP), the libraries' names (DT_NEEDED) and where to look first (DT_RUNPATH).

Sources: System V ABI, chapters 4 and 5; elf(5); the search order is ld.so(8)'s.
"""

from __future__ import annotations

import os
import struct

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


class Program:
    """What a 64-bit ELF file says of its loading.

    interpreter: the loader's path, "" for a library or a static program. needed: names of
    libraries. search: directories of its own to look in first, $ORIGIN replaced.
    machine: the ELF number of its architecture.
    """

    __slots__ = ("interpreter", "machine", "needed", "search")

    def __init__(self, path: str) -> None:
        """Read the file; EngineError when it is no 64-bit ELF file."""
        with open(path, "rb") as file:
            data = file.read()
        try:
            self._read(data, os.path.dirname(path))
        except (struct.error, OverflowError, ValueError) as error:
            raise EngineError(f"cannot read {path}: it is no 64-bit ELF program") from error

    def _read(self, data: bytes, origin: str) -> None:
        if data[:5] != b"\x7fELF\x02":
            raise ValueError("no 64-bit ELF file")
        order = "<" if data[5] == 1 else ">"
        self.machine: int = struct.unpack_from(f"{order}H", data, 18)[0]
        (table,) = struct.unpack_from(f"{order}Q", data, 32)
        size, count = struct.unpack_from(f"{order}HH", data, 54)
        loads = []
        dynamic: list[tuple[int, int]] = []
        self.interpreter = ""
        for at in range(table, table + size * count, size):
            kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", data, at)
            if kind == _PT_LOAD:
                loads.append((address, offset, length))
            elif kind == _PT_INTERP:
                self.interpreter = _text(data, offset)
            elif kind == _PT_DYNAMIC:
                dynamic = list(struct.iter_unpack(f"{order}QQ", data[offset : offset + length]))
        strings = 0
        for tag, value in dynamic:
            if tag == _DT_STRTAB:
                # The table's place is told as an address in memory.
                (strings,) = [o + value - a for a, o, n in loads if a <= value < a + n]
        texts: dict[int, list[str]] = {_DT_NEEDED: [], _DT_RPATH: [], _DT_RUNPATH: []}
        for tag, value in dynamic:
            if tag in texts:
                texts[tag].append(_text(data, strings + value))
        self.needed = texts[_DT_NEEDED]
        self.search = [
            directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            for text in texts[_DT_RUNPATH] or texts[_DT_RPATH]
            for directory in text.split(":")
        ]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def libraries(paths: Iterable[str]) -> dict[str, str]:
    """Where in an image each library and loader belongs that the programs load, and its file here.

    A library goes beside the C library, where the loader looks without a cache; one that is found
    through a program's own search path keeps its place. EngineError names what is missing.
    """
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    waiting = list(paths)
    seen = set(waiting)
    usual = _usual_directories()
    while waiting:
        path = waiting.pop()
        program = Program(path)
        if program.interpreter:
            found[program.interpreter] = os.path.realpath(program.interpreter)
        for name in program.needed:
            library = _find(name, program.machine, program.search)
            own = library is not None
            library = library or _find(name, program.machine, usual)
            if library is None:
                raise EngineError(f"{path} needs the library {name}, which is not installed")
            if own:
                found[library] = library
            else:
                places[name] = library
            if library not in seen:
                seen.add(library)
                waiting.append(library)
    home = next((os.path.dirname(p) for n, p in places.items() if n.startswith("libc.so")), "")
    for name, library in places.items():
        found[f"{home or os.path.dirname(library)}/{name}"] = library
    return found


def _find(name: str, machine: int, directories: list[str]) -> str | None:
    """The library of that name for the same processor (a machine may have others' as well)."""
    for directory in directories:
        path = os.path.realpath(f"{directory}/{name}")
        if os.path.isfile(path):
            try:
                if Program(path).machine == machine:
                    return f"{os.path.realpath(directory)}/{name}"
            except EngineError:
                continue
    return None


def _usual_directories() -> list[str]:
    """What ld.so.conf(5) lists, and the loader's own: Debian's by architecture, others' lib64."""
    triplet = f"{os.uname().machine}-linux-gnu"
    usual = [f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    return [*usual, *_configured("/etc/ld.so.conf", 3)]


def _configured(pattern: str, depth: int) -> list[str]:
    from glob import glob

    directories = []
    for path in sorted(glob(pattern)):
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].split()
                if words[:1] == ["include"] and depth:
                    for word in words[1:]:
                        word = word if word.startswith("/") else f"/etc/{word}"
                        directories += _configured(word, depth - 1)
                elif len(words) == 1:
                    directories += words
    return directories

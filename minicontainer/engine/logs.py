"""A container's output on disk, in docker's json-file form, written as it comes and read again.

Each line of output is one JSON object: {"log":"text\\n","stream":"stdout","time":"2024-…Z"}.
"""

from __future__ import annotations

import ctypes
import os
import select

from .. import jsonio
from ..kernel import process, syscalls
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .home import Home

# Docker cuts a line without an end here, so that a program that never ends one needs no memory.
LONGEST = 16384
_BLOCK = 65536

# inotify(7): the file was written to.
_IN_MODIFY = 2


class Writer:
    """Writes a log file; `stream(name)` is what takes the bytes of one stream."""

    __slots__ = ("descriptor", "partial")

    def __init__(self, path: str) -> None:
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.descriptor = os.open(path, how, 0o600)
        self.partial = {"stdout": b"", "stderr": b""}

    def stream(self, name: str) -> Callable[[bytes], None]:
        """A function that takes the next bytes of "stdout" or "stderr"."""
        return lambda data: self.write(name, data)

    def write(self, name: str, data: bytes) -> None:
        """Take bytes of a stream, and write the lines that they complete."""
        lines = (self.partial[name] + data).split(b"\n")
        last = lines.pop()
        whole = [line + b"\n" for line in lines]
        while len(last) >= LONGEST:
            whole.append(last[:LONGEST])
            last = last[LONGEST:]
        self.partial[name] = last
        self._append(name, whole)

    def _append(self, name: str, lines: list[bytes]) -> None:
        if not lines:
            return
        time = records.now()
        rows = []
        for line in lines:
            text = jsonio.dumps(line.decode(errors="replace"))
            rows.append(f'{{"log":{text},"stream":"{name}","time":"{time}"}}\n')
        try:
            os.write(self.descriptor, "".join(rows).encode())
        except OSError:
            return  # a full disk must not stop the container; the lines are lost, as in docker

    def close(self) -> None:
        """Write lines that never ended, and close the file."""
        for name, rest in self.partial.items():
            self._append(name, [rest] if rest else [])
        os.close(self.descriptor)


class Entry:
    """One line of a log: its stream, its text (mostly with its line end), its time."""

    __slots__ = ("stream", "text", "time")

    def __init__(self, row: bytes) -> None:
        fields = jsonio.loads(row)
        self.stream: str = fields["stream"]
        self.text: str = fields["log"]
        self.time: str = fields["time"]


def read(home: Home, id: str, *, tail: int | None = None, follow: bool = False) -> Iterator[Entry]:
    """The log of a container, oldest first.

    tail: only the last so many entries. follow: wait for more until the container has ended.
    """
    try:
        descriptor = os.open(home.container(id, "log.json"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if tail is not None:
            os.lseek(descriptor, _tail_offset(descriptor, tail), os.SEEK_SET)
        rest = b""
        for block in _follow(home, id, descriptor) if follow else _blocks(descriptor):
            rows = (rest + block).split(b"\n")
            rest = rows.pop()
            for row in rows:
                try:
                    entry = Entry(row)
                except (ValueError, KeyError, TypeError):
                    continue  # cut short by a full disk or a kill
                yield entry
    finally:
        os.close(descriptor)


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, _BLOCK):
        yield block


def _tail_offset(descriptor: int, count: int) -> int:
    """Where the last `count` lines begin, found from the end."""
    position = os.lseek(descriptor, 0, os.SEEK_END)
    # The line end of the last line ends no line before it.
    missing = count + 1
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        block = os.pread(descriptor, size, position)
        found = block.count(b"\n")
        if found >= missing:
            at = len(block)
            for _ in range(missing):
                at = block.rindex(b"\n", 0, at)
            return position + at + 1
        missing -= found
    return 0


_inotify_init1 = syscalls.Call("inotify_init1", syscalls.INT)
_inotify_add_watch = syscalls.Call(
    "inotify_add_watch", syscalls.INT, syscalls.TEXT, syscalls.Kind(ctypes.c_uint32)
)


def _follow(home: Home, id: str, descriptor: int) -> Iterator[bytes]:
    """What is there, then what comes, until the container's supervisor has ended.

    Asleep in poll(2) in between: an inotify(7) watch wakes us for a write, a pidfd for the end,
    also for one by SIGKILL.
    """
    live = records.load_live(home, id)
    supervisor = None if live is None else _open(live.engine)
    watch = _inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _inotify_add_watch(watch, home.container(id, "log.json"), _IN_MODIFY)
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        if supervisor is not None:
            poll.register(supervisor, select.POLLIN)
        while True:
            # Looked at before the rest is read: what was written before the end is not missed.
            ended = supervisor is None or process.wait_ready(supervisor, 0)
            yield from _blocks(descriptor)
            if ended:
                return
            poll.poll()
            try:
                os.read(watch, _BLOCK)
            except BlockingIOError:
                continue
    finally:
        os.close(watch)
        if supervisor is not None:
            os.close(supervisor)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None

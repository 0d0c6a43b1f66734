"""Files that survive a kill at any moment: atomic writes, locks that die with their holder."""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def write_atomic(path: str, data: bytes | str, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replace the file in one step: a reader sees the old bytes or the new, never a part.

    durable: also survive a power cut (fsync of the file and its directory); 0.1 to 10 ms.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data.encode() if isinstance(data, str) else data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Lock:
    """An flock(2) on a file of its own, held from `with` to its end, and released by the kernel
    when the holder dies: so "is the lock free?" answers "is the holder alive?".

    shared: several may hold it at once. block: wait; otherwise BlockingIOError at once.
    inherit: when the holder dies, a program that it has started holds it until its own end.
    """

    __slots__ = ("path", "operation", "inherit", "descriptor")

    def __init__(
        self, path: str, *, shared: bool = False, block: bool = True, inherit: bool = False
    ) -> None:
        self.path = path
        self.inherit = inherit
        self.operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (
            0 if block else fcntl.LOCK_NB
        )
        self.descriptor = -1

    def acquire(self) -> Lock:
        """Take the lock; the file is made when it is missing."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, self.operation)
                # Whoever tears down removes the file; a lock on a removed file guards nothing.
                if _is_same_file(descriptor, self.path):
                    if self.inherit:
                        os.set_inheritable(descriptor, True)
                    self.descriptor = descriptor
                    return self
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Let go; twice is once.

        Told to the kernel too: a child born meanwhile may still hold a copy of the descriptor.
        """
        if self.descriptor >= 0:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _is_same_file(descriptor: int, path: str) -> bool:
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


# A tree deeper than this is taken apart from the top: each level costs a descriptor and a frame,
# and a container can nest directories without end.
_DEEPEST = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, *, parent: int | None = None) -> None:
    """Remove a directory and all below it; nothing happens when it is not there.

    Goes down by descriptors and never through a symbolic link, so that a container that swaps a
    directory for a link while we walk cannot lead us out (the race of CVE-2024-45310's kind).
    """
    try:
        top = os.open(path, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        while _empty(top, top, 0):
            pass  # what was lifted is found at the top now
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=parent)


def _empty(directory: int, top: int, depth: int) -> bool:
    """Remove what is in a directory; what lies too deep is lifted to the top: then True."""
    lifted = False
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=directory)
            elif depth == _DEEPEST:
                name = f".lifted-{os.urandom(8).hex()}"
                os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
                lifted = True
            else:
                below = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                try:
                    lifted |= _empty(below, top, depth + 1)
                finally:
                    os.close(below)
                os.rmdir(entry.name, dir_fd=directory)
    return lifted

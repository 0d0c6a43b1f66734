"""Who is alive: a lock that the kernel lets go when its holder dies.

run/<id>/lock is held by the process that supervises the container, from before anything exists
to after everything is gone. So a held lock means "somebody looks after this", and a free one
means "its engine was killed: clean up". A pid alone would mean neither: numbers are used again.
The supervisor writes the exit code into the lock file before it lets go, for those who wait.
"""

from __future__ import annotations

import fcntl
import os
from errno import ENOENT, ENOSPC, ENOTEMPTY

from .. import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .home import Home


def claim(home: Home, id: str, *, block: bool = True) -> files.Lock:
    """Become the one who looks after a container; its run directory exists from here on.

    block: wait for another holder; otherwise BlockingIOError when there is one.
    """
    while True:
        try:
            os.mkdir(home.live(id), 0o700)
        except FileExistsError:
            pass
        try:
            return files.Lock(home.live(id, "lock"), block=block).acquire()
        except FileNotFoundError:
            continue  # another command has just removed the empty directory as abandoned


def drop(home: Home, id: str, lock: files.Lock) -> None:
    """End the life: the run directory goes, and the lock with it. The lock file goes last,
    since a run directory without one is nobody's."""
    # First what a kill in the middle of a write has left.
    for name in [*_leftovers(home.live(id)), "state.json", "network.json", "lock"]:
        try:
            os.unlink(home.live(id, name))
        except FileNotFoundError:
            continue
    try:
        os.rmdir(home.live(id))
    except OSError as error:
        # Gone already; or a command that looks for the abandoned has this moment made a lock
        # file here: then it finds nothing to do, and removes the directory.
        if error.errno not in (ENOENT, ENOTEMPTY):
            raise
    lock.release()


def _leftovers(path: str) -> list[str]:
    try:
        return [name for name in os.listdir(path) if name.endswith(".tmp")]
    except FileNotFoundError:
        return []


def announce(lock: files.Lock, code: int) -> None:
    """Tell those who wait for the end with which exit code it came."""
    try:
        os.pwrite(lock.descriptor, b"%d" % code, 0)
    except OSError as error:
        # Without room they learn only that it ended; the rest of the undo must not stop here.
        if error.errno != ENOSPC:
            raise


def is_alive(home: Home, id: str) -> bool:
    """Whether somebody looks after the container at this moment."""
    try:
        descriptor = os.open(home.live(id, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class End:
    """The end of a container's life, to be waited for; made while it lives, since with --rm
    nothing of it is left afterwards."""

    __slots__ = ("descriptor",)

    def __init__(self, home: Home, id: str) -> None:
        try:
            self.descriptor = os.open(home.live(id, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.descriptor = -1

    def wait(self) -> int | None:
        """Wait until all is torn down; the exit code, or None: it did not live, or its
        supervisor was killed."""
        if self.descriptor < 0:
            return None
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)
        told = os.pread(self.descriptor, 16, 0)
        # Or we would hold up whoever wants to look after it next.
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return int(told) if told else None

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def abandoned(home: Home) -> Iterator[tuple[str, files.Lock]]:
    """The ids under the run root that nobody looks after, each with its lock, now held by us.

    Nothing to do costs one system call: every command begins with this.
    """
    try:
        ids = os.listdir(home.run)
    except FileNotFoundError:
        return
    for id in ids:
        try:
            if not os.path.exists(home.live(id, "lock")):
                # Killed between mkdir and lock. When it was made this instant instead, its
                # maker finds it gone and makes it again.
                os.rmdir(home.live(id))
                continue
            lock = claim(home, id, block=False)
        except OSError:
            continue  # in use (BlockingIOError), being removed, or no directory of ours
        yield id, lock

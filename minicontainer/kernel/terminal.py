"""Terminals: a pair whose inner end lives in the container's own devpts.

The host's terminal is never handed in: whoever holds it can type into it (TIOCSTI). The pair is
opened through a descriptor of the container's devpts, and its inner end by ioctl rather than by
name: a name could be somebody else's file by now (ioctl_tty(2), TIOCGPTPEER).
"""

from __future__ import annotations

import fcntl
import os

from ..errors import EngineError
from . import mounts, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 17

TIOCSCTTY, TIOCGWINSZ, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = (
    0x540E,
    0x5413,
    0x5414,
    0x40045431,
    0x5441,
)
DEVPTS_WORDS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]


def create_devpts(words: list[str] | None = None) -> int:
    """A detached devpts of one's own; its descriptor."""
    return mounts.create("devpts", DEVPTS_WORDS if words is None else words)


def open_pair(devpts: int) -> tuple[int, int]:
    """A new terminal on a devpts: (our end, the container's end).

    devpts: descriptor of its root directory; raises EngineError when it is none.
    """
    outer = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=devpts)
    try:
        found = os.fstat(outer)
        # In every devpts instance the inode of ptmx is 2 and the device is 5:2.
        if found.st_ino != 2 or found.st_rdev != os.makedev(5, 2):
            raise EngineError(
                "/dev/pts of the container has a ptmx that is no terminal multiplexer"
            )
        fcntl.ioctl(outer, TIOCSPTLCK, b"\0\0\0\0")
        how = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        inner: int = syscalls.through("ioctl", fcntl.ioctl, outer, TIOCGPTPEER, how)
        return outer, inner
    except BaseException:
        os.close(outer)
        raise


def take(inner: int) -> None:
    """Make a terminal the controlling one of the caller, who must lead a session without one."""
    syscalls.through("ioctl", fcntl.ioctl, inner, TIOCSCTTY, 0)


def copy_size(source: int, target: int) -> None:
    """Give the target terminal the window size of the source; the kernel then sends SIGWINCH."""
    size = fcntl.ioctl(source, TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(target, TIOCSWINSZ, size)


class Raw:
    """The user's terminal in raw mode, from `with` to its end, however that comes.

    Every key goes to the container, Ctrl-C too: there it becomes a signal (termios(3), cfmakeraw).
    """

    __slots__ = ("terminal", "before")

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self.before: list[Any] = []

    def __enter__(self) -> Raw:
        import termios
        import tty

        self.before = termios.tcgetattr(self.terminal)
        tty.setraw(self.terminal, termios.TCSANOW)
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.before)

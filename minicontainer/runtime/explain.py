"""`run --explain`: the start of a container, told by the start itself.

One line for each system call of ours, as it happens, with its arguments in words, its result,
its microseconds, and the chapter of the book that explains it. The chapter is that of the kernel
module through which the runtime made the call (each has CHAPTER at its top).
"""

from __future__ import annotations

import os
import sys
import time

from ..kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_LIFECYCLE = 17


def start(output: int) -> None:
    """Tell every call from now on, in this process and in the child that it starts.

    output: a descriptor, close-on-exec, other than 0 to 2: the child gives those away.
    """
    engine = os.getpid()
    os.write(output, b"        us  ch  who        call\n")

    def tell(call: str, result: str, began: float) -> None:
        spent = (time.perf_counter() - began) * 1e6
        who = "engine" if os.getpid() == engine else "container"
        line = f"{spent:10.0f}  {chapter(sys._getframe(1)):02d}  {who:9}  {call} = {result}\n"
        os.write(output, line.encode(errors="surrogateescape"))

    syscalls.trace = tell


def chapter(frame: FrameType | None) -> int:
    """The chapter of the outermost kernel module that the call came through."""
    found = _LIFECYCLE
    while frame is not None and frame.f_globals.get("__package__") == syscalls.__package__:
        if frame.f_globals is not syscalls.__dict__:
            found = frame.f_globals.get("CHAPTER", found)
        frame = frame.f_back
    return found

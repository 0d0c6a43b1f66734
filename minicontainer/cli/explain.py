"""`run --explain`: the start of a container as it happens, one line per system call."""

from __future__ import annotations

import os
import sys
import time

from ..kernel import syscalls

# Calls that the runtime makes itself, by the chapter that tells about them.
CHAPTERS = {
    "setsid(": 1,
    "execve(": 1,
    "chdir(": 3,
    "unshare(CLONE_NEWCGROUP": 8,
    "prctl(PR_SET_DUMPABLE": 17,
    "prctl(": 9,
    "close_range(": 17,
}
FILE_SYSTEMS = {"proc": 5, "tmpfs": 6, "devpts": 6, "mqueue": 6, "sysfs": 6, "cgroup": 8}


def explain() -> None:
    """Print every system call of this process and of the container's first one from now on.

    Through a descriptor of our own: in the container's process 2 becomes the container's.
    """
    screen = os.dup(2)
    begin = time.perf_counter()
    engine = os.getpid()

    def tell(call: str, result: str, started: float) -> None:
        now = time.perf_counter()
        who = "engine" if os.getpid() == engine else "container"
        chapter = find_chapter(call)
        line = (
            f"{(started - begin) * 1e3:8.3f} ms {(now - started) * 1e6:6.0f} µs  "
            f"{who:<9}  {f'ch {chapter:02d}' if chapter else '     '}  {call} = {result}\n"
        )
        os.write(screen, line.encode(errors="replace"))

    os.write(screen, b"        at     took  where      chap.  system call\n")
    syscalls.trace = tell


def find_chapter(call: str) -> int | None:
    """The chapter that tells about a call: that of the kernel module that the runtime called.

    For a mount of the specification it is the chapter of the file system; for a call that the
    runtime makes itself, the call's own.
    """
    found = None
    frame = sys._getframe(2)  # past `tell`
    while frame.f_globals.get("CHAPTER"):
        if frame.f_globals["__name__"] != syscalls.__name__:
            found = frame.f_globals["CHAPTER"]
        if frame.f_back is None:
            break
        frame = frame.f_back
    if frame.f_code.co_name == "mount_one":
        return FILE_SYSTEMS.get(frame.f_locals.get("kind", ""), found)
    own = (chapter for start, chapter in CHAPTERS.items() if call.startswith(start))
    return found or next(own, None)

"""/proc: the window on a PID namespace.

A new PID namespace alone changes nothing that `ps` shows: `ps` reads /proc, and /proc shows the
PID namespace that it was *mounted* in. The first process inside has number 1, gets the orphans,
and takes all others with it when it ends (pid_namespaces(7)).
"""

from __future__ import annotations

import os

from ..errors import EngineError
from . import mounts, paths

CHAPTER = 5


def create(words: list[str] | None = None) -> int:
    """A detached /proc for the caller's PID namespace; the caller must be born into it."""
    return mounts.create("proc", ["nosuid", "nodev", "noexec"] if words is None else words)


def pids(proc: str = "/proc") -> list[int]:
    """The processes that a /proc shows, in order."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def write_sysctl(root: int, name: str, value: str) -> None:
    """Write a kernel parameter below the /proc of a container root; the caller must be in the
    namespace that the parameter belongs to.

    root: descriptor of the container's root. The file is proven to be on a procfs before it is
    written: an image may have made `/proc` a link to somewhere else (CVE-2025-52881).
    """
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    descriptor = paths.open_in_root(root, path, os.O_WRONLY)
    try:
        top = paths.open_in_root(root, "/proc")
        try:
            found = os.fstat(top)
            genuine = found.st_ino == 1 and found.st_dev == os.fstat(descriptor).st_dev
        finally:
            os.close(top)
        if not genuine:
            raise EngineError(f"sysctl {name}: /proc of the container is no procfs")
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)

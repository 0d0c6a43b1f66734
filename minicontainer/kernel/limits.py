"""Resource limits of a process (setrlimit(2)), and the view of the control groups."""

from __future__ import annotations

import os
import time
from errno import EACCES, EBUSY, EPERM

from ..errors import EngineError
from . import mounts, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 8

RETRIES = 20

# <asm-generic/resource.h>, in the order of their numbers.
NAMES = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE "
    "RTPRIO RTTIME"
).split()

_setrlimit = syscalls.Call("setrlimit", syscalls.INT, syscalls.STRUCT)


def apply(rlimits: list[dict[str, Any]]) -> None:
    """Set limits: [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}] (config.md, POSIX
    process). EngineError for an unknown name, or for a hard limit above the engine's own."""
    for limit in rlimits:
        name = limit["type"].removeprefix("RLIMIT_")
        if name not in NAMES:
            raise EngineError(f"unknown resource limit {limit['type']!r}")
        soft, hard = limit["soft"] % 2**64, limit["hard"] % 2**64
        pair = syscalls.Packed.of("QQ", f"{{{soft}, {hard}}}".__str__, soft, hard)
        try:
            _setrlimit(NAMES.index(name), pair)
        except OSError as error:
            raise EngineError(
                f"cannot set the limit {name.lower()} to {soft}:{hard}: {error.strerror}",
                hint=_explain("raising a hard limit") if error.errno == EPERM else None,
            ) from None


def adjust_oom_score(score: int | None) -> None:
    """Say how eagerly the kernel kills this process when memory runs out: -1000 to 1000, or None
    to leave it (proc(5), /proc/PID/oom_score_adj). A lower score than ours needs a capability."""
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
    except OSError as error:
        raise EngineError(
            f"cannot set oom_score_adj to {score}: {error.strerror}",
            hint=_explain("lowering it") if error.errno == EACCES else None,
        ) from None


def _explain(act: str) -> str:
    # Asked for over the first of all user namespaces: whatever root of another one holds.
    return f"{act} needs CAP_SYS_RESOURCE on the host, which no user namespace gives (--userns)"


def mount_cgroups(root: int, path: str, words: list[str]) -> None:
    """Show the control groups at a path of the container, from its own cgroup namespace.

    On a v2 host that is one mount. On a v1 or hybrid host it is a directory with one mount for
    each hierarchy, as /proc/self/cgroup lists them (cgroups(7)).
    """
    with open("/proc/self/cgroup") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    if all(not controllers for _, controllers, _ in rows):
        tree = mounts.create("cgroup2", words, "cgroup")
        try:
            mounts.attach_below(root, tree, path)
        finally:
            os.close(tree)
        return
    plain = [word for word in words if word != "ro"]
    top = mounts.create("tmpfs", ["mode=755", *plain], "tmpfs")
    try:
        mounts.attach_below(root, top, path)
        for _, controllers, _ in rows:
            if controllers:
                _attach_hierarchy(top, controllers, words)
        if "ro" in words:
            mounts.make_readonly(top)
    finally:
        os.close(top)


def _attach_hierarchy(top: int, controllers: str, words: list[str]) -> None:
    """Mount one v1 hierarchy below the directory behind `top`, a tmpfs of ours with no links."""
    name = controllers.removeprefix("name=")
    keys = [controllers] if controllers.startswith("name=") else controllers.split(",")
    tree = _create_hierarchy([*words, *keys])
    try:
        syscalls.through("mkdirat", os.mkdir, name, syscalls.Octal(0o755), dir_fd=top)
        mounts.attach(tree, os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top))
    finally:
        os.close(tree)


def _create_hierarchy(words: list[str]) -> int:
    """A v1 hierarchy, mounted detached.

    Where many containers come and go, the kernel now and then says EBUSY of one that another has
    just let go (seen once in some thousand starts on Linux 6.18; a moment later it is there).
    """
    for _ in range(RETRIES):
        try:
            return mounts.create("cgroup", words, "cgroup")
        except syscalls.SyscallError as error:
            if error.errno != EBUSY:
                raise
            time.sleep(0.005)  # allowed: no event tells that the kernel is done with it
    return mounts.create("cgroup", words, "cgroup")

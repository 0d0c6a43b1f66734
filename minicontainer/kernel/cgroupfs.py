"""The cgroup file system, as both versions have it: directories that are made and removed, files
of one or few lines (cgroups(7))."""

from __future__ import annotations

import os
import time
from errno import EBUSY, ENODEV, ENOENT

from ..errors import EngineError

CHAPTER = 8

MOUNT = "/sys/fs/cgroup"
# How long a cgroup may go on being busy when its last process has just ended, in seconds.
PATIENCE = 2.0


def make_directory(path: str) -> bool:
    """mkdir(2); False when it is there already."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    return True


def remove_empty(path: str) -> None:
    """rmdir(2) of what a failed start may have made; somebody else's, in use, stays."""
    try:
        os.rmdir(path)
    except OSError:
        return


def remove_directory(path: str, deadline: float) -> None:
    """rmdir(2): of a cgroup it works as soon as the last process in it has ended."""
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == EBUSY and time.monotonic() < deadline:
                time.sleep(0.002)
                continue
            raise EngineError(
                f"cannot remove the cgroup {path}: {(error.strerror or '').lower()}"
            ) from error
        return


def fields(text: str) -> dict[str, int]:
    """A "flat keyed" file: lines of a name and a number."""
    rows = [line.split() for line in text.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def words(path: str) -> list[str]:
    """The words of a file; none where it is missing."""
    try:
        with open(path) as file:
            return file.read().split()
    except OSError as error:
        if error.errno in (ENOENT, ENODEV):  # the second: removed between open and read
            return []
        raise


def write(path: str, value: str) -> None:
    """Write a file that is there, in one write(2); OSError is the kernel's answer."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)

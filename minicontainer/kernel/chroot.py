"""chroot: another directory as `/`. What it changes (how paths are looked up), and no more."""

from __future__ import annotations

import os

from . import syscalls

CHAPTER = 2


def chroot(directory: str) -> None:
    """Make `directory` the root and the working directory of this process (chroot(2)).

    chroot moves only the start of path lookup. Without the chdir the working directory would
    still point outside, and `../../..` would walk to the host's root.
    """
    syscalls.through("chroot", os.chroot, directory)
    syscalls.through("chdir", os.chdir, "/")

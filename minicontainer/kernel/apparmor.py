"""AppArmor: a list of what a program may touch, whoever it is (apparmor(7)).

A *profile* is such a list, loaded into the kernel under a name by apparmor_parser(8). A process
gets one when it executes a program; its children have it too, and root is held to it like anybody.
Capabilities ask who you are and what you may do; a profile asks which file, mount, signal or trace.
"""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENOENT

from ..errors import EngineError
from . import syscalls

CHAPTER = 10

UNCONFINED = "unconfined"
_SWITCH = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_EXEC = "/proc/thread-self/attr/apparmor/exec"


def is_enabled() -> bool:
    """Does this kernel hold programs to profiles?"""
    try:
        with open(_SWITCH) as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def is_loaded(profile: str) -> bool:
    """Does the kernel have a profile of that name? PermissionError for who may not know: whoever is
    not root of the machine."""
    with open(_PROFILES) as file:  # `NAME (MODE)`
        return any(line.rpartition(" (")[0] == profile for line in file)


def open_on_exec(profile: str | None) -> int:
    """The file in which a process asks for a profile; -1 where none is wanted, or to be had.

    To be opened while /proc is the host's: what a container has at that place may be a file of the
    image's, which takes the words and does nothing (CVE-2019-16884, CVE-2023-28642).
    """
    if not profile or not is_enabled():
        return -1
    return os.open(_EXEC, os.O_WRONLY | os.O_CLOEXEC)


def change_on_exec(descriptor: int, profile: str | None) -> None:
    """Have the next execve(2) of this process put the profile on (aa_change_onexec(3)).

    descriptor: from `open_on_exec`, in this very process. No profile asks for nothing; EngineError
    for one that cannot be had.
    """
    if not profile:
        return
    if descriptor < 0:
        if profile == UNCONFINED:
            return
        raise EngineError(f"this machine has no AppArmor, and the profile {profile} is asked for")
    words = f"exec {profile}".encode()
    try:
        # Whose memory is not the opener's is answered with 0.
        if syscalls.through("write", os.write, descriptor, words) == len(words):
            return
        reason = "the kernel did not take it"
    except OSError as error:
        missing = {ENOENT: "it is not loaded", EACCES: "the engine's own profile forbids it",
                   EINVAL: "that is no name of a profile"}  # fmt: skip
        reason = missing.get(error.errno or 0, os.strerror(error.errno or 0).lower())
    raise EngineError(
        f"cannot put on the AppArmor profile {profile}: {reason}",
        hint="load it with apparmor_parser; /sys/kernel/security/apparmor/profiles lists them",
    )


def current(pid: int) -> str:
    """The profile of a process and its mode, as `NAME (enforce)`; "unconfined" for none. "" where
    there is no AppArmor. FileNotFoundError when there is no such process."""
    if not is_enabled():
        return ""
    with open(f"/proc/{pid}/attr/apparmor/current") as file:
        return file.read().rstrip("\n\0")

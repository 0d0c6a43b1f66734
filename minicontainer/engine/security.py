"""What a container may do, as the command line puts it: --cap-add, --cap-drop, --privileged,
--security-opt.
"""

from __future__ import annotations

import os
import stat

from ..errors import EngineError
from ..kernel import capabilities
from . import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

# strconv.ParseBool, which docker reads the value of no-new-privileges with.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
# Directories of /dev that a container has its own of, or that hold no devices.
_OWN = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev")
_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


def choose_capabilities(
    add: Sequence[str], drop: Sequence[str], *, privileged: bool = False, unguarded: str = ""
) -> list[str]:
    """The capabilities after --cap-add and --cap-drop (docker run reference, "Runtime privilege
    and Linux capabilities").

    ALL, and --privileged, mean all that the engine itself can give. unguarded: why there is no
    device filter, "" where there is one; without it CAP_MKNOD is the host's disks, so it is left
    out, and refused by name. EngineError for a name that does not exist, or that the engine does
    not have.
    """
    wanted_add, wanted_drop = _names("CapAdd", add), _names("CapDrop", drop)
    available = capabilities.words(capabilities.read()["CapBnd"])
    if privileged:
        return available
    if unguarded:
        if "CAP_MKNOD" in wanted_add:
            raise EngineError(
                f"CAP_MKNOD cannot be had here: it would give the host's disks, since {unguarded}"
            )
        wanted_drop.append("CAP_MKNOD")
    if "ALL" in wanted_add:
        return [name for name in available if name not in wanted_drop]
    for name in wanted_add:
        if name not in available:
            raise EngineError(
                "invalid CapAdd: capability not supported by your kernel or not available in the "
                f'current environment: "{name}"'
            )
    if "ALL" in wanted_drop:
        return list(dict.fromkeys(wanted_add))
    kept = [name for name in capabilities.DEFAULT if name not in wanted_drop]
    return list(dict.fromkeys([*kept, *wanted_add]))


def _names(option: str, given: Sequence[str]) -> list[str]:
    """Names in any case, with or without CAP_, as the kernel writes them; ALL stays ALL."""
    names = []
    for word in given:
        name = word.upper()
        if name != "ALL":
            name = f"CAP_{name.removeprefix('CAP_')}"
            if name[4:] not in capabilities.NAMES:
                raise EngineError(f'invalid {option}: unknown capability: "{name}"')
        names.append(name)
    return names


class Options:
    """What the values of --security-opt say.

    no_new_privileges: no program may gain powers; system_paths: the masks of chapter 06 are left
    out; seccomp: "unconfined", a profile's JSON, or "" for the default policy; apparmor: the name
    of a loaded profile, "unconfined", or "" for the default; shown: the values as `inspect` shows
    them, with the profile instead of its file.
    """

    __slots__ = ("no_new_privileges", "system_paths", "seccomp", "apparmor", "shown")

    def __init__(self, given: Sequence[str] = (), *, privileged: bool = False) -> None:
        """Read them in order, so that of one given twice the last counts; a profile's file too.

        privileged: no filter, unless one is named (moby, WithSeccomp). EngineError, in docker's
        words, for one that is malformed or unknown.
        """
        self.no_new_privileges = False
        self.system_paths = False
        self.seccomp = filters.UNCONFINED if privileged else ""
        self.apparmor = ""
        self.shown: list[str] = []
        for option in given:
            name, separator, value = option.partition("=")
            if not separator:
                name, separator, value = option.partition(":")  # docker's older form
            if name == "no-new-privileges" and (not separator or value in _TRUE + _FALSE):
                self.no_new_privileges = value not in _FALSE
            elif option == "systempaths=unconfined":
                self.system_paths = True
            elif name == "seccomp" and value:
                self.seccomp = _profile(value)
                option = f"seccomp={self.seccomp or value}"
            elif name == "apparmor" and value and value.isprintable():
                self.apparmor = value
            elif name == "label" and value == "disable":
                pass  # no container is labelled
            elif name == "label" and value:
                raise EngineError(
                    f"--security-opt {option} cannot be had: the engine gives no SELinux labels"
                )
            else:
                raise EngineError(f'invalid --security-opt: "{option}"')
            self.shown.append(option)


def _profile(value: str) -> str:
    if value == filters.UNCONFINED:
        return value
    return "" if value == "builtin" else filters.check(_read(value), value)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise EngineError(f"cannot read the seccomp profile {path}: it is not UTF-8") from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EngineError(f"cannot read the seccomp profile {path}: {reason}") from None


def host_devices(directory: str = "/dev") -> list[dict[str, Any]]:
    """All devices of the host in OCI form, as --privileged gives them (config-linux.md,
    "Devices"; runc, devices.HostDevices)."""
    return list(_walk(directory))


def _walk(directory: str) -> Iterator[dict[str, Any]]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # unplugged this very moment
            if stat.S_ISDIR(found.st_mode):
                if entry.name not in _OWN:
                    yield from _walk(entry.path)
            # /dev/console and /dev/ptmx belong to a terminal, and the container has its own.
            elif stat.S_IFMT(found.st_mode) in _KINDS and entry.name not in ("console", "ptmx"):
                yield {
                    "path": entry.path,
                    "type": _KINDS[stat.S_IFMT(found.st_mode)],
                    "major": os.major(found.st_rdev),
                    "minor": os.minor(found.st_rdev),
                    "fileMode": stat.S_IMODE(found.st_mode),
                    "uid": found.st_uid,
                    "gid": found.st_gid,
                }

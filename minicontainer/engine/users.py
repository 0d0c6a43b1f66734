"""Who a container's process is: USER resolved in the *image's* passwd and group files.

Docker's rules (moby, libcontainer/user.GetExecUser). The files are a stranger's: they are
reached by descriptor, read to a limit, and lines that make no sense are passed over.
"""

from __future__ import annotations

import os
from errno import ELOOP, ENOENT, ENOTDIR

from ..errors import EngineError
from ..kernel import paths

_LIMIT = 4 << 20
_HIGHEST = (1 << 31) - 1


class User:
    """Numbers for the kernel: uid, gid, groups (all of them, as docker sets them), and a home."""

    __slots__ = ("uid", "gid", "groups", "home")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home

    def to_spec(self) -> dict[str, object]:
        """The OCI form (config.md, "POSIX-platform User")."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": self.groups}


def resolve(root: int, text: str, extra_groups: list[str] | None = None) -> User:
    """The user that `name`, `uid`, `name:group` or `uid:gid` means in a container's root.

    root: descriptor of the root directory. extra_groups: `--group-add`, names or numbers.
    EngineError (exit code 125) when a name is in neither file or a number is out of range.
    """
    name, _, group = text.partition(":")
    wanted = _number(name) if name else 0
    uid, gid, home, login = wanted or 0, 0, "/", None
    for fields in _rows(root, "/etc/passwd", 6):
        if (fields[2] == str(wanted)) if wanted is not None else (fields[0] == name):
            found_uid, found_gid = _number(fields[2]), _number(fields[3])
            if found_uid is None or found_gid is None:
                continue
            uid, gid, home, login = found_uid, found_gid, fields[5] or "/", fields[0]
            break
    else:
        if wanted is None:
            raise EngineError(f"unable to find user {name}: no matching entries in passwd file")
    _check_range(uid)
    groups = []
    rows = list(_rows(root, "/etc/group", 3)) if group or login or extra_groups else []
    if group:
        gid = _find_group(rows, group)
    elif login:
        for fields in rows:
            member = len(fields) > 3 and login in fields[3].split(",")
            if member and (number := _number(fields[2])) is not None:
                groups.append(number)
    _check_range(gid)
    # The first group too: a program that drops its effective group must not lose it for the
    # tests that it fails by (CVE-2022-36109, "negative" group permissions).
    groups = [gid, *groups, *(_find_group(rows, extra) for extra in extra_groups or ())]
    return User(uid, gid, list(dict.fromkeys(groups)), home)


def _find_group(rows: list[list[str]], text: str) -> int:
    number = _number(text)
    if number is not None:
        _check_range(number)
        return number
    for fields in rows:
        if fields[0] == text and (found := _number(fields[2])) is not None:
            return found
    raise EngineError(f"unable to find group {text}: no matching entries in group file")


def _number(text: str) -> int | None:
    # int() refuses more than 4,300 digits, and a stranger wrote the file.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _check_range(number: int) -> None:
    if number > _HIGHEST:
        raise EngineError("uids and gids must be in range 0-2147483647")


def _rows(root: int, path: str, least: int) -> list[list[str]]:
    """The lines of a file of colon-separated fields that have at least so many of them."""
    rows = []
    for line in read_text(root, path).splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0]:
            rows.append(fields)
    return rows


def read_text(root: int, path: str) -> str:
    """A regular file of the container as text, at most 4 MiB; "" when there is none.

    O_NONBLOCK: the path may be a FIFO, whose open would wait for ever.
    """
    try:
        descriptor = paths.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, ELOOP):
            return ""
        raise
    try:
        if (os.fstat(descriptor).st_mode & 0o170000) != 0o100000:
            return ""
        chunks = []
        left = _LIMIT
        while left and (chunk := os.read(descriptor, left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks).decode(errors="surrogateescape")
    finally:
        os.close(descriptor)

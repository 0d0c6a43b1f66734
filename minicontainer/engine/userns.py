"""`--userns remap`: a container whose root is a nobody of the host, started by the host's root.

The tables come from /etc/subuid and /etc/subgid, where the numbers are given away that no account
has (subuid(5), docker's userns-remap). The image's layers are not changed: they are shown through
idmapped mounts, or where the file system has none, copied once with other owners.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOSYS, EOPNOTSUPP

from ..errors import EngineError
from ..kernel import overlay, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.users import Row
    from .home import Home
    from .record import Record

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
# Whose ranges are used when no name is given; there need not be such an account.
DEFAULT = "minicontainer"
# What a kernel says whose file system, or which itself, has no idmapped mounts.
_NO_IDMAP = (EINVAL, ENOSYS, EOPNOTSUPP)


def choose(
    text: str, network: str = "none", *, privileged: bool = False
) -> dict[str, list[list[int]]]:
    """The tables {"uids": …, "gids": …} that a value of --userns means; {} for the host's users.

    text: `host`, `remap`, `remap=USER[:GROUP]` with names or numbers. EngineError also where a
    remapped container cannot have what it asks for.
    """
    if text in ("", "host"):
        return {}
    mode, _, who = text.partition("=")
    if mode != "remap":
        raise EngineError(f"invalid --userns {text!r}", hint="use host or remap[=USER[:GROUP]]")
    if os.geteuid() or users.is_mapped():
        raise EngineError(
            "--userns remap wants the host's root",
            hint="a container that an ordinary user starts is remapped as a whole already",
        )
    if network == "host":
        raise EngineError(
            "cannot share the host's network namespace when user namespaces are enabled",
            hint="--userns host, or --network none",
        )
    if privileged:
        raise EngineError(
            "privileged mode is incompatible with user namespaces", hint="--userns host"
        )
    user, _, group = (who or DEFAULT).partition(":")
    return {
        "uids": table(SUBUID, user),
        "gids": table(SUBGID, group or user, account="group" if group else "user"),
    }


def table(path: str, name: str, account: str = "user") -> list[list[int]]:
    """The rows that a name, or a number, has in /etc/subuid or /etc/subgid, one after the other
    from 0 inside on."""
    rows: list[list[int]] = []
    inside = 0
    for start, count in ranges(path, name, account):
        if start == 0:
            raise EngineError(f"{path} gives {name} the host's root: the range begins at 0")
        rows.append([inside, start, count])
        inside += count
    if not rows:
        raise EngineError(
            f"--userns remap: {path} gives {name!r} no range of numbers",
            hint=f"add a range that nobody else has: echo {name}:100000:65536 | "
            f"sudo tee -a {SUBUID} {SUBGID}",
        )
    return rows


def ranges(path: str, name: str, account: str = "user") -> list[tuple[int, int]]:
    """The (first number, count) pairs of an account in a subuid(5) file; it may stand there by its
    name or by its number. A line that makes no sense is passed over, a missing file is empty."""
    names = {name, *_other_name(name, account)}
    found = []
    try:
        with open(path, errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            start, count = int(fields[1]), int(fields[2])
            if count and start + count < 2**32:
                found.append((start, count))
    return found


def _other_name(name: str, account: str) -> list[str]:
    """The number of a name, the name of a number, as far as there is such an account."""
    import grp
    import pwd

    try:
        if account == "user":
            return [pwd.getpwuid(int(name)).pw_name] if name.isdigit() else [
                str(pwd.getpwnam(name).pw_uid)
            ]  # fmt: skip
        return [grp.getgrgid(int(name)).gr_name] if name.isdigit() else [
            str(grp.getgrnam(name).gr_gid)
        ]  # fmt: skip
    except KeyError:
        return []


def rows(record: Record, kind: str) -> list[Row]:
    """A container's table: kind is "uids" or "gids"; empty without a user namespace."""
    return [(row[0], row[1], row[2]) for row in record.users.get(kind, [])]


def outside(record: Record, uid: int) -> int:
    """Who a user of the container is to the engine; EngineError when there is no such user."""
    if not record.users and users.is_mapped():
        users.outside(users.read_map("self"), uid)
        return uid
    return users.outside(rows(record, "uids"), uid)


def own(home: Home, record: Record, *names: str) -> None:
    """Give files in a container's directory to who is their owner inside; twice is once, for what
    is root's."""
    uids, gids = rows(record, "uids"), rows(record, "gids")
    for name in names if uids else ():
        path = home.container(record.id, name)
        found = os.stat(path)
        if found.st_uid == users.outside(uids, 0):
            continue
        os.chown(path, users.outside(uids, found.st_uid), users.outside(gids, found.st_gid))


def devpts_words(record: Record, words: list[str]) -> list[str]:
    """Options of a devpts that the engine mounts: the numbers in them are the host's."""
    kept = [word for word in words if not word.startswith("gid=")]
    if not record.users:
        # gid=5, the group tty, is nobody in a rootless namespace with a single user.
        known = any(first <= 5 < first + n for first, _, n in users.read_map("self", "gid_map"))
        return words if known else kept
    tty = users.outside(rows(record, "gids"), 5)
    return [*kept, f"uid={outside(record, 0)}", f"gid={tty}"]


def add(spec: dict[str, Any], record: Record) -> dict[str, Any]:
    """The specification of a container, with its user namespace if it has one; and without what
    the engine cannot have that is in one itself (see rootless)."""
    if not record.users and users.is_mapped():
        for mount in spec["mounts"]:
            if mount["type"] == "sysfs" and record.network == "host":
                # A new one would be for a network namespace that is not ours.
                options = ["rbind", *mount["options"], "rro", "rprivate"]
                mount.update(type="bind", source="/sys", options=options)
            elif mount["type"] == "devpts":
                mount["options"] = devpts_words(record, mount["options"])
    if record.users:
        spec["linux"]["namespaces"].append({"type": "user"})
        for key, kind in (("uidMappings", "uids"), ("gidMappings", "gids")):
            spec["linux"][key] = [
                {"containerID": first, "hostID": host, "size": count}
                for first, host, count in rows(record, kind)
            ]
    return spec


def mount_layers(home: Home, record: Record, layers: list[str]) -> int:
    """The layers under the container's own directory; for a remapped one with other owners."""
    upper, work = home.container(record.id, "upper"), home.container(record.id, "work")
    if not record.users:
        mapped = users.is_mapped()
        # What is thrown away at the end need not be written to the disk first.
        return overlay.mount(layers, upper, work, volatile=record.remove, userxattr=mapped)
    uids, gids = rows(record, "uids"), rows(record, "gids")
    namespace = users.open_namespace(uids, gids)
    try:
        return overlay.mount(layers, upper, work, volatile=record.remove, users=namespace)
    except OSError as error:
        if error.errno not in _NO_IDMAP:
            raise
    finally:
        os.close(namespace)
    from ..image import shift

    store = home.store()
    with store.adding():
        layers = [shift.shifted(store, layer, uids, gids) for layer in layers]
        return overlay.mount(layers, upper, work, volatile=record.remove)


def describe(record: Record) -> dict[str, Any]:
    """The fields of HostConfig that tell it (moby; IDMappings is podman's)."""
    shown = {
        key: [":".join(map(str, row)) for row in rows(record, kind)]
        for key, kind in (("UidMap", "uids"), ("GidMap", "gids"))
    }
    return {"UsernsMode": record.userns, "IDMappings": shown if record.users else None}

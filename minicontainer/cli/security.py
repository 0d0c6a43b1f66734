"""`inspect --security`: what a container can really do, in words."""

from __future__ import annotations

from ..kernel import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Part = dict[str, Any]

_WIDTH = 78
# Of the calls that a filter refuses, those that one looks for first.
_NOTABLE = (
    "bpf keyctl mount unshare setns ptrace kexec_load init_module open_by_handle_at reboot "
    "perf_event_open userfaultfd io_uring_setup"
).split()


def describe(found: Part) -> str:
    """The parts that `powers.read` found, with `Id` and `Name`, as a page for a terminal."""
    lines = [
        f"{found['Name'].lstrip('/')} ({found['Id'][:12]}), process {found['Pid']} on the host"
    ]
    parts = (
        ("user", "User", _user),
        ("capabilities", "Capabilities", _capabilities),
        ("system calls", "Seccomp", _seccomp),
        ("AppArmor", "AppArmor", _apparmor),
        ("namespaces", "Namespaces", _namespaces),
        ("the kernel's files", "KernelPaths", _kernel_paths),
        ("devices", "Devices", _devices),
        ("the host's files", "Host", _host),
        ("limits", "Limits", _limits),
    )
    for title, name, tell in parts:
        chapter = found[name].get("Chapter")
        note = f"chapter {chapter:02}" if chapter else ""
        lines += ["", f"{title:<{_WIDTH - len(note)}}{note}".rstrip()]
        lines += [f"  {line}" for line in tell(found[name])]
    return "\n".join(lines)


def _user(part: Part) -> Iterator[str]:
    groups = ", ".join(map(str, part["Groups"])) or "none"
    yield f"user {part['Uid']}, group {part['Gid']}, additional groups: {groups}"
    if part["Uid"] == part["HostUid"]:
        mapped = part["UidMap"] != [[0, 0, 2**32 - 1]]
        yield f"that is user {part['HostUid']} of the host too" + (
            "" if mapped else ": nothing is mapped"
        )
    else:
        yield f"that is user {part['HostUid']} of the host"


def _capabilities(part: Part) -> Iterator[str]:
    held, most = part["Permitted"], part["Bounding"]
    if not held:
        yield "it has none"
    else:
        every = " (all that there are)" if len(held) == len(capabilities.NAMES) else ""
        yield f"it has {len(held)} of {len(capabilities.NAMES)}{every}:"
        yield from _powers(held)
    more = [name for name in most if name not in held]
    if part["NoNewPrivileges"]:
        yield "no program that it executes can give it more (no-new-privileges)"
    elif more:
        yield "a program of root's with set-user-ID, or with file capabilities, can give it:"
        yield from _powers(more)
    else:
        yield "no program that it executes can give it more: that is its whole bounding set"
    for name in ("Inheritable", "Ambient"):
        if part[name]:
            yield f"{name.lower()}: {' '.join(part[name])}"
    # What --privileged would have given where the engine itself had it.
    missing = [f"CAP_{name}" for name in capabilities.NAMES if f"CAP_{name}" not in most]
    if most and len(missing) < 6:
        yield f"it can never have {', '.join(missing)}" if missing else "it lacks nothing"


def _powers(names: list[str]) -> Iterator[str]:
    width = max(map(len, names))
    for name in names:
        yield f"  {name:<{width}}  {capabilities.POWERS[name.removeprefix('CAP_')]}"


def _seccomp(part: Part) -> Iterator[str]:
    if part["Mode"] == "none":
        yield "all of them: there is no filter"
    elif part["Mode"] == "filter":
        yield f"those that {part['Filters']} filter{'s' * (part['Filters'] > 1)} let through"
        if "Refused" in part:
            refused, partly = part["Refused"], part["RefusedWithSomeArguments"]
            few = len(refused) <= len(_NOTABLE)
            shown = refused if few else [name for name in _NOTABLE if name in refused]
            what = f"of {part['Calls']} it refuses {len(refused)}"
            yield from _listed(what if few else f"{what}, among them", shown, what)
            if partly:
                yield from _listed("with some arguments", partly, "")
    else:
        yield "read, write and exit only"


def _apparmor(part: Part) -> Iterator[str]:
    if part["Profile"] not in ("", "unconfined"):
        yield f"the profile {part['Profile']}"
    else:
        yield f"no profile{': ' * bool(part['Skipped'])}{part['Skipped']}"


def _namespaces(part: Part) -> Iterator[str]:
    for kind, found in part.items():
        whose = "the host's" if found["Shared"] else "its own"
        yield f"{kind:<8}  {whose:<10}  chapter {found['Chapter']:02}"


def _kernel_paths(part: Part) -> Iterator[str]:
    yield from _listed("user 0 inside can write to", part["Writable"], "none can be written")
    yield from _listed("not masked", part["Unmasked"], "all that docker masks is masked")


def _devices(part: Part) -> Iterator[str]:
    harmless = ("null", "zero", "full", "random", "urandom", "tty")
    # Grouped by driver: a machine has 64 /dev/tty.
    others: dict[str, list[str]] = {}
    for node in part["Nodes"]:
        name = node["Path"].removeprefix("/dev/")
        if name not in harmless and not name.startswith("pts/"):
            others.setdefault(f"{node['Type']} {node['Major']}", []).append(node["Path"])
    if not others:
        yield "those that every container has, and no other"
    else:
        yield "those that every container has, and by driver:"
        for driver, names in sorted(others.items()):
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            yield f"  {driver:<6}  {', '.join(names[:2])}{more}"
    yield from _listed(
        "a device file that is made works in", part["Live"], "none works that is made"
    )
    rules = part["Allowed"]["Rules"]
    if rules is None:
        yield "no control group asks whether it may open one (chapter 08)"
    elif "a *:* rwm" in rules:
        yield "its control group allows all devices (chapter 08)"
    else:
        # Version 2's list says first that nothing is allowed, and then what is.
        allowed = rules[1:] if rules[:1] == ["not a *:* rwm"] else rules
        yield from _listed("its control group allows (chapter 08)", allowed, "none")


def _host(part: Part) -> Iterator[str]:
    if not part["RootWritable"]:
        yield "its own root is read-only"
    if not part["Mounts"]:
        yield "none are mounted in it"
    for mount in part["Mounts"]:
        how = "read and written" if mount["Writable"] else "only read"
        yield f"{mount['Path']} can be {how}: {mount['Source']} of {mount['Device']}"


def _limits(part: Part) -> Iterator[str]:
    for name in ("Memory", "Processors", "Processes"):
        yield f"{name.lower():<10}  {part[name]}"


def _listed(what: str, names: list[str], otherwise: str) -> Iterator[str]:
    """`what: a, b, c`, wrapped to the page; another sentence for an empty list."""
    if not names:
        yield otherwise
        return
    line = f"{what}:"
    for number, name in enumerate(names):
        word = f" {name}{',' if number < len(names) - 1 else ''}"
        if len(line) + len(word) > _WIDTH - 2:
            yield line
            line = " "
        line += word
    yield line

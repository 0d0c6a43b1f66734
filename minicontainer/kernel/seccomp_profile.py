"""Seccomp profiles in docker's JSON format, and the OCI object that is left of one on a machine.

A profile is `linux.seccomp` of the OCI specification with conditions on top: `includes` and
`excludes` say for which machines, kernels and capabilities a rule is meant, `archMap` which
architectures belong together (docker, "Seccomp security profiles for Docker"; moby/profiles,
seccomp/seccomp.go). Nothing unknown is passed over: a misspelt key would be a hole in the filter.
"""

from __future__ import annotations

import errno as numbers_of_errors

from .. import jsonio
from ..errors import EngineError
from .seccomp_assembler import EVERY_BIT
from .seccomp_compiler import ACTIONS, FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any

    Way = tuple[str | int, ...]

CHAPTER = 10

OPERATORS = {f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")}
# The specification's names; those that this engine has no table for never run on our machines.
ARCHITECTURES = {
    f"SCMP_ARCH_{name}"
    for name in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
        "PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
    ).split()
}
# Docker's (Go's) names of machines in conditions, by uname(2)'s.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LARGEST_ERRNO = 4095

_TOP = "defaultAction defaultErrnoRet architectures flags syscalls listenerPath listenerMetadata"
_RULE = "names action errnoRet args"
# What docker's format, and podman's, adds to the specification's.
_DOCKERS_TOP, _DOCKERS_RULE = (
    " archMap comment defaultErrno",
    " name comment includes excludes errno",
)


class ProfileError(EngineError):
    """A profile is wrong. way: the keys and indices that lead to the place."""

    def __init__(self, way: Way, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{spell(way)}: {reason}" if way else reason, hint=hint)
        self.way = way


def spell(way: Way) -> str:
    """`syscalls[3].action`, as a person writes it."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way)
    return steps.removeprefix(".")


def parse(text: str, name: str) -> dict[str, Any]:
    """A profile from the text of a file; EngineError begins with the file's name and the line."""
    try:
        profile = jsonio.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        reason = getattr(error, "msg", str(error).removeprefix("JSON "))
        raise EngineError(f"{name}:{line}: this is not JSON: {reason[:1].lower()}{reason[1:]}")
    try:
        check(profile, dockers=True)
    except ProfileError as error:
        line = find_line(text, error.way)
        raise EngineError(f"{name}:{line}: {error.message}", hint=error.hint) from None
    checked: dict[str, Any] = profile
    return checked


def find_line(text: str, way: Way) -> int:
    """The line of a JSON text on which a value stands; of a key given twice the last counts."""
    import json

    decoder, place = json.JSONDecoder(), _skip(text, 0)
    for step in way:
        at, index, found = _skip(text, place + 1), 0, None
        while text[at] not in "}]":
            key: str | int = index
            if isinstance(step, str):
                key, at = decoder.raw_decode(text, at)
                at = _skip(text, _skip(text, at) + 1)
            if key == step:
                found = at
            at = _skip(text, decoder.raw_decode(text, at)[1])
            at = _skip(text, at + 1) if text[at] == "," else at
            index += 1
        if found is None:
            break  # the key is what is missing
        place = found
    return text.count("\n", 0, place) + 1


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def select(
    profile: dict[str, Any], capabilities: Sequence[str], machine: str, kernel: str
) -> dict[str, Any] | None:
    """The OCI `linux.seccomp` object of a docker profile for one container; None for the empty
    profile, which docker takes for "no filter".

    capabilities: the container's bounding set, as `CAP_CHOWN`. machine, kernel: as uname(2) names
    them, `x86_64` and `6.1.0-13-amd64`.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    chosen = {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": _errno(profile, "defaultErrno"),
        "architectures": profile.get("architectures") or _related(profile, machine),
        "flags": profile.get("flags"),
        "syscalls": [
            {
                "names": entry.get("names") or [entry["name"]],
                "action": entry["action"],
                "errnoRet": _errno(entry, "errno"),
                "args": entry.get("args"),
            }
            for entry in profile.get("syscalls") or []
            if _applies(entry, capabilities, machine, kernel)
        ],
    }
    chosen["syscalls"] = [_without_none(entry) for entry in chosen["syscalls"]]
    return _without_none(chosen)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _errno(fields: dict[str, Any], name: str) -> int | None:
    """podman writes the errno by its name too, which then counts."""
    if fields.get(name):
        return int(getattr(numbers_of_errors, fields[name]))
    return fields.get(f"{name}Ret")


def _related(profile: dict[str, Any], machine: str) -> list[str] | None:
    for entry in profile.get("archMap") or []:
        if entry["architecture"] == f"SCMP_ARCH_{machine.upper()}":
            return [entry["architecture"], *(entry.get("subArchitectures") or [])]
    return None


def _applies(
    entry: dict[str, Any], capabilities: Container[str], machine: str, kernel: str
) -> bool:
    """Whether a rule's conditions hold: each of `includes`, and none of `excludes`."""
    names = MACHINES.get(machine, machine)
    wanted, unwanted = entry.get("includes") or {}, entry.get("excludes") or {}
    return not (
        (wanted.get("arches") and names not in wanted["arches"])
        or not all(name in capabilities for name in wanted.get("caps") or [])
        or (wanted.get("minKernel") and not _is_new(kernel, wanted["minKernel"]))
        or names in (unwanted.get("arches") or [])
        or any(name in capabilities for name in unwanted.get("caps") or [])
        or (unwanted.get("minKernel") and _is_new(kernel, unwanted["minKernel"]))
    )


def _is_new(kernel: str, least: str) -> bool:
    """Whether a kernel has at least this version; only the first two numbers count."""

    def version(text: str) -> list[int]:
        return [int("".join(c for c in part if c.isdigit())) for part in text.split(".")[:2]]

    return version(kernel.partition("-")[0]) >= version(least)


def check(profile: Any, *, dockers: bool = False) -> None:
    """Raise ProfileError for what is wrong in a profile, or cannot be had.

    dockers: with what docker's format adds to that of the OCI specification.
    """
    _fields(profile, (), _TOP + (_DOCKERS_TOP if dockers else ""))
    rules = _list(profile, (), "syscalls")
    if dockers and not rules and not profile.get("defaultAction"):
        return
    _action(profile, (), "defaultAction", "defaultErrno")
    for index, name in enumerate(_list(profile, (), "architectures")):
        _one_of(name, ("architectures", index), ARCHITECTURES, "architecture")
    for index, name in enumerate(_list(profile, (), "flags")):
        if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
            raise ProfileError(("flags", index), f"{name} means nothing without SCMP_ACT_NOTIFY")
        _one_of(name, ("flags", index), FLAGS, "flag")
    for key in ("listenerPath", "listenerMetadata"):
        if profile.get(key):
            raise ProfileError((key,), "there is no SCMP_ACT_NOTIFY, so nobody would listen")
    related = _list(profile, (), "archMap")
    if related and profile.get("architectures"):
        raise ProfileError(("archMap",), "give either architectures or archMap")
    for index, entry in enumerate(related):
        way: Way = ("archMap", index)
        _fields(entry, way, "architecture subArchitectures")
        _one_of(entry.get("architecture"), (*way, "architecture"), ARCHITECTURES, "architecture")
        for second, name in enumerate(_list(entry, way, "subArchitectures")):
            place = (*way, "subArchitectures", second)
            _one_of(name, place, ARCHITECTURES, "architecture")
    for index, rule in enumerate(rules):
        _check_rule(rule, ("syscalls", index), dockers)


def _check_rule(rule: Any, way: Way, dockers: bool) -> None:
    _fields(rule, way, _RULE + (_DOCKERS_RULE if dockers else ""))
    names = _list(rule, way, "names")
    if rule.get("name") is not None:
        if names:
            raise ProfileError((*way, "name"), "give either name or names")
        names = [rule["name"]]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ProfileError((*way, "names"), "at least one name of a system call is needed")
    _action(rule, way, "action", "errno")
    for index, argument in enumerate(_list(rule, way, "args")):
        place = (*way, "args", index)
        _fields(argument, place, "index value valueTwo op")
        _number(argument, (*place, "index"), 5, needed=True)
        _one_of(argument.get("op"), (*place, "op"), OPERATORS, "operator")
        _number(argument, (*place, "value"), EVERY_BIT, needed=True)
        _number(argument, (*place, "valueTwo"), EVERY_BIT)
        stray = (argument.get("valueTwo") or 0) & ~argument["value"]
        if stray and argument["op"] == "SCMP_CMP_MASKED_EQ":
            reason = "it has bits that the mask (value) takes away, and would never match"
            raise ProfileError((*place, "valueTwo"), reason)
    for key in ("includes", "excludes"):
        filter = rule.get(key) or {}
        _fields(filter, (*way, key), "arches caps minKernel")
        for inner in ("arches", "caps"):
            for index, name in enumerate(_list(filter, (*way, key), inner)):
                if not isinstance(name, str):
                    raise ProfileError((*way, key, inner, index), f"{name!r} is not a name")
        least = filter.get("minKernel")
        if least and not (isinstance(least, str) and _is_version(least)):
            place = (*way, key, "minKernel")
            raise ProfileError(place, f"{least!r} is not a kernel's version, such as 4.8")


def _is_version(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts)


def _fields(value: Any, way: Way, known: str) -> None:
    if not isinstance(value, dict):
        raise ProfileError(way, "an object was expected here")
    for key in value:
        if key not in known.split():
            hint = f"known here: {known.replace(' ', ', ')}"
            raise ProfileError((*way, key), "nothing of this name is known", hint)


def _list(value: dict[str, Any], way: Way, key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ProfileError((*way, key), "a list was expected here")
    return found


def _one_of(value: Any, way: Way, known: Container[str], what: str) -> None:
    if not isinstance(value, str) or value not in known:
        raise ProfileError(way, f"unknown {what} {value!r}" if value else f"the {what} is missing")


def _action(fields: dict[str, Any], way: Way, key: str, errno: str) -> None:
    """Check an action and the errno that belongs to it."""
    action = fields.get(key)
    if action == "SCMP_ACT_NOTIFY":
        reason = "SCMP_ACT_NOTIFY cannot be had: nobody here would answer for the kernel"
        raise ProfileError((*way, key), reason)
    _one_of(action, (*way, key), ACTIONS, "action")
    _number(fields, (*way, f"{errno}Ret"), LARGEST_ERRNO)
    name = fields.get(errno)
    if name and (not isinstance(name, str) or name not in numbers_of_errors.errorcode.values()):
        raise ProfileError((*way, errno), f"unknown errno {name!r}")
    given = errno if name else f"{errno}Ret"
    if fields.get(given) is not None and action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        raise ProfileError((*way, given), f"{action} has no errno")


def _number(fields: dict[str, Any], way: Way, most: int, *, needed: bool = False) -> None:
    value = fields.get(str(way[-1]))
    if value is None and not needed:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ProfileError(way, f"{value!r} is not a number from 0 to {most}")

"""Classic BPF as the kernel runs it on a system call (kernel/seccomp.c, net/core/filter.c), and
what a filter should say: for tests, by reading its profile from the beginning every time."""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterator
from errno import ENOSYS, EPERM
from typing import Any

from minicontainer.kernel import seccomp_compiler, seccomp_numbers

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
MASK = 2**64 - 1

TABLES = seccomp_numbers.tables()


class Malformed(Exception):
    """What the kernel would not load (bpf_check_classic, seccomp_check_filter)."""


def verify(program: bytes) -> None:
    """Raise Malformed as the kernel does when it loads a program."""
    code = list(struct.iter_unpack("=HBBI", program))
    if not 0 < len(code) <= 4096:
        raise Malformed(f"{len(code)} instructions")
    for at, (what, yes, no, k) in enumerate(code):
        if what == 0x20:
            good = k % 4 == 0 and k < 64
        elif what in (0x15, 0x25, 0x35, 0x45):
            good = at + 1 + max(yes, no) < len(code)
        elif what == 0x05:
            good = at + 1 + k < len(code)
        else:
            good = what in (0x06, 0x54)
        if not good:
            raise Malformed(f"instruction {at}: {what:#x} {yes} {no} {k:#x}")
    if code[-1][0] != 0x06:
        raise Malformed("the last instruction does not return")


class Verdict(int):
    """What a program returned, and after how many instructions."""

    steps: int


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> Verdict:
    """What the kernel gets from a program for one system call."""
    arguments = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(a & MASK for a in arguments))
    code = list(struct.iter_unpack("=HBBI", program))
    at, accumulator, steps = 0, 0, 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        steps += 1
        if what == 0x06:
            verdict = Verdict(k)
            verdict.steps = steps
            return verdict
        if what == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif what == 0x54:
            accumulator &= k
        elif what == 0x05:
            at += k
        else:
            held = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[what]
            at += yes if held else no


ORDER = ("KILL_PROCESS", "KILL_THREAD", "KILL", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW")
_COMPARE = {
    "EQ": operator.eq, "NE": operator.ne, "LT": operator.lt, "LE": operator.le,
    "GT": operator.gt, "GE": operator.ge,
}  # fmt: skip


def expected(
    profile: dict[str, Any], machine: str, arch: int, number: int, arguments: tuple[int, ...]
) -> int:
    """What a filter made of an OCI profile should say: each rule is read, nothing is compiled."""
    number &= 0xFFFFFFFF
    listed = profile.get("architectures") or []
    abi = {X86_64: "x86_64", I386: "i386", AARCH64: "aarch64", ARM: "arm"}[arch]
    other = {("x86_64", "i386"): "SCMP_ARCH_X86", ("aarch64", "arm"): "SCMP_ARCH_ARM"}
    if machine != abi and other.get((machine, abi)) not in listed:
        return 0x80000000
    if abi == "x86_64" and number >= 0x40000000 and number != 0xFFFFFFFF:
        if "SCMP_ARCH_X32" not in listed:
            return 0x80000000
        abi, number = "x32", number & ~0x40000000
    table = TABLES[abi]
    wide = abi not in ("i386", "arm")
    found: list[tuple[int, int]] = []
    known = [-1]
    named = {name for rule in profile["syscalls"] for name in rule["names"]}
    for rule in profile["syscalls"]:
        value = returned(rule["action"], rule.get("errnoRet"))
        rank = ORDER.index(rule["action"].removeprefix("SCMP_ACT_"))
        for name, conditions in meanings(rule, named, abi):
            if name in table:
                known.append(table[name])
            if table.get(name) == number and any(
                all(holds(c, arguments, wide) for c in group) for group in groups(conditions)
            ):
                found.append((rank if rank != 2 else 1, value))
    if found:
        return min(found, key=lambda entry: entry[0])[1]
    default = returned(profile["defaultAction"], profile.get("defaultErrnoRet"))
    passing = profile["defaultAction"].removeprefix("SCMP_ACT_") in ("ALLOW", "LOG", "TRACE")
    newest = max(known, key=lambda n: -1 if n >= 0xF0000 else n)
    if 0 <= newest < min(number, 0xF0000) and number not in known and not passing:
        return 0x50000 | ENOSYS
    return default


def meanings(
    rule: dict[str, Any], named: set[str], abi: str
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The calls that a rule is about, i386's multiplexers among them."""
    arguments = rule.get("args") or []
    for name in rule["names"]:
        yield name, arguments
        if abi != "i386":
            continue
        for door, (mask, behind) in seccomp_compiler.MULTIPLEXERS.items():
            passing = rule["action"].removeprefix("SCMP_ACT_") in ("ALLOW", "LOG", "TRACE")
            if name in behind and door not in named and not (arguments and passing):
                number = behind.index(name) + 1
                yield (
                    door,
                    [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": number}],
                )


def groups(conditions: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Conditions that must hold together: all, or each alone where two are about one argument."""
    if len({condition["index"] for condition in conditions}) < len(conditions):
        return [[condition] for condition in conditions]
    return [conditions]


def holds(condition: dict[str, Any], arguments: tuple[int, ...], wide: bool) -> bool:
    """Whether a condition holds for a call's arguments."""
    argument = (*arguments, *(0,) * 6)[condition["index"]] & MASK
    value, name = condition["value"], condition["op"].removeprefix("SCMP_CMP_")
    second = condition.get("valueTwo") or 0
    if not wide:
        argument &= 0xFFFFFFFF
        value = value & 0xFFFFFFFF if value >= 2**64 - 2**31 and name != "MASKED_EQ" else value
        second = second & 0xFFFFFFFF if second >= 2**64 - 2**31 else second
    if name == "MASKED_EQ":
        return argument & value == second
    return bool(_COMPARE[name](argument, value))


def returned(action: str, number: int | None) -> int:
    """What the kernel is told for an action (<linux/seccomp.h>)."""
    name = action.removeprefix("SCMP_ACT_")
    base = {
        "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000,
        "ERRNO": 0x50000, "TRACE": 0x7FF00000, "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000,
    }[name]  # fmt: skip
    if name in ("ERRNO", "TRACE"):
        return base | (EPERM if number is None else number)
    return base

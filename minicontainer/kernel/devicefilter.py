"""The device filter: which device numbers the processes of a cgroup may open, wherever a node is.

Version 2 has no file for it. The kernel asks a program instead, each time a device is opened or a
node is made: an eBPF program attached to the cgroup (BPF_PROG_TYPE_CGROUP_DEVICE), which gets
the kind of access and the device's numbers, and returns 1 or 0. Ours is assembled here, some
instructions for each rule; the kernel proves that it ends and reads nothing it must not.

bpf(2); the kernel's Documentation/bpf/instruction-set; <linux/bpf.h>, bpf_cgroup_dev_ctx.
"""

from __future__ import annotations

import ctypes
import os
import struct

from ..errors import EngineError
from . import flags, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 8

PROG_LOAD, PROG_ATTACH, PROG_QUERY = 5, 8, 16
PROG_TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE, ALLOW_MULTI = 15, 6, 2

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
EVERYTHING = 7
ANY = -1

_COMMANDS = {
    PROG_LOAD: "BPF_PROG_LOAD",
    PROG_ATTACH: "BPF_PROG_ATTACH",
    PROG_QUERY: "BPF_PROG_QUERY",
}
_COMMAND = syscalls.Kind(ctypes.c_int, lambda value: _COMMANDS[value])
_bpf = syscalls.Call("bpf", _COMMAND, syscalls.STRUCT, syscalls.SIZE, number=flags.NR_bpf)
# The kernel writes its answer into this one.
_ANSWER = syscalls.Kind(ctypes.c_char_p, lambda value: "{attach_type=BPF_CGROUP_DEVICE}")
_query = syscalls.Call("bpf", _COMMAND, _ANSWER, syscalls.SIZE, number=flags.NR_bpf)


def rule(
    allow: bool, kind: str = "a", major: int = ANY, minor: int = ANY, access: str = "rwm"
) -> dict[str, Any]:
    """One rule of the OCI form (config-linux.md, "Allowed Device list"). kind: `c`, `b` or `a`."""
    found: dict[str, Any] = {"allow": allow, "access": access}
    if kind != "a":
        found["type"] = kind
    if major != ANY:
        found["major"] = major
    if minor != ANY:
        found["minor"] = minor
    return found


# Docker's list (moby, oci/defaults.go), and what runc puts after every list (specconv,
# AllowedDevices): any node may be made, and the harmless ones opened; terminals of devpts, tun.
DOCKER = [
    rule(False),
    *(rule(True, "c", major, minor) for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8))),
    *(rule(True, "c", 5, minor) for minor in (0, 1)),
    rule(False, "c", 10, 229),
]
ALWAYS = [
    rule(True, "c", access="m"),
    rule(True, "b", access="m"),
    *(rule(True, "c", 1, minor) for minor in (3, 8, 7, 5, 9)),
    *(rule(True, "c", 5, minor) for minor in (0, 2)),
    rule(True, "c", 136),
    rule(True, "c", 10, 200),
]


def complete(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A list of rules with those that every container gets behind it; of one that stands there
    twice the last is kept, which decides."""
    whole = [*rules, *ALWAYS]
    return [entry for number, entry in enumerate(whole) if entry not in whole[number + 1 :]]


def numbers(entry: dict[str, Any]) -> tuple[bool, int, int, int, int]:
    """A rule as (allow, type or 0, major, minor, access bits); EngineError for a wrong one."""
    kind = entry.get("type") or "a"
    access = entry.get("access") or "rwm"
    if kind not in ("a", "b", "c", "u") or set(access) - set(ACCESS):
        raise EngineError(f"the device rule {entry} is malformed in the OCI specification")
    bits = 0
    for letter in access:
        bits |= ACCESS[letter]
    # runc reads a missing number as "any", and so must -1.
    major, minor = (entry.get(key, ANY) for key in ("major", "minor"))
    number = TYPES["c"] if kind == "u" else TYPES.get(kind, 0)
    return bool(entry.get("allow")), number, major, minor, bits


def assemble(rules: list[dict[str, Any]]) -> bytes:
    """The program for a list of rules, of which the last that fits decides; with none, no.

    An allowing rule fits an access that it allows whole; a forbidding one that it forbids in part.
    """
    code = [
        _instruction(0x61, 2, 1, 0),  # r2 = access << 16 | type
        _instruction(0xBF, 3, 2),  # r3 = r2
        _instruction(0x57, 2, value=0xFFFF),  # r2 &= 0xffff: the type
        _instruction(0x77, 3, value=16),  # r3 >>= 16: the access
        _instruction(0x61, 4, 1, 4),  # r4 = major
        _instruction(0x61, 5, 1, 8),  # r5 = minor
    ]
    for entry in reversed(rules):
        allow, kind, major, minor, access = numbers(entry)
        # Each test is (opcode, register, value): one that jumps when the rule does not fit.
        tests = [(0x55, register, value) for register, value in ((2, kind or ANY), (4, major),
                 (5, minor)) if value != ANY]  # fmt: skip
        block = []
        if access != EVERYTHING:
            block += [_instruction(0xBF, 1, 3)]  # r1 = the access
            block += [_instruction(0x57, 1, value=access ^ EVERYTHING if allow else access)]
            tests.insert(0, (0x55 if allow else 0x15, 1, 0))
        for number, (opcode, register, value) in enumerate(tests):
            behind = len(tests) - number + 1
            block.append(_instruction(opcode, register, offset=behind, value=value))
        code += [*block, *_answer(allow)]
        if not block:
            # It fits all, so the rules before it are never asked: and the kernel refuses a program
            # with instructions that cannot be reached.
            return b"".join(code)
    return b"".join([*code, *_answer(False)])


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(0xB7, 0, value=int(allow)), _instruction(0x95)]  # r0 = …; exit


def _instruction(
    opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    """One eBPF instruction: opcode, two registers of four bits, a jump offset, a constant."""
    return struct.pack("=BBhi", opcode, target | source << 4, offset, value)


def load(program: bytes) -> int:
    """Give a program to the kernel, which proves it; a descriptor. EngineError says why not."""
    code = ctypes.create_string_buffer(program, len(program))
    license = ctypes.create_string_buffer(b"GPL")
    attributes = syscalls.Packed.of(
        "=IIQQ",
        lambda: f"{{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={len(program) // 8}}}",
        PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license),
    )
    try:
        return _bpf(PROG_LOAD, attributes, len(attributes))
    except OSError as error:
        raise EngineError(
            f"cannot load the device filter: {error}",
            hint="it needs root (CAP_BPF), and a kernel with CONFIG_CGROUP_BPF",
        ) from error


def attach(cgroup: int, rules: list[dict[str, Any]]) -> None:
    """Put a cgroup's processes behind the filter for a list of rules (docker's and ours follow).

    cgroup: descriptor of its directory. It holds for all cgroups below, and cannot be taken off
    from inside.
    """
    program = load(assemble(complete(rules)))
    try:
        attributes = syscalls.Packed.of(
            "=IIII",
            lambda: f"{{target_fd={cgroup}, attach_type=BPF_CGROUP_DEVICE}}",
            cgroup,
            program,
            ATTACH_CGROUP_DEVICE,
            ALLOW_MULTI,
        )
        _bpf(PROG_ATTACH, attributes, len(attributes))
    finally:
        os.close(program)


def count(cgroup: int) -> int:
    """How many device filters a cgroup has of its own; SyscallError where there can be none."""
    layout = "=IIIIQI"
    answer = ctypes.create_string_buffer(
        struct.pack(layout, cgroup, ATTACH_CGROUP_DEVICE, 0, 0, 0, 0), 32
    )
    _query(PROG_QUERY, answer, 32)
    return int(struct.unpack_from(layout, answer.raw)[5])

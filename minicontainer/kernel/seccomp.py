"""The system-call filter: a small program that the kernel runs before each call (seccomp(2)).

A filter is classic BPF. It sees the number of a call, the machine whose numbers are meant and the
six arguments, and answers: let it pass, refuse it with an errno, kill. It cannot follow a pointer,
and once loaded nobody takes it off again: it holds for the process and all its descendants.

What is here is all that a start needs. Profiles become programs in `seccomp_compiler`.
"""

from __future__ import annotations

import ctypes
import struct

from ..errors import EngineError
from . import flags, syscalls

CHAPTER = 10

# <linux/filter.h>: struct sock_filter is {u16 code; u8 jt, jf; u32 k}.
INSTRUCTION = struct.Struct("=HBBI")
LONGEST = 4096  # BPF_MAXINSNS

_seccomp = syscalls.Call(
    "seccomp",
    syscalls.Kind(ctypes.c_uint, lambda value: flags.name_of("SECCOMP_SET_MODE_", value)),
    syscalls.Kind(ctypes.c_uint, lambda value: flags.decode("SECCOMP_FILTER_FLAG_", value)),
    syscalls.STRUCT,
    number=flags.NR_seccomp,
)


class Filter:
    """A compiled filter: the program's bytes, and the flags that it is loaded with."""

    __slots__ = ("program", "how")

    def __init__(self, program: bytes, how: int = flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW) -> None:
        self.program = program
        self.how = how

    def __len__(self) -> int:
        """The number of instructions."""
        return len(self.program) // INSTRUCTION.size


def load(filter: Filter) -> None:
    """Put the calling process, and all that it will ever execute, behind a filter.

    It needs CAP_SYS_ADMIN in the process's user namespace, or no_new_privs: without either, a
    filter could make a set-user-ID program fail in ways that its author never thought of. Raises
    SyscallError, also when the kernel finds the program malformed (EINVAL).
    """
    if len(filter) > LONGEST:
        raise EngineError(f"the seccomp filter has {len(filter)} instructions, {LONGEST} at most")
    code = ctypes.create_string_buffer(filter.program, len(filter.program))
    fprog = syscalls.Packed.of(
        "HP",  # struct sock_fprog, with the machine's own alignment
        lambda: f"{{len={len(filter)}, filter=…}}",
        len(filter),
        ctypes.addressof(code),
    )
    _seccomp(flags.SECCOMP_SET_MODE_FILTER, filter.how, fprog)

"""Filters made by libseccomp, as runc makes them from the same OCI profile: an oracle.

runc's steps are those of its libcontainer/seccomp/seccomp_linux.go and patchbpf/enosys_linux.go.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
from errno import EFAULT
from typing import Any

from tests.kernel import bpf

OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": bpf.X86_64, "SCMP_ARCH_X86": bpf.I386, "SCMP_ARCH_X32": 0x4000003E,
}  # fmt: skip
UNKNOWN = -1


class _Argument(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint), ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64),
    ]  # fmt: skip


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library


@functools.cache
def number(name: str, arch: int) -> int:
    """The number of a call as libseccomp knows it; negative where it knows none."""
    return int(_library().seccomp_syscall_resolve_name_arch(arch, name.encode()))


def program(profile: dict[str, Any]) -> bytes:
    """The program that libseccomp writes for an OCI profile."""
    library = _library()
    default = bpf.returned(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    try:
        for name in profile.get("architectures") or []:
            if name in ARCHITECTURES:
                _must(library.seccomp_arch_add(context, ARCHITECTURES[name]), -17)  # EEXIST
        for rule in profile["syscalls"]:
            action = bpf.returned(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add(library, context, action, rule)
        descriptor = os.memfd_create("filter")
        try:
            _must(library.seccomp_export_bpf(context, descriptor))
            os.lseek(descriptor, 0, os.SEEK_SET)
            return os.read(descriptor, 1 << 20)
        finally:
            os.close(descriptor)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, action: int, rule: dict[str, Any]) -> None:
    for name in rule["names"]:
        native = library.seccomp_syscall_resolve_name_arch(bpf.X86_64, name.encode())
        if native == UNKNOWN:
            continue
        for group in bpf.groups(rule.get("args") or []):
            arguments = (_Argument * max(1, len(group)))(*[
                _Argument(
                    c["index"], OPERATORS[c["op"].removeprefix("SCMP_CMP_")], c["value"],
                    c.get("valueTwo") or 0,
                )
                for c in group
            ])  # fmt: skip
            added = library.seccomp_rule_add_array(
                context, action, native, len(group), ctypes.byref(arguments)
            )
            _must(added, -EFAULT)  # a rule for a call that no listed machine has


def _must(result: int, *good: int) -> None:
    if result < 0 and result not in good:
        raise OSError(-result, os.strerror(-result))


def newest(profile: dict[str, Any], arch: int) -> int:
    """The newest call that a profile names, of a machine or of x32: runc says ENOSYS above it."""
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    return max((number(name, arch) for name in names), default=0)

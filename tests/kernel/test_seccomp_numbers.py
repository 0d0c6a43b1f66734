"""The table of system-call numbers, against the kernel's own headers."""

from __future__ import annotations

from pathlib import Path

import pytest
import syscall_numbers

from minicontainer.kernel import flags, seccomp_numbers
from tests.kernel import bpf

pytestmark = pytest.mark.host  # arithmetic: the same in every kernel

HEADERS = [
    "/usr/include/x86_64-linux-gnu",  # linux-libc-dev on x86-64
    "/usr/x86_64-linux-gnu/include",  # linux-libc-dev-amd64-cross elsewhere
]
CROSS = {"aarch64": "/usr/aarch64-linux-gnu", "arm": "/usr/arm-linux-gnueabihf"}


@pytest.mark.tools("cc")
@pytest.mark.needs("kernel-headers")
@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32"])
def test_the_numbers_are_the_kernels(abi: str) -> None:
    include = next(Path(path) for path in HEADERS if Path(path, "asm/unistd_64.h").exists())
    ours = bpf.TABLES[abi]
    theirs = syscall_numbers.x86(include)[abi]
    assert {name: ours.get(name) for name in theirs} == theirs
    newer = {*syscall_numbers.NEWER.values(), *syscall_numbers.NEWER_X86_64.values()}
    assert set(ours) - set(theirs) <= newer


@pytest.mark.tools("cc")
@pytest.mark.needs("arm-headers")
@pytest.mark.parametrize("abi", CROSS)
def test_the_numbers_of_arm_are_the_kernels(abi: str) -> None:
    include = Path(CROSS[abi], "include")
    ours = bpf.TABLES[abi]
    theirs = syscall_numbers.arm(include, abi)
    others = {name: number for name, number in theirs.items() if ours.get(name) != number}
    # Two names of one call; our table keeps one of them for a number.
    assert others in ({}, {"arm_sync_file_range": ours.get("sync_file_range2")})


def test_the_table_is_what_the_tool_writes() -> None:
    """The tool reads the table back for machines whose headers it is not given."""
    written = syscall_numbers.generate(seccomp_numbers.tables())
    assert written == Path(seccomp_numbers.FILE).read_text()


def test_two_files_agree() -> None:
    for machine in ("x86_64", "aarch64"):
        table = bpf.TABLES[machine]
        assert table["openat2"] == flags.NR_openat2
        assert table["clone3"] == flags.NR_clone3
    own = bpf.TABLES["aarch64" if flags._ARM else "x86_64"]
    for name in ("seccomp", "keyctl", "pivot_root", "mount_setattr"):
        assert own[name] == getattr(flags, f"NR_{name}")

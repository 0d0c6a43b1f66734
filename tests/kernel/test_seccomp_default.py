"""The default policy: what it refuses, and that libseccomp makes the same of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from minicontainer.kernel import (
    capabilities,
    seccomp_compiler,
    seccomp_default,
    seccomp_profile,
)
from tests.kernel import bpf, libseccomp

pytestmark = pytest.mark.host  # arithmetic: the same in every kernel

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
DOCKERS = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID "
    "CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
).split()
EVERY = [f"CAP_{name}" for name in capabilities.NAMES]
PODMANS = Path("/usr/share/containers/seccomp.json")
ABIS = {
    "x86_64": (bpf.X86_64, bpf.X86_64),
    "i386": (bpf.I386, bpf.I386),
    "x32": (bpf.X86_64, libseccomp.ARCHITECTURES["SCMP_ARCH_X32"]),
}
# First arguments, with the second and third where a rule looks at them.
ARGUMENTS = [
    (0,), (1,), (5,), (8,), (16, 0, 9), (16, 3, 0), (17,), (38,), (40,), (0x1000000F, 0, 0),
    (0x20000,), (0x10000011,), (0x80000000,), (0xFFFFFFFF,), (2**64 - 1,),
]  # fmt: skip


def default(
    caps: list[str] = DOCKERS, machine: str = "x86_64", kernel: str = "6.1.0-13-amd64"
) -> dict[str, Any]:
    chosen = seccomp_profile.select(seccomp_default.profile(), caps, machine, kernel)
    assert chosen is not None
    return chosen


def refused(chosen: dict[str, Any], machine: str = "x86_64") -> set[str]:
    """The calls that are refused whatever their arguments."""
    filter = seccomp_compiler.compile_filter(chosen, machine)
    arch = {"x86_64": bpf.X86_64, "aarch64": bpf.AARCH64}[machine]
    return {
        name
        for name, number in bpf.TABLES[machine].items()
        if all(bpf.run(filter.program, arch, number, a) != ALLOW for a in ARGUMENTS)
    }


def answer(name: str, *arguments: int, chosen: dict[str, Any] | None = None) -> int:
    filter = seccomp_compiler.compile_filter(chosen or default(), "x86_64")
    number = bpf.TABLES["x86_64"][name]
    return bpf.run(filter.program, bpf.X86_64, number, arguments)


def test_it_is_a_profile_as_docker_reads_them() -> None:
    text = json.dumps(seccomp_default.profile(), indent=1)
    assert seccomp_profile.parse(text, "default") == seccomp_default.profile()


def test_every_name_is_known_somewhere_and_given_once() -> None:
    everywhere = {n for abi in bpf.TABLES for n in bpf.TABLES[abi]}
    elsewhere = {"riscv_hwprobe", "riscv_flush_icache", "arm_sync_file_range"}
    elsewhere |= {"umount", "recv", "send"}  # of i386 or arm
    words = Counter(" ".join(seccomp_default.ALLOWED.values()).split())
    assert not [word for word, times in words.items() if times > 1]
    groups = [*seccomp_default.CAPABILITIES.values(), *seccomp_default.MACHINES.values()]
    assert {*words, *" ".join(groups).split()} - everywhere - elsewhere == set()
    assert set(seccomp_default.CAPABILITIES) <= set(EVERY)


def test_what_the_first_lines_of_the_policy_say_is_so() -> None:
    table = bpf.TABLES["x86_64"]
    told = Counter(answer(name) for name in refused(default()))
    assert (told[EPERM], told[ENOSYS], len(table)) == (70, 6, 385)
    for number in ("70 of the 385", "6 more"):
        assert number in (seccomp_default.__doc__ or "").replace("\n", " ")


def test_what_nobody_may() -> None:
    for caps in (DOCKERS, EVERY):
        assert refused(default(caps)) >= set(
            "add_key keyctl request_key kexec_load kexec_file_load swapon swapoff userfaultfd "
            "io_uring_setup io_uring_enter io_uring_register pivot_root move_pages "
            "migrate_pages uselib ustat sysfs _sysctl nfsservctl".split()
        )


def test_what_a_capability_opens() -> None:
    plain = refused(default())
    assert plain >= set("mount unshare setns bpf perf_event_open init_module reboot".split())
    for name, opened in seccomp_default.CAPABILITIES.items():
        expected = {call for call in opened.split() if call in plain}
        assert plain - refused(default([*DOCKERS, name])) == expected


def test_chroot_goes_with_its_capability() -> None:
    assert answer("chroot") == ALLOW
    without = [name for name in DOCKERS if name != "CAP_SYS_CHROOT"]
    assert answer("chroot", chosen=default(without)) == EPERM


def test_new_namespaces() -> None:
    assert answer("clone", 17) == ALLOW
    for kind in range(7):
        bit = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
        assert answer("clone", 17 | bit[kind]) == EPERM
    assert answer("clone3") == ENOSYS
    admin = default([*DOCKERS, "CAP_SYS_ADMIN"])
    assert answer("clone", 17 | 0x10000000, chosen=admin) == ALLOW
    assert answer("clone3", chosen=admin) == ALLOW


def test_address_families() -> None:
    """Neither the hypervisor (AF_VSOCK, 40) nor the kernel's cryptography (AF_ALG, 38), and no
    bits above those that socket(2) reads are a way around."""
    for family in (1, 2, 10, 16, 17, 44, 45):
        assert answer("socket", family) == ALLOW
    for family in (12, 19, 38, 40, 46, 40 | 1 << 32, 1 | 1 << 32, 2**64 - 1):
        assert answer("socket", family) == EPERM


def test_personalities() -> None:
    for persona in seccomp_default.PERSONALITIES:
        assert answer("personality", persona) == ALLOW
    for persona in (0x0040000, 0x0400000, 4, 2**64 - 1):  # ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC
        assert answer("personality", persona) == EPERM


def test_tracing_needs_a_kernel_that_filters_what_a_tracer_changed() -> None:
    assert answer("ptrace") == ALLOW
    assert answer("ptrace", chosen=default(kernel="4.7.0")) == EPERM
    traced = default([*DOCKERS, "CAP_SYS_PTRACE"], kernel="4.7.0")
    assert answer("ptrace", chosen=traced) == ALLOW


def test_the_two_machines_refuse_the_same() -> None:
    both = set(bpf.TABLES["x86_64"]) & set(bpf.TABLES["aarch64"])
    assert refused(default()) & both == refused(default(machine="aarch64"), "aarch64") & both
    arm = seccomp_compiler.compile_filter(default(machine="aarch64"), "aarch64")
    numbers = bpf.TABLES["arm"]
    for name, verdict in (("read", ALLOW), ("set_tls", ALLOW), ("unshare", EPERM)):
        assert bpf.run(arm.program, bpf.ARM, numbers[name]) == verdict


@pytest.mark.needs("libseccomp", "x86-64")
@pytest.mark.parametrize("caps", [DOCKERS, [], EVERY], ids=["dockers", "none", "every"])
@pytest.mark.parametrize(
    "whose", ["ours", pytest.param("podmans", marks=pytest.mark.tools("podman"))]
)
def test_libseccomp_makes_the_same_of_it(whose: str, caps: list[str]) -> None:
    """As runc has it make a filter, for every call of every table that it knows too."""
    profile = seccomp_default.profile()
    if whose == "podmans":
        profile = seccomp_profile.parse(PODMANS.read_text(), str(PODMANS))
    chosen = seccomp_profile.select(profile, caps, "x86_64", os.uname().release)
    assert chosen is not None
    ours = seccomp_compiler.compile_filter(chosen, "x86_64").program
    theirs = libseccomp.program(chosen)
    different = set()
    for abi, (arch, token) in ABIS.items():
        newest = libseccomp.newest(chosen, token)
        for name, number in bpf.TABLES[abi].items():
            if libseccomp.number(name, token) < 0:
                continue  # newer than it
            call = number | (0x40000000 if abi == "x32" else 0)
            for values in ARGUMENTS:
                if abi != "x86_64":  # of x32 too libseccomp looks at 32 bits, and we at 64
                    values = tuple(value & 0xFFFFFFFF for value in values)
                there = bpf.run(theirs, arch, call, values) if call <= newest else ENOSYS
                if bpf.run(ours, arch, call, values) != there:
                    different.add(name)
    # podman's profile both allows setns and refuses it; libseccomp takes the first, we the second.
    assert different <= ({"setns"} if whose == "podmans" else set())

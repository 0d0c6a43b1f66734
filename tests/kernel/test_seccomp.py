"""Filters in the kernel: a child puts itself behind one and makes system calls."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import (
    capabilities,
    flags,
    process,
    seccomp,
    seccomp_compiler,
    seccomp_default,
    seccomp_profile,
    syscalls,
)
from tests.kernel import bpf
from tests.support.inside import inside

pytestmark = pytest.mark.root

MACHINE = os.uname().machine
NUMBERS = bpf.TABLES.get(MACHINE, bpf.TABLES["x86_64"])
LIBC = ctypes.CDLL(None, use_errno=True)
ALL_X86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


def profile(*rules: dict[str, Any], default: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


def rule(names: str, action: str, *args: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": f"SCMP_ACT_{action}", "args": [*args], **more}


def call(name: str, *arguments: int) -> str:
    """Make a system call; "ok", or the name of its errno."""
    values = [ctypes.c_ulong(value) for value in arguments]
    if LIBC.syscall(ctypes.c_long(NUMBERS[name]), *values) >= 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def behind(asked: dict[str, Any], look: Callable[[], Any]) -> Any:
    """What `look` sees behind the filter of a profile."""
    filter = seccomp_compiler.compile_filter(asked)

    def child() -> Any:
        seccomp.load(filter)
        return look()

    return inside(child)


def end(asked: dict[str, Any], name: str, *arguments: int) -> int:
    """How a process ends that makes a call behind the filter of a profile; 0 when it goes on."""
    filter = seccomp_compiler.compile_filter(asked)

    def child() -> None:
        seccomp.load(filter)
        call(name, *arguments)

    started = process.spawn(child)
    try:
        return started.wait()
    finally:
        started.close()


def test_an_errno_of_ones_own() -> None:
    asked = profile(
        rule("getpgid", "ERRNO"), rule("getsid", "ERRNO", errnoRet=errno.ENOANO),
        rule("getppid", "ERRNO", errnoRet=0),
    )  # fmt: skip
    seen = behind(
        asked, lambda: [call("getpgid", 0), call("getsid", 0), os.getppid(), call("gettid")]
    )
    assert seen == ["EPERM", "ENOANO", 0, "ok"]


def test_actions() -> None:
    def ended(action: str) -> int:
        return end(profile(rule("getsid", action)), "getsid", 0)

    for action in ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"):
        assert ended(action) == 128 + signal.SIGSYS
    assert ended("ALLOW") == ended("LOG") == 0
    # Nobody traces us: the kernel says that there is no such call.
    assert behind(profile(rule("getsid", "TRACE")), lambda: call("getsid", 0)) == "ENOSYS"


def test_operators_in_the_kernel() -> None:
    """Each operator on both words of an argument, against Python's own comparison."""
    big = 5 << 32 | 7
    values = [0, 7, 5 << 32, big - 1, big, big + 1, 6 << 32, 4 << 32 | 9, 7 << 32 | 7, 2**64 - 1]
    for operator in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"):
        value, second = (0xF << 32 | 0xF, big) if operator == "MASKED_EQ" else (big, 0)
        condition = {
            "index": 4, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second,
        }  # fmt: skip
        # prctl would refuse this option with EINVAL.
        asked = profile(rule("prctl", "ERRNO", condition, errnoRet=errno.EXDEV))
        seen = behind(asked, lambda: [call("prctl", 9999, 0, 0, 0, value) for value in values])
        for given, got in zip(values, seen, strict=True):
            held = bpf.holds(condition, (0, 0, 0, 0, given), wide=True)
            assert got == ("EXDEV" if held else "EINVAL"), (operator, hex(given))


def test_all_six_arguments_are_seen() -> None:
    for index in range(6):
        condition = {"index": index, "op": "SCMP_CMP_EQ", "value": 99}
        asked = profile(rule("futex", "ERRNO", condition, errnoRet=errno.EXDEV))

        def look() -> list[str]:
            return [call("futex", *(99 if n == at else 4096 for n in range(6))) for at in range(6)]

        assert [n for n, said in enumerate(behind(asked, look)) if said == "EXDEV"] == [index]


def test_newer_than_the_profile() -> None:
    """A C library asks for a new call first, and takes the old one when there is none."""

    def look() -> str:
        LIBC.syscall(ctypes.c_long(NUMBERS["openat2"] + 3000))
        return errno.errorcode[ctypes.get_errno()]

    allowed = rule(" ".join(name for name in NUMBERS if NUMBERS[name] <= 437), "ALLOW")
    assert behind(profile(allowed, default="ERRNO"), look) == "ENOSYS"


def test_it_holds_for_what_is_executed() -> None:
    def look() -> int:
        return subprocess.run(["/bin/busybox", "id"], capture_output=True, check=False).returncode

    assert behind(profile(rule("getuid", "KILL")), look) == -signal.SIGSYS


def test_the_kernel_says_that_it_is_there() -> None:
    def look() -> list[str]:
        status = Path("/proc/self/status").read_text().splitlines()
        return [line.split()[1] for line in status if line.startswith("Seccomp")]

    assert behind(profile(rule("getsid", "ERRNO")), look)[:1] == ["2"]


def test_loading_wants_the_power_or_the_promise() -> None:
    filter = seccomp_compiler.compile_filter(profile(rule("getsid", "ERRNO")))

    def powerless() -> str:
        capabilities.set_sets(0, 0, 0)
        try:
            seccomp.load(filter)
        except syscalls.SyscallError as error:
            return f"{error.strerror}: {error.call}"
        return "loaded"

    told = inside(powerless)
    assert told.startswith("Permission denied: seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FL")
    assert told.endswith(f"{{len={len(filter)}, filter=…}})")

    def promised() -> str:
        capabilities.set_no_new_privileges()
        return powerless()

    assert inside(promised) == "loaded"


def test_a_malformed_program_is_an_error() -> None:
    def load(program: bytes) -> Callable[[], str]:
        def child() -> str:
            try:
                seccomp.load(seccomp.Filter(program))
            except (syscalls.SyscallError, EngineError) as error:
                return str(error)
            return "loaded"

        return child

    for program in (b"", b"\0" * 8, seccomp.INSTRUCTION.pack(0x06, 0, 0, 0)[:-1]):
        assert "Invalid argument" in inside(load(program))
    long = seccomp.INSTRUCTION.pack(0x06, 0, 0, 0) * 4097
    assert "4096 at most" in inside(load(long))


# ----------------------------------------------------------------------- the default, call by call


def default(*more: str) -> dict[str, Any]:
    names = [*(
        "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_NET_RAW CAP_SETGID CAP_SETUID "
        "CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
    ).split(), *more]  # fmt: skip
    chosen = seccomp_profile.select(seccomp_default.profile(), names, MACHINE, os.uname().release)
    assert chosen is not None
    return chosen


# Calls that do no harm, and what they say to root when nobody filters.
HARMLESS = {
    ("unshare", 0): "ok",
    ("clone3", 0, 0): "EINVAL",
    ("setns", -1, 0): "EBADF",
    ("mount", 0, 0, 0, 0, 0): "EFAULT",
    ("umount2", 0, 0): "EFAULT",
    ("bpf", 9999, 0, 0): "EINVAL",
    ("perf_event_open", 0, 0, 0, 0, 0): "EFAULT",
    ("keyctl", 9999): "EOPNOTSUPP",
    ("add_key", 0, 0, 0, 0, 0): "EFAULT",
    ("init_module", 0, 0, 0): "EFAULT",
    ("kexec_load", 0, 17, 0, 0): "EINVAL",
    ("io_uring_setup", 0, 0): "EFAULT",
    ("userfaultfd", 0xFFFF): "EINVAL",
    ("open_by_handle_at", -1, 0, 0): "EFAULT",
    ("fsopen", 0, 9999): "EINVAL",
    ("move_mount", -1, 0, -1, 0, 0): "EFAULT",
    ("socket", 40, 9999, 0): "EINVAL",
    ("personality", 0x0040000): "ok",
}


def test_what_the_default_refuses() -> None:
    def look() -> dict[str, str]:
        return {given[0]: call(*given) for given in HARMLESS}  # type: ignore[arg-type]

    before = inside(look)
    after = behind(default(), look)
    for name, said in before.items():
        assert said != "EPERM", f"{name} shows nothing: it is refused without a filter too"
    assert after.pop("clone3") == "ENOSYS"
    assert set(after.values()) == {"EPERM"}


def test_what_the_default_lets_through() -> None:
    def look() -> list[Any]:
        child = os.fork()
        if not child:
            os._exit(7)
        left, right = os.pipe()
        os.write(right, b"x")
        return [
            os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.read(left, 1).decode(),
            call("personality", 0xFFFFFFFF), call("ptrace", 9999, 0, 0, 0),
            call("socket", 1, 1, 0), call("memfd_create", 0, 0), call("getppid"),
        ]  # fmt: skip

    assert behind(default(), look) == [7, "x", "ok", "ESRCH", "ok", "EFAULT", "ok"]


def test_a_new_namespace_by_clone() -> None:
    def look() -> list[str]:
        with_user = call("clone", flags.CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
        return [with_user, call("unshare", flags.CLONE_NEWUSER)]

    assert behind(default(), look) == ["EPERM", "EPERM"]


# ------------------------------------------------------------------------------- i386 and x32


def program(directory: Path, numbers: list[tuple[str, int, tuple[int, ...]]]) -> Path:
    """A static program that makes calls by `int 0x80` ("i386") or `syscall` ("x86_64", "x32") and
    writes what each returned as eight bytes."""
    lines = [".intel_syntax noprefix", ".globl _start", "_start:"]
    for abi, number, values in numbers:
        kinds = ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
        if abi != "i386":
            kinds = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
            number |= 0x40000000 if abi == "x32" else 0
        lines += [f"movabs {kind}, {value:#x}" for kind, value in zip(kinds, values, strict=False)]
        lines += [f"mov eax, {number}", "int 0x80" if abi == "i386" else "syscall", "push rax"]
        lines += ["mov edi, 1", "mov rsi, rsp", "mov edx, 8", "mov eax, 1", "syscall"]
    lines += ["xor edi, edi", "mov eax, 231", "syscall"]
    source, made = directory / "calls.s", directory / "calls"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["as", "-o", f"{made}.o", source], check=True)
    subprocess.run(["ld", "-o", made, f"{made}.o"], check=True)
    return made


def outcomes(asked: dict[str, Any] | None, made: Path, directory: Path) -> tuple[int, list[str]]:
    """The exit code of the program behind a filter, and what its calls returned."""
    filter = seccomp_compiler.compile_filter(asked) if asked else None

    def child() -> None:
        output = os.open(directory / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        if filter:
            seccomp.load(filter)
        os.execv(made, [made])

    started = process.spawn(child)
    try:
        started.wait_exec()
        code = started.wait()
    finally:
        started.close()
    said = (directory / "said").read_bytes()
    results = [int.from_bytes(said[at : at + 8], "little", signed=True) for at in
               range(0, len(said), 8)]  # fmt: skip
    # int 0x80 gives back 32 bits in some kernels.
    results = [r - 2**32 if 2**31 <= r < 2**32 else r for r in results]
    return code, [errno.errorcode[-r] if -4096 < r < 0 else "ok" for r in results]


@pytest.mark.needs("x86-64", "ia32")
@pytest.mark.host
@pytest.mark.tools("as", "ld")
def test_a_program_cannot_change_its_machine(tmp_path: Path) -> None:
    i386, x32 = bpf.TABLES["i386"], bpf.TABLES["x32"]
    calls = [
        ("i386", i386["unshare"], (0,)),
        ("i386", i386["keyctl"], (9999,)),
        ("i386", i386["mount"], (0, 0, 0, 0, 0)),
        ("i386", i386["clone"], (flags.CLONE_NEWUSER | 17, 0, 0, 0, 0)),
        ("i386", i386["socket"], (40, 9999, 0)),
        ("x32", x32["unshare"], (0,)),
        ("x32", x32["keyctl"], (9999,)),
    ]
    code, said = outcomes(default(), program(tmp_path, calls), tmp_path)
    assert (code, said) == (0, ["EPERM"] * 7)
    code, said = outcomes(None, tmp_path / "calls", tmp_path)
    assert "EPERM" not in said


@pytest.mark.needs("x86-64", "ia32")
@pytest.mark.host
@pytest.mark.tools("as", "ld")
def test_a_machine_that_the_profile_does_not_list_kills(tmp_path: Path) -> None:
    i386, x32 = bpf.TABLES["i386"], bpf.TABLES["x32"]
    for abi, table, listed in (
        ("i386", i386, ["SCMP_ARCH_X32"]),
        ("x32", x32, ["SCMP_ARCH_X86"]),
    ):
        made = program(tmp_path, [(abi, table["getpid"], ())])
        alone = profile(rule("getsid", "ERRNO"), architectures=listed)
        assert outcomes(alone, made, tmp_path) == (128 + signal.SIGSYS, [])
        code, said = outcomes(profile(architectures=ALL_X86), made, tmp_path)
        assert code == 0
        assert said[0] in ("ok", "ENOSYS")  # x32 is off in most kernels


@pytest.mark.needs("x86-64", "ia32")
@pytest.mark.host
@pytest.mark.tools("as", "ld")
def test_the_words_above_a_32_bit_argument_are_no_way_around(tmp_path: Path) -> None:
    """The kernel drops them before it acts, and a filter that looked at them would be fooled."""
    condition = {"index": 0, "op": "SCMP_CMP_EQ", "value": 7}
    asked = profile(
        rule("getpgid", "ERRNO", condition, errnoRet=errno.EXDEV), architectures=ALL_X86
    )
    number = bpf.TABLES["i386"]["getpgid"]
    calls = [("i386", number, (value,)) for value in (7, 7 | 1 << 32, 7 | 0xFFFFFFFF << 32)]
    assert outcomes(asked, program(tmp_path, calls), tmp_path)[1] == ["EXDEV"] * 3


@pytest.mark.needs("x86-64", "ia32")
@pytest.mark.host
@pytest.mark.tools("as", "ld")
def test_socketcall_and_ipc_by_their_first_argument(tmp_path: Path) -> None:
    i386 = bpf.TABLES["i386"]
    asked = profile(
        rule("socket", "ERRNO", {"index": 0, "op": "SCMP_CMP_EQ", "value": 40}),
        rule("semget", "ERRNO"),
        architectures=ALL_X86,
    )
    calls = [
        ("i386", i386["socketcall"], (1, 0)),
        ("i386", i386["socketcall"], (2, 0)),
        ("i386", i386["ipc"], (2, 0)),
        ("i386", i386["ipc"], (2 | 1 << 16, 0)),
        ("i386", i386["ipc"], (3, 0)),
    ]
    said = outcomes(asked, program(tmp_path, calls), tmp_path)[1]
    assert [word == "EPERM" for word in said] == [True, False, True, True, False]


def test_two_filters_hold_both() -> None:
    first = seccomp_compiler.compile_filter(profile(rule("getsid", "ERRNO")))
    second = seccomp_compiler.compile_filter(profile(rule("getpgid", "ERRNO")))

    def child() -> list[str]:
        seccomp.load(first)
        seccomp.load(second)
        return [call("getsid", 0), call("getpgid", 0), call("getppid")]

    assert inside(child) == ["EPERM", "EPERM", "ok"]

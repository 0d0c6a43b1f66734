"""The compiler of system-call filters, against a naive reading of the same profile."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.kernel import flags, seccomp_compiler
from minicontainer.kernel.seccomp_assembler import GREATER, RETURN, Assembler, disassemble
from minicontainer.kernel.seccomp_compiler import compile_filter
from tests.kernel import bpf

pytestmark = pytest.mark.host  # arithmetic: the same in every kernel

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
ALL_X86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
X86_64 = bpf.TABLES["x86_64"]
I386 = bpf.TABLES["i386"]
X32 = bpf.TABLES["x32"]


def profile(*rules: dict[str, Any], default: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


def rule(names: str, action: str = "ALLOW", *args: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    return {
        "names": names.split(),
        "action": f"SCMP_ACT_{action}",
        "args": [
            {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": (*two, 0)[0]}
            for index, op, value, *two in args
        ],
        **more,
    }


def ask(
    asked: dict[str, Any], number: int, *arguments: int, arch: int = bpf.X86_64,
    machine: str = "x86_64",
) -> int:  # fmt: skip
    filter = compile_filter(asked, machine)
    bpf.verify(filter.program)
    return bpf.run(filter.program, arch, number, arguments)


# --------------------------------------------------------------------------------- any profile


VALUES = st.one_of(
    st.sampled_from([0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 2, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
NAMES = st.lists(
    st.sampled_from([
        *("read", "write", "clone", "socket", "socketpair", "semop", "shmdt", "ipc", "socketcall"),
        *("execve", "ptrace", "set_tls", "cacheflush", "mseal", "no_such_call", "openat2", "ioctl"),
    ]),
    min_size=1, max_size=4,
)  # fmt: skip
ACTIONS = st.sampled_from([*seccomp_compiler.ACTIONS])


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    operator = draw(st.sampled_from(["EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"]))
    value, second = draw(VALUES), draw(VALUES)
    return {
        "index": draw(st.integers(0, 5)),
        "op": f"SCMP_CMP_{operator}",
        "value": value,
        "valueTwo": second & value if operator == "MASKED_EQ" else second,
    }


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    action = draw(ACTIONS)
    with_errno = action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    return {
        "names": draw(NAMES),
        "action": action,
        "args": draw(st.lists(arguments(), max_size=3)),
        "errnoRet": draw(st.one_of(st.none(), st.integers(0, 4095))) if with_errno else None,
    }


PROFILES = st.fixed_dictionaries({
    "defaultAction": ACTIONS,
    "architectures": st.lists(st.sampled_from([*ALL_X86, "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])),
    "syscalls": st.lists(rules(), max_size=8),
})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(PROFILES, st.data())
@example(
    profile(rule("socket", "ALLOW", (0, "LT", 12)), architectures=ALL_X86),
    None,
)
@example(  # semop goes through ipc on i386, and this rule of it does not
    profile(rule("read", "KILL"), rule("semop", "TRACE", (0, "EQ", 0)), architectures=ALL_X86),
    None,
)
def test_the_program_says_what_the_profile_says(asked: dict[str, Any], data: Any) -> None:
    calls = interesting(asked, data)
    for machine, archs in (
        ("x86_64", (bpf.X86_64, bpf.I386, bpf.ARM)),
        ("aarch64", (bpf.AARCH64, bpf.ARM, bpf.X86_64)),
    ):
        filter = compile_filter(asked, machine)
        bpf.verify(filter.program)
        for arch in archs:
            for number, values in calls:
                assert bpf.run(filter.program, arch, number, values) == bpf.expected(
                    asked, machine, arch, number, values
                )


def interesting(asked: dict[str, Any], data: Any) -> list[tuple[int, tuple[int, ...]]]:
    """Calls at and around what the profile speaks of."""
    numbers = {0, 0xFFFFFFFF, 0x40000000, 600}
    for abi in ("x86_64", "i386", "x32", "aarch64", "arm"):
        table = bpf.TABLES[abi]
        for entry in asked["syscalls"]:
            numbers |= {table.get(name, 7) + step for name in entry["names"] for step in (0, 1)}
    numbers |= {number | 0x40000000 for number in numbers}
    edges = {
        entry[key] + step & 2**64 - 1
        for one in asked["syscalls"]
        for entry in one["args"]
        for key in ("value", "valueTwo")
        for step in (-1, 0, 1)
    } | {0}
    if data is None:
        return [(number, (edge,) * 6) for number in numbers for edge in edges]
    pick = st.tuples(*[st.one_of(st.sampled_from(sorted(edges)), VALUES)] * 6)
    drawn = data.draw(st.lists(pick, min_size=2, max_size=4))
    return [(number, values) for number in sorted(numbers) for values in drawn]


# ------------------------------------------------------------------------------- what it means


def test_a_machine_that_is_not_listed_means_the_end() -> None:
    alone = profile(rule("read write"))
    assert ask(alone, X86_64["read"]) == ALLOW
    assert ask(alone, I386["read"], arch=bpf.I386) == KILL
    assert ask(alone, X32["read"] | 0x40000000) == KILL
    every = profile(rule("read write"), architectures=ALL_X86)
    assert ask(every, I386["read"], arch=bpf.I386) == ALLOW
    assert ask(every, X32["read"] | 0x40000000) == ALLOW
    assert ask(every, X86_64["read"], arch=bpf.AARCH64) == KILL


def test_one_number_means_another_call_on_each_machine() -> None:
    """write is 4 on i386, and 4 is stat on x86-64; execve is 520 on x32."""
    every = profile(rule("write execve"), architectures=ALL_X86)
    assert ask(every, 4, arch=bpf.I386) == ALLOW
    assert ask(every, 4) == EPERM
    assert ask(every, 520 | 0x40000000) == ALLOW
    assert ask(every, 59 | 0x40000000) == EPERM


def test_what_a_tracer_took_away_is_no_reason_to_kill() -> None:
    """PTRACE_SYSCALL's way to skip a call is to make its number -1 (seccomp(2))."""
    assert ask(profile(rule("read")), -1) == ENOSYS


def test_a_call_newer_than_the_profile_is_unknown() -> None:
    old = profile(rule("read openat2"))
    assert ask(old, X86_64["openat2"] + 1) == ENOSYS
    assert ask(old, X86_64["clone3"]) == EPERM
    for permissive in ("ALLOW", "LOG", "TRACE"):
        verdict = ask(profile(rule("openat2", "ERRNO"), default=permissive), 4000)
        assert verdict & 0xFFFF0000 == bpf.returned(permissive, None) & 0xFFFF0000


def test_the_strictest_rule_counts() -> None:
    both = profile(rule("clone"), rule("clone", "ERRNO", (0, "MASKED_EQ", 1 << 28, 1 << 28)))
    assert ask(both, X86_64["clone"], 17) == ALLOW
    assert ask(both, X86_64["clone"], 17 | 1 << 28) == EPERM
    worse = profile(rule("read", "ERRNO"), rule("read", "KILL_PROCESS"), rule("read", "TRAP"))
    assert ask(worse, X86_64["read"]) == KILL


def test_two_conditions_on_one_argument_are_two_rules() -> None:
    """As runc and crun read it, so profiles are written for that (runc, issue 2735)."""
    either = profile(rule("socket", "ALLOW", (0, "EQ", 1), (0, "EQ", 2)))
    assert [ask(either, X86_64["socket"], family) for family in (1, 2, 3)] == [ALLOW, ALLOW, EPERM]
    both = profile(rule("socket", "ALLOW", (0, "EQ", 1), (1, "EQ", 2)))
    assert [ask(both, X86_64["socket"], 1, kind) for kind in (2, 3)] == [ALLOW, EPERM]


def test_arguments_have_64_bits_and_on_i386_32() -> None:
    deny = profile(
        rule("personality", "ERRNO", (0, "EQ", 8)), default="ALLOW", architectures=ALL_X86
    )
    assert ask(deny, X86_64["personality"], 8 | 1 << 32) == ALLOW
    # The kernel of i386 looks at 32 bits only, so what lies above them is no way around.
    assert ask(deny, I386["personality"], 8 | 1 << 32, arch=bpf.I386) == EPERM
    minus = profile(rule("kill", "ALLOW", (0, "EQ", 2**64 - 1)), architectures=ALL_X86)
    assert ask(minus, I386["kill"], 2**32 - 1, arch=bpf.I386) == ALLOW
    beyond = profile(rule("kill", "ALLOW", (0, "GE", 2**32)), architectures=ALL_X86)
    assert ask(beyond, I386["kill"], 2**32 - 1, arch=bpf.I386) == EPERM


def test_i386_reaches_sockets_by_one_call_too() -> None:
    """socketcall(2) hands its arguments over in memory, where no filter looks."""
    door = I386["socketcall"]

    def asked(*rules: dict[str, Any], number: int, default: str = "ERRNO") -> int:
        given = profile(*rules, default=default, architectures=ALL_X86)
        return ask(given, door, number, arch=bpf.I386)

    assert asked(rule("socket bind"), number=2) == ALLOW
    assert asked(rule("socket bind"), number=3) == EPERM
    only_unix = rule("socket", "ALLOW", (0, "EQ", 1))
    assert asked(only_unix, number=1) == EPERM
    assert asked(only_unix, rule("socketcall"), number=1) == ALLOW
    no_vsock = rule("socket", "ERRNO", (0, "EQ", 40))
    assert asked(no_vsock, number=1, default="ALLOW") == EPERM
    # ipc has a version above 16 bits, which would be a way around.
    no_semaphores = profile(rule("semget", "ERRNO"), default="ALLOW", architectures=ALL_X86)
    assert ask(no_semaphores, I386["ipc"], 2 | 1 << 16, arch=bpf.I386) == EPERM


def test_arm_has_calls_of_its_own_far_above() -> None:
    arm = bpf.TABLES["arm"]
    both = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    asked = profile(rule("read set_tls mseal"), architectures=both)
    for number, verdict in (
        (arm["set_tls"], ALLOW), (arm["breakpoint"], ENOSYS), (arm["mseal"] + 1, ENOSYS),
        (arm["write"], EPERM),
    ):  # fmt: skip
        assert ask(asked, number, arch=bpf.ARM, machine="aarch64") == verdict


def test_the_errno_is_chosen() -> None:
    asked = profile(
        rule("read", "ERRNO", errnoRet=errno.ENOENT), rule("write", "TRACE", errnoRet=7),
        rule("open"), defaultErrnoRet=errno.EACCES,
    )  # fmt: skip
    assert ask(asked, X86_64["read"]) == 0x50000 | errno.ENOENT
    assert ask(asked, X86_64["write"]) == 0x7FF00000 | 7
    assert ask(asked, X86_64["close"] - 3 + 0) == 0x50000 | errno.ENOENT
    assert ask(asked, X86_64["open"]) == ALLOW


def test_flags() -> None:
    def how(**more: Any) -> int:
        return compile_filter(profile(**more), "x86_64").how

    assert how() == flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert how(flags=[]) == 0
    names = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]
    assert how(flags=names) == flags.SECCOMP_FILTER_FLAG_LOG


def test_another_machine_is_refused() -> None:
    with pytest.raises(EngineError, match="s390x"):
        compile_filter(profile(), "s390x")


# --------------------------------------------------------------------------- how it is written


def test_a_number_is_found_by_halving() -> None:
    every_second = " ".join(list(X86_64)[::2])
    filter = compile_filter(profile(rule(every_second)), "x86_64")
    steps = [bpf.run(filter.program, bpf.X86_64, number).steps for number in X86_64.values()]
    assert max(steps) <= 15


def test_many_values_for_one_argument_are_one_look_at_it() -> None:
    many = [
        rule("socket", "ALLOW", (0, "EQ", n)) for n in (*range(100), *range(1 << 32, 5 + (1 << 32)))
    ]
    asked = profile(*many, rule("socket", "LOG", (0, "EQ", 200)), architectures=ALL_X86)
    filter = compile_filter(asked, "x86_64")
    assert len(filter) < 400
    for value in (0, 50, 99, 100, 200, 1 << 32, 4 + (1 << 32), 5 + (1 << 32), 99 + (1 << 32)):
        for arch, table in ((bpf.X86_64, X86_64), (bpf.I386, I386)):
            given = (arch, table["socket"], (value,))
            assert bpf.run(filter.program, *given) == bpf.expected(asked, "x86_64", *given)


def test_far_targets_are_reached() -> None:
    """A jump reaches 255 instructions; 900 conditions on one call need more."""
    many = [rule("ioctl", "ALLOW", (1, "EQ", n << 32 | 2 * n)) for n in range(900)]
    asked = profile(*many, rule("read"), rule("mseal", "KILL"))
    filter = compile_filter(asked, "x86_64")
    bpf.verify(filter.program)
    for number in (X86_64["ioctl"], X86_64["read"], X86_64["write"], X86_64["mseal"], 700):
        for value in (0, 1, 499 << 32 | 998, 998, 899 << 32 | 1798, 900 << 32 | 1800):
            assert bpf.run(filter.program, bpf.X86_64, number, (0, value)) == bpf.expected(
                asked, "x86_64", bpf.X86_64, number, (0, value)
            )


def test_a_program_that_the_kernel_would_not_take_is_refused() -> None:
    many = [rule("ioctl", "ALLOW", (1, "EQ", n << 32)) for n in range(1100)]
    with pytest.raises(EngineError, match="instructions, and the kernel takes 4096"):
        compile_filter(profile(*many), "x86_64")


@pytest.mark.parametrize("between", [0, 1, 253, 254, 255, 256, 400])
def test_a_jump_at_the_edge_of_its_reach(between: int) -> None:
    code = Assembler()
    far = code.add(RETURN, 1)
    nearer = code.add(RETURN, 2)
    for _ in range(between):
        code.add(0x54, 0)
    last = code.add(RETURN, 3)
    label = code.jump(GREATER, 9, far, nearer)
    label = code.jump(GREATER, 5, last, label)
    code.follow(label)
    code.add(0x20, 0)
    bpf.verify(code.program())
    assert [bpf.run(code.program(), 0, n) for n in (4, 7)] == [2, 3]


def test_a_long_jump_to_a_long_jump() -> None:
    code = Assembler()
    target = code.jump(GREATER, 9, code.add(RETURN, 1), code.add(RETURN, 2))
    for _ in range(3):
        for _ in range(300):
            code.add(0x54, 0)
        target = code.near(target)
    code.follow(target)
    code.add(0x20, 0)
    assert [bpf.run(code.program(), 0, n) for n in (4, 12)] == [2, 1]


def test_it_reads_as_words() -> None:
    asked = profile(rule("read"), rule("clone", "ALLOW", (0, "MASKED_EQ", 2**33, 0)))
    lines = disassemble(compile_filter(asked, "x86_64").program)
    assert lines[0] == "   0  load the machine"
    assert "   1  if == 0xc000003e goto 3 else 2" in lines
    assert "   2  return kill the process" in lines
    for words in ("argument 0, high word", "and 0x2", "return allow", "return errno 38"):
        assert any(words in line for line in lines)

"""From rules to a filter: the compiler of `linux.seccomp` (OCI config-linux.md, "Seccomp").

The program that comes out asks for the machine first, since one number means another call on each;
then finds the number by halving, not down a list: seven comparisons instead of three hundred. Where
the answer does not depend on arguments the kernel (5.11 and newer) runs the program once for each
number when it is loaded, and after that an allowed call costs next to nothing.

How a profile is understood:

- A call's answer is the strictest of the rules that match it, in the kernel's own order (kill,
  trap, errno, trace, log, allow); the default action where none does. The conditions of one rule
  must all hold; but where two of them look at the same argument, each is a rule by itself: runc and
  crun read it so, and profiles are written for that.
- Names that the machine does not have are skipped, as docker does: one profile serves all machines.
- A call newer than all that the profile names is not refused but unknown (ENOSYS), unless the
  default is to let it pass: a C library then takes the older call instead of giving up (runc).
- A machine that the profile does not list, and x32's numbers where x32 is not listed, mean the
  process's end.
- A program of 32 bits hands over arguments of 32 bits, whatever lies in the registers above them.
"""

from __future__ import annotations

import os
from errno import ENOSYS, EPERM

from ..errors import EngineError
from . import flags, seccomp, seccomp_numbers
from .seccomp_assembler import (
    EQUAL,
    EVERY_BIT,
    LOAD,
    MACHINE_AT,
    NUMBER_AT,
    RETURN,
    Answer,
    Assembler,
    Condition,
    Label,
    Rule,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 10

ACTIONS = {
    "SCMP_ACT_KILL": flags.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": flags.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": flags.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": flags.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": flags.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": flags.SECCOMP_RET_TRACE,
    "SCMP_ACT_LOG": flags.SECCOMP_RET_LOG,
    "SCMP_ACT_ALLOW": flags.SECCOMP_RET_ALLOW,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # for all threads at once: at a start there is one
    "SECCOMP_FILTER_FLAG_LOG": flags.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}
ACTION = 0xFFFF0000  # the rest is data: the errno
# With these a call happens, or a tracer decides, who knows best what it does not know.
PASSING = (flags.SECCOMP_RET_ALLOW, flags.SECCOMP_RET_LOG, flags.SECCOMP_RET_TRACE)
KILLED: Answer = ((), flags.SECCOMP_RET_KILL_PROCESS)
UNKNOWN: Answer = ((), flags.SECCOMP_RET_ERRNO | ENOSYS)

# uname(2)'s machine: what runs on it, as (OCI name, AUDIT_ARCH_ of <linux/audit.h>, number table).
# The first is the machine's own, which every profile means.
MACHINES = {
    "x86_64": (
        ("SCMP_ARCH_X86_64", 0xC000003E, "x86_64"),
        ("SCMP_ARCH_X86", 0x40000003, "i386"),
        ("SCMP_ARCH_X32", 0xC000003E, "x32"),
    ),
    "aarch64": (("SCMP_ARCH_AARCH64", 0xC00000B7, "aarch64"), ("SCMP_ARCH_ARM", 0x40000028, "arm")),
}
# A program of x32 says by this bit that it means x32's table; to a filter it is x86-64.
X32_BIT = 0x40000000
# Where arm begins with calls of its own; 0xffffffff is what a tracer makes of a call it took away.
PRIVATE, NO_CALL = 0xF0000, 0xFFFFFFFF

# i386 reaches these by one call each, whose first argument says which is meant: socketcall(2),
# ipc(2). Above 16 bits ipc has a version, which the kernel cuts off.
MULTIPLEXERS = {
    "socketcall": (0xFFFFFFFF, (
        "socket bind connect listen accept getsockname getpeername socketpair send recv sendto "
        "recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
    ).split()),
    "ipc": (0xFFFF, (
        "semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - "
        "shmat shmdt shmget shmctl"
    ).split()),
}  # fmt: skip


# What is still called behind the filter when a program is started: by us, and by the stubs.
NEEDED = "write execveat fcntl execve".split()
NEEDED_TO_DROP = ["capset"]  # without no_new_privs: see runtime/child.confine
NEEDED_BY_INIT = "rt_sigprocmask clone close rt_sigtimedwait kill wait4 setpgid getpid".split()


def check_start(profile: dict[str, Any], *, drops: bool, init: bool) -> None:
    """Raise EngineError where a profile refuses, whatever the arguments, what a start needs: the
    container would end before its program, with nobody to say why.

    drops: capabilities are dropped behind the filter. init: the program gets an init.
    """
    needed = NEEDED + (NEEDED_TO_DROP if drops else []) + (NEEDED_BY_INIT if init else [])
    abi = MACHINES[os.uname().machine][0][2]
    table = seccomp_numbers.tables()[abi]
    ranges = number_ranges(profile, abi, table)
    missing = []
    for name in needed:
        rules, otherwise = [answer for start, answer in ranges if start <= table[name]][-1]
        if not rules and otherwise & ACTION not in PASSING:
            missing.append(name)
    if missing:
        raise EngineError(
            f"the seccomp profile refuses {' and '.join(missing)}, which a start needs",
            hint="a profile must allow what starts the program, not only what the program does",
        )


def sort_calls(profile: dict[str, Any]) -> tuple[list[str], list[str], int]:
    """What a profile means on this machine: the calls that it refuses whatever the arguments, those
    that it refuses with some, and how many calls there are."""
    abi = MACHINES[os.uname().machine][0][2]
    table = seccomp_numbers.tables()[abi]
    ranges = number_ranges(profile, abi, table)
    refused, partly = [], []
    for name, number in sorted(table.items()):
        rules, otherwise = [answer for start, answer in ranges if start <= number][-1]
        verdicts = {
            value & ACTION in PASSING for value in (otherwise, *(rule[0] for rule in rules))
        }
        if verdicts == {False}:
            refused.append(name)
        elif False in verdicts:
            partly.append(name)
    return refused, partly, len(table)


def compile_filter(profile: dict[str, Any], machine: str | None = None) -> seccomp.Filter:
    """The filter of an OCI `linux.seccomp` object that `seccomp_profile.check` has found well.

    machine: as uname(2) names it; this one when None. Raises EngineError for a machine without a
    table, and for a program that is longer than the kernel takes.
    """
    machine = machine or os.uname().machine
    if machine not in MACHINES:
        raise EngineError(
            f"no seccomp filter can be made for the machine {machine!r}",
            hint="use --security-opt seccomp=unconfined, and know that nothing is filtered",
        )
    code = Assembler()
    sections: dict[int, Label] = {}
    for audit, ranges in machine_ranges(profile, machine).items():
        code.follow(code.tree(ranges, wide=audit >> 31 == 1))  # __AUDIT_ARCH_64BIT
        sections[audit] = code.add(LOAD, NUMBER_AT)
    label = code.add(RETURN, KILLED[1])
    for audit, section in sections.items():
        label = code.jump(EQUAL, audit, section, label)
    code.add(LOAD, MACHINE_AT)
    how = profile.get("flags")
    if how is None:
        how = ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    filter = seccomp.Filter(code.program(), sum({FLAGS[name] for name in how}))
    if len(filter) > seccomp.LONGEST:
        raise EngineError(
            f"the seccomp profile becomes {len(filter)} instructions, "
            f"and the kernel takes {seccomp.LONGEST}"
        )
    return filter


def machine_ranges(profile: dict[str, Any], machine: str) -> dict[int, list[tuple[int, Answer]]]:
    """{AUDIT_ARCH_…: the ranges of numbers, each with its answer} of a machine."""
    listed, tables = profile.get("architectures") or [], seccomp_numbers.tables()
    own, *others = MACHINES[machine]
    abis = {abi: audit for name, audit, abi in (own, *others) if name in listed or abi == own[2]}
    found = {
        audit: number_ranges(profile, abi, tables[abi])
        for abi, audit in abis.items()
        if abi != "x32"
    }
    if machine == "x86_64":
        native = found[own[1]]
        last = native[-1][1]
        x32 = number_ranges(profile, "x32", tables["x32"]) if "x32" in abis else [(0, KILLED)]
        native += [(start | X32_BIT, answer) for start, answer in x32]
        native.append((NO_CALL, last))
    return found


def number_ranges(
    profile: dict[str, Any], abi: str, table: dict[str, int]
) -> list[tuple[int, Answer]]:
    """The ranges of one table's numbers: (first number, answer), from 0 on."""
    default: Answer = ((), returned(profile["defaultAction"], profile.get("defaultErrnoRet")))
    rules = rules_by_number(profile, table, abi == "i386")
    answers = {number: answer_of(found, default[1]) for number, found in rules.items()}
    newest = max((number for number in answers if number < PRIVATE), default=NO_CALL)
    beyond = default if default[1] & ACTION in PASSING else UNKNOWN
    ranges: list[tuple[int, Answer]] = []
    for start in sorted({0, newest + 1, *answers, *(number + 1 for number in answers)}):
        answer = answers.get(start, default if start <= newest else beyond)
        if start <= NO_CALL and (not ranges or ranges[-1][1] != answer):
            ranges.append((start, answer))
    return ranges


def rules_by_number(
    profile: dict[str, Any], table: dict[str, int], multiplexed: bool
) -> dict[int, list[Rule]]:
    """The profile's rules for each number of a table; names that it does not have are skipped."""
    found: dict[int, list[Rule]] = {}
    named = {name for entry in profile.get("syscalls") or [] for name in entry["names"]}
    for entry in profile.get("syscalls") or []:
        value = returned(entry["action"], entry.get("errnoRet"))
        groups = conditions(entry.get("args") or [])
        for name in entry["names"]:
            if name in table:
                found.setdefault(table[name], []).extend((value, group) for group in groups)
            for door in MULTIPLEXERS if multiplexed else ():
                if door in named or name not in MULTIPLEXERS[door][1]:
                    continue
                # Without a rule the door is no call that the profile knows.
                if extra := through_door(door, name, value, groups):
                    found.setdefault(table[door], []).extend(extra)
    return found


def through_door(
    door: str, name: str, value: int, groups: list[tuple[Condition, ...]]
) -> list[Rule]:
    """What the rules for `socket` and its like mean for socketcall(2), where a profile does not
    name that itself. The real arguments lie behind a pointer: what is allowed only with certain
    ones is not allowed here at all, and what is refused with certain ones is refused with any."""
    if groups != [()] and value & ACTION in PASSING:
        return []
    mask, names = MULTIPLEXERS[door]
    return [(value, ((0, "SCMP_CMP_MASKED_EQ", names.index(name) + 1, mask),))]


def conditions(arguments: list[dict[str, Any]]) -> list[tuple[Condition, ...]]:
    """The conditions of a rule; several groups where each makes a rule by itself."""
    found: list[Condition] = []
    for entry in arguments:
        value, operator = entry["value"], entry["op"]
        if operator == "SCMP_CMP_MASKED_EQ":
            found.append((entry["index"], operator, entry.get("valueTwo") or 0, value))
        else:
            found.append((entry["index"], operator, value, EVERY_BIT))
    if len({condition[0] for condition in found}) < len(found):
        return [(condition,) for condition in found]
    return [tuple(found)]


def answer_of(rules: list[Rule], otherwise: int) -> Answer:
    """The rules in the order in which they are tried: the strictest first, and none that makes no
    difference."""
    tried: list[Rule] = []
    for rule in sorted(rules, key=strictness):
        if not rule[1]:
            otherwise = rule[0]
            break
        tried.append(rule)
    while tried and tried[-1][0] == otherwise:
        tried.pop()
    return tuple(tried), otherwise


def strictness(rule: Rule) -> int:
    """The kernel's own order of what filters return: the smaller as a signed number wins."""
    action = rule[0] & ACTION
    return action - 2**32 if action >= 2**31 else action


def returned(action: str, number: int | None) -> int:
    """What a filter returns for an action: with an errno, which is EPERM unless it says another."""
    value = ACTIONS[action]
    if value in (flags.SECCOMP_RET_ERRNO, flags.SECCOMP_RET_TRACE):
        value |= EPERM if number is None else number
    return value

"""Classic BPF, written from its end to its beginning (Linux Documentation, networking/filter.rst).

A filter may only jump forward, and a jump knows its targets as distances. So the last instruction
is written first: whatever jumps comes later, and its targets are there already. A conditional jump
reaches 255 instructions; for farther targets a return is written once more, or a long jump.
"""

from __future__ import annotations

from . import flags, seccomp

CHAPTER = 10

LOAD, AND, RETURN, GOTO = 0x20, 0x54, 0x06, 0x05
EQUAL, GREATER, AT_LEAST = 0x15, 0x25, 0x35
REACH = 255

# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]; little-endian.
NUMBER_AT, MACHINE_AT, ARGUMENTS_AT = 0, 4, 16

EVERY_BIT, LOW = 2**64 - 1, 2**32 - 1


# What an argument must be: which one, an operator (`SCMP_CMP_EQ` and so on), a value, and for
# `SCMP_CMP_MASKED_EQ` a mask that the argument is cut to first.
Condition = tuple[int, str, int, int]
# An answer to one call: rules (what to return, all of whose conditions must hold), tried in order,
# and what to return when none matches.
Rule = tuple[int, tuple[Condition, ...]]
Answer = tuple[tuple[Rule, ...], int]
# A place in the program: how many instructions are behind it.
Label = int


class Assembler:
    """A program that grows at its front."""

    __slots__ = ("backwards", "returns", "known")

    def __init__(self) -> None:
        self.backwards: list[tuple[int, int, int, int]] = []
        self.returns: dict[int, Label] = {}
        self.known: dict[tuple[Answer, bool], Label] = {}

    def program(self) -> bytes:
        """The instructions, first to last."""
        return b"".join(seccomp.INSTRUCTION.pack(*entry) for entry in reversed(self.backwards))

    def add(self, code: int, k: int, yes: int = 0, no: int = 0) -> Label:
        """Write one instruction; its label."""
        self.backwards.append((code, yes, no, k))
        label = len(self.backwards) - 1
        if code == RETURN:
            self.returns[k] = label
        return label

    def give(self, value: int) -> Label:
        """A place that returns a value: the one that was written last."""
        return self.returns[value] if value in self.returns else self.add(RETURN, value)

    def near(self, target: Label, spare: int = 0) -> Label:
        """The target, or a place that is within a jump's reach and leads there.

        spare: how many instructions are still written before the jump.
        """
        distance = len(self.backwards) + spare - target - 1
        if distance <= REACH:
            return target
        code, _, _, k = self.backwards[target]
        if code in (RETURN, GOTO):
            return self.add(code, k if code == RETURN else k + distance - spare + 1)
        return self.add(GOTO, distance - spare)

    def follow(self, target: Label) -> None:
        """Make the target what comes after the instruction that is written next."""
        if target != len(self.backwards) - 1:
            self.add(GOTO, len(self.backwards) - target - 1)

    def jump(self, code: int, k: int, yes: Label, no: Label) -> Label:
        """`if accumulator (code) k goto yes else goto no`."""
        yes = self.near(yes, spare=1)
        no = self.near(no)
        here = len(self.backwards)
        return self.add(code, k, here - yes - 1, here - no - 1)

    def tree(self, ranges: list[tuple[int, Answer]], wide: bool) -> Label:
        """Find the range that the accumulator lies in, by halving, and give its answer.

        ranges: where each begins, the first at 0. wide: arguments have 64 bits.
        """
        if len(ranges) == 1:
            return self.answer(ranges[0][1], wide)
        middle = len(ranges) // 2
        above = self.tree(ranges[middle:], wide)
        below = self.tree(ranges[:middle], wide)
        return self.jump(AT_LEAST, ranges[middle][0], above, below)

    def answer(self, answer: Answer, wide: bool) -> Label:
        """Try the rules of an answer one after the other, and return."""
        rules, otherwise = answer
        if not rules:
            return self.give(otherwise)
        if (answer, wide) not in self.known:
            label = self.give(otherwise)
            left = list(rules)
            while left:
                value, conditions = left.pop()
                # Thirty rules for one value each are one look at the argument.
                others = []
                while left and alike(left[-1], (value, conditions)):
                    others.append(left.pop()[1][0][2])
                failed, label = label, self.give(value)
                for condition in reversed(conditions):
                    label = self.test(condition, label, failed, wide, others)
            self.known[answer, wide] = label
        return self.known[answer, wide]

    def test(
        self, condition: Condition, yes: Label, no: Label, wide: bool, others: list[int]
    ) -> Label:
        """Look at an argument: goto yes where the condition holds, else no.

        BPF has 32 bits, so an argument of 64 is compared in two words, the high one first.
        others: for SCMP_CMP_EQ, more values that will do, with the same high word.
        """
        index, operator, value, mask = condition
        operator = operator.removeprefix("SCMP_CMP_")
        if not wide and value >= 2**64 - 2**31:
            value &= LOW  # what is negative in 64 bits is meant to be negative in 32 too
        if operator in ("NE", "LT", "LE"):  # the contrary of EQ, GE, GT
            yes, no = no, yes
            operator = {"NE": "EQ", "LT": "GE", "LE": "GT"}[operator]
        low = ARGUMENTS_AT + 8 * index
        if not wide and value > LOW:
            return no  # 32 bits are never equal to this, nor greater
        comparison = {"GE": AT_LEAST, "GT": GREATER}.get(operator, EQUAL)
        label = self.jump(comparison, value & LOW, yes, no)
        for other in others:
            label = self.jump(EQUAL, other & LOW, yes, label)
        if mask & LOW != LOW:
            label = self.add(AND, mask & LOW)
        label = self.add(LOAD, low)
        if not wide or not mask >> 32:
            return label
        label = self.jump(EQUAL, value >> 32, label, no)
        if comparison != EQUAL:
            label = self.jump(GREATER, value >> 32, yes, label)
        if mask >> 32 != LOW:
            label = self.add(AND, mask >> 32)
        return self.add(LOAD, low + 4)


def alike(one: Rule, other: Rule) -> bool:
    """Whether two rules differ in nothing but the low word that an argument is to be equal to."""
    if one[0] != other[0] or len(one[1]) != 1 or len(other[1]) != 1:
        return False
    (index, operator, value, mask), second = one[1][0], other[1][0]
    same = (index, operator, value >> 32, mask) == (*second[:2], second[2] >> 32, second[3])
    return same and operator == "SCMP_CMP_EQ"


def disassemble(program: bytes) -> list[str]:
    """The instructions of a program in words, one line each, for people."""
    return [
        f"{at:4}  {_words(at, *fields)}"
        for at, fields in enumerate(seccomp.INSTRUCTION.iter_unpack(program))
    ]


_FIELDS = {0: "the call's number", 4: "the machine"}
_JUMPS = {0x15: "==", 0x25: ">", 0x35: ">=", 0x45: "&"}
_ANSWERS = {
    flags.SECCOMP_RET_KILL_PROCESS: "kill the process",
    flags.SECCOMP_RET_KILL_THREAD: "kill the thread",
    flags.SECCOMP_RET_TRAP: "send SIGSYS",
    flags.SECCOMP_RET_ERRNO: "errno",
    flags.SECCOMP_RET_TRACE: "ask the tracer, else ENOSYS:",
    flags.SECCOMP_RET_LOG: "log and allow",
    flags.SECCOMP_RET_ALLOW: "allow",
}


def _words(at: int, *fields: int) -> str:
    code, yes, no, k = fields
    if code == 0x20:
        half = f"argument {(k - 16) // 8}, {'high' if k % 8 else 'low'} word"
        return f"load {_FIELDS.get(k, half)}"
    if code == 0x54:
        return f"and {k:#x}"
    if code == 0x05:
        return f"goto {at + 1 + k}"
    if code == 0x06:
        number = f" {k & 0xFFFF}" if k & 0xFFFF else ""
        return f"return {_ANSWERS.get(k & 0xFFFF0000, hex(k))}{number}"
    return f"if {_JUMPS[code]} {k:#x} goto {at + 1 + yes} else {at + 1 + no}"

"""The device filter: what its instructions answer, read by an interpreter of the test's own."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.kernel import devicefilter
from minicontainer.kernel.devicefilter import ACCESS, ALWAYS, DOCKER, assemble, rule

READ, WRITE, MAKE = ACCESS["r"], ACCESS["w"], ACCESS["m"]
BLOCK, CHARACTER = 1, 2


def ask(program: bytes, kind: int, major: int, minor: int, access: int) -> bool:
    """Run a program as the kernel would, on a context of these numbers."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    code = list(struct.iter_unpack("=BBhi", program))
    registers = [0] * 11
    at = 0
    while True:
        opcode, pair, offset, value = code[at]
        target, source = pair & 15, pair >> 4
        at += 1
        if opcode == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0x57:
            registers[target] &= value
        elif opcode == 0x77:
            registers[target] >>= value
        elif opcode == 0xB7:
            registers[target] = value
        elif opcode == 0x55:
            at += offset if registers[target] != value else 0
        elif opcode == 0x15:
            at += offset if registers[target] == value else 0
        elif opcode == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(f"unknown opcode {opcode:#x}")


def expected(rules: list[dict[str, Any]], kind: int, major: int, minor: int, access: int) -> bool:
    """The same by the words of the specification: the last rule that fits decides."""
    for entry in reversed(rules):
        allow, its_kind, its_major, its_minor, its_access = devicefilter.numbers(entry)
        fits = its_kind in (0, kind) and its_major in (-1, major) and its_minor in (-1, minor)
        part = not access & ~its_access if allow else access & its_access
        if fits and part:
            return allow
    return False


SMALL = st.integers(0, 3)
RULES = st.lists(
    st.builds(
        rule,
        st.booleans(),
        st.sampled_from("abc"),
        st.integers(-1, 3),
        st.integers(-1, 3),
        st.sampled_from(["r", "w", "m", "rw", "rm", "rwm", "wm"]),
    ),
    max_size=8,
)


@given(RULES, st.sampled_from([BLOCK, CHARACTER]), SMALL, SMALL, st.integers(1, 7))
def test_the_program_says_what_the_rules_say(
    rules: list[dict[str, Any]], kind: int, major: int, minor: int, access: int
) -> None:
    found = ask(assemble(rules), kind, major, minor, access)
    assert found == expected(rules, kind, major, minor, access)


def test_dockers_list() -> None:
    program = assemble([*DOCKER, *ALWAYS])

    def may(kind: int, major: int, minor: int, access: int) -> bool:
        return ask(program, kind, major, minor, access)

    for minor in (3, 5, 7, 8, 9):
        assert may(CHARACTER, 1, minor, READ | WRITE | MAKE)
    assert may(CHARACTER, 5, 2, READ | WRITE)
    assert may(CHARACTER, 136, 17, READ | WRITE)
    assert not may(CHARACTER, 10, 229, READ)  # fuse
    assert not may(CHARACTER, 1, 1, READ)  # /dev/mem
    assert not may(CHARACTER, 1, 11, WRITE)  # /dev/kmsg
    assert not may(BLOCK, 8, 0, READ)
    assert may(BLOCK, 8, 0, MAKE)  # a node may be made, and not opened
    assert not may(BLOCK, 8, 0, MAKE | READ)


def test_no_rule_is_no_device() -> None:
    assert not ask(assemble([]), CHARACTER, 1, 3, READ)


@pytest.mark.parametrize("entry", [{"type": "x"}, {"type": "c", "access": "rx"}])
def test_a_malformed_rule_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="malformed"):
        assemble([entry])


@pytest.mark.root
@pytest.mark.needs("cgroup-v2")
@given(RULES)
def test_the_kernel_takes_every_program(rules: list[dict[str, Any]]) -> None:
    import os

    os.close(devicefilter.load(assemble(rules)))

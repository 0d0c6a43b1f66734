"""The name service's language: by the letter of RFC 1035, and against whatever may arrive."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minicontainer.network import dns

# `dig +noedns web.shop A`, as it goes over the wire.
SEEN = bytes.fromhex("beef 0120 0001 0000 0000 0000 03 776562 04 73686f70 00 0001 0001")


def ask(
    name: str, kind: int = dns.A, *, id: int = 7, flags: int = 0x0100, more: bytes = b""
) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    header = struct.pack(">6H", id, flags, 1, 0, 0, 1 if more else 0)
    return header + labels + b"\0" + struct.pack(">HH", kind, 1) + more


def test_a_question_is_read() -> None:
    question = dns.read_question(SEEN)
    assert (question.id, question.name, question.kind, question.group) == (0xBEEF, "web.shop", 1, 1)
    assert question.wire == SEEN[12:]
    assert dns.read_question(ask("WEB.Shop")).name == "web.shop"
    assert dns.read_question(ask("")).name == ""


def test_what_follows_the_question_is_left_alone() -> None:
    edns = bytes.fromhex("00 0029 1000 0000 0000 0000")
    assert dns.read_question(ask("web", more=edns)).wire == ask("web")[12:]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", dns.MALFORMED),
        (SEEN[:11], dns.MALFORMED),
        (SEEN[:-1], dns.MALFORMED),
        (SEEN[:14], dns.MALFORMED),
        (ask("web", flags=0x8100), dns.MALFORMED),
        (ask("web", flags=0x2800), dns.NOT_IMPLEMENTED),
        (SEEN[:4] + b"\0\0" + SEEN[6:], dns.MALFORMED),
        (SEEN[:4] + b"\0\2" + SEEN[6:] + SEEN[12:], dns.MALFORMED),
        # A name that points to itself.
        (SEEN[:12] + b"\xc0\x0c" + SEEN[-4:], dns.MALFORMED),
        (ask("a" * 64), dns.MALFORMED),
        (ask(".".join(["a" * 63] * 4)), dns.MALFORMED),
        (SEEN[:12] + b"\1a" * 30000, dns.MALFORMED),
    ],
)
def test_what_is_no_question_is_refused(message: bytes, code: int) -> None:
    with pytest.raises(dns.Malformed) as refused:
        dns.read_question(message)
    assert refused.value.code == code


def test_the_longest_name_is_read() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert dns.read_question(ask(longest)).name == longest
    with pytest.raises(dns.Malformed):
        dns.read_question(ask(longest + "b"))


@given(st.binary(max_size=600))
@example(SEEN)
def test_anything_may_arrive(message: bytes) -> None:
    """Either it is a question, of which an answer can be written, or it is refused in 12 bytes."""
    try:
        question = dns.read_question(message)
    except dns.Malformed as error:
        answer = dns.refuse(message, error.code)
        assert len(answer) in (0, 12)
        assert not answer or answer[3] & 15 == error.code
    else:
        answer = dns.write_answer(question, [b"\1\2\3\4"])
        assert answer.startswith(message[:2])
        assert answer[12 : 12 + len(question.wire)] == question.wire


def test_an_answer_is_what_the_letter_says() -> None:
    question = dns.read_question(SEEN)
    answer = dns.write_answer(question, [bytes([10, 89, 0, 2])])
    assert answer == bytes.fromhex(
        "beef 8580 0001 0001 0000 0000 03776562 0473686f70 00 0001 0001"
        "c00c 0001 0001 00000000 0004 0a590002"
    )
    nothing = dns.write_answer(question, [], dns.NO_SUCH_NAME)
    assert nothing == bytes.fromhex("beef 8583 0001 0000 0000 0000") + question.wire


def test_an_answer_that_is_too_long_says_so() -> None:
    question = dns.read_question(SEEN)
    many = [bytes([10, 0, 0, n]) for n in range(40)]
    short = dns.write_answer(question, many)
    assert len(short) <= 512
    assert short[2] & 2
    assert short[6:8] == b"\0\36"  # those that there is room for: 30
    assert short[-4:] == many[29]
    long = dns.write_answer(question, many, room=65535)
    assert not long[2] & 2
    assert long[6:8] == b"\0\50"


def test_an_answer_that_came_to_us_is_not_answered() -> None:
    """Or two servers that take each other for askers would never stop."""
    assert dns.refuse(ask("web", flags=0x8180), dns.MALFORMED) == b""


def test_only_the_answer_to_what_was_asked_is_one() -> None:
    question = dns.read_question(SEEN)
    good = dns.write_answer(question, [b"\1\2\3\4"])
    assert dns.answers(good, question, 0xBEEF)
    assert dns.answers(good.replace(b"web", b"WEB"), question, 0xBEEF)
    assert not dns.answers(good, question, 0xBEEE)
    assert not dns.answers(SEEN, question, 0xBEEF)
    assert not dns.answers(good.replace(b"web", b"wet"), question, 0xBEEF)
    assert not dns.answers(good[:20], question, 0xBEEF)


@given(st.ip_addresses())
def test_the_name_of_an_address_is_read_back(address: ipaddress.IPv4Address) -> None:
    assert dns.address_of(address.reverse_pointer) == address.packed


@pytest.mark.parametrize(
    "name", ["", "web", "in-addr.arpa", "1.2.3.in-addr.arpa", "x.0.0.10.in-addr.arpa",
             "300.0.0.10.in-addr.arpa", "1.ip6.arpa", "ip6.arpa", "\0.0.0.10.in-addr.arpa",
             ".".join(["g"] * 32) + ".ip6.arpa", ".".join(["::"] * 32) + ".ip6.arpa"]
)  # fmt: skip
def test_other_names_are_no_address(name: str) -> None:
    assert dns.address_of(name) is None


@given(st.text(max_size=80))
def test_no_name_upsets_the_search_for_an_address(name: str) -> None:
    for ending in ("", ".in-addr.arpa", ".ip6.arpa"):
        assert dns.address_of(name + ending) is None or name

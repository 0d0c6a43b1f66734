"""The language of the name service: a question read, an answer written (RFC 1035).

A question comes from whatever runs in a container, so nothing in it is believed: one question
and no more, names without the pointers that could lead in a circle, every length checked.
"""

from __future__ import annotations

import _socket

CHAPTER = 13

A, PTR, AAAA = 1, 12, 28
INTERNET = 1
# Answers to a question (RFC 1035, section 4.1.1).
GOOD, MALFORMED, FAILED, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 2, 3, 4, 5
# What a datagram may hold unless the asker says more, which our own answers do not need.
DATAGRAM = 512
HEADER = 12
# The longest name in bytes, the zero at its end included.
NAME = 255

_RESPONSE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x0100, 0x0080
_OPCODE = 0x7800
# A name that is said again: "as at offset 12", where the question has it.
_SAME_NAME = b"\xc0\x0c"


class Question:
    """What is asked. id: of the message; name: in lower case, without the last dot; kind: A, …;
    flags: of the message; wire: the question's own bytes, which an answer repeats."""

    __slots__ = ("id", "flags", "name", "kind", "group", "wire")

    def __init__(self, id: int, flags: int, name: str, kind: int, group: int, wire: bytes) -> None:
        self.id = id
        self.flags = flags
        self.name = name
        self.kind = kind
        self.group = group
        self.wire = wire


class Malformed(ValueError):
    """Not a question that can be answered. code: what is told to the asker."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def read_question(message: bytes) -> Question:
    """The question of a message; Malformed for anything but one plain question.

    What follows it (an EDNS record) is not looked at: only a server beyond us needs it.
    """
    if len(message) < HEADER:
        raise Malformed(MALFORMED)
    id, flags, count = (int.from_bytes(message[n : n + 2]) for n in (0, 2, 4))
    if flags & _OPCODE:
        raise Malformed(NOT_IMPLEMENTED)
    if flags & _RESPONSE or count != 1:
        raise Malformed(MALFORMED)
    labels, at = [], HEADER
    # A slice beyond the end is empty, so this ends where the message does.
    while length := int.from_bytes(message[at : at + 1]):
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
        if length > 63 or at > HEADER + NAME - 1:
            raise Malformed(MALFORMED)
    end = at + 5
    if len(message) < end:
        raise Malformed(MALFORMED)
    kind, group = (int.from_bytes(message[n : n + 2]) for n in (at + 1, at + 3))
    name = b".".join(labels).decode("latin-1").lower()
    return Question(id, flags, name, kind, group, message[HEADER:end])


def write_answer(
    question: Question, records: list[bytes], code: int = GOOD, *, room: int = DATAGRAM
) -> bytes:
    """The answer: records of the question's own kind, as their bytes, valid for this moment only.

    room: how long it may be; what is longer comes with as many records as there is room for, and
    marked as truncated: who wants all of them asks again over TCP.
    """
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | code
    flags |= question.flags & _RECURSION_DESIRED
    body, count = b"", 0
    for record in records:
        # The time to live is 0: a container's end is to be seen at once.
        head = _SAME_NAME + _numbers(question.kind, INTERNET, 0, 0, len(record))
        if HEADER + len(question.wire) + len(body) + len(head) + len(record) > room:
            flags |= _TRUNCATED
            break
        body, count = body + head + record, count + 1
    return _numbers(question.id, flags, 1, count, 0, 0) + question.wire + body


def refuse(message: bytes, code: int) -> bytes:
    """The answer to what is no question, with no more than its number; empty for an answer that
    was sent to us, or two servers would talk for ever."""
    if len(message) < HEADER or message[2] & 0x80:
        return b""
    return message[:2] + _numbers(_RESPONSE | code, 0, 0, 0, 0)


def knows(message: bytes) -> bool:
    """Whether a server's answer is one, good or bad, and not that it cannot say."""
    return message[3] & 0x0F not in (FAILED, REFUSED)


def answers(message: bytes, question: Question, id: int) -> bool:
    """Whether a message from a server is the answer to this question, sent as number `id`."""
    return (
        message[:2] == _numbers(id)
        and len(message) >= HEADER + len(question.wire)
        and bool(message[2] & 0x80)
        and message[4:6] == b"\0\1"
        and message[HEADER : HEADER + len(question.wire)].lower() == question.wire.lower()
    )


def write_name(name: str) -> bytes:
    """A name as a record has it; it must be of ASCII labels of 1 to 63 letters."""
    labels = [label.encode("ascii") for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def address_of(name: str) -> bytes | None:
    """The address that a PTR question is about, as 4 or 16 bytes; None for another name."""
    if name.endswith(".in-addr.arpa"):
        text = ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))
        return packed(text, _socket.AF_INET)
    if name.endswith(".ip6.arpa"):
        digits = name.removesuffix(".ip6.arpa").split(".")
        if len(digits) != 32 or any(len(digit) != 1 for digit in digits):
            return None
        joined = "".join(reversed(digits))
        return packed(":".join(joined[n : n + 4] for n in range(0, 32, 4)), _socket.AF_INET6)
    return None


def packed(text: str, family: int) -> bytes | None:
    """An address as its bytes, None for what is none of this family."""
    try:
        return _socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(2) for value in values)

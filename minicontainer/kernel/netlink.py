"""Netlink: questions and orders to the kernel's network, as messages of attributes.

A message is a header, a struct of fixed size, and attributes. An attribute is a length, a kind and
bytes, padded to four; the bytes may be attributes again. So a message can grow with the kernel,
and each side passes over the kinds it does not know. netlink(7); the kernel's
Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import _socket
import os
import struct
from errno import EAGAIN, EBADMSG

from . import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHAPTER = 12

# <linux/netlink.h>
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CREATE, EXCLUSIVE = 0x400, 0x200
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_INTERRUPTED, _HAS_ATTRIBUTES = 0x10, 0x200
_TRIES = 100
_MESSAGE = 1  # NLMSGERR_ATTR_MSG
_KIND = 0x3FFF  # the two bits above say "nested" and "big endian"

_HEADER = struct.Struct("IHHII")
_ATTRIBUTE = struct.Struct("HH")
_LARGEST = 1 << 16


class Request(bytes):
    """The body of a message, which the trace and the errors show in words."""

    text = ""

    def __str__(self) -> str:
        return self.text


class Socket:
    """A netlink socket of the network namespace that it is opened in, and of no other: it stays
    there when its owner goes elsewhere.

    protocol: who is asked (<linux/netlink.h>); by default rtnetlink(7).
    """

    __slots__ = ("_socket", "_sequence", "_words")

    def __init__(self, protocol: int = 0) -> None:
        how = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, how, protocol)
        self._sequence = 0
        self._words = ""
        for option in (_CAP_ACK, _EXT_ACK):  # errors without our own message, but with words
            self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def ask(self, kind: int, how: int, body: bytes, text: str) -> list[bytes]:
        """Send a request, and gather its answers (their bodies) up to the acknowledgement.

        how: flags beside REQUEST and ACK. text: the request in words. SyscallError is the kernel's
        refusal; its hint is what the kernel says beside the number.
        """
        request = Request(body)
        request.text = text
        self._words = ""
        try:
            answers: list[bytes] = syscalls.through(
                "netlink", self._exchange, _Order(kind, how), request
            )
        except syscalls.SyscallError as error:
            error.hint = self._words.lower() or None
            raise
        return answers

    def _exchange(self, order: _Order, body: Request) -> Answers:
        # A list of many pieces may change between two of them: one that was there all the time is
        # then perhaps not in it, and the kernel says so (NLM_F_DUMP_INTR).
        for _ in range(_TRIES):
            answers, is_whole = self._exchange_once(order, body)
            if is_whole:
                return answers
        raise OSError(EAGAIN, os.strerror(EAGAIN))

    def _exchange_once(self, order: _Order, body: Request) -> tuple[Answers, bool]:
        self._sequence += 1
        flags = order.how | REQUEST | (0 if order.how & DUMP == DUMP else ACK)
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, order.kind, flags, self._sequence, 0) + body)
        answers, is_whole = Answers(), True
        while True:
            # The length first: a part of a long answer would be thrown away without a word.
            room = len(self._socket.recv(_LARGEST, _socket.MSG_PEEK | _socket.MSG_TRUNC))
            for kind, flags, sequence, answer in messages(self._socket.recv(max(room, _LARGEST))):
                if sequence != self._sequence:
                    continue
                is_whole = is_whole and not flags & _INTERRUPTED
                if kind in (_ERROR, _DONE):
                    self._refuse(answer, flags)
                    return answers, is_whole
                answers.append(answer)

    def _refuse(self, answer: bytes, flags: int) -> None:
        """Raise what an answer refuses; nothing for the number 0, the acknowledgement."""
        if len(answer) < 4:
            raise OSError(EBADMSG, os.strerror(EBADMSG))
        (number,) = struct.unpack_from("i", answer)
        if not number:
            return
        told = attributes(answer[4 + _HEADER.size :]) if flags & _HAS_ATTRIBUTES else {}
        self._words = told.get(_MESSAGE, b"").rstrip(b"\0").decode(errors="replace")
        raise OSError(-number, os.strerror(-number))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _Order:
    """The kind of a request, as the trace shows it."""

    __slots__ = ("kind", "how")

    def __init__(self, kind: int, how: int) -> None:
        self.kind = kind
        self.how = how

    def __str__(self) -> str:
        return KINDS.get(self.kind, str(self.kind))


class Answers(list[bytes]):
    """Answers, of which the trace shows the number."""

    def __str__(self) -> str:
        return str(len(self))


# rtnetlink(7)
KINDS = {
    16: "RTM_NEWLINK", 17: "RTM_DELLINK", 18: "RTM_GETLINK", 19: "RTM_SETLINK",
    20: "RTM_NEWADDR", 21: "RTM_DELADDR", 22: "RTM_GETADDR",
    24: "RTM_NEWROUTE", 25: "RTM_DELROUTE", 26: "RTM_GETROUTE",
}  # fmt: skip


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The (kind, flags, sequence number, body) of each message in what one recv(2) gave."""
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, data[_HEADER.size : length]
        data = data[_padded(length) :]


def attribute(kind: int, *parts: bytes) -> bytes:
    """One attribute; several parts, such as a struct and attributes, follow one another in it."""
    data = b"".join(parts)
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(_padded(length) - length)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes by their kinds; of two of a kind the last."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _KIND] = data[_ATTRIBUTE.size : length]
        data = data[_padded(length) :]
    return found


def _padded(length: int) -> int:
    return (length + 3) & ~3

"""Netlink: the bytes of messages, and what a socket makes of answers, also of those that lie.

A kernel that says what a test wants is the other end of a pair of sockets; the refusals are the
real one's.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chapters import patience
from minicontainer.kernel import netlink, syscalls
from minicontainer.kernel.netlink import attribute, attributes, messages
from tests.support.netns import Namespace

ERROR, DONE = 2, 3
MULTI, INTERRUPTED, CAPPED, ACK_TLVS = 0x2, 0x10, 0x100, 0x200
RTM_NEWLINK, RTM_GETLINK = 16, 18

kinds = st.integers(0, 0x3FFF)
quick = settings(max_examples=50, deadline=None)


def message(kind: int, body: bytes, sequence: int = 1, flags: int = 0) -> bytes:
    length = 16 + len(body)
    return struct.pack("IHHII", length, kind, flags, sequence, 0) + body + bytes(-length % 4)


def refusal(number: int, words: str = "") -> bytes:
    """The kernel's error: a negative number, the header of our request, perhaps words."""
    body = struct.pack("i", -number) + bytes(16)
    if words:
        body += attribute(1, words.encode() + b"\0")
    return message(ERROR, body, flags=CAPPED | (ACK_TLVS if words else 0))


# ------------------------------------------------------------------------------------------- bytes


def test_an_attribute_is_padded_to_four_bytes() -> None:
    for length in range(9):
        made = attribute(7, b"x" * length)
        assert struct.unpack_from("HH", made) == (4 + length, 7)
        assert made[4:] == b"x" * length + bytes(-length % 4)


def test_parts_follow_one_another_in_an_attribute() -> None:
    inner = attribute(2, b"abc"), attribute(3, b"d")
    assert attributes(attributes(attribute(1, *inner))[1]) == {2: b"abc", 3: b"d"}
    assert attribute(1, b"ab", b"cd") == attribute(1, b"abcd")


def test_of_two_of_a_kind_the_last_counts() -> None:
    assert attributes(attribute(1, b"a") + attribute(1, b"b")) == {1: b"b"}


def test_the_two_bits_above_a_kind_are_not_of_it() -> None:
    assert attributes(attribute(0x8000 | 18, b"n") + attribute(0x4000 | 3, b"b")) == {
        18: b"n",
        3: b"b",
    }


@quick
@given(st.dictionaries(kinds, st.binary(max_size=70), max_size=8))
def test_attributes_come_back(told: dict[int, bytes]) -> None:
    assert attributes(b"".join(attribute(kind, data) for kind, data in told.items())) == told


@quick
@given(st.lists(st.tuples(kinds, st.binary(max_size=70)), max_size=8))
def test_messages_come_back(told: list[tuple[int, bytes]]) -> None:
    data = b"".join(message(kind, body, number) for number, (kind, body) in enumerate(told))
    assert [(kind, number, body) for kind, _, number, body in messages(data)] == [
        (kind, number, body) for number, (kind, body) in enumerate(told)
    ]


@quick
@given(st.binary(max_size=80))
@example(struct.pack("HH", 0, 1) * 4)
@example(struct.pack("HH", 3, 1) * 4)
@example(struct.pack("HH", 0xFFFF, 1))
def test_attributes_of_anything_end(data: bytes) -> None:
    assert sum(map(len, attributes(data).values())) <= len(data)


@quick
@given(st.binary(max_size=80))
@example(struct.pack("IHHII", 0, 16, 0, 1, 0) * 2)
@example(struct.pack("IHHII", 15, 16, 0, 1, 0) * 2)
@example(struct.pack("IHHII", 0xFFFFFFFF, 16, 0, 1, 0))
def test_messages_of_anything_end(data: bytes) -> None:
    assert sum(16 + len(body) for *_, body in messages(data)) <= len(data)


# ----------------------------------------------------------------------------------------- answers


class Kernel:
    """The other end of a netlink socket."""

    def __init__(self) -> None:
        self.asked = netlink.Socket()
        self.asked.close()
        self.asked._socket, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.asked._socket.settimeout(patience.seconds(10))

    def ask(self, *answers: bytes, how: int = netlink.DUMP) -> list[bytes]:
        """What comes of a request when these are what recv(2) gives."""
        for answer in answers:
            self.end.send(answer)
        return self.asked.ask(RTM_GETLINK, how, b"body", "all")

    def close(self) -> None:
        self.asked.close()
        self.end.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


def test_a_request_is_a_header_and_its_body(kernel: Kernel) -> None:
    kernel.ask(message(DONE, bytes(4)))
    length, kind, flags, sequence, port = struct.unpack_from("IHHII", sent := kernel.end.recv(99))
    assert (length, kind, sequence, port) == (len(sent), RTM_GETLINK, 1, 0)
    assert (flags, sent[16:]) == (0x301, b"body")  # REQUEST and DUMP: its end is acknowledgement


def test_what_is_no_dump_asks_for_an_acknowledgement(kernel: Kernel) -> None:
    assert kernel.ask(refusal(0), how=netlink.CREATE) == []
    assert struct.unpack_from("IHH", kernel.end.recv(99))[2] == 0x405


def test_answers_are_gathered_up_to_the_end(kernel: Kernel) -> None:
    told = kernel.ask(
        message(16, b"one.", flags=MULTI) + message(16, b"two", flags=MULTI),
        message(16, b"three...", flags=MULTI),
        message(DONE, bytes(4), flags=MULTI) + message(16, b"later"),
    )
    assert told == [b"one.", b"two", b"three..."]


def test_answers_to_others_are_passed_over(kernel: Kernel) -> None:
    told = kernel.ask(
        message(16, b"old.", sequence=0) + message(16, b"ours"),
        message(ERROR, struct.pack("i", -errno.EPERM), sequence=7),
        message(DONE, bytes(4), sequence=2**32 - 1),
        message(DONE, bytes(4)),
    )
    assert told == [b"ours"]


def test_every_request_has_a_number_of_its_own(kernel: Kernel) -> None:
    assert kernel.ask(message(DONE, bytes(4))) == []
    assert kernel.ask(message(16, b"old."), message(DONE, bytes(4), sequence=2)) == []


def test_an_answer_longer_than_our_room(kernel: Kernel) -> None:
    long = [bytes([number]) * 40_000 for number in range(3)]
    assert kernel.ask(b"".join(message(16, body) for body in long), message(DONE, bytes(4))) == long


def test_a_refusal_has_the_number_and_the_words(kernel: Kernel) -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        kernel.ask(refusal(errno.EINVAL, "Invalid VLAN id"))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.hint == "invalid vlan id"
    assert str(caught.value) == "netlink(RTM_GETLINK, all): Invalid argument"


def test_the_words_are_of_this_refusal_alone(kernel: Kernel) -> None:
    with pytest.raises(syscalls.SyscallError):
        kernel.ask(refusal(errno.EINVAL, "Invalid VLAN id"))
    with pytest.raises(syscalls.SyscallError) as caught:
        kernel.ask(message(ERROR, b"", sequence=2))
    assert (caught.value.errno, caught.value.hint) == (errno.EBADMSG, None)


def test_a_dump_that_fails_at_its_end(kernel: Kernel) -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        kernel.ask(message(16, b"one."), message(DONE, struct.pack("i", -errno.EOPNOTSUPP)))
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_list_that_changed_meanwhile_is_asked_for_again(kernel: Kernel, at_the_end: bool) -> None:
    flags = (MULTI, MULTI | INTERRUPTED)
    told = kernel.ask(
        message(16, b"old.", flags=flags[not at_the_end]),
        message(DONE, bytes(4), flags=flags[at_the_end]),
        message(16, b"new.", 2, MULTI) + message(DONE, bytes(4), 2, MULTI),
    )
    assert told == [b"new."]


def test_a_list_that_always_changes_is_given_up(kernel: Kernel) -> None:
    kernel.asked._socket.settimeout(None)

    def answer() -> None:
        while asked := kernel.end.recv(99):
            (number,) = struct.unpack_from("I", asked, 8)
            kernel.end.send(message(DONE, bytes(4), number, INTERRUPTED))

    other = threading.Thread(target=answer)
    other.start()
    with pytest.raises(syscalls.SyscallError) as caught:
        kernel.ask()
    assert caught.value.errno == errno.EAGAIN
    kernel.asked._socket.send(b"")
    other.join()


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_a_refusal_without_a_number(kernel: Kernel, kind: int) -> None:
    for length in range(4):
        answer = struct.pack("IHHII", 16 + length, kind, 0, 1 + length, 0) + b"\xff" * length
        with pytest.raises(syscalls.SyscallError) as caught:
            kernel.ask(answer)
        assert caught.value.errno == errno.EBADMSG


def test_a_refusal_that_is_cut_short(kernel: Kernel) -> None:
    """What is left of it counts."""
    whole = struct.pack("i", -errno.EBUSY) + bytes(16) + attribute(1, b"some words\xff\0")
    for length in range(4, len(whole)):
        head = struct.pack("IHHII", 16 + length, ERROR, ACK_TLVS, length - 3, 0)
        with pytest.raises(syscalls.SyscallError) as caught:
            kernel.ask(head + whole[:length])
        assert caught.value.errno == errno.EBUSY
        assert "some words\N{REPLACEMENT CHARACTER}".startswith(caught.value.hint or "")


# -------------------------------------------------------------------------------- the real kernel


@pytest.fixture
def real() -> Iterator[netlink.Socket]:
    with Namespace() as space:
        made = space.call(netlink.Socket)
        yield made
        made.close()


@pytest.mark.root
def test_the_real_kernel_answers(real: netlink.Socket) -> None:
    (lo,) = real.ask(RTM_GETLINK, netlink.DUMP, bytes(16), "all")
    assert attributes(lo[16:])[3] == b"lo\0"
    for _ in range(3):
        (again,) = real.ask(RTM_GETLINK, 0, bytes(16) + attribute(3, b"lo\0"), "lo")
        assert attributes(again[16:])[3] == b"lo\0"


@pytest.mark.root
def test_the_real_kernel_refuses_with_words(real: netlink.Socket) -> None:
    bridge = attribute(18, attribute(1, b"bridge"))
    body = bytes(16) + attribute(3, b"br0\0") + attribute(4, struct.pack("I", 5)) + bridge
    with pytest.raises(syscalls.SyscallError) as caught:
        real.ask(RTM_NEWLINK, netlink.CREATE | netlink.EXCLUSIVE, body, "br0")
    assert (caught.value.errno, caught.value.hint) == (
        errno.EINVAL,
        "mtu less than device minimum",
    )
    with pytest.raises(syscalls.SyscallError) as caught:
        real.ask(RTM_GETLINK, 0, bytes(16) + attribute(3, b"gone\0"), "gone")
    assert (caught.value.errno, caught.value.hint) == (errno.ENODEV, None)


@pytest.mark.root
def test_a_socket_stays_where_it_was_opened(real: netlink.Socket) -> None:
    bridge = attribute(18, attribute(1, b"bridge"))
    body = bytes(16) + attribute(3, b"br0\0") + bridge
    real.ask(RTM_NEWLINK, netlink.CREATE | netlink.EXCLUSIVE, body, "br0")
    assert len(real.ask(RTM_GETLINK, netlink.DUMP, bytes(16), "all")) == 2

"""The relay: clients on a held port, and a "container" that is another address of this host."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from chapters import patience
from minicontainer.network import datagrams, ports
from minicontainer.network.relay import Relay
from minicontainer.runtime import supervise

UDP = socket.SOCK_DGRAM
HERE4, HERE6, THERE4, THERE6 = "127.0.0.1", "::1", "127.0.0.9", "::1"
BIG = os.urandom(1 << 20) * 8


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


class Loop:
    """A relay and its loop, in a thread; it ends with the `with` block."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.turns = 0

    def __enter__(self) -> Loop:
        self.wake, self.stop = os.pipe()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.stop)
        self.thread.join()
        os.close(self.wake)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self.relay.descriptor, self.wake], [], [])
            if self.wake in ready:
                return
            self.turns += 1
            self.relay.serve()


def held(stack: contextlib.ExitStack, word: str) -> ports.Port:
    found = ports.hold(ports.parse([word]))
    stack.callback(ports.release, found)
    return found[0]


def relayed(stack: contextlib.ExitStack, port: ports.Port, *addresses: str, **how: int) -> Relay:
    relay = Relay(lambda _: addresses or (THERE4,), **how)
    stack.callback(relay.close)
    relay.add(port)
    return relay


def service(
    stack: contextlib.ExitStack, address: str = THERE4, kind: int = socket.SOCK_STREAM
) -> socket.socket:
    """What listens in the container, on a free port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = stack.enter_context(socket.socket(family, kind))
    made.settimeout(patience.seconds(10))
    made.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def client(stack: contextlib.ExitStack, port: ports.Port, address: str = HERE4) -> socket.socket:
    made = socket.create_connection((address, port.number), patience.seconds(10))
    return stack.enter_context(made)


def accepted(stack: contextlib.ExitStack, listener: socket.socket) -> socket.socket:
    made = stack.enter_context(listener.accept()[0])
    made.settimeout(patience.seconds(10))
    return made


def read(source: socket.socket) -> bytes:
    """All up to the end."""
    return b"".join(iter(lambda: source.recv(1 << 16), b""))


def in_thread(stack: contextlib.ExitStack, function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    stack.callback(thread.join)


def is_quiet(relay: Relay) -> bool:
    """Whether it comes to rest: nothing is left to do, though everybody still is there."""
    for _ in range(1000):
        if not select.select([relay.descriptor], [], [], 0)[0]:
            return True
        relay.serve()
    return False


def number(made: socket.socket) -> int:
    return int(made.getsockname()[1])


@pytest.mark.parametrize("address", [HERE4, HERE6])
def test_much_goes_both_ways_at_once(stack: contextlib.ExitStack, address: str) -> None:
    listener = service(stack)
    port = held(stack, f"{number(listener)}")
    stack.enter_context(Loop(relayed(stack, port)))
    asking = client(stack, port, address)
    answering = accepted(stack, listener)

    def send(end: socket.socket, data: bytes) -> None:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)

    in_thread(stack, lambda: send(asking, BIG))
    in_thread(stack, lambda: send(answering, BIG[::-1]))
    got: list[bytes] = []
    in_thread(stack, lambda: got.append(read(asking)))
    assert read(answering) == BIG
    stack.pop_all().close()
    assert got == [BIG[::-1]]


def test_an_end_goes_through_and_the_answer_still_comes(stack: contextlib.ExitStack) -> None:
    listener = service(stack)
    port = held(stack, f"{number(listener)}")
    stack.enter_context(Loop(relayed(stack, port)))
    asking = client(stack, port)
    asking.sendall(b"question")
    asking.shutdown(socket.SHUT_WR)
    answering = accepted(stack, listener)
    assert read(answering) == b"question"
    answering.sendall(b"answer")
    answering.close()
    assert read(asking) == b"answer"


def test_who_waits_costs_nothing(stack: contextlib.ExitStack) -> None:
    """Neither one who says nothing, nor one who has said all, nor one whose bytes nobody takes."""
    listener = service(stack)
    port = held(stack, f"{number(listener)}")
    relay = relayed(stack, port)
    most = 8 * len(BIG)
    with Loop(relay):
        _silent, ended, blocked = (client(stack, port) for _ in range(3))
        inner = [accepted(stack, listener) for _ in range(3)]
        ended.shutdown(socket.SHUT_WR)
        assert len(select.select(inner, [], [], patience.seconds(10))[0]) == 1
        blocked.setblocking(False)
        sent = 0
        while select.select([], [blocked], [], 0.2)[1] and sent < most:  # else it is full
            sent += blocked.send(BIG)
    # What nobody reads is in the sockets' buffers and one pipe, not in our memory.
    assert 0 < sent < most
    assert is_quiet(relay)
    with Loop(relay):
        blocked.shutdown(socket.SHUT_WR)
        readable = select.select(inner, [], [], patience.seconds(10))[0]
        assert sorted(len(read(each)) for each in readable) == [0, sent]


def test_a_program_that_listens_for_one_version_of_ip_alone(stack: contextlib.ExitStack) -> None:
    listener = service(stack, THERE6)
    listener_port = number(listener)
    port = held(stack, f"127.0.0.1::{listener_port}")
    stack.enter_context(Loop(relayed(stack, port, THERE4, THERE6)))
    asking = client(stack, port)
    accepted(stack, listener).sendall(b"six")
    assert asking.recv(10) == b"six"


def test_nobody_listens(stack: contextlib.ExitStack) -> None:
    with service(stack) as gone:
        free = number(gone)
    port = held(stack, f"127.0.0.1::{free}")
    stack.enter_context(Loop(relayed(stack, port, THERE4, THERE6)))
    assert client(stack, port).recv(10) == b""
    assert client(stack, port).recv(10) == b""  # and it goes on


def test_a_port_that_leads_nowhere(stack: contextlib.ExitStack) -> None:
    stream, datagram = held(stack, "127.0.0.1::9"), held(stack, "127.0.0.1::9/udp")
    relay = Relay(lambda _: [])
    stack.callback(relay.close)
    relay.add(stream)
    relay.add(datagram)
    asker(stack).sendto(b"x", ("127.0.0.1", datagram.number))
    asking = client(stack, stream)
    assert is_quiet(relay)
    assert asking.recv(10) == b""


@pytest.mark.parametrize("who", ["client", "service"])
def test_a_reset_ends_both_sides(stack: contextlib.ExitStack, who: str) -> None:
    listener = service(stack)
    port = held(stack, f"{number(listener)}")
    stack.enter_context(Loop(relayed(stack, port)))
    asking = client(stack, port)
    answering = accepted(stack, listener)
    resetting, other = (asking, answering) if who == "client" else (answering, asking)
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    resetting.close()
    assert other.recv(10) == b""


def test_more_clients_than_there_may_be_wait_for_their_turn(stack: contextlib.ExitStack) -> None:
    listener = service(stack)
    port = held(stack, f"127.0.0.1::{number(listener)}")
    relay = relayed(stack, port, most=2)
    with Loop(relay):
        clients = [client(stack, port) for _ in range(3)]
        first, _second = (accepted(stack, listener) for _ in range(2))
    assert is_quiet(relay)
    assert select.select([listener], [], [], 0) == ([], [], [])
    with Loop(relay):
        first.close()
        gone = select.select(clients, [], [], patience.seconds(10))[0]
        assert len(gone) == 1
        gone[0].close()
        accepted(stack, listener).sendall(b"now")
        (last,) = select.select([each for each in clients if each not in gone], [], [], 10)[0]
        assert last.recv(10) == b"now"


def test_files_that_are_open_already_are_not_for_clients() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
        relay = Relay(lambda _: [])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert relay.most == 5
    relay.close()


def test_without_descriptors_a_client_is_refused_and_the_next_is_served(
    stack: contextlib.ExitStack,
) -> None:
    listener = service(stack)
    port = held(stack, f"127.0.0.1::{number(listener)}")
    relay = relayed(stack, port)
    asking = client(stack, port)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filler = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                filler.append(os.dup(0))
        relay.serve()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in filler:
            os.close(descriptor)
    assert asking.recv(10) == b""
    with Loop(relay):
        again = client(stack, port)
        accepted(stack, listener).sendall(b"well")
        assert again.recv(10) == b"well"


def test_what_was_sent_before_the_end_arrives(stack: contextlib.ExitStack) -> None:
    listener = service(stack)
    port = held(stack, f"127.0.0.1::{number(listener)}")
    relay = relayed(stack, port)
    with Loop(relay):
        asking = client(stack, port)
        answering = accepted(stack, listener)
    answering.sendall(b"last words")
    answering.close()
    relay.close()
    relay.close()
    assert read(asking) == b"last words"


def test_beside_a_program(stack: contextlib.ExitStack) -> None:
    """In the supervisor's own loop, up to the program's end."""
    listener = service(stack)
    port = held(stack, f"127.0.0.1::{number(listener)}")
    relay = relayed(stack, port)
    feed, fed = os.pipe2(os.O_CLOEXEC)

    class Program:
        """Ends when the conversation does."""

        pidfd = feed

        def wait(self) -> int:
            return 3

    def talk() -> None:
        asking = client(stack, port)
        accepted(stack, listener).sendall(b"hello")
        assert asking.recv(10) == b"hello"
        os.close(fed)

    in_thread(stack, talk)
    program: supervise.Process = Program()  # type: ignore[assignment]
    assert supervise.supervise(program, [], forward=False, services=[relay]) == 3
    os.close(feed)


# -------------------------------------------------------------------------------------- datagrams


def asker(stack: contextlib.ExitStack, family: int = socket.AF_INET) -> socket.socket:
    made = stack.enter_context(socket.socket(family, UDP))
    made.settimeout(patience.seconds(10))
    return made


@pytest.mark.parametrize(
    ("family", "asked"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.3.2.1"),
                          (socket.AF_INET6, "::1")]
)  # fmt: skip
def test_an_answer_comes_from_where_was_asked(
    stack: contextlib.ExitStack, family: int, asked: str
) -> None:
    answering = service(stack, kind=UDP)
    port = held(stack, f"{number(answering)}/udp")
    stack.enter_context(Loop(relayed(stack, port)))
    first, second = asker(stack, family), asker(stack, family)
    for each, data in ((first, b"one"), (second, b"two")):
        each.sendto(data, (asked, port.number))
    questions = dict(answering.recvfrom(100) for _ in range(2))
    assert set(questions) == {b"one", b"two"}
    for data, peer in questions.items():
        answering.sendto(data + b" answered", peer)
    for each, data in ((first, b"one"), (second, b"two")):
        got, peer = each.recvfrom(100)
        assert (got, peer[:2]) == (data + b" answered", (asked, port.number))


def test_one_client_that_asks_two_of_our_addresses(stack: contextlib.ExitStack) -> None:
    answering = service(stack, kind=UDP)
    port = held(stack, f"{number(answering)}/udp")
    stack.enter_context(Loop(relayed(stack, port)))
    asking = asker(stack)
    for address in ("127.0.0.1", "127.3.2.1", "127.0.0.1"):
        asking.sendto(b"x", (address, port.number))
        _, peer = answering.recvfrom(100)
        answering.sendto(b"y", peer)
        assert asking.recvfrom(100)[1][0] == address


def test_where_nobody_listens_datagrams_are_lost(stack: contextlib.ExitStack) -> None:
    with service(stack, kind=UDP) as gone:
        free = number(gone)
    port = held(stack, f"127.0.0.1::{free}/udp")
    relay = relayed(stack, port)
    asking = asker(stack)
    asking.sendto(b"anybody", ("127.0.0.1", port.number))
    assert is_quiet(relay)
    with socket.socket(socket.AF_INET, UDP) as answering:
        answering.settimeout(patience.seconds(10))
        answering.bind((THERE4, free))
        with Loop(relay):
            asking.sendto(b"now", ("127.0.0.1", port.number))
            assert answering.recv(100) == b"now"


def test_the_silent_are_forgotten(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "MOST", 2)
    answering = service(stack, kind=UDP)
    port = held(stack, f"127.0.0.1::{number(answering)}/udp")
    relay = relayed(stack, port)
    (exchange,) = relay._exchanges

    def ask(data: bytes) -> None:
        asker(stack).sendto(data, ("127.0.0.1", port.number))
        relay.serve()
        assert answering.recv(100) == data

    for _ in range(3):
        ask(b"x")
    assert len(exchange.clients) == 2
    monkeypatch.setattr(datagrams, "IDLE", 0.0)
    ask(b"y")
    assert len(exchange.clients) == 1

"""The name server of one container: its neighbours' names from us, the world's from the host's.

It listens at 127.0.0.11 inside the container's network namespace, on sockets that its supervisor
opened there, and lives in the supervisor's loop. So it knows who asks, nothing else can reach it,
and it ends with the container. What it does not know it asks the host's servers, from the host's
network: there a server on the host's loopback, or behind its VPN, can be had.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from . import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from .directory import Directory

    # What a conversation waits for: a socket, its events, for how many seconds.
    Wait = tuple[_socket.socket, int, float]

CHAPTER = 13

PORT = 53
# Seconds for one server to answer, and for the other side of a stream to go on.
SERVER_TIME, STREAM_TIME = 2.0, 10.0
# Conversations at once; a container that has more of them open gets no answer to the next.
MOST = 256
# Questions in one turn, after which the container's output and the like have theirs.
TURN = 32
LONGEST_QUESTION, LONGEST = 4096, 65535


class Socket(_socket.socket):
    """A socket that is closed at the end of `with`; the one of `socket` costs 4 ms to import."""

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Resolver:
    """A service of the supervisor's loop (runtime/supervise.py).

    directory: the names that the container may know. servers: (address, port) of those who know
    the rest, in their order. datagrams, listener: the two sockets, UDP and TCP; they are ours.
    """

    __slots__ = ("descriptor", "due", "directory", "servers", "_datagrams", "_listener",
                 "_epoll", "_waiting", "_turns")  # fmt: skip

    def __init__(
        self,
        directory: Directory,
        servers: list[tuple[str, int]],
        datagrams: _socket.socket,
        listener: _socket.socket,
    ) -> None:
        self.directory = directory
        self.servers = servers
        self.due: float | None = None
        self._datagrams, self._listener = datagrams, listener
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        for own in (datagrams, listener):
            own.setblocking(False)
            self._epoll.register(own.fileno(), select.EPOLLIN)
        # By descriptor: who waits for it, and until when.
        self._waiting: dict[int, tuple[Generator[Wait, None, None], float]] = {}
        self._turns = {dns.A: 0, dns.AAAA: 0}

    def serve(self) -> None:
        """One turn: read questions, go on with the conversations that can or whose time is up."""
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._datagrams.fileno():
                self._read_datagrams()
            elif descriptor == self._listener.fileno():
                self._accept()
            else:
                self._wake(descriptor)
        now = time.monotonic()
        for descriptor in [each for each, (_, due) in self._waiting.items() if due <= now]:
            self._wake(descriptor, late=True)
        self.due = min((due for _, due in self._waiting.values()), default=None)

    def close(self) -> None:
        """Close everything; whoever still waits for an answer gets none."""
        for conversation, _ in self._waiting.values():
            conversation.close()
        self._waiting.clear()
        for own in (self._datagrams, self._listener, self._epoll):
            own.close()

    def _read_datagrams(self) -> None:
        for _ in range(TURN):
            try:
                message, asker = self._datagrams.recvfrom(LONGEST_QUESTION)
            except OSError:
                return  # there is no more
            answer = self.answer(message, room=dns.DATAGRAM)
            if answer:
                self._send(answer, asker)
            elif answer is None and len(self._waiting) < MOST:
                self._go_on(self._ask_by_datagram(message, asker))

    def _send(self, answer: bytes, asker: object) -> None:
        try:
            self._datagrams.sendto(answer, asker)  # type: ignore[call-overload]
        except OSError:
            pass  # the asker is gone or does not read: it would not have had it from a wire either

    def _accept(self) -> None:
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        client = Socket(fileno=descriptor)
        if len(self._waiting) < MOST:
            self._go_on(self._talk(client))
        else:
            client.close()

    # ------------------------------------------------------------------------- the answer itself

    def answer(self, message: bytes, *, room: int) -> bytes | None:
        """What we know ourselves, at most `room` bytes of it; None for what a server knows, and
        nothing for what wants no answer."""
        try:
            question = dns.read_question(message)
        except dns.Malformed as error:
            return dns.refuse(message, error.code)
        try:
            known = self._look_up(question)
            if known is None and self.servers and self._may_leave(question):
                return None
        except (KeyError, TypeError, ValueError, OSError):
            return dns.write_answer(question, [], dns.FAILED)  # another version's file
        if known is None:
            return dns.write_answer(question, [], dns.NO_SUCH_NAME)
        return dns.write_answer(question, known, room=room)

    def _may_leave(self, question: dns.Question) -> bool:
        """Whether a server beyond us may hear the question: not of an address among neighbours."""
        address = dns.address_of(question.name)
        return self.directory.leads_out() and not (address and self.directory.is_near(address))

    def _look_up(self, question: dns.Question) -> list[bytes] | None:
        if question.group != dns.INTERNET:
            return None
        if question.kind != dns.PTR:
            found = self.directory.addresses(question.name, question.kind)
            if not found:
                return found
            # Each time another is the first, and so the one that most programs take. They ask for
            # both kinds in turn, so each is counted for itself.
            self._turns[question.kind] += 1
            at = self._turns[question.kind] % len(found)
            return found[at:] + found[:at]
        address = dns.address_of(question.name)
        name = address and self.directory.name(address)
        return [dns.write_name(name)] if name else None

    # --------------------------------------------------------------------------- conversations
    # Each is a generator: it yields what it waits for, and TimeoutError arrives where it waits.

    def _wake(self, descriptor: int, *, late: bool = False) -> None:
        conversation, _ = self._waiting.pop(descriptor)
        self._epoll.unregister(descriptor)
        self._go_on(conversation, late=late)

    def _go_on(self, conversation: Generator[Wait, None, None], *, late: bool = False) -> None:
        try:
            socket, events, left = (
                conversation.throw(TimeoutError()) if late else next(conversation)
            )
        except (StopIteration, OSError):
            return  # it has ended, well or because the other side is gone
        self._waiting[socket.fileno()] = conversation, time.monotonic() + left
        self._epoll.register(socket.fileno(), events)

    def _ask_by_datagram(self, message: bytes, asker: object) -> Generator[Wait, None, None]:
        """Pass a question on, to one server after the other, each under a number and from a port
        that nobody can guess: who answers first is believed, unless it is that he cannot say."""
        question = dns.read_question(message)
        last = dns.write_answer(question, [], dns.FAILED)
        for server in self.servers:
            number = os.urandom(2)
            with open_socket(server, _socket.SOCK_DGRAM) as socket:
                try:
                    socket.connect(endpoint(*server))
                    socket.send(number + message[2:])
                    until = time.monotonic() + SERVER_TIME
                    while (left := until - time.monotonic()) > 0:
                        yield socket, select.EPOLLIN, left
                        reply = socket.recv(LONGEST)
                        if dns.answers(reply, question, int.from_bytes(number)):
                            last = message[:2] + reply[2:]
                            break
                except OSError:
                    continue  # nobody is there, or says nothing: the next
            if dns.knows(last):
                break
        self._send(last, asker)

    def _talk(self, client: Socket) -> Generator[Wait, None, None]:
        """Answer the questions that come over one TCP connection, one after the other."""
        with client:
            client.setblocking(False)
            while message := (yield from receive(client, LONGEST_QUESTION)):
                answer = self.answer(message, room=LONGEST)
                if answer is None:
                    answer = yield from self._ask_by_stream(message)
                if not answer:
                    return
                yield from send(client, answer)

    def _ask_by_stream(self, message: bytes) -> Generator[Wait, None, bytes]:
        question = dns.read_question(message)
        last = dns.write_answer(question, [], dns.FAILED)
        for server in self.servers:
            with open_socket(server, _socket.SOCK_STREAM) as socket:
                try:
                    socket.connect(endpoint(*server))
                except BlockingIOError:
                    pass  # it is on its way
                except OSError:
                    continue
                try:
                    yield socket, select.EPOLLOUT, SERVER_TIME
                    yield from send(socket, message)
                    reply = yield from receive(socket, LONGEST)
                except OSError:
                    continue
            if dns.answers(reply, question, question.id):
                last = reply
                if dns.knows(reply):
                    break
        return last


def receive(socket: _socket.socket, longest: int) -> Generator[Wait, None, bytes]:
    """One message from a stream, where its length is before it; empty at the end of the stream,
    and for a length beyond `longest`."""
    data = b""
    wanted = 2
    while len(data) < wanted:
        yield socket, select.EPOLLIN, STREAM_TIME
        some = socket.recv(wanted - len(data))
        if not some:
            return b""
        data += some
        if len(data) == 2:
            wanted = 2 + int.from_bytes(data)
            if not dns.HEADER + 2 <= wanted <= longest + 2:
                return b""
    return data[2:]


def send(socket: _socket.socket, message: bytes) -> Generator[Wait, None, None]:
    """One message into a stream, with its length before it."""
    data = len(message).to_bytes(2) + message
    while data:
        yield socket, select.EPOLLOUT, STREAM_TIME
        data = data[socket.send(data) :]


def open_socket(server: tuple[str, int], kind: int) -> Socket:
    """A socket to talk with a server, which does not block."""
    family = _socket.AF_INET6 if ":" in server[0] else _socket.AF_INET
    return Socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)


def endpoint(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What connect takes; the link of `fe80::1%eth0` as a number."""
    address, _, link = address.partition("%")
    if ":" not in address:
        return address, port
    return address, port, 0, _socket.if_nametoindex(link) if link else 0

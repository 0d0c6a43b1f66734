"""Datagrams relayed: a socket for each client, so that an answer finds its way back.

Nothing says that a client is gone. One that was silent for 90 seconds (docker-proxy's limit) is
forgotten when the next one comes, and so is the one that was silent longest where there are many.
"""

from __future__ import annotations

import _socket
import select
import struct
import time
from errno import EHOSTUNREACH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ports import Port
    from .relay import Relay

    Peer = tuple[str, int] | tuple[str, int, int, int]

CHAPTER = 13

IDLE = 90.0
MOST = 256
# Datagrams in a row before somebody else has a turn.
_BURST = 16
_LONGEST = 65535
_IN = select.EPOLLIN

# <linux/in.h>, <linux/in6.h>: which of our addresses a datagram was sent to (ip(7), ipv6(7)).
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50


class Exchange:
    """What comes to one of the sockets of a held port, and the answers."""

    __slots__ = ("relay", "socket", "port", "clients")

    def __init__(self, relay: Relay, socket: _socket.socket, port: Port) -> None:
        self.relay = relay
        self.socket = socket
        self.port = port
        # The longest silent first.
        self.clients: dict[object, _Client] = {}
        if socket.family == _socket.AF_INET6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            socket.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
        relay.watch(socket.fileno(), _IN, self.receive)

    def receive(self, _: int) -> None:
        """Pass on what clients have sent."""
        for _burst in range(_BURST):
            try:
                data, notes, _flags, peer = self.socket.recvmsg(_LONGEST, 64)
                self._client(peer, _answer_from(notes)).socket.send(data)
            except BlockingIOError:
                return
            except OSError:
                continue  # nobody listens there, or no descriptor is left: datagrams get lost

    def close(self) -> None:
        """Forget all clients; the held socket stays its owner's."""
        self.relay.watch(self.socket.fileno(), 0, self.receive)
        for client in list(self.clients.values()):
            client.close()

    def _client(self, peer: Peer, notes: list[tuple[int, int, bytes]]) -> _Client:
        # The same client that speaks to another address of ours is answered from there.
        key = peer, *notes
        client = self.clients.get(key)
        if client is None:
            for old in list(self.clients.values()):
                if len(self.clients) < MOST and old.seen > time.monotonic() - IDLE:
                    break
                old.close()
            client = _Client(self, key, peer, notes)
        client.touch()
        return client


class _Client:
    """One who asks, and the socket on which the container answers."""

    __slots__ = ("exchange", "key", "peer", "notes", "socket", "seen")

    def __init__(
        self, exchange: Exchange, key: object, peer: Peer, notes: list[tuple[int, int, bytes]]
    ) -> None:
        self.exchange = exchange
        self.key = key
        self.peer = peer
        self.notes = notes
        targets = exchange.relay.targets(exchange.port)
        if not targets:
            raise OSError(EHOSTUNREACH, "the container has left the network")
        self.socket = exchange.relay.open(targets[0][0], _socket.SOCK_DGRAM)
        try:
            self.socket.connect(targets[0])
        except BaseException:
            self.socket.close()
            raise
        exchange.relay.watch(self.socket.fileno(), _IN, self.answer)

    def touch(self) -> None:
        """It was heard of just now."""
        self.seen = time.monotonic()
        self.exchange.clients.pop(self.key, None)
        self.exchange.clients[self.key] = self

    def answer(self, _: int) -> None:
        """Pass on what the container has answered."""
        self.touch()
        for _burst in range(_BURST):
            try:
                data = self.socket.recv(_LONGEST)
            except OSError:
                return  # that was all, or nobody listens there
            try:
                self.exchange.socket.sendmsg([data], self.notes, 0, self.peer)
            except OSError:
                continue  # lost: the client is gone, or too slow

    def close(self) -> None:
        """Forget it."""
        self.exchange.relay.watch(self.socket.fileno(), 0, self.answer)
        self.socket.close()
        del self.exchange.clients[self.key]


def _answer_from(notes: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """What to send with an answer, so that it comes from the address that was asked."""
    for level, kind, data in notes:
        if (level, kind) == (_socket.IPPROTO_IP, _IP_PKTINFO):
            return [(level, kind, struct.pack("=I4s4s", 0, data[4:8], bytes(4)))]
        if (level, kind) == (_socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return [(level, kind, data)]
    return []

"""What the kernel does not translate arrives here: a published port's own sockets, relayed.

That is loopback above all (`curl localhost:5001`), whose packets never leave the machine, an IPv6
client of a container that has only IPv4, and everything where nft is missing or was flushed.

One epoll descriptor stands for all of it: it is readable whenever there is something to do, and
`serve` does a bounded part of that. So a relay is one more service of the loop beside a container
(runtime/supervise.py), and nothing in it blocks. Bytes go from socket to socket through a pipe and
never through Python (splice(2)). Each direction reads on only when all that it has read is written:
its memory is one pipe at most.
"""

from __future__ import annotations

import _socket
import os
import resource
import select
from errno import EALREADY, EINPROGRESS, EISCONN

from .datagrams import Exchange
from .links import inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .ports import Port

    Handler = Callable[[int], None]
    Pipe = tuple[int, int]

CHAPTER = 13

# Events that one turn handles: a container's log and signals wait for it, a few milliseconds.
EVENTS = 64
_CHUNK = 65536  # what a pipe holds
_SPARE_PIPES = 16
_IN, _OUT, _ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR


class Relay:
    """All relaying for one container; a service of the supervisor's loop.

    addresses: where a port leads at this moment; the first that takes a client has it. most:
    connections at a time; others wait in the kernel's queue. None: what our limit of open files
    allows.
    """

    __slots__ = ("descriptor", "due", "addresses", "most", "_epoll", "_watched", "_listeners",
                 "_open", "_exchanges", "_pipes", "_spare")  # fmt: skip

    def __init__(self, addresses: Callable[[Port], Sequence[str]], most: int | None = None) -> None:
        self.addresses = addresses
        # Two sockets, and a pipe or two while bytes wait in them: 6 files at most. Some are for
        # others; held ports may have taken most of them.
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = soft - len(os.listdir("/proc/self/fd"))
        self.most = most or max(1, free // 8)
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        self.due: float | None = None
        self._watched: dict[int, tuple[int, Handler]] = {}
        self._listeners: list[tuple[int, Handler]] = []
        self._open: set[_Connection] = set()
        self._exchanges: list[Exchange] = []
        self._pipes: list[Pipe] = []
        self._spare = os.dup(self.descriptor)

    def add(self, port: Port) -> None:
        """Relay what comes to a held port; its sockets stay its own. Nothing happens for SCTP,
        which is no stream of bytes."""
        for socket in port.sockets:
            if port.proto == "udp":
                self._exchanges.append(Exchange(self, socket, port))
            elif port.proto == "tcp":
                self._listeners.append((socket.fileno(), self._acceptor(socket, port)))
                self.watch(socket.fileno(), _IN, self._listeners[-1][1])

    def serve(self) -> None:
        """Do what can be done at once, but not too much of it."""
        self._turn()

    def _turn(self) -> bool:
        """The same; False when there was nothing to do."""
        events = self._epoll.poll(0, EVENTS)
        for descriptor, what in events:
            # It may have gone with an event before it; its number may even be another's by now,
            # so a handler takes an event as a hint.
            if descriptor in self._watched:
                self._watched[descriptor][1](what)
        return bool(events)

    def close(self) -> None:
        """Deliver what the container has sent before its end, as far as that can be done at once,
        and close everything of ours; twice is once."""
        if self._epoll.closed:
            return
        while self._listeners:
            descriptor, handler = self._listeners.pop()
            self.watch(descriptor, 0, handler)
        for _ in range(EVENTS):
            if not self._turn():
                break
        for connection in list(self._open):
            connection.close()
        for exchange in self._exchanges:
            exchange.close()
        for pipe in self._pipes:
            _close(pipe)
        os.close(self._spare)
        self._epoll.close()

    def watch(self, descriptor: int, mask: int, handler: Handler) -> None:
        """Call the handler with these events of a descriptor; a mask of 0 ends it."""
        before = self._watched.get(descriptor, (0, handler))[0]
        if not mask:
            if before:  # the kernel would go on telling of an end that we know
                self._epoll.unregister(descriptor)
                del self._watched[descriptor]
            return
        self._watched[descriptor] = mask, handler
        if mask != before:
            (self._epoll.modify if before else self._epoll.register)(descriptor, mask)

    def borrow_pipe(self) -> Pipe:
        """An empty pipe; give it back empty, or close it."""
        return self._pipes.pop() if self._pipes else os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def return_pipe(self, pipe: Pipe) -> None:
        """Keep it for the next who needs one."""
        if len(self._pipes) < _SPARE_PIPES:
            self._pipes.append(pipe)
        else:
            _close(pipe)

    def targets(self, port: Port) -> list[tuple[str, int]]:
        """The container's addresses with its port."""
        return [(address, port.inner) for address in self.addresses(port)]

    def open(self, address: str, kind: int) -> _socket.socket:
        """A socket for that address, in the network from which the container is reached."""
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        return _socket.socket(family, kind | _socket.SOCK_NONBLOCK)

    def _acceptor(self, listener: _socket.socket, port: Port) -> Handler:
        def accept(_: int) -> None:
            try:
                descriptor, _peer = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError:
                self._refuse(listener)
                return
            client = _socket.socket(fileno=descriptor)
            client.setblocking(False)
            self._open.add(connection := _Connection(self, client, self.targets(port)))
            connection.connect()
            if len(self._open) >= self.most:
                for number, handler in self._listeners:
                    self.watch(number, 0, handler)

        return accept

    def _refuse(self, listener: _socket.socket) -> None:
        """There are no descriptors left: say so to the client, or we would be called for ever."""
        os.close(self._spare)
        try:
            os.close(listener._accept()[0])  # type: ignore[attr-defined]
        except OSError:
            pass  # it has gone by itself
        self._spare = os.dup(self.descriptor)

    def forget(self, connection: _Connection) -> None:
        """A connection is closed: there is room for another."""
        self._open.discard(connection)
        for number, handler in self._listeners:
            self.watch(number, _IN, handler)


class _Connection:
    """A client, a socket to the container, and the two directions between them."""

    __slots__ = ("relay", "client", "server", "targets", "flows")

    def __init__(
        self, relay: Relay, client: _socket.socket, targets: list[tuple[str, int]]
    ) -> None:
        self.relay = relay
        self.client = client
        self.server: _socket.socket | None = None
        self.targets = targets
        self.flows: list[_Flow] = []

    def connect(self, _: int = 0) -> None:
        """Begin to connect to the container, or go on: called again until it is done."""
        try:
            while self.targets:
                if self.server is None:
                    self.server = self.relay.open(self.targets[0][0], _socket.SOCK_STREAM)
                error = self.server.connect_ex(self.targets[0])
                if error in (EINPROGRESS, EALREADY):
                    self.relay.watch(self.server.fileno(), _OUT, self.connect)
                    return
                if error in (0, EISCONN):
                    for socket in (self.client, self.server):
                        # What is small is not kept back: each end has decided that already.
                        socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                    self.flows = [_Flow(self.client, self.server), _Flow(self.server, self.client)]
                    self.move()
                    return
                # A program may listen for the other version of IP alone.
                self._drop_server()
                del self.targets[0]
        except OSError:
            pass  # no descriptors left, or no way there: the client is told by the end
        self.close()

    def move(self, what: int = 0) -> None:
        """Move what can be moved, and wait for what is missing."""
        assert self.server is not None
        forth, back = self.flows
        try:
            forth.move(self.relay)
            back.move(self.relay)
            self.relay.watch(self.client.fileno(), forth.reading | back.writing, self.move)
            self.relay.watch(self.server.fileno(), back.reading | forth.writing, self.move)
        except OSError:
            what = _ERROR  # one side has reset the connection
        if what & _ERROR or (forth.is_done and back.is_done):
            self.close()

    def close(self) -> None:
        """End it, in whatever state it is."""
        self.relay.watch(self.client.fileno(), 0, self.move)
        self.client.close()
        self._drop_server()
        for flow in self.flows:
            if flow.pipe is not None:
                _close(flow.pipe)
        self.relay.forget(self)

    def _drop_server(self) -> None:
        if self.server is not None:
            self.relay.watch(self.server.fileno(), 0, self.move)
            self.server.close()
            self.server = None


class _Flow:
    """One direction. held: bytes in the pipe; over: the source has ended."""

    __slots__ = ("source", "sink", "pipe", "held", "over")

    def __init__(self, source: _socket.socket, sink: _socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pipe: Pipe | None = None
        self.held = 0
        self.over = False

    @property
    def is_done(self) -> bool:
        return self.over and not self.held

    @property
    def reading(self) -> int:
        return 0 if self.over or self.held else _IN

    @property
    def writing(self) -> int:
        return _OUT if self.held else 0

    def move(self, relay: Relay) -> None:
        """Read a pipe full and write it; the end goes on to the sink, whose answer may yet come."""
        if self.is_done:
            return
        pipe = self.pipe = self.pipe or relay.borrow_pipe()
        try:
            if not self.held:
                self.held = os.splice(self.source.fileno(), pipe[1], _CHUNK)
                self.over = not self.held
            if self.held:
                self.held -= os.splice(pipe[0], self.sink.fileno(), self.held)
        except BlockingIOError:
            pass  # later: see reading, writing
        if not self.held:
            self.pipe = None
            relay.return_pipe(pipe)
            if self.over:
                self.sink.shutdown(_socket.SHUT_WR)


class InnerRelay(Relay):
    """The same from inside: where no address of the container's is anything to the host.

    namespace: a descriptor of the container's network; it is closed with the relay.
    """

    __slots__ = ("namespace",)

    def __init__(self, addresses: Callable[[Port], Sequence[str]], namespace: int) -> None:
        super().__init__(addresses)
        self.namespace = namespace

    def open(self, address: str, kind: int) -> _socket.socket:
        """A socket in the container's own network."""
        return inside(self.namespace, lambda: Relay.open(self, address, kind))

    def close(self) -> None:
        """As `Relay.close`."""
        super().close()
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1


def _close(pipe: Pipe) -> None:
    for end in pipe:
        os.close(end)

"""A container's name server in the hands of its supervisor: opened at the start, asked perhaps."""

from __future__ import annotations

import select

from ..network import links, listener, nft
from . import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from ..network.resolver import Resolver
    from .home import Home
    from .record import Record


class NameServer:
    """The name server of a container, a service of the supervisor's loop (runtime/supervise.py).

    port: where it listens inside. What answers is imported at the first question: most containers
    that run for a moment ask none.
    """

    __slots__ = ("descriptor", "due", "port", "_directory", "_servers", "_sockets", "_epoll",
                 "_resolver", "_change")  # fmt: skip

    def __init__(
        self,
        home: Home,
        record: Record,
        sockets: tuple[_socket.socket, _socket.socket],
        change: nft.Transaction | None = None,
    ) -> None:
        self._directory = home.run, record.id
        self._servers = naming.servers_beyond(record)
        self._sockets = sockets
        self._change = change
        self._resolver: Resolver | None = None
        self._epoll = select.epoll()
        self.port: int = sockets[0].getsockname()[1]
        self.descriptor = self._epoll.fileno()
        self.due: float | None = None
        for socket in sockets:
            self._epoll.register(socket.fileno(), select.EPOLLIN)

    def settle(self) -> None:
        """Wait until questions arrive; EngineError when they never will."""
        if self._change is not None:
            change, self._change = self._change, None
            change.finish()

    def serve(self) -> None:
        """One turn."""
        if self._resolver is None:
            from ..network import directory, resolver

            servers = [(each, resolver.PORT) for each in self._servers]
            where = directory.Directory(*self._directory)
            self._resolver = resolver.Resolver(where, servers, *self._sockets)
            self.descriptor = self._resolver.descriptor
            self._epoll.close()
        self._resolver.serve()
        self.due = self._resolver.due

    def close(self) -> None:
        """Close the sockets; twice is once."""
        self._epoll.close()
        for socket in self._sockets:
            socket.close()
        if self._resolver is not None:
            self._resolver.close()


def open_server(
    home: Home, record: Record, pidfd: int, endpoints: Sequence[dict[str, Any]]
) -> NameServer:
    """The name server of a container on networks. Who asks only the host's servers has one too: it
    may be connected to a network with names later, and then `follow` leads its questions here.

    pidfd: of its first process, which waits until this is done. What is still on its way is waited
    for by `settle`. Without nft it listens where it is asked, and only there.
    """
    asked = naming.asks_resolver(record, endpoints)
    redirected = nft.is_available()

    def open_inside() -> tuple[tuple[_socket.socket, _socket.socket], nft.Transaction | None]:
        sockets = listener.open_sockets(0 if redirected else listener.PORT)
        port = sockets[0].getsockname()[1]
        return sockets, nft.begin(listener.redirect(port)) if redirected and asked else None

    return NameServer(home, record, *links.inside(pidfd, open_inside))


def follow(
    home: Home, record: Record, pidfd: int, endpoints: Sequence[dict[str, Any]], port: int
) -> None:
    """Tell a running container about the networks that it has now: its files, in their place, and
    the way to its name server. port: the server's. Twice is once."""
    naming.write_files(home, record, endpoints)
    if port != listener.PORT and naming.asks_resolver(record, endpoints):
        links.inside(pidfd, lambda: nft.begin(listener.redirect(port))).finish()

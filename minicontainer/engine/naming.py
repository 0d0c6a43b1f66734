"""What a container is told about names: its files in /etc, and the server behind them."""

from __future__ import annotations

import select

from ..network import names
from . import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from ..network.resolver import Resolver
    from .home import Home
    from .record import Record

FILES = ("resolv.conf", "hostname", "hosts")
# Docker's HostConfig fields about names, as they are when nothing was asked for.
FIELDS: dict[str, Any] = {"Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None}


def write_files(home: Home, record: Record, endpoints: Sequence[dict[str, Any]] = ()) -> None:
    """Write the container's /etc/hostname, hosts and resolv.conf, in its directory on the host.

    endpoints: what it has on its networks (network.json); none before it is connected, when the
    files are only there to be mounted, nor where it has no network or the host's. A file that is
    mounted already is changed in its place.
    """
    shared = record.network == "host"
    own = [each[field] for each in endpoints for field in ("address4", "address6") if each[field]]
    gateways = ["127.0.0.1"] if shared else gateways_of(endpoints)
    added = record.names.get("ExtraHosts", [])
    if not endpoints and not shared and record.network != "none":
        added = []  # where the host is to be found is not known yet
    texts = {
        "hostname": f"{record.hostname}\n",
        "hosts": names.hosts(
            (read_host_file("/etc/hosts") if shared else "") or names.LOCAL,
            names.extra_hosts(added, gateways),
            own,
            record.hostname,
        ),
        "resolv.conf": resolv_conf(record, endpoints),
    }
    for name, text in texts.items():
        with open(home.container(record.id, name), "w", errors="surrogateescape") as file:
            file.write(text)
    userns.own(home, record, *texts)


def gateways_of(endpoints: Sequence[dict[str, Any]]) -> list[str]:
    """The host's addresses on the first network that leads to it."""
    for endpoint in endpoints:
        found = [endpoint[field] for field in ("gateway4", "gateway6") if endpoint[field]]
        if found:
            return found
    return []


def resolv_conf(record: Record, endpoints: Sequence[dict[str, Any]]) -> str:
    """The container's resolv.conf: see network/names.py for which servers are in it."""
    host = read_host_file("/etc/resolv.conf")
    given, search, options = (
        record.names.get(field, []) for field in ("Dns", "DnsSearch", "DnsOptions")
    )
    if record.network == "host":
        return names.resolv_conf(host, servers=given or None, search=search, options=options)
    if names.servers(host) == [names.SYSTEMD]:
        host = read_host_file(names.SYSTEMD_FILE) or host
    servers = given or [each for each in names.servers(host) if not names.is_loopback(each)]
    if endpoints and (not servers or has_names(endpoints)):
        return names.for_resolver(host, search, options)
    return names.resolv_conf(host, servers=servers, search=search, options=options)


def has_names(endpoints: Sequence[dict[str, Any]]) -> bool:
    """Whether a container is on a network whose containers know each other by name."""
    return any(endpoint["network"] != names.NAMELESS for endpoint in endpoints)


def read_host_file(path: str) -> str:
    """A file of the host's about names; empty where there is none."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


class NameServer:
    """The name server of a container, a service of the supervisor's loop (runtime/supervise.py).

    sockets: from listener.open_sockets; they are its own. What answers is imported at the first
    question: most containers that run for a moment ask none.
    """

    __slots__ = ("descriptor", "due", "_directory", "_servers", "_sockets", "_epoll", "_resolver")

    def __init__(
        self, home: Home, record: Record, sockets: tuple[_socket.socket, _socket.socket]
    ) -> None:
        host = names.servers(read_host_file("/etc/resolv.conf"))
        # Without a file or a server in it, resolv.conf(5) means the machine itself.
        servers = record.names.get("Dns") or host or ["127.0.0.1"]
        self._servers = [each for each in servers if names.is_address(each.partition("%")[0])]
        self._directory = home.run, record.id
        self._sockets = sockets
        self._resolver: Resolver | None = None
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        self.due: float | None = None
        for socket in sockets:
            self._epoll.register(socket.fileno(), select.EPOLLIN)

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
        if self._resolver is not None:
            self._resolver.close()
        else:
            self._epoll.close()
            for socket in self._sockets:
                socket.close()

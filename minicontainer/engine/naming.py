"""What a container is told about names: its three files in /etc."""

from __future__ import annotations

from ..network import names
from . import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
    """The host's addresses on the first network that leads to it: by a bridge."""
    for endpoint in endpoints:
        if not endpoint["bridge"]:
            continue
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


def asks_resolver(record: Record, endpoints: Sequence[dict[str, Any]]) -> bool:
    """Whether the container's resolv.conf leads to our resolver."""
    return names.servers(resolv_conf(record, endpoints)) == [names.RESOLVER]


def servers_beyond(record: Record) -> list[str]:
    """Whom our resolver asks what it does not know. Without a file or a server in it,
    resolv.conf(5) means the machine itself."""
    host = names.servers(read_host_file("/etc/resolv.conf"))
    servers = record.names.get("Dns") or host or ["127.0.0.1"]
    return [each for each in servers if names.is_address(each.partition("%")[0])]


def has_names(endpoints: Sequence[dict[str, Any]]) -> bool:
    """Whether a container is on a network whose containers know each other by name."""
    return any(e["network"] != names.NAMELESS and e["bridge"] for e in endpoints)


def read_host_file(path: str) -> str:
    """A file of the host's about names; empty where there is none."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""

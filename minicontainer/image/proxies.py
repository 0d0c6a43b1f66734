"""Which proxy stands between us and a host: the HTTP_PROXY family of variables.

The rules are Go's (golang.org/x/net/http/httpproxy), because they are docker's and podman's: a
machine that is set up for those is set up for us.
"""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """An HTTP proxy: where it listens and, where it asks for a password, what to tell it."""

    __slots__ = ("host", "port", "authorization")

    def __init__(self, host: str, port: int, authorization: str | None) -> None:
        self.host = host
        self.port = port
        self.authorization = authorization

    def headers(self) -> dict[str, str]:
        """What each request or tunnel says to this proxy."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def find(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for one origin, or None for the straight way.

    A loopback address is never asked of a proxy: it would mean the proxy's own loopback.
    Raises EngineError when the variable does not hold a proxy that we can speak to.
    """
    name = f"{scheme.upper()}_PROXY"
    address = environment.get(name) or environment.get(name.lower())
    if not address or is_loopback(host) or _is_exempt(host, port, environment):
        return None
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    try:
        proxy_port = parts.port or 80
    except ValueError:
        parts = parts._replace(netloc="")
    if parts.scheme != "http" or not parts.hostname:
        raise EngineError(
            f"cannot use the proxy in {name}: want http://HOST:PORT",
            hint="a proxy reached by https or socks is not supported",
        )
    authorization = None
    if parts.username is not None:
        pair = f"{_plain(parts.username)}:{_plain(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, proxy_port, authorization)


def _plain(quoted: str) -> str:
    return urllib.parse.unquote(quoted)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its name or its literal address."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = literal_address(host)
    return address is not None and address.is_loopback


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, or None for a name.

    An IPv4 address inside IPv6 (::ffff:10.0.0.1) is the IPv4 address: it leads to the same place.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_exempt(host: str, port: int, environment: Mapping[str, str]) -> bool:
    rules = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return any(_matches(rule.strip().lower(), host, port) for rule in rules.split(","))


def _matches(rule: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: `*`, an address, a network, `name` (and all below), `.name`."""
    if not rule or rule == "*":
        return rule == "*"
    if matches_network(rule, host):
        return True
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit() and not literal_address(rule):
        if int(wanted) != port:
            return False
        rule = name.strip("[]")
    if literal_address(rule):
        return literal_address(rule) == literal_address(host)
    host = host.rstrip(".").lower()
    rule = rule.removeprefix("*")
    return host.endswith(rule if rule.startswith(".") else f".{rule}") or host == rule


def matches_network(rule: str, host: str) -> bool:
    """Whether a rule such as 10.0.0.0/8 is a network that holds the host's literal address."""
    address = literal_address(host)
    if address is None or "/" not in rule:
        return False
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network

"""Published ports: docker's words for them, and the sockets that hold them.

A published port is *held* by the one who supervises the container: bound, and listened on, before
anything of the container starts. So no other program can have it, two containers cannot share it,
and what the kernel does not translate finds somebody there (see `relay`).
"""

from __future__ import annotations

import _socket
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EMFILE, EPROTONOSUPPORT

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    # Docker's PortBindings: "5000/tcp" to its places on the host. HostIp "" is every address, of
    # both versions; HostPort "" is any free port, and "5001-5009" any of these.
    Bindings = dict[str, list[dict[str, str]]]

CHAPTER = 13

# SCTP's number (RFC 9260). Its sockets are only bound: a stream of bytes is not what it carries,
# so nobody could relay it.
_SCTP = 132
_PROTOCOLS = {
    "tcp": (_socket.SOCK_STREAM, 0),
    "udp": (_socket.SOCK_DGRAM, 0),
    "sctp": (_socket.SOCK_STREAM, _SCTP),
}
# How often a port that is free for IPv4 may turn out to be taken for IPv6.
_TRIES = 32
ANY = "0.0.0.0"  # noqa: S104  # what -p 5001 means
_BACKLOG = 4096


def parse(words: Iterable[str]) -> Bindings:
    """What the values of -p mean: `[[ip:][host]:]container[/protocol]`, each port a range or one.

    Also docker's `published=5001,target=5000,protocol=udp`. EngineError in docker's words.
    """
    found: Bindings = {}
    for word in words:
        for port, place in _parse(_short_form(word) if "=" in word else word):
            found.setdefault(port, []).append(place)
    return found


def parse_exposed(words: Iterable[str]) -> list[str]:
    """The ports that an image (EXPOSE) or --expose names: `5000`, `5000-5002/udp`; one by one."""
    found = []
    for word in words:
        if ":" in word:
            raise EngineError(f"invalid port format for --expose: {word}")
        text, proto = _split_protocol(word)
        try:
            first, last = _range(text)
        except ValueError as error:
            raise EngineError(f"invalid range format for --expose: {word}, error: {error}")
        found += [f"{number}/{proto}" for number in range(first, last + 1)]
    return list(dict.fromkeys(found))


def publish_all(bindings: Bindings, exposed: Iterable[str]) -> Bindings:
    """-P: the exposed ports too, each at a free port of the host."""
    return {**{port: [{"HostIp": "", "HostPort": ""}] for port in exposed}, **bindings}


def _short_form(word: str) -> str:
    fields = {"published": "", "target": "", "protocol": "tcp"}
    for part in word.split(","):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise EngineError(
                f"invalid publish opts format (should be name=value but got '{part}')"
            )
        fields[name] = value
    return f"{fields['published']}:{fields['target']}/{fields['protocol']}"


def _parse(word: str) -> list[tuple[str, dict[str, str]]]:
    *before, inner = word.split(":")
    ip, host = ":".join(before[:-1]), before[-1] if before else ""
    inner, proto = _split_protocol(inner)
    if not inner:
        raise EngineError(f"no port specified: {word}<empty>")
    ip = _address(ip)
    try:
        first, last = _range(inner)
    except ValueError:
        first = 0
    if not first:
        raise EngineError(f"invalid containerPort: {inner}")
    try:
        host_first, host_last = _range(host) if host else (0, 0)
    except ValueError:
        raise EngineError(f"invalid hostPort: {host}")
    if first == last:
        return [(f"{first}/{proto}", {"HostIp": ip, "HostPort": _span(host_first, host_last)})]
    if host and last - first != host_last - host_first:
        raise EngineError(
            f"invalid ranges specified for container and host Ports: {inner} and {host}"
        )
    return [
        (
            f"{number}/{proto}",
            {"HostIp": ip, "HostPort": str(host_first + number - first) if host else ""},
        )
        for number in range(first, last + 1)
    ]


def _split_protocol(text: str) -> tuple[str, str]:
    text, _, proto = text.partition("/")
    proto = proto.lower() or "tcp"
    if proto not in _PROTOCOLS:
        raise EngineError(f"invalid proto: {proto}", hint="tcp, udp or sctp")
    return text, proto


def _range(text: str) -> tuple[int, int]:
    """`5000` or `5000-5002`; ValueError for all else."""
    ends = [_number(end) for end in text.split("-")]
    if len(ends) > 2 or ends[-1] < ends[0]:
        raise ValueError(f"invalid range specified for port: {text}")
    return ends[0], ends[-1]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ValueError(f"invalid port: {text!r}")
    return int(text)


def _span(first: int, last: int) -> str:
    if first == last:
        return str(first) if first else ""
    return f"{first}-{last}"


def _address(text: str) -> str:
    """An address as the kernel writes it, without the brackets of IPv6; "" stays."""
    bare = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    family = _socket.AF_INET6 if ":" in bare else _socket.AF_INET
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, bare)) if text else ""
    except (OSError, ValueError):
        raise EngineError(f"invalid IP address: {text}")


class Port:
    """A port that is held: of the host (ip "" is every address) and of the container (inner)."""

    __slots__ = ("proto", "ip", "number", "inner", "sockets")

    def __init__(
        self, proto: str, ip: str, number: int, inner: int, sockets: list[_socket.socket]
    ) -> None:
        self.proto = proto
        self.ip = ip
        self.number = number
        self.inner = inner
        self.sockets = sockets

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is on the host."""
        return self.proto, self.ip, self.number


def hold(bindings: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Port]:
    """Bind all ports, and listen; EngineError, and none of them is held, when one is taken."""
    held: list[Port] = []
    try:
        for key, places in bindings.items():
            inner, _, proto = key.partition("/")
            for place in places:
                held.append(_hold(proto, place["HostIp"], place["HostPort"], int(inner)))
    except BaseException:
        release(held)
        raise
    return held


def release(held: Iterable[Port]) -> None:
    """Let go of ports; twice is once."""
    for port in held:
        for socket in port.sockets:
            socket.close()
        port.sockets = []


def _hold(proto: str, ip: str, wanted: str, inner: int) -> Port:
    first, last = _range(wanted) if wanted else (0, 0)
    tries = range(first, last + 1) if first else [0] * _TRIES
    for number in tries:
        try:
            sockets = _take(proto, ip, number)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise _in_words(error, proto, ip, number)
            continue
        return Port(proto, ip, sockets[0].getsockname()[1], inner, sockets)
    if len(tries) > 1:
        raise EngineError("all ports are allocated")
    raise EngineError(f"Bind for {shown(ip, first)} failed: port is already allocated")


def _take(proto: str, ip: str, number: int) -> list[_socket.socket]:
    """The socket of a port; for every address (""), one of each version that the host has."""
    sockets: list[_socket.socket] = []
    try:
        for address in [ip] if ip else [ANY, "::"]:
            try:
                sockets.append(_bind(proto, address, number))
            except OSError as error:
                if not sockets or error.errno not in (EAFNOSUPPORT, EADDRNOTAVAIL):
                    raise
            number = sockets[0].getsockname()[1]
    except BaseException:
        for socket in sockets:
            socket.close()
        raise
    return sockets


def _bind(proto: str, address: str, number: int) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind, protocol = _PROTOCOLS[proto]
    socket = _socket.socket(family, kind | _socket.SOCK_NONBLOCK, protocol)
    try:
        if family == _socket.AF_INET6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if proto == "tcp":
            # Connections of a container before this one may still be in TIME_WAIT.
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        socket.bind((address, number))
        if proto == "tcp":
            socket.listen(_BACKLOG)
    except BaseException:
        socket.close()
        raise
    return socket


def _in_words(error: OSError, proto: str, ip: str, number: int) -> EngineError:
    hints = {
        EACCES: "ports below net.ipv4.ip_unprivileged_port_start need root",
        EMFILE: "allow more open files: ulimit -n",
        EADDRNOTAVAIL: "the address must be one of this host's",
        EPROTONOSUPPORT: "the kernel has no SCTP (modprobe sctp)",
    }
    reason = (error.strerror or "").lower()
    return EngineError(
        f"cannot publish {shown(ip, number)}/{proto}: {reason}", hint=hints.get(error.errno or 0)
    )


def shown(ip: str, number: int) -> str:
    """`0.0.0.0:5001`, `[::1]:5001`."""
    return f"[{ip}]:{number}" if ":" in ip else f"{ip or ANY}:{number}"

"""Links, addresses and routes of one network namespace, by rtnetlink(7) and the standard library.

A *link* is what `ip link` shows: an adapter, whether there is hardware behind it or not. A *bridge*
is a switch in the kernel, whose ports are other links. A *veth* is a cable: two links, and what is
sent into one comes out of the other, also when that one is in another namespace.

`links_pyroute2` is the same with pyroute2, which knows all of rtnetlink and takes 150 ms to import.
"""

from __future__ import annotations

import _socket
import os
import struct
from errno import EAGAIN, ENODEV

from ..kernel import flags, netlink, syscalls, users
from ..kernel.netlink import ACK, CREATE, DUMP, EXCLUSIVE, attribute, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    _T = TypeVar("_T")

    class Backend(Protocol):
        """What both backends can do; the words are those of `Links`."""

        def add_bridge(self, name: str, mac: str, mtu: int) -> None: ...
        def add_veth(
            self, name: str, bridge: str, peer: str, namespace: int, mac: str, mtu: int
        ) -> None: ...
        def delete(self, name: str) -> bool: ...
        def set_up(self, name: str) -> None: ...
        def is_up(self, name: str) -> bool: ...
        def set_hairpin(self, name: str) -> None: ...
        def add_address(self, name: str, address: str) -> None: ...
        def add_route(self, to: str, gateway: str) -> None: ...
        def links(self) -> list[Link]: ...
        def addresses(self) -> list[tuple[str, str]]: ...
        def routes(self) -> list[Route]: ...
        def close(self) -> None: ...


CHAPTER = 12

# <linux/rtnetlink.h>
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 20, 22, 24, 26
_LINK, _ADDRESS, _ROUTE = struct.Struct("BxHiII"), struct.Struct("BBBBI"), struct.Struct("8BI")
# <linux/if_link.h>, <linux/veth.h>, <linux/if_addr.h>
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _IFLA_BRPORT_MODE = 4, 5, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_F_NODAD = 1, 2, 8, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_MAIN, _BOOT, _UNICAST, _UP = 254, 3, 1, 1


class Link:
    """One link: its index, name, kind ("" for hardware), MAC address, MTU, whether it is up, the
    index of the bridge that it is a port of and of its other half (0: none)."""

    __slots__ = ("index", "name", "kind", "mac", "mtu", "up", "master", "peer")

    def __init__(
        self, index: int, name: str, kind: str, mac: str, mtu: int, up: bool, master: int, peer: int
    ) -> None:
        self.index = index
        self.name = name
        self.kind = kind
        self.mac = mac
        self.mtu = mtu
        self.up = up
        self.master = master
        self.peer = peer


class Route:
    """One route of the main table: `to` as ADDRESS/LENGTH ("0.0.0.0/0" is the default one), the
    gateway ("": none) and the name of the link."""

    __slots__ = ("to", "gateway", "link")

    def __init__(self, to: str, gateway: str, link: str) -> None:
        self.to = to
        self.gateway = gateway
        self.link = link


class Links:
    """The standard library's backend, for the network namespace that it is made in. Every method
    raises SyscallError with the kernel's reason."""

    __slots__ = ("_socket",)

    def __init__(self) -> None:
        self._socket = netlink.Socket()

    def add_bridge(self, name: str, mac: str, mtu: int) -> None:
        """Make a bridge. mac: fixed, or it would change with the ports that come and go. mtu: 0
        for the kernel's, here and below."""
        self._add(f"bridge {name}", 0, _named(name, mac, mtu), _info(b"bridge"))

    def add_veth(
        self, name: str, bridge: str, peer: str, namespace: int, mac: str, mtu: int
    ) -> None:
        """Make a cable: `name` is a port of the bridge, and up; `peer`, which gets the MAC address,
        is born in another network namespace, of which this is a descriptor, and is still down."""
        inside = attribute(_IFLA_NET_NS_FD, struct.pack("I", namespace))
        other = attribute(_VETH_PEER, _LINK.pack(0, 0, 0, 0, 0), _named(peer, mac, mtu), inside)
        port = attribute(_IFLA_MASTER, struct.pack("I", self._index(bridge)))
        self._add(
            f"veth {name} on {bridge}, {peer} inside", _UP, _named(name, "", mtu), port,
            _info(b"veth", other),
        )  # fmt: skip

    def _add(self, text: str, up: int, *parts: bytes) -> None:
        body = _LINK.pack(0, 0, 0, up, up) + b"".join(parts)
        self._socket.ask(_NEWLINK, CREATE | EXCLUSIVE, body, text)

    def delete(self, name: str) -> bool:
        """Remove a link, with the other end of the cable; False when it is gone already."""
        try:
            self._socket.ask(_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _named(name), name)
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return False
        return True

    def set_up(self, name: str) -> None:
        """Switch a link on."""
        body = _LINK.pack(0, 0, 0, _UP, _UP) + _named(name)
        self._socket.ask(_NEWLINK, 0, body, f"{name} up")

    def is_up(self, name: str) -> bool:
        """Whether a link is switched on."""
        return bool(self._find(name)[3] & _UP)

    def set_hairpin(self, name: str) -> None:
        """Let a bridge send what came in by this port out by it again (bridge(8), hairpin)."""
        kind = attribute(_INFO_SLAVE_KIND, b"bridge")
        data = attribute(_INFO_SLAVE_DATA, attribute(_IFLA_BRPORT_MODE, b"\1"))
        body = _LINK.pack(0, 0, 0, 0, 0) + _named(name) + attribute(_IFLA_LINKINFO, kind + data)
        self._socket.ask(_NEWLINK, 0, body, f"{name} hairpin on")

    def add_address(self, name: str, address: str) -> None:
        """Give a link an address, ADDRESS/LENGTH. It can be used at once: of IPv6 the kernel would
        first ask for a second whether somebody has it, and we know that nobody does."""
        family, packed, length = _parse(address)
        body = _ADDRESS.pack(family, length, _IFA_F_NODAD, 0, self._index(name))
        for kind in (_IFA_LOCAL, _IFA_ADDRESS):
            body += attribute(kind, packed)
        self._socket.ask(_NEWADDR, CREATE | EXCLUSIVE, body, f"{address} on {name}")

    def add_route(self, to: str, gateway: str) -> None:
        """Send what is for `to` (ADDRESS/LENGTH) by way of a gateway that a link leads to."""
        family, packed, length = _parse(to)
        body = _ROUTE.pack(family, length, 0, 0, _MAIN, _BOOT, 0, _UNICAST, 0)
        if length:
            body += attribute(_RTA_DST, packed)
        body += attribute(_RTA_GATEWAY, _socket.inet_pton(family, gateway))
        self._socket.ask(_NEWROUTE, CREATE | EXCLUSIVE, body, f"{to} via {gateway}")

    def links(self) -> list[Link]:
        """All links."""
        answers = self._socket.ask(_GETLINK, DUMP, _LINK.pack(0, 0, 0, 0, 0), "all")
        return [_link(answer) for answer in answers]

    def addresses(self) -> list[tuple[str, str]]:
        """The (link's name, ADDRESS/LENGTH) of all addresses, IPv4 first."""
        names, found = self._names(), []
        for family in (_socket.AF_INET, _socket.AF_INET6):
            question = _ADDRESS.pack(family, 0, 0, 0, 0)
            for answer in self._socket.ask(_GETADDR, DUMP, question, "all"):
                version, length, _, _, index = _ADDRESS.unpack_from(answer)
                told = attributes(answer[_ADDRESS.size :])
                packed = told.get(_IFA_LOCAL) or told[_IFA_ADDRESS]
                address = f"{_socket.inet_ntop(version, packed)}/{length}"
                found.append((names.get(index, str(index)), address))
        return found

    def routes(self) -> list[Route]:
        """The routes of the main table, IPv4 first."""
        names, found = self._names(), []
        for family in (_socket.AF_INET, _socket.AF_INET6):
            question = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for answer in self._socket.ask(_GETROUTE, DUMP, question, "all"):
                version, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(answer)
                if table != _MAIN or kind != _UNICAST:
                    continue
                told = attributes(answer[_ROUTE.size :])
                nothing = bytes(16 if version == _socket.AF_INET6 else 4)
                to = _socket.inet_ntop(version, told.get(_RTA_DST, nothing))
                gateway = told.get(_RTA_GATEWAY)
                index = struct.unpack("I", told.get(_RTA_OIF, bytes(4)))[0]
                shown = _socket.inet_ntop(version, gateway) if gateway else ""
                found.append(Route(f"{to}/{length}", shown, names.get(index, "")))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _index(self, name: str) -> int:
        return int(self._find(name)[2])

    def _find(self, name: str) -> tuple[int, ...]:
        question = _LINK.pack(0, 0, 0, 0, 0) + _named(name)
        (answer,) = self._socket.ask(_GETLINK, ACK, question, name)
        return _LINK.unpack_from(answer)

    def _names(self) -> dict[int, str]:
        return {link.index: link.name for link in self.links()}


def inside(descriptor: int, opener: Callable[[], _T]) -> _T:
    """What `opener` opens in another network namespace: a socket stays where it was opened.

    descriptor: of the namespace, or a pidfd of a process in it. The caller is back at once; where
    it could not come back, since the way back wants power over the host's network, another thread
    goes, which ends there.
    """
    if users.is_mapped():
        return _in_a_thread(descriptor, opener)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(descriptor, flags.CLONE_NEWNET)
        try:
            return opener()
        finally:
            syscalls.setns(here, flags.CLONE_NEWNET)
    finally:
        os.close(here)


def _in_a_thread(descriptor: int, opener: Callable[[], _T]) -> _T:
    import _thread

    values: list[_T] = []
    errors: list[BaseException] = []
    running = _thread.allocate_lock()
    number = 0

    def enter() -> None:
        nonlocal number
        number = _thread.get_native_id()
        try:
            syscalls.setns(descriptor, flags.CLONE_NEWNET)
            values.append(opener())
        except BaseException as error:
            errors.append(error)
        finally:
            running.release()

    running.acquire()
    try:
        _thread.start_new_thread(enter, ())
    except RuntimeError as error:  # pthread_create(3): the user has as many as he may have
        raise OSError(EAGAIN, str(error)) from None
    running.acquire()
    # It lets go of the lock a few instructions before its end; and who has threads cannot clone.
    while os.path.exists(f"/proc/self/task/{number}"):
        os.sched_yield()
    if errors:
        raise errors[0]
    return values[0]


def _named(name: str, mac: str = "", mtu: int = 0) -> bytes:
    body = attribute(_IFLA_IFNAME, name.encode() + b"\0")
    if mac:
        body += attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    if mtu:
        body += attribute(_IFLA_MTU, struct.pack("I", mtu))
    return body


def _info(kind: bytes, data: bytes = b"") -> bytes:
    rest = attribute(_INFO_DATA, data) if data else b""
    return attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, kind), rest)


def _parse(text: str) -> tuple[int, bytes, int]:
    """The (family, packed address, length of the prefix) of ADDRESS/LENGTH."""
    address, _, length = text.partition("/")
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address), int(length)


def printable(name: str) -> str:
    """A link's name as it can be shown: nearly any byte may be in it, and in a container it is the
    container's choice."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _link(answer: bytes) -> Link:
    _, _, index, how, _ = _LINK.unpack_from(answer)
    told = attributes(answer[_LINK.size :])
    info = attributes(told.get(_IFLA_LINKINFO, b""))
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode()

    def number(kind: int) -> int:
        return int(struct.unpack("I", told.get(kind, bytes(4)))[0])

    return Link(
        index,
        printable(told[_IFLA_IFNAME].rstrip(b"\0").decode(errors="backslashreplace")),
        kind,
        ":".join(f"{octet:02x}" for octet in told.get(_IFLA_ADDRESS, b"")),
        number(_IFLA_MTU),
        bool(how & _UP),
        number(_IFLA_MASTER),
        number(_IFLA_LINK),
    )

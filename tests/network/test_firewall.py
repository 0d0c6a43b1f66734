"""The firewall: its text, and what the kernel makes of it, by real traffic between namespaces.

The lab: a host with an uplink to a neighbour `outside`, and three bridges: A with the containers
`a` and `b`, B with `c`, and an internal one with `d` and `e`. Everything is said twice where the
kernel shows bridged packets to the IP firewall too (br_netfilter), as beside docker.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.network import firewall, forwarding, nft
from tests.support.netns import Namespace

UDP = socket.SOCK_DGRAM
SCTP = 132
BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-ip{}tables"

NETWORKS: list[dict[str, Any]] = [
    {"bridge": "mc0", "internal": False,
     "subnets": [{"Subnet": "10.88.0.0/16"}, {"Subnet": "fd00:88::/64"}]},
    {"bridge": "mc1", "internal": False,
     "subnets": [{"Subnet": "10.89.0.0/24"}, {"Subnet": "fd00:89::/64"}]},
    {"bridge": "mc2", "internal": True, "subnets": [{"Subnet": "10.90.0.0/24"}]},
]  # fmt: skip


def endpoint(name: str, bridge: str, number: int, net: int, *, six: bool = True) -> dict[str, Any]:
    return {
        "bridge": bridge,
        "link": f"mc{name}",
        "mac": f"02:00:0a:{net:02x}:00:{number:02x}",
        "address4": f"10.{net}.0.{number}",
        "address6": f"fd00:{net}::{number}" if six else "",
    }


ENDPOINTS = {
    "a": endpoint("a", "mc0", 2, 88),
    "b": endpoint("b", "mc0", 3, 88),
    "c": endpoint("c", "mc1", 2, 89),
    "d": endpoint("d", "mc2", 2, 90, six=False),
    "e": endpoint("e", "mc2", 3, 90, six=False),
}
LENGTHS = {"mc0": 16, "mc1": 24, "mc2": 24}


def port(name: str, host: int, inner: int, proto: str = "tcp", ip: str = "") -> dict[str, Any]:
    return {
        "proto": proto, "hostIp": ip, "hostPort": host, "port": inner,
        "address4": ENDPOINTS[name]["address4"], "address6": ENDPOINTS[name]["address6"],
    }  # fmt: skip


PORTS = [
    port("a", 5001, 5000),
    port("b", 5002, 5000),
    port("c", 5003, 5000),
    port("a", 5001, 5000, "udp"),
    port("a", 5001, 5000, "sctp"),
    port("b", 5002, 5000, "udp"),
    port("c", 5003, 5000, "udp"),
    port("a", 5010, 5000, ip="127.0.0.1"),
    port("a", 5010, 5000, "udp", ip="127.0.0.1"),
    port("a", 5011, 5000, ip="192.0.2.1"),
    port("a", 5012, 5000, ip="2001:db8::1"),
    port("d", 5020, 5000, "udp"),
]

# ---------------------------------------------------------------------------------------- the text


@pytest.mark.host
def test_the_names_of_two_data_roots_differ() -> None:
    assert firewall.table("") == "minicontainer"
    assert firewall.table("0a1b2c") == "minicontainer_0a1b2c"
    assert "minicontainer_0a1b2c" in firewall.ruleset("0a1b2c", [], [], [])


@pytest.mark.host
def test_a_change_is_only_elements_and_its_removal_names_the_same() -> None:
    added = firewall.added("", [ENDPOINTS["a"]], PORTS[:1]).splitlines()
    removed = firewall.removed("", [ENDPOINTS["a"]], PORTS[:1]).splitlines()
    assert "add element inet minicontainer any4 { tcp . 5001 : 10.88.0.2 . 5000 }" in added
    assert "delete element inet minicontainer any4 { tcp . 5001 }" in removed
    # What is added first is the network's, and stays.
    assert [line.split()[3:5] for line in added[1:]] == [line.split()[3:5] for line in removed]


@pytest.mark.host
def test_loopback_is_left_to_the_relay() -> None:
    for ip in ("127.0.0.1", "127.3.2.1", "::1", "fe80::1"):
        assert firewall.added("", [], [port("a", 1, 1, ip=ip)]) == ""


@pytest.mark.host
def test_a_port_without_an_address_of_that_version_is_left_to_the_relay() -> None:
    only4 = {**port("a", 5001, 5000), "address6": ""}
    assert "any6" not in firewall.added("", [], [only4])
    assert firewall.added("", [], [{**only4, "hostIp": "2001:db8::1"}]) == ""


@pytest.mark.host
def test_the_link_local_address_is_the_kernels() -> None:
    assert firewall.link_local("02:00:0a:58:00:02") == "fe80::aff:fe58:2"  # RFC 4291: 00 <-> 02


# ---------------------------------------------------------------------------------- with a kernel


class Lab:
    """host, outside, and the containers a to e, each a namespace."""

    def __init__(self, stack: contextlib.ExitStack, *, bridged: bool) -> None:
        names = ["host", "outside", *ENDPOINTS]
        self.spaces = {name: stack.enter_context(Namespace()) for name in names}
        self.host, self.outside = self.spaces["host"], self.spaces["outside"]
        for space in self.spaces.values():
            for which in ("all", "default"):
                space.write(f"/proc/sys/net/ipv6/conf/{which}/accept_dad", "0")
            space.ip("link set lo up")
        for version in ("", "6"):
            path = BRIDGED.format(version)
            if Path(path).exists():
                self.host.write(path, str(int(bridged)))
        self._uplink()
        for network in NETWORKS:
            self._bridge(network)
        for name, values in ENDPOINTS.items():
            self._container(name, values)

    def _uplink(self) -> None:
        self.host.ip(
            f"link add up0 type veth peer name up0 netns {self.outside.pid}\n"
            "addr add 192.0.2.1/24 dev up0\naddr add 2001:db8::1/64 dev up0 nodad\n"
            "addr add 198.51.100.1/32 dev lo\n"
            "link set up0 up"
        )
        # A neighbour who knows the way to all that is behind us, and means no good.
        self.outside.ip(
            "addr add 192.0.2.2/24 dev up0\naddr add 2001:db8::2/64 dev up0 nodad\n"
            "link set up0 up\n"
            "route add 10.0.0.0/8 via 192.0.2.1\nroute add fd00::/16 via 2001:db8::1\n"
            "route add 198.51.100.1 via 192.0.2.1"
        )

    def _bridge(self, network: dict[str, Any]) -> None:
        name = network["bridge"]
        lines = [f"link add {name} address 02:00:00:00:00:{name[-1]}0 type bridge"]
        for subnet in network["subnets"]:
            base, _, length = subnet["Subnet"].partition("/")
            gateway = base + "1" if ":" in base else base[:-1] + "1"
            lines.append(f"addr add {gateway}/{length} dev {name}")
        self.host.ip("\n".join([*lines, f"link set {name} up"]))

    def _container(self, name: str, values: dict[str, Any]) -> None:
        link, bridge, space = values["link"], values["bridge"], self.spaces[name]
        net = values["address4"].split(".")[1]
        self.host.ip(
            f"link add {link} type veth peer name eth0 address {values['mac']} netns {space.pid}\n"
            f"link set {link} master {bridge} up\nlink set {link} type bridge_slave hairpin on"
        )
        text = f"addr add {values['address4']}/{LENGTHS[bridge]} dev eth0\nlink set eth0 up\n"
        text += f"route add default via 10.{net}.0.1\n"
        if values["address6"]:
            text += f"addr add {values['address6']}/64 dev eth0 nodad\n"
            text += f"route add default via fd00:{net}::1\n"
        space.ip(text)

    def apply(self, text: str) -> None:
        self.host.call(lambda: nft.apply(text))

    def add(self, stack: contextlib.ExitStack, name: str, **how: Any) -> socket.socket:
        """A service of a container: echo who asks (TCP by `answer`), or a UDP socket."""
        return stack.enter_context(self.spaces[name].listen("::", 5000, **how))


def ruleset(**how: Any) -> str:
    return firewall.ruleset("", NETWORKS, list(ENDPOINTS.values()), PORTS, **how)


@pytest.fixture(
    scope="module",
    params=[
        False,
        # The book's VM has no docker that would load the module.
        pytest.param(True, marks=[pytest.mark.needs("br-netfilter"), pytest.mark.host]),
    ],
    ids=["routed", "bridged"],
)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        lab = Lab(stack, bridged=request.param)
        state = tmp_path_factory.mktemp("forwarding") / "state"
        guard = lab.host.call(lambda: forwarding.enable(str(state)))
        assert sorted(guard) == ["ipv4", "ipv6"]
        lab.apply(ruleset(guard=guard))
        yield lab


def ask(lab: Lab, client: str, address: str, number: int, service: str, *, proto: int = 0) -> str:
    """Connect, and have the service of a container say whom it sees."""
    stream = socket.SOCK_STREAM
    listener = lab.spaces[service].listen("::", 5000, stream, proto)
    with listener, lab.spaces[client].connect(address, number, stream, proto) as connection:
        accepted, peer = listener.accept()
        with accepted:
            accepted.sendall(peer[0].removeprefix("::ffff:").encode())
        return connection.recv(100).decode()


def arrived(receiver: socket.socket) -> list[bytes]:
    """The datagrams that arrive up to the one that says "end"."""
    found = []
    while (data := receiver.recv(100)) != b"end":
        found.append(data)
    return found


def send(space: Namespace, data: bytes, address: str, number: int) -> None:
    with space.connect(address, number, UDP) as sender:
        sender.send(data)


rooted = [pytest.mark.root, pytest.mark.tools("nft", "ip"), pytest.mark.vm]


def traffic(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs the lab."""
    for mark in rooted:
        test = mark(test)
    return test


@traffic
@pytest.mark.parametrize(
    ("client", "address", "number", "service", "seen"),
    [
        ("outside", "192.0.2.1", 5001, "a", "192.0.2.2"),
        ("outside", "2001:db8::1", 5001, "a", "2001:db8::2"),
        ("outside", "198.51.100.1", 5001, "a", "192.0.2.2"),
        ("outside", "192.0.2.1", 5011, "a", "192.0.2.2"),
        ("outside", "2001:db8::1", 5012, "a", "2001:db8::2"),
        ("host", "192.0.2.1", 5001, "a", "192.0.2.1"),
        ("host", "10.89.0.1", 5001, "a", "10.89.0.1"),
        ("host", "2001:db8::1", 5001, "a", "2001:db8::1"),
        ("host", "10.88.0.2", 5000, "a", "10.88.0.1"),
        ("host", "10.90.0.2", 5000, "d", "10.90.0.1"),
        ("a", "10.88.0.3", 5000, "b", "10.88.0.2"),
        ("a", "fd00:88::3", 5000, "b", "fd00:88::2"),
        ("d", "10.90.0.3", 5000, "e", "10.90.0.2"),
        ("a", "192.0.2.1", 5002, "b", "10.88.0.1"),
        ("a", "10.88.0.1", 5002, "b", "10.88.0.1"),
        ("a", "2001:db8::1", 5002, "b", "fd00:88::1"),
        ("c", "192.0.2.1", 5001, "a", "10.88.0.1"),
        ("c", "10.89.0.1", 5001, "a", "10.88.0.1"),
        ("c", "2001:db8::1", 5001, "a", "fd00:88::1"),
        ("a", "192.0.2.1", 5001, "a", "10.88.0.1"),
        ("a", "10.88.0.1", 5001, "a", "10.88.0.1"),
        ("a", "2001:db8::1", 5001, "a", "fd00:88::1"),
        ("a", "192.0.2.2", 5000, "outside", "192.0.2.1"),
        ("a", "2001:db8::2", 5000, "outside", "2001:db8::1"),
    ],
)
def test_who_reaches_whom(
    lab: Lab, client: str, address: str, number: int, service: str, seen: str
) -> None:
    assert ask(lab, client, address, number, service) == seen


@traffic
@pytest.mark.needs("sctp")
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_sctp_too(lab: Lab, address: str) -> None:
    seen = address.removesuffix("1") + "2"
    assert ask(lab, "outside", address, 5001, "a", proto=SCTP) == seen


@traffic
@pytest.mark.parametrize(
    ("client", "address", "number"),
    [
        ("outside", "192.0.2.1", 5001),
        ("outside", "2001:db8::1", 5001),
        ("host", "192.0.2.1", 5001),
        ("b", "10.88.0.1", 5001),
        ("c", "192.0.2.1", 5001),
        ("a", "192.0.2.1", 5001),
    ],
)
def test_a_datagram_and_its_answer(lab: Lab, client: str, address: str, number: int) -> None:
    service = lab.spaces["a"].listen("::", 5000, UDP)
    with service, lab.spaces[client].connect(address, number, UDP) as asking:
        asking.send(b"question")
        data, peer = service.recvfrom(100)
        service.sendto(data[::-1], peer)
        assert asking.recv(100) == b"noitseuq"


@traffic
@pytest.mark.parametrize(
    ("client", "address", "number", "service"),
    [
        ("outside", "10.88.0.2", 5000, "a"),
        ("outside", "fd00:88::2", 5000, "a"),
        ("outside", "10.88.0.2", 5001, "a"),
        ("outside", "10.90.0.2", 5000, "d"),
        ("outside", "127.0.0.1", 5010, "a"),
        ("outside", "192.0.2.1", 5010, "a"),
        ("c", "10.88.0.2", 5000, "a"),
        ("c", "fd00:88::2", 5000, "a"),
        ("c", "10.89.0.1", 5010, "a"),
        ("a", "10.90.0.2", 5000, "d"),
        ("a", "192.0.2.1", 5020, "d"),
        ("outside", "192.0.2.1", 5020, "d"),
        ("d", "10.88.0.2", 5000, "a"),
        ("d", "192.0.2.1", 5001, "a"),
        ("d", "192.0.2.2", 5000, "outside"),
    ],
)
def test_who_does_not_reach_whom(
    lab: Lab, client: str, address: str, number: int, service: str
) -> None:
    if address == "127.0.0.1":
        # Routed to us on purpose, by a host that was told to let it out.
        lab.outside.write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")
        lab.host.write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")
        lab.outside.ip("route del local 127.0.0.0/8 table local")
        lab.outside.ip("route replace 127.0.0.1 via 192.0.2.1")
    with lab.spaces[service].listen("::", 5000, UDP) as receiver:
        try:
            send(lab.spaces[client], b"sneaked in", address, number)
        finally:
            if address == "127.0.0.1":
                lab.outside.ip("route del 127.0.0.1 via 192.0.2.1")
                lab.outside.ip("route add local 127.0.0.0/8 dev lo table local")
                lab.host.write("/proc/sys/net/ipv4/conf/all/route_localnet", "0")
        inner = ENDPOINTS[service]["address4"] if service in ENDPOINTS else "192.0.2.2"
        send(lab.host, b"end", inner, 5000)
        assert arrived(receiver) == []


@traffic
@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_the_hosts_loopback_is_left_to_who_listens_there(lab: Lab, address: str) -> None:
    with lab.host.listen("::", 5001) as listener, lab.host.connect(address, 5001):
        accepted, _ = listener.accept()
        accepted.close()


@traffic
def test_a_loopback_address_from_outside_reaches_no_service_of_the_host(lab: Lab) -> None:
    """CVE-2020-8558: with route_localnet, a neighbour speaks to what only listens on 127.0.0.1."""
    lab.host.write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")
    try:
        with lab.host.listen("127.0.0.1", 7000, UDP) as service:
            for name, link in (("outside", "up0"), ("a", "eth0")):
                address = "192.0.2.2" if name == "outside" else "10.88.0.2"
                mac = hardware(lab.host, "up0" if name == "outside" else "mc0")
                frame = udp(address, "127.0.0.1", 7000, b"from " + name.encode())
                own = hardware(lab.spaces[name], link)
                transmit(lab.spaces[name], link, mac + own + b"\x08\x00" + frame)
            send(lab.host, b"end", "127.0.0.1", 7000)
            assert arrived(service) == []
    finally:
        lab.host.write("/proc/sys/net/ipv4/conf/all/route_localnet", "0")


@traffic
def test_the_host_is_no_router_for_its_neighbours(lab: Lab) -> None:
    """It did not forward before us; a second neighbour shows that it still does not."""
    with Namespace() as other:
        other.ip("link set lo up")
        lab.host.ip(f"link add up1 type veth peer name up0 netns {other.pid}")
        lab.host.ip("addr add 203.0.113.1/24 dev up1\nlink set up1 up")
        other.ip(
            "addr add 203.0.113.2/24 dev up0\nlink set up0 up\nroute add default via 203.0.113.1"
        )
        lab.outside.ip("route add 203.0.113.0/24 via 192.0.2.1")
        with other.listen("0.0.0.0", 5000, UDP) as receiver:
            send(lab.outside, b"routed", "203.0.113.2", 5000)
            send(lab.host, b"end", "203.0.113.2", 5000)
            assert arrived(receiver) == []
            # It is the guard that keeps it so.
            lab.apply(ruleset())
            send(lab.outside, b"routed", "203.0.113.2", 5000)
            send(lab.host, b"end", "203.0.113.2", 5000)
            assert arrived(receiver) == [b"routed"]
        lab.apply(ruleset(guard=["ipv4", "ipv6"]))
        lab.outside.ip("route del 203.0.113.0/24 via 192.0.2.1")
        lab.host.ip("link del up1")


@traffic
def test_another_engines_bridge_is_not_ours_to_close(lab: Lab) -> None:
    with Namespace() as other:
        other.ip("link set lo up")
        lab.host.ip(
            "link add docker9 type bridge\naddr add 10.99.0.1/24 dev docker9\nlink set docker9 up\n"
            f"link add dv0 type veth peer name eth0 netns {other.pid}\n"
            "link set dv0 master docker9 up"
        )
        other.ip(
            "addr add 10.99.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.99.0.1"
        )
        lab.outside.ip("route add 10.99.0.0/24 via 192.0.2.1")
        with lab.outside.listen("0.0.0.0", 5000, UDP) as receiver:
            send(other, b"end", "192.0.2.2", 5000)
            assert arrived(receiver) == []
        lab.outside.ip("route del 10.99.0.0/24")
        lab.host.ip("link del docker9")


@traffic
def test_a_host_firewall_that_refuses_to_forward_is_not_overruled(lab: Lab) -> None:
    lab.apply(
        "table inet hostile { chain f { type filter hook forward priority 10; policy drop; }; }"
    )
    try:
        with lab.spaces["a"].listen("::", 5000, UDP) as receiver:
            send(lab.outside, b"through", "192.0.2.1", 5001)
            send(lab.host, b"end", "10.88.0.2", 5000)
            assert arrived(receiver) == []
    finally:
        lab.apply("delete table inet hostile")


# ------------------------------------------------------------------------------- forged addresses


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source: str, target: str, number: int, data: bytes) -> bytes:
    """An IPv4 packet."""
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    length = 28 + len(data)
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return head + struct.pack("!HHHH", 4000, number, 8 + len(data), 0) + data


def arp(mac: bytes, ip: str) -> bytes:
    """An answer that says: this address is at this adapter."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return head + mac + socket.inet_aton(ip) + bytes(6) + socket.inet_aton("10.88.0.3")


def six(source: str, next_header: int, data: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(
        socket.AF_INET6, "fd00:88::3"
    )
    return struct.pack("!IHBB", 6 << 28, len(data), next_header, 255) + ends + data


def neighbour(kind: int, source: str, target: str) -> bytes:
    """Neighbour discovery (RFC 4861): 134 router, 135 who has, 136 I have, 137 redirect."""
    return six(
        source,
        58,
        struct.pack("!BBHI", kind, 0, 0, 0x60000000) + socket.inet_pton(socket.AF_INET6, target),
    )


def hardware(space: Namespace, link: str) -> bytes:
    with space.open(socket.AF_PACKET, socket.SOCK_RAW, 0) as made:
        made.bind((link, 0))
        return bytes(made.getsockname()[4])


def transmit(space: Namespace, link: str, frame: bytes) -> None:
    with space.open(socket.AF_PACKET, socket.SOCK_RAW, 0) as made:
        made.bind((link, 0))
        made.send(frame.ljust(60, b"\0"))


A = bytes.fromhex("02000a580002")
B = bytes.fromhex("02000a580003")
GATEWAY = bytes.fromhex("020000000000")
IP, ARP, IP6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
VLAN = b"\x81\x00\x00\x00"  # number 0: whoever gets it takes the tag for none

OWN = {
    "IPv4": A + IP + udp("10.88.0.2", "10.88.0.3", 5, b"x"),
    "ARP": A + ARP + arp(A, "10.88.0.2"),
    "IPv6": A + IP6 + six("fd00:88::2", 59, b""),
    "link-local": A + IP6 + six("fe80::aff:fe58:2", 59, b""),
    "neighbour": A + IP6 + neighbour(136, "fd00:88::2", "fd00:88::2"),
    "neighbour asked": A + IP6 + neighbour(135, "fd00:88::2", "fd00:88::3"),
    "is it free": A + IP6 + neighbour(135, "::", "fe80::aff:fe58:2"),
}
FORGED = {
    "adapter": GATEWAY + IP + udp("10.88.0.2", "10.88.0.3", 5, b"x"),
    "IPv4": A + IP + udp("10.88.0.1", "10.88.0.3", 5, b"x"),
    "IPv4, none": A + IP + udp("0.0.0.0", "10.88.0.3", 5, b"x"),
    "IPv4, another's": A + IP + udp("10.89.0.2", "10.88.0.3", 5, b"x"),
    "IPv4 in a VLAN": A + VLAN + IP + udp("10.88.0.1", "10.88.0.3", 5, b"x"),
    "ARP, address": A + ARP + arp(A, "10.88.0.1"),
    "ARP, adapter": A + ARP + arp(GATEWAY, "10.88.0.2"),
    "ARP, frame": GATEWAY + ARP + arp(A, "10.88.0.2"),
    "IPv6": A + IP6 + six("fd00:88::1", 59, b""),
    "IPv6, none": A + IP6 + six("::", 59, b""),
    "IPv6, frame": GATEWAY + IP6 + six("fd00:88::2", 59, b""),
    "neighbour": A + IP6 + neighbour(136, "fd00:88::2", "fd00:88::1"),
    "neighbour, source": A + IP6 + neighbour(136, "fd00:88::1", "fd00:88::1"),
    "is it free": A + IP6 + neighbour(135, "::", "fd00:88::3"),
    "router": A + IP6 + neighbour(134, "fe80::aff:fe58:2", "::"),
    "redirect": A + IP6 + neighbour(137, "fe80::aff:fe58:2", "fd00:88::1"),
    "neighbour in a VLAN": A + VLAN + IP6 + neighbour(136, "fd00:88::2", "fd00:88::1"),
    "router in a VLAN": A + VLAN + IP6 + neighbour(134, "fe80::aff:fe58:2", "::"),
    "another protocol": A + b"\x88\xcc" + bytes(40),
}


def crosses(lab: Lab, frame: bytes) -> bool:
    """Whether a frame that `a` sends to `b` arrives there."""
    frame = B + frame
    with lab.spaces["b"].open(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as seen:
        seen.bind(("eth0", 3))
        transmit(lab.spaces["a"], "eth0", frame)
        transmit(lab.spaces["a"], "eth0", B + A + IP + udp("10.88.0.2", "10.88.0.3", 9, b"the end"))
        wanted = frame.replace(VLAN, b"")[12:]
        found = False
        while b"the end" not in (data := seen.recv(2000)):
            found = found or data[12 : 12 + len(wanted)] == wanted
        return found


@traffic
@pytest.mark.parametrize("what", OWN)
def test_a_container_sends_with_its_own_addresses(lab: Lab, what: str) -> None:
    assert crosses(lab, OWN[what])


@traffic
@pytest.mark.parametrize("what", FORGED)
def test_a_container_sends_with_no_others_address(lab: Lab, what: str) -> None:
    assert not crosses(lab, FORGED[what])


@traffic
def test_the_forged_frames_would_arrive_without_the_table(lab: Lab) -> None:
    """Or the test above would show nothing."""
    lab.apply("delete table bridge minicontainer")
    try:
        assert [what for what, frame in FORGED.items() if not crosses(lab, frame)] == []
    finally:
        lab.apply(ruleset(guard=["ipv4", "ipv6"]))


# ------------------------------------------------------------------------------------- the changes


@traffic
def test_a_container_comes_and_goes(lab: Lab) -> None:
    one, ports = ENDPOINTS["a"], [item for item in PORTS if item["address4"] == "10.88.0.2"]
    lab.apply(firewall.removed("", [one], ports))
    with pytest.raises(EngineError, match="No such file or directory"):
        lab.apply(firewall.removed("", [one], ports))
    # Nothing of `a` is left, and what it sends is nobody's.
    for words in (["list", "map", "inet", "minicontainer", "any4"],
                  ["list", "set", "bridge", "minicontainer", "claims6"]):  # fmt: skip
        assert "10.88.0.2" not in lab.host.run("nft", *words)
        assert "mca" not in lab.host.run("nft", *words)
    lab.apply(firewall.added("", [one], ports))
    assert ask(lab, "outside", "192.0.2.1", 5001, "a") == "192.0.2.2"
    assert crosses(lab, OWN["neighbour"])


@traffic
def test_a_port_that_is_another_containers_is_refused(lab: Lab) -> None:
    with pytest.raises(EngineError, match=r"cannot change the firewall: nft: .*File exists"):
        lab.apply(firewall.added("", [], [port("b", 5001, 5000)]))
    assert ask(lab, "outside", "192.0.2.1", 5001, "a") == "192.0.2.2"


@traffic
def test_the_whole_is_written_again_after_somebody_flushed_all(lab: Lab) -> None:
    lab.apply("flush ruleset")
    with pytest.raises(EngineError):
        lab.apply(firewall.added("", [ENDPOINTS["a"]], []))
    for _ in range(2):
        lab.apply(ruleset(guard=["ipv4", "ipv6"]))
    assert ask(lab, "outside", "192.0.2.1", 5001, "a") == "192.0.2.2"


@pytest.mark.host
def test_a_machine_without_nft_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(nft, "_PLACES", "")
    assert not nft.is_available()
    with pytest.raises(EngineError, match="no program nft") as caught:
        nft.apply("")
    assert "nftables" in str(caught.value.hint)

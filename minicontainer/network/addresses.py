"""Addresses: which network a bridge gets, and which address a container on it.

A subnet is a first address and the length of what all its addresses begin with (RFC 4632). The
first usable address is the gateway's, the others are the containers'. Nothing here is remembered:
who has an address says so in its state, and what is taken is counted when one is asked for.
"""

from __future__ import annotations

import _socket

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CHAPTER = 12


class Subnet:
    """A range of addresses: `10.88.0.0/16`. version: 4 or 6; first: its first address as a number;
    length: of the prefix, in bits."""

    __slots__ = ("version", "first", "length")

    def __init__(self, version: int, first: int, length: int) -> None:
        self.version = version
        self.first = first
        self.length = length

    @property
    def bits(self) -> int:
        """How many bits an address of a version has."""
        return 32 if self.version == 4 else 128

    @property
    def size(self) -> int:
        """How many addresses are in it."""
        return 1 << (self.bits - self.length)

    def address(self, number: int) -> str:
        """An address of it, counted from its first."""
        packed = (self.first + number).to_bytes(self.bits // 8, "big")
        return _socket.inet_ntop(_family(self.version), packed)

    def number(self, address: str) -> int | None:
        """Which of its addresses this is, counted from its first; None for one of another's."""
        version, value = parse(address)
        inside = version == self.version and 0 <= value - self.first < self.size
        return value - self.first if inside else None

    def has(self, address: str) -> bool:
        """Whether this is an address of it for one host: not the first, which is the subnet's own,
        nor the last of IPv4, which is for all at once."""
        number = self.number(address)
        last = self.size - 1 if self.version == 4 else self.size
        return number is not None and 0 < number < last

    def overlaps(self, other: Subnet) -> bool:
        """Whether they have an address in common."""
        return (
            self.version == other.version
            and self.first < other.first + other.size
            and other.first < self.first + self.size
        )

    def __str__(self) -> str:
        return f"{self.address(0)}/{self.length}"


def parse(address: str) -> tuple[int, int]:
    """The (version, number) of an address; EngineError when it is none."""
    version = 6 if ":" in address else 4
    try:
        return version, int.from_bytes(_socket.inet_pton(_family(version), address), "big")
    except (OSError, ValueError):
        raise EngineError(f"invalid address {address!r}") from None


def parse_subnet(text: str) -> Subnet:
    """A subnet from ADDRESS/LENGTH; EngineError when it is none, or has bits behind its prefix."""
    address, slash, length = text.partition("/")
    version, value = parse(address)
    bits = 32 if version == 4 else 128
    if not slash or length not in map(str, range(bits + 1)):
        raise EngineError(f"invalid subnet {text!r}: use ADDRESS/LENGTH")
    subnet = Subnet(version, value, int(length))
    if value % subnet.size:
        subnet.first -= value % subnet.size
        raise EngineError(f"invalid subnet {text!r}: it begins at {subnet}")
    return subnet


# Docker's (libnetwork, ipamutils): 16 bits of addresses each, then 12.
_POOL = [Subnet(4, (172 << 24) + (n << 16), 16) for n in range(17, 32)]
_POOL += [Subnet(4, (192 << 24) + (168 << 16) + (n << 12), 20) for n in range(16)]


def choose(taken: Iterable[Subnet]) -> Subnet:
    """The first subnet of the pool that nobody has. taken: of our networks and the host's routes;
    one of length 0, the default route, counts for nothing. EngineError when none is left."""
    used = [subnet for subnet in taken if subnet.length]
    for subnet in _POOL:
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise EngineError(
        "all predefined address pools have been fully subnetted",
        hint="give the network a subnet of its own: network create --subnet 10.1.0.0/16 …",
    )


def choose_local(random: bytes) -> Subnet:
    """An IPv6 subnet that nobody else has, as good as surely: of the local addresses, which are
    routed nowhere, by 40 random bits (RFC 4193, 3.1). random: 5 bytes."""
    return Subnet(6, int.from_bytes(b"\xfd" + random + bytes(10), "big"), 64)


def free(subnet: Subnet, taken: Iterable[str], start: int = 2) -> int:
    """The number of the first address from `start` on that nobody has; EngineError when there is
    none. The last of IPv4 is for all at once, the broadcast."""
    used = {subnet.number(address) for address in taken}
    last = subnet.size - (2 if subnet.version == 4 else 1)
    number = start
    while number <= last:
        if number not in used:
            return number
        number += 1
    raise EngineError(
        f"no available IPv{subnet.version} addresses on this network's address pool {subnet}"
    )


def hardware(address: str) -> str:
    """A MAC address out of an IPv4 address: locally administered, and as unique as that
    (IEEE 802, bit 2 of the first octet; docker's 02:42)."""
    packed = _socket.inet_pton(_socket.AF_INET, address)
    return "02:42:" + ":".join(f"{octet:02x}" for octet in packed)


def _family(version: int) -> int:
    return _socket.AF_INET6 if version == 6 else _socket.AF_INET

"""Addresses: the arithmetic of subnets, held against the standard library's `ipaddress`."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.network import addresses
from minicontainer.network.addresses import Subnet, parse_subnet

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@st.composite
def networks(draw: st.DrawFn, version: int | None = None) -> Network:
    address = draw(st.ip_addresses(v=version))
    length = draw(st.integers(0, address.max_prefixlen))
    return ipaddress.ip_network((address, length), strict=False)


# -------------------------------------------------------------------------------- reading and words


@given(st.ip_addresses())
def test_an_address_is_its_number(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert addresses.parse(str(address)) == (address.version, int(address))
    assert addresses.parse(address.exploded) == (address.version, int(address))


@pytest.mark.parametrize(
    "text",
    ["", "10", "10.1", "10.1.0.256", "10.1.0.1.1", "10.1.0.01x", " 10.1.0.1", "10.1.0.1\n", "x",
     "::1::", "fd00:::1", "fe80::1%eth0", "[::1]", ":", "10.1.0.1/24", "é", "\0", "10.1.0.1\0",
     "\udcff", "::\udcff"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(EngineError, match="invalid address"):
        addresses.parse(text)


@given(networks())
def test_a_subnet_is_read_and_written(network: Network) -> None:
    subnet = parse_subnet(str(network))
    assert (subnet.version, subnet.first) == (network.version, int(network.network_address))
    assert (subnet.length, subnet.size) == (network.prefixlen, network.num_addresses)
    assert ipaddress.ip_network(str(subnet)) == network


@given(st.ip_addresses(), st.integers(0, 128))
def test_bits_behind_the_prefix_are_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int
) -> None:
    assume(length < address.max_prefixlen)
    right = ipaddress.ip_network((address, length), strict=False)
    assume(right.network_address != address)
    with pytest.raises(EngineError) as caught:
        parse_subnet(f"{address}/{length}")
    assert ipaddress.ip_network(str(caught.value).split()[-1]) == right


@pytest.mark.parametrize(
    "text",
    ["10.1.0.0", "10.1.0.0/", "10.1.0.0/33", "10.1.0.0/-1", "10.1.0.0/x", "10.1.0.0/24/24",
     "10.1.0.0/255.255.0.0", "fd00::/129", "fd00::", "/24", "", "10.1.0.0/²", "10.1.0.0/٨",
     "10.1.0.0/ 24", "10.1.0.0/+24", "10.1.0.0/2_4", "10.1.0.0/" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_subnet(text: str) -> None:
    with pytest.raises(EngineError, match=r"invalid (subnet|address)"):
        parse_subnet(text)


@given(st.text("0123456789abf:./\0é²", max_size=24))
def test_anything_is_a_subnet_or_a_sentence(text: str) -> None:
    try:
        subnet = parse_subnet(text)
    except EngineError as error:
        assert str(error).startswith("invalid")
    else:
        assert ipaddress.ip_network(text) == ipaddress.ip_network(str(subnet))


# ------------------------------------------------------------------------------------ what is in it


@given(networks(), st.integers(0, 1 << 128))
def test_an_address_of_it_by_its_number(network: Network, number: int) -> None:
    subnet = parse_subnet(str(network))
    address = network[number % network.num_addresses]
    assert ipaddress.ip_address(subnet.address(number % subnet.size)) == address
    assert subnet.number(str(address)) == number % subnet.size


@given(networks(), st.ip_addresses())
def test_only_its_own_have_a_number(
    network: Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    assert (parse_subnet(str(network)).number(str(address)) is not None) == (address in network)


@pytest.mark.parametrize("text", ["10.1.0.0/24", "10.1.0.0/30", "fd00::/64", "fd00::/126"])
def test_its_neighbours_are_not_of_it(text: str) -> None:
    subnet, network = parse_subnet(text), ipaddress.ip_network(text)
    assert subnet.number(str(network[0])) == 0
    assert subnet.number(str(network[-1])) == subnet.size - 1
    assert subnet.number(str(network[0] - 1)) is None
    assert subnet.number(str(network[-1] + 1)) is None


@pytest.mark.parametrize(
    ("text", "has"),
    [
        # The first is the subnet's own; the last is for all at once, in IPv4.
        ("10.1.0.0/24", {*range(1, 255)}),
        ("10.1.0.0/30", {1, 2}),
        ("10.1.0.0/31", set()),
        ("10.1.0.0/32", set()),
        ("fd00::/120", {*range(1, 256)}),
        ("fd00::/126", {1, 2, 3}),
        ("fd00::/127", {1}),
        ("fd00::/128", set()),
    ],
)
def test_addresses_for_one_host(text: str, has: set[int]) -> None:
    subnet = parse_subnet(text)
    found = {number for number in range(subnet.size) if subnet.has(subnet.address(number))}
    assert found == has
    hosts = {int(each) - subnet.first for each in ipaddress.ip_network(text).hosts()}
    assert found <= hosts
    if subnet.length < subnet.bits - 1:
        assert found == hosts


@given(networks(), networks())
def test_two_overlap(one: Network, other: Network) -> None:
    wanted = one.version == other.version and one.overlaps(other)
    assert parse_subnet(str(one)).overlaps(parse_subnet(str(other))) == wanted


@given(networks(4), st.integers(0, 32))
def test_a_part_overlaps_its_whole(network: ipaddress.IPv4Network, length: int) -> None:
    """Two that are drawn at random nearly never do."""
    assume(length <= network.prefixlen)
    whole = parse_subnet(str(network.supernet(new_prefix=length)))
    part = parse_subnet(str(network))
    assert whole.overlaps(part)
    assert part.overlaps(whole)


# ----------------------------------------------------------------------------------- what is given


def test_the_first_that_is_free() -> None:
    subnet = parse_subnet("10.1.0.0/24")
    assert addresses.free(subnet, []) == 2
    assert addresses.free(subnet, ["10.1.0.2", "10.1.0.3", "10.1.0.5"]) == 4
    assert addresses.free(subnet, ["10.1.0.2"], start=1) == 1
    assert addresses.free(subnet, ["10.1.0.9"], start=9) == 10


@pytest.mark.parametrize(
    ("text", "last"), [("10.1.0.0/24", 254), ("10.1.0.0/30", 2), ("fd00::/120", 255)]
)
def test_the_last_that_is_free_and_none(text: str, last: int) -> None:
    subnet = parse_subnet(text)
    taken = [subnet.address(number) for number in range(2, last)]
    assert addresses.free(subnet, taken) == last
    with pytest.raises(EngineError, match=f"no available IPv{subnet.version} addresses") as caught:
        addresses.free(subnet, [*taken, subnet.address(last)])
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["10.1.0.0/31", "10.1.0.0/32", "fd00::/127", "fd00::/128"])
def test_a_subnet_with_room_for_the_gateway_alone(text: str) -> None:
    with pytest.raises(EngineError, match="no available"):
        addresses.free(parse_subnet(text), [])


def test_the_addresses_of_another_subnet_take_nothing() -> None:
    assert addresses.free(parse_subnet("10.1.0.0/24"), ["10.2.0.2", "fd00::2"]) == 2


@given(st.sets(st.integers(2, 14)))
def test_what_is_given_is_free_and_the_least(taken: set[int]) -> None:
    subnet = parse_subnet("10.1.0.0/28")
    left = set(range(2, 15)) - taken
    told = [subnet.address(number) for number in taken]
    if left:
        assert addresses.free(subnet, told) == min(left)
    else:
        with pytest.raises(EngineError):
            addresses.free(subnet, told)


def test_the_pool_is_dockers_and_used_in_its_order() -> None:
    taken: list[Subnet] = []
    while len(taken) < 31:
        taken.append(addresses.choose(taken))
    assert list(map(str, taken)) == [
        *(f"172.{number}.0.0/16" for number in range(17, 32)),
        *(f"192.168.{number}.0/20" for number in range(0, 256, 16)),
    ]
    with pytest.raises(EngineError, match="fully subnetted") as caught:
        addresses.choose(taken)
    assert "--subnet" in (caught.value.hint or "")
    assert str(addresses.choose(taken[:3] + taken[4:])) == str(taken[3])


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ("172.17.5.0/24", "172.18.0.0/16"),
        ("172.17.0.1/32", "172.18.0.0/16"),
        ("172.16.0.0/12", "192.168.0.0/20"),
        ("172.0.0.0/8", "192.168.0.0/20"),
        ("0.0.0.0/0", "172.17.0.0/16"),
        ("::/0", "172.17.0.0/16"),
        ("10.0.0.0/8", "172.17.0.0/16"),
    ],
)
def test_the_pool_keeps_out_of_what_is_taken(taken: str, chosen: str) -> None:
    assert str(addresses.choose([parse_subnet(taken)])) == chosen


@given(st.binary(min_size=5, max_size=5))
def test_a_local_subnet_is_of_those_that_anybody_may_have(random: bytes) -> None:
    network = ipaddress.ip_network(str(addresses.choose_local(random)))
    assert network.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert (network.prefixlen, network.network_address.packed[1:6]) == (64, random)


@given(st.ip_addresses(v=4))
def test_a_mac_address_is_local_and_of_one_adapter(address: ipaddress.IPv4Address) -> None:
    octets = bytes.fromhex(addresses.hardware(str(address)).replace(":", ""))
    assert octets == b"\x02\x42" + address.packed
    assert octets[0] & 3 == 2  # given by somebody on the spot, and not for a group


def test_no_mac_address_of_ipv6() -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        addresses.hardware("fd00::1")

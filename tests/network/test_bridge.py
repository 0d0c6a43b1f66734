"""Bridges and cables to containers, by both backends: what the kernel has, and that it carries."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import syscalls
from minicontainer.network import bridge
from tests.network.backends import BACKENDS, EACH, link, names, opened, shown
from tests.support.netns import Namespace

if TYPE_CHECKING:
    from minicontainer.network.links import Backend

T = TypeVar("T")

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.tools("ip")]

FOUR = {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}
SIX = {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1"}
ACCEPT_RA = "/proc/sys/net/ipv6/conf/br0/accept_ra"


class Host(Namespace):
    """A host with a backend."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        super().__init__()
        self.backend = backend

    def do(self, act: Callable[[Backend], T]) -> T:
        """Do something with links inside, in a thread of its own, which /proc/sys/net shows it."""

        def inside() -> T:
            links = self.backend()
            try:
                return act(links)
            finally:
                links.close()

        return self.call(inside)

    def create(self, *subnets: dict[str, str], mtu: int = 0) -> bool:
        network = {"bridge": "br0", "mtu": mtu, "subnets": subnets or (FOUR, SIX)}
        return self.do(lambda links: bridge.create(links, network))

    def plug(self, container: Namespace, **changes: Any) -> None:
        with (
            open(f"/proc/{container.pid}/ns/net") as file,
            opened(self, self.backend) as links,
            opened(container, self.backend) as inner,
        ):
            bridge.plug(links, inner, file.fileno(), endpoint(**changes))


@pytest.fixture(params=EACH)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host(BACKENDS[request.param]) as host:
        yield host


@pytest.fixture
def container() -> Iterator[Namespace]:
    with Namespace() as container:
        yield container


def endpoint(**changes: Any) -> dict[str, Any]:
    return {
        "link": "mc0", "bridge": "br0", "interface": "eth0", "mac": "02:42:0a:01:00:02",
        "mtu": 1500, "default": True,
        "address4": "10.1.0.2", "prefix4": 24, "gateway4": "10.1.0.1",
        "address6": "fd00:1::2", "prefix6": 64, "gateway6": "fd00:1::1", **changes,
    }  # fmt: skip


def addresses(space: Namespace, name: str) -> set[str]:
    """The addresses that somebody gave a link."""
    (found,) = shown(space, "address", "show", name)
    return {
        f"{each['local']}/{each['prefixlen']}"
        for each in found["addr_info"]
        if each["scope"] == "global"
    }


def ways_out(space: Namespace) -> list[str]:
    routes = shown(space, "-4", "route") + shown(space, "-6", "route")
    return [route["gateway"] for route in routes if route["dst"] == "default"]


# --------------------------------------------------------------------------------------- the bridge


def test_a_bridge_has_the_gateways_addresses_and_is_on(host: Host) -> None:
    assert host.create()
    found = link(host, "br0")
    assert "UP" in found["flags"]
    assert found["linkinfo"]["info_kind"] == "bridge"
    assert found["address"] == "02:42:0a:01:00:01"
    assert addresses(host, "br0") == {"10.1.0.1/24", "fd00:1::1/64"}
    host.listen("fd00:1::1", 5000).close()  # no duplicate of it is looked for


@pytest.mark.parametrize(("mtu", "has"), [(0, 1500), (1400, 1400), (9000, 9000)])
def test_the_mtu(host: Host, mtu: int, has: int) -> None:
    host.create(mtu=mtu)
    assert link(host, "br0")["mtu"] == has


def test_no_container_is_the_hosts_router(host: Host) -> None:
    """accept_ra: a router advertisement from the bridge would change the host's way out."""
    host.create()
    assert host.call(lambda: Path(ACCEPT_RA).read_text()) == "0\n"


def test_the_host_looks_for_its_containers_at_once(host: Host, container: Namespace) -> None:
    """Not after a second of looking for duplicates of the bridge's own link-local address."""
    host.create()
    host.plug(container)
    flags = [each for each in shown(host, "address", "show", "br0")[0]["addr_info"]]
    assert [each["local"] for each in flags if each.get("tentative")] == []
    assert any(each["scope"] == "link" for each in flags)


def test_a_bridge_that_is_there_stays_as_it_is(host: Host) -> None:
    assert host.create()
    before = link(host, "br0")["ifindex"]
    assert not host.create(FOUR, mtu=1400)
    found = link(host, "br0")
    assert (found["ifindex"], found["mtu"]) == (before, 1500)
    assert addresses(host, "br0") == {"10.1.0.1/24", "fd00:1::1/64"}


def test_a_bridge_half_made_is_made_anew(host: Host) -> None:
    """By somebody who was killed: it is there, and was never switched on."""
    host.ip("link add br0 type bridge\naddress add 10.9.0.1/24 dev br0")
    before = link(host, "br0")["ifindex"]
    assert host.create(mtu=1400)
    found = link(host, "br0")
    assert found["ifindex"] != before
    assert (found["mtu"], found["address"]) == (1400, "02:42:0a:01:00:01")
    assert "UP" in found["flags"]
    assert addresses(host, "br0") == {"10.1.0.1/24", "fd00:1::1/64"}


def test_a_bridge_that_somebody_switched_off_is_switched_on(
    host: Host, container: Namespace
) -> None:
    """And keeps who is on it. IPv6 addresses are lost with the switch."""
    host.create()
    host.plug(container)
    before = link(host, "br0")["ifindex"]
    host.ip("link set br0 down")
    assert addresses(host, "br0") == {"10.1.0.1/24"}
    assert not host.create()
    found = link(host, "br0")
    assert (found["ifindex"], "UP" in found["flags"]) == (before, True)
    assert addresses(host, "br0") == {"10.1.0.1/24", "fd00:1::1/64"}
    assert link(host, "mc0")["master"] == "br0"


@pytest.mark.parametrize("where", ["host", "container"])
def test_ipv6_that_is_switched_off_is_left_out(
    host: Host, container: Namespace, where: str
) -> None:
    off = host if where == "host" else container
    off.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
    off.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
    host.create()
    host.plug(container)
    space, name = (host, "br0") if where == "host" else (container, "eth0")
    assert len(addresses(space, name)) == 1
    assert ways_out(container)[0] == "10.1.0.1"
    host.listen("10.1.0.1", 5000).close()


@pytest.mark.parametrize("half", [False, True], ids=["new", "anew"])
def test_what_fails_in_the_middle_leaves_nothing(host: Host, half: bool) -> None:
    if half:
        host.ip("link add br0 type bridge")
    host.ip("link add lan type veth peer name other\naddress add 10.1.0.9/25 dev lan")
    host.ip("link set lan up")
    with pytest.raises(EngineError) as caught:
        host.create()
    assert str(caught.value) == (
        "the network's subnet 10.1.0.0/24 is in use: lan leads to 10.1.0.0/25"
    )
    assert names(host) == {"lo", "lan", "other"}
    host.ip("address del 10.1.0.9/25 dev lan\naddress add 10.1.0.9/23 dev lan")
    assert host.create()  # a wider one leads there too, but less directly


def test_a_bridge_that_cannot_be_is_not_left_over(host: Host) -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        host.create(mtu=5)
    assert (caught.value.errno, caught.value.hint) == (
        errno.EINVAL,
        "mtu less than device minimum",
    )
    assert names(host) == {"lo"}


# ---------------------------------------------------------------------------------------- the cable


def test_a_cable_leads_to_the_container(host: Host, container: Namespace) -> None:
    host.create(mtu=1400)
    host.plug(container, mtu=1400)
    inner = link(container, "eth0")
    assert (inner["address"], inner["mtu"]) == ("02:42:0a:01:00:02", 1400)
    assert "UP" in inner["flags"]
    assert addresses(container, "eth0") == {"10.1.0.2/24", "fd00:1::2/64"}
    assert ways_out(container) == ["10.1.0.1", "fd00:1::1"]
    outer = link(host, "mc0")
    assert (outer["master"], outer["mtu"]) == ("br0", 1400)
    # It is wanted where the IP firewall sees bridged packets, as it does beside docker.
    hairpin = outer["linkinfo"]["info_slave_data"]["hairpin"]
    assert hairpin == os.path.isdir("/proc/sys/net/bridge")


@pytest.mark.parametrize("there", [False, True])
def test_a_hairpin_where_bridged_packets_are_filtered(
    host: Host, container: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(bridge, "_BRIDGED", str(tmp_path if there else tmp_path / "none"))
    host.create()
    host.plug(container)
    assert link(host, "mc0")["linkinfo"]["info_slave_data"]["hairpin"] == there


@pytest.mark.parametrize(
    ("mine", "gateway"), [("10.1.0.2", "10.1.0.1"), ("fd00:1::2", "fd00:1::1")]
)
def test_what_is_plugged_in_carries_at_once(
    host: Host, container: Namespace, mine: str, gateway: str
) -> None:
    host.create()
    host.plug(container)
    with host.listen(gateway, 5000) as server, container.connect(gateway, 5000) as client:
        served, (peer, *_) = server.accept()
        served.close()
        assert client.recv(1) == b""
    assert peer == mine


def test_two_containers_reach_each_other(host: Host, container: Namespace) -> None:
    host.create()
    host.plug(container)
    with Namespace() as other:
        host.plug(
            other, link="mc1", mac="02:42:0a:01:00:03", address4="10.1.0.3", address6="fd00:1::3"
        )
        for address in ("10.1.0.3", "fd00:1::3"):
            with other.listen(address, 5000), container.connect(address, 5000):
                pass


def test_a_second_adapter_has_no_way_out(host: Host, container: Namespace) -> None:
    host.create()
    host.plug(container, default=False)
    assert addresses(container, "eth0") == {"10.1.0.2/24", "fd00:1::2/64"}
    assert ways_out(container) == []


def test_an_internal_network_has_no_gateway(host: Host, container: Namespace) -> None:
    host.create()
    host.plug(container, gateway4="", gateway6="")
    assert ways_out(container) == []


@pytest.mark.parametrize(
    ("without", "left", "way"),
    [("4", "fd00:1::2/64", "fd00:1::1"), ("6", "10.1.0.2/24", "10.1.0.1")],
)
def test_a_network_of_one_version(
    host: Host, container: Namespace, without: str, left: str, way: str
) -> None:
    host.create()
    host.plug(container, **{f"address{without}": "", f"gateway{without}": ""})
    assert addresses(container, "eth0") == {left}
    assert ways_out(container) == [way]


def test_a_link_that_somebody_has_is_not_taken(host: Host, container: Namespace) -> None:
    host.create()
    host.plug(container)
    with Namespace() as other:
        with pytest.raises(syscalls.SyscallError) as caught:
            host.plug(other)
        assert (caught.value.errno, names(other)) == (errno.EEXIST, {"lo"})
    assert names(container) == {"lo", "eth0"}

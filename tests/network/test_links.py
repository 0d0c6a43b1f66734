"""Links, addresses and routes, by both backends: what the kernel then holds, ip(8) says.

Each test has a host of its own, a network namespace; what is made in it goes with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import syscalls
from minicontainer.network import links as stdlib
from minicontainer.network import links_pyroute2
from minicontainer.network.links import inside
from tests.network.backends import BACKENDS, EACH, link, names, opened, shown
from tests.support.netns import Namespace

if TYPE_CHECKING:
    from minicontainer.network.links import Backend

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.tools("ip")]

MAC = "02:42:0a:01:00:01"
OTHER_MAC = "02:42:0a:01:00:02"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as host:
        yield host


@pytest.fixture
def container() -> Iterator[Namespace]:
    with Namespace() as container:
        yield container


@pytest.fixture(params=EACH)
def links(request: pytest.FixtureRequest, host: Namespace) -> Iterator[Backend]:
    with opened(host, BACKENDS[request.param]) as links:
        yield links


def cable(
    links: Backend, container: Namespace, name: str = "mc0", peer: str = "eth0", mtu: int = 1400
) -> None:
    with open(f"/proc/{container.pid}/ns/net") as namespace:
        links.add_veth(name, "br0", peer, namespace.fileno(), OTHER_MAC, mtu)


@contextlib.contextmanager
def refused(number: int, *words: str) -> Iterator[Any]:
    """What the kernel refuses is a SyscallError with its number, which names what was asked."""
    with pytest.raises(syscalls.SyscallError) as caught:
        yield caught
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]
    assert os.strerror(number) in str(caught.value)
    assert not [word for word in words if word not in str(caught.value)]


# ------------------------------------------------------------------------------- bridges and cables


def test_a_bridge_is_made_and_is_still_off(host: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 1400)
    found = link(host, "br0")
    assert found["linkinfo"]["info_kind"] == "bridge"
    assert (found["address"], found["mtu"]) == (MAC, 1400)
    assert "UP" not in found["flags"]
    assert not links.is_up("br0")


def test_a_bridge_keeps_its_mac_address(
    host: Namespace, container: Namespace, links: Backend
) -> None:
    """A bridge without one of its own takes the lowest of its ports'."""
    host.ip("link add low address 02:00:00:00:00:01 type veth peer name other")
    links.add_bridge("br0", MAC, 1500)
    host.ip("link set low master br0")
    assert link(host, "br0")["address"] == MAC


def test_a_link_is_switched_on(host: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 1500)
    links.set_up("br0")
    assert "UP" in link(host, "br0")["flags"]
    assert links.is_up("br0")
    links.set_up("br0")


def test_a_cable_leads_from_the_bridge_into_the_namespace(
    host: Namespace, container: Namespace, links: Backend
) -> None:
    links.add_bridge("br0", MAC, 1400)
    cable(links, container)
    outer, inner = link(host, "mc0"), link(container, "eth0")
    assert outer["linkinfo"]["info_kind"] == inner["linkinfo"]["info_kind"] == "veth"
    assert (outer["master"], outer["mtu"]) == ("br0", 1400)
    assert (inner["address"], inner["mtu"]) == (OTHER_MAC, 1400)
    assert "UP" in outer["flags"]
    assert "UP" not in inner["flags"]
    assert (outer["link_index"], inner["link_index"]) == (inner["ifindex"], outer["ifindex"])
    assert (names(host), names(container)) == ({"lo", "br0", "mc0"}, {"lo", "eth0"})


def test_an_mtu_of_0_is_the_kernels(host: Namespace, container: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 0)
    cable(links, container, mtu=0)
    assert [link(host, name)["mtu"] for name in ("br0", "mc0")] == [1500, 1500]
    assert link(container, "eth0")["mtu"] == 1500


def test_a_cable_goes_with_either_end(
    host: Namespace, container: Namespace, links: Backend
) -> None:
    links.add_bridge("br0", MAC, 1400)
    cable(links, container)
    assert links.delete("mc0")
    assert (names(host), names(container)) == ({"lo", "br0"}, {"lo"})
    cable(links, container)
    container.ip("link delete eth0")
    assert names(host) == {"lo", "br0"}
    assert not links.delete("mc0")


def test_a_bridge_goes_and_leaves_its_ports(
    host: Namespace, container: Namespace, links: Backend
) -> None:
    links.add_bridge("br0", MAC, 1400)
    cable(links, container)
    assert links.delete("br0")
    assert "master" not in link(host, "mc0")
    assert not links.delete("br0")


def test_a_port_is_a_hairpin(host: Namespace, container: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 1400)
    cable(links, container)
    assert not link(host, "mc0")["linkinfo"]["info_slave_data"]["hairpin"]
    links.set_hairpin("mc0")
    assert link(host, "mc0")["linkinfo"]["info_slave_data"]["hairpin"]


def test_a_name_that_is_taken(host: Namespace, container: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 1500)
    with refused(errno.EEXIST, "br0"):
        links.add_bridge("br0", OTHER_MAC, 1400)
    assert (link(host, "br0")["address"], link(host, "br0")["mtu"]) == (MAC, 1500)
    cable(links, container)
    with refused(errno.EEXIST, "mc0"):
        cable(links, container, peer="eth1")
    with refused(errno.EEXIST, "mc1"):
        cable(links, container, name="mc1")
    assert (names(host), names(container)) == ({"lo", "br0", "mc0"}, {"lo", "eth0"})


def test_a_bridge_that_is_not_there(host: Namespace, container: Namespace, links: Backend) -> None:
    with refused(errno.ENODEV, "br0"):
        cable(links, container)
    assert (names(host), names(container)) == ({"lo"}, {"lo"})


def test_a_link_that_is_not_there(links: Backend) -> None:
    for act in (links.set_up, links.is_up, links.set_hairpin):
        with refused(errno.ENODEV, "gone"):
            act("gone")
    for address in ("10.1.0.1/24", "fd00::1/64"):
        with refused(errno.ENODEV, "gone"):
            links.add_address("gone", address)


def test_a_link_that_is_no_port_is_no_hairpin(links: Backend) -> None:
    links.add_bridge("br0", MAC, 1500)
    with refused(errno.EOPNOTSUPP, "br0"):
        links.set_hairpin("br0")


def test_a_descriptor_that_is_no_namespace(host: Namespace, links: Backend) -> None:
    links.add_bridge("br0", MAC, 1500)
    with open(os.devnull) as null, refused(errno.EINVAL, "mc0"):
        links.add_veth("mc0", "br0", "eth0", null.fileno(), MAC, 1500)
    with refused(errno.EBADF, "mc0"):
        links.add_veth("mc0", "br0", "eth0", 1 << 20, MAC, 1500)
    assert names(host) == {"lo", "br0"}


def test_a_name_of_fifteen_letters_is_the_longest(
    host: Namespace, container: Namespace, links: Backend
) -> None:
    links.add_bridge("b" * 15, MAC, 1500)
    with refused(errno.ERANGE, "b" * 16):
        links.add_bridge("b" * 16, MAC, 1500)
    links.add_bridge("br0", MAC, 1400)
    cable(links, container, "m" * 15, "e" * 15)
    with refused(errno.ERANGE, "m" * 16):
        cable(links, container, "m" * 16)
    with refused(errno.ERANGE, "e" * 16):
        cable(links, container, peer="e" * 16)
    assert names(host) == {"lo", "br0", "b" * 15, "m" * 15}
    assert names(container) == {"lo", "e" * 15}


def test_a_link_that_cannot_be_removed(host: Namespace, links: Backend) -> None:
    with refused(errno.EOPNOTSUPP, "lo"):
        links.delete("lo")
    assert names(host) == {"lo"}


def test_what_the_kernel_says_beside_the_number_is_the_hint(
    host: Namespace, links: Backend
) -> None:
    with refused(errno.EINVAL, "br0") as caught:
        links.add_bridge("br0", MAC, 5)
    assert caught.value.hint == "mtu less than device minimum"
    with refused(errno.ENODEV) as caught:
        links.set_up("gone")
    assert caught.value.hint is None


# ----------------------------------------------------------------------------- addresses and routes


def ready(links: Backend, *addresses: str) -> None:
    """A bridge with addresses, on."""
    links.add_bridge("br0", MAC, 1500)
    for address in addresses:
        links.add_address("br0", address)
    links.set_up("br0")


@pytest.mark.parametrize("address", ["10.1.0.1/24", "10.1.0.1/32", "10.1.0.0/31", "fd00:1::1/64"])
def test_an_address(host: Namespace, links: Backend, address: str) -> None:
    ready(links, address)
    (found,) = shown(host, "address", "show", "br0")
    version = "inet6" if ":" in address else "inet"
    (told,) = [a for a in found["addr_info"] if a["family"] == version and a["scope"] == "global"]
    assert f"{told['local']}/{told['prefixlen']}" == address
    assert not told.get("tentative")
    assert not told.get("broadcast")


def test_an_ipv6_address_answers_at_once(host: Namespace, links: Backend) -> None:
    """One that is still asked about (tentative) cannot be bound; the bridge has no port yet."""
    ready(links, "fd00:1::1/64")
    host.listen("fd00:1::1", 5000).close()


@pytest.mark.parametrize("address", ["10.1.0.1/24", "fd00:1::1/64"])
def test_an_address_twice(host: Namespace, links: Backend, address: str) -> None:
    ready(links, address)
    with refused(errno.EEXIST, address.partition("/")[0]):
        links.add_address("br0", address)


@pytest.mark.parametrize(
    ("version", "address", "gateway", "to", "everywhere"),
    [
        ("-4", "10.1.0.2/24", "10.1.0.1", "10.9.0.0/16", "0.0.0.0/0"),
        ("-6", "fd00:1::2/64", "fd00:1::1", "fd00:9::/48", "::/0"),
    ],
)
def test_routes(
    host: Namespace, links: Backend, version: str, address: str, gateway: str, to: str,
    everywhere: str,
) -> None:  # fmt: skip
    ready(links, address)
    links.add_route(to, gateway)
    links.add_route(everywhere, gateway)
    found = {
        route["dst"]: (route["gateway"], route["dev"])
        for route in shown(host, version, "route")
        if "gateway" in route
    }
    assert found == {to: (gateway, "br0"), "default": (gateway, "br0")}
    with refused(errno.EEXIST, to):
        links.add_route(to, gateway)
    told = {(route.to, route.gateway, route.link) for route in links.routes()}
    assert {(to, gateway, "br0"), (everywhere, gateway, "br0")} <= told


@pytest.mark.parametrize(
    ("address", "to", "gateway", "number"),
    [
        ("10.1.0.2/24", "0.0.0.0/0", "10.2.0.1", errno.ENETUNREACH),
        ("fd00:1::2/64", "::/0", "fd00:2::1", errno.EHOSTUNREACH),
    ],
)
def test_a_gateway_that_no_link_leads_to(
    links: Backend, address: str, to: str, gateway: str, number: int
) -> None:
    ready(links, address)
    with refused(number, gateway):
        links.add_route(to, gateway)


# ------------------------------------------------------------------------------------ what is there

# Without link-local addresses, which the kernel makes in its own time.
SCENE = """
link set lo up
link add br0 address 02:00:00:00:00:01 mtu 1400 type bridge
link add v0 type veth peer name v1
link set br0 addrgenmode none
link set v0 addrgenmode none
link set v1 addrgenmode none
link set v0 master br0 up
link set v1 up
link set br0 up
address add 10.1.0.1/24 dev br0
address add 10.2.0.1 peer 10.2.0.2/32 dev v1
address add fd00:1::1/64 dev br0 nodad
route add default via 10.1.0.9
route add 10.9.0.0/16 via 10.1.0.8
route add blackhole 10.10.0.0/16
route add 10.11.0.0/16 via 10.1.0.7 table 77
route add ::/0 via fd00:1::9
route add fd00:9::/48 dev v1
"""


def test_links_are_what_ip_shows(host: Namespace, links: Backend) -> None:
    host.ip(SCENE)
    found = shown(host, "link")
    index = {each["ifname"]: each["ifindex"] for each in found}
    assert [
        (one.index, one.name, one.kind, one.mac, one.mtu, one.up, one.master, one.peer)
        for one in links.links()
    ] == [
        (
            each["ifindex"], each["ifname"], each.get("linkinfo", {}).get("info_kind", ""),
            each["address"], each["mtu"], "UP" in each["flags"],
            index.get(each.get("master"), 0), index.get(each.get("link"), 0),
        )
        for each in found
    ]  # fmt: skip


def test_addresses_are_what_ip_shows(host: Namespace, links: Backend) -> None:
    host.ip(SCENE)
    found = [
        (each["ifname"], f"{address['local']}/{address['prefixlen']}", address["family"])
        for each in shown(host, "address")
        for address in each["addr_info"]
    ]
    # By version, and each in the order of the links.
    wanted = [each[:2] for each in sorted(found, key=lambda each: each[2])]
    assert links.addresses() == wanted
    assert ("v1", "10.2.0.1/32") in wanted


def test_routes_are_the_main_tables_that_lead_somewhere(host: Namespace, links: Backend) -> None:
    host.ip(SCENE)
    told = {(route.to, route.gateway, route.link) for route in links.routes()}
    assert told == {
        ("0.0.0.0/0", "10.1.0.9", "br0"),
        ("10.9.0.0/16", "10.1.0.8", "br0"),
        ("10.1.0.0/24", "", "br0"),
        ("10.2.0.2/32", "", "v1"),
        ("::/0", "fd00:1::9", "br0"),
        ("fd00:1::/64", "", "br0"),
        ("fd00:9::/48", "", "v1"),
    }
    assert [":" in route.to for route in links.routes()] == [False] * 4 + [True] * 3


def test_an_empty_namespace(links: Backend) -> None:
    (only,) = links.links()
    assert (only.name, only.kind, only.mac, only.up) == ("lo", "", "00:00:00:00:00:00", False)
    assert links.addresses() == []
    assert links.routes() == []


def test_more_than_one_message_holds(host: Namespace, links: Backend) -> None:
    """The kernel puts at most 32 KiB into one: 400 addresses, or 20 links."""
    addresses = [f"10.{number // 200}.{number % 200}.1/32" for number in range(1000)]
    host.ip(
        "link add v0 type veth peer name v1\n"
        + "".join(f"link add a{number} type veth peer name b{number}\n" for number in range(30))
        + "".join(f"address add {address} dev v0\n" for address in addresses)
        + "".join(f"address add fd00::{n:x}/128 dev v1 nodad\n" for n in range(1, 601))
    )
    assert len(links.links()) == 63
    told = links.addresses()
    assert [address for name, address in told if name == "v0"] == addresses
    assert {address for name, address in told if name == "v1"} == {
        f"fd00::{number:x}/128" for number in range(1, 601)
    }
    assert len(told) == 1600


def test_a_link_that_is_newer_than_the_names(
    host: Namespace, links: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or older: names and addresses are two questions."""
    host.ip(SCENE)
    monkeypatch.setattr(type(links), "_names", lambda _: {})
    index = str(link(host, "v1")["ifindex"])
    assert (index, "10.2.0.1/32") in links.addresses()
    assert {route.link for route in links.routes()} == {""}


@pytest.mark.host
def test_links_that_go_while_they_are_listed(host: Namespace, links: Backend) -> None:
    """Who stays is told, each time and once."""
    stay = {f"s{number}" for number in range(40)}
    host.ip("".join(f"link add {name} type veth peer name {name}x\n" for name in sorted(stay)))
    ended = threading.Event()

    def come_and_go() -> None:
        churn = "link add go type veth peer name gox\naddress add 10.1.0.1/24 dev go\nlink del go\n"
        while not ended.is_set():
            host.ip(churn * 10)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(10):
            told = [one.name for one in links.links() if one.name in stay]
            assert sorted(told) == sorted(stay)
            links.addresses()
            links.routes()
    finally:
        ended.set()
        thread.join()


# ------------------------------------------------------------------------------ another's namespace


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_inside_is_elsewhere_and_back(host: Namespace) -> None:
    before = here()
    pidfd = os.pidfd_open(host.pid)
    try:
        assert inside(pidfd, here) == os.readlink(f"/proc/{host.pid}/ns/net") != before
        assert here() == before
        with pytest.raises(ZeroDivisionError):
            inside(pidfd, lambda: 1 // 0)
        assert here() == before
    finally:
        os.close(pidfd)


def test_inside_something_else(host: Namespace) -> None:
    called: list[None] = []
    before = here()
    with open(os.devnull) as null, refused(errno.EINVAL, "setns"):
        inside(null.fileno(), lambda: called.append(None))
    assert (called, here()) == ([], before)


# ----------------------------------------------------------------------------------- pyroute2's own


def test_pyroute2_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    monkeypatch.setattr("site.main", lambda: None)
    with pytest.raises(EngineError) as caught:
        links_pyroute2.Links()
    assert "\n" not in caught.value.message
    assert "minicontainer[net]" in (caught.value.hint or "")


def test_pyroute2_is_found_where_the_launcher_leaves_libraries_off(host: Namespace) -> None:
    """bin/minicontainer runs with -I and -S."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(stdlib.__file__).parents[2])!r})\n"
        "from minicontainer.network.links_pyroute2 import Links\n"
        "links = Links()\nprint(*[one.name for one in links.links()])\nlinks.close()\n"
    )
    assert host.run(sys.executable, "-IS", "-c", program) == "lo\n"


def test_pyroute2_in_another_thread_is_refused(host: Namespace) -> None:
    """It would speak to that thread's network namespace, and not to the one it was opened in."""
    with opened(host, links_pyroute2.Links) as links, pytest.raises(RuntimeError, match="thread"):
        host.call(lambda: links.add_bridge("br0", MAC, 1500))
    assert names(host) == {"lo"}


def test_pyroute2_that_complains_of_a_change_is_asked_again(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's says that a list is not of one moment; from 0.9 on it does not."""
    with opened(host, links_pyroute2.Links) as links:
        assert isinstance(links, links_pyroute2.Links)
        ask, refusals = links._route.get_links, [links._library.NetlinkDumpInterrupted()] * 2

        def get_links() -> Any:
            if refusals:
                raise refusals.pop()
            return ask()

        monkeypatch.setattr(links._route, "get_links", get_links)
        assert [one.name for one in links.links()] == ["lo"]


def test_a_trace_tells_of_both(
    links: Backend, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []

    def tell(call: str, result: str, _: float) -> None:
        told.append((call, result))

    monkeypatch.setattr(syscalls, "trace", tell)
    links.add_bridge("br0", MAC, 1500)
    links.links()
    (made, _), (listed, number) = told
    backend = request.node.callspec.params["links"]
    assert made.startswith(
        {"stdlib": "netlink(RTM_NEWLINK, ", "pyroute2": "IPRoute.link("}[backend]
    )
    assert "br0" in made
    assert number == "2"
    assert "get" in listed.lower()

"""A bridge for containers: a switch in the kernel, with the host's own address on it.

The bridge is a switch and the host's adapter at that switch in one. Its address is the
containers' gateway: what is not for their own network they send there, and the host passes it on.
"""

from __future__ import annotations

import os
from errno import EACCES, EEXIST, EHOSTUNREACH

from ..errors import EngineError
from . import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .links import Backend

CHAPTER = 12

MTU = 1500
_SETTINGS = "/proc/sys/net/ipv6/conf"
# There while br_netfilter is loaded (it comes with docker): the IP firewall then sees what only
# crosses a bridge, and a translated address is one more thing that the bridge itself acts on.
_BRIDGED = "/proc/sys/net/bridge"


def create(links: Backend, network: Mapping[str, Any]) -> bool:
    """Make a network's bridge with the gateways' addresses, and switch it on; False when it is
    there already. network: "bridge", "mtu", and "subnets", each a "Subnet" and a "Gateway".

    It is switched on last: one that is not was left by somebody who was killed, and is made anew;
    unless containers are on it, and it was somebody else who switched it off. EngineError when
    another link leads to its addresses by now.
    """
    name, subnets = network["bridge"], network["subnets"]
    mac = addresses.hardware(subnets[0]["Gateway"])
    try:
        links.add_bridge(name, mac, network["mtu"] or MTU)
    except OSError as error:
        if error.errno != EEXIST:
            raise
        if links.is_up(name):
            return False
        if _has_ports(links, name):
            _switch_on(links, name, subnets)
            return False
        links.delete(name)
        links.add_bridge(name, mac, network["mtu"] or MTU)
    try:
        _refuse_others(links, subnets)
        _set_up_ipv6(name)
        _switch_on(links, name, subnets)
    except BaseException:
        links.delete(name)
        raise
    return True


def _has_ports(links: Backend, name: str) -> bool:
    there = links.links()
    index = next((link.index for link in there if link.name == name), 0)
    return any(link.master == index for link in there)


def _switch_on(links: Backend, name: str, subnets: Sequence[Mapping[str, str]]) -> None:
    for subnet in subnets:
        _add_address(links, name, f"{subnet['Gateway']}/{subnet['Subnet'].partition('/')[2]}")
    links.set_up(name)


def _add_address(links: Backend, name: str, address: str) -> None:
    """As `add_address`; nothing happens where it has the address, or where IPv6 is switched off."""
    try:
        links.add_address(name, address)
    except OSError as error:
        if error.errno != EEXIST and not (error.errno == EACCES and ":" in address):
            raise


def _refuse_others(links: Backend, subnets: Sequence[Mapping[str, str]]) -> None:
    """They were free when the network was defined; a VPN or another engine may have come since."""
    own = [addresses.parse_subnet(subnet["Subnet"]) for subnet in subnets]
    for route in links.routes():
        to = addresses.parse_subnet(route.to)
        for subnet in own:
            # A wider one leads there too, but less directly: ours goes first.
            if to.length >= subnet.length and to.overlaps(subnet):
                raise EngineError(
                    f"the network's subnet {subnet} is in use: {route.link} leads to {to}",
                    hint="make another network, with a --subnet of its own; the default one gets "
                    "another by: minicontainer network prune",
                )


def endpoint(
    network: Mapping[str, Any],
    link: str,
    number: int,
    number6: int = 0,
    *,
    interface: str = "eth0",
    mac: str = "",
    default: bool = True,
) -> dict[str, Any]:
    """What a container gets on a network: one end of a cable, and what it is called by there.

    link: the name of the host's end. number: of its address in the subnet; number6: in that of
    IPv6, where it is another. default: whether its way to everywhere leads through the network.
    """
    found: dict[str, Any] = {
        "bridge": network["bridge"],
        "link": link,
        "interface": interface,
        "mtu": network["mtu"],
        "default": default,
    }
    for version in (4, 6):
        found |= {f"address{version}": "", f"prefix{version}": 0, f"gateway{version}": ""}
    for each in network["subnets"]:
        subnet = addresses.parse_subnet(each["Subnet"])
        version = subnet.version
        found[f"address{version}"] = subnet.address((version == 6 and number6) or number)
        found[f"prefix{version}"] = subnet.length
        found[f"gateway{version}"] = "" if network["internal"] else each["Gateway"]
    found["mac"] = mac or addresses.hardware(found["address4"])
    return found


def plug(links: Backend, inner: Backend, namespace: int, endpoint: Mapping[str, Any]) -> None:
    """Lay a cable from the bridge into a container, and give its end there addresses and routes.

    inner: the links of the container's namespace; namespace: a descriptor of that. endpoint: as of
    `endpoint`.
    """
    name = endpoint["interface"]
    links.add_veth(
        endpoint["link"], endpoint["bridge"], name, namespace, endpoint["mac"], endpoint["mtu"]
    )
    for version in (4, 6):
        address = endpoint[f"address{version}"]
        if address:
            _add_address(inner, name, f"{address}/{endpoint[f'prefix{version}']}")
    inner.set_up(name)
    if os.path.isdir(_BRIDGED):
        # Or a container does not reach itself by its own published port.
        links.set_hairpin(endpoint["link"])
    if endpoint["default"]:
        lead_out(inner, endpoint)


def lead_out(inner: Backend, endpoint: Mapping[str, Any]) -> None:
    """Send what a container has for everywhere else to the gateways of a network; unless it has
    found a way of its own, or has IPv6 switched off."""
    for version, everywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
        gateway = endpoint[f"gateway{version}"]
        if gateway:
            try:
                inner.add_route(everywhere, gateway)
            except OSError as error:
                if error.errno != EEXIST and (error.errno, version) != (EHOSTUNREACH, 6):
                    raise


def _set_up_ipv6(name: str) -> None:
    """Two things that the kernel would do by itself (Linux, networking/ip-sysctl.rst).

    accept_ra: the host's way out must not be what a container claims to be. accept_dad: while it
    asks whether somebody has the bridge's own address, for a second or two, the host looks for no
    container, and whoever calls one from outside waits.
    """
    for setting in ("accept_ra", "accept_dad"):
        path = f"{_SETTINGS}/{name}/{setting}"
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write("0")

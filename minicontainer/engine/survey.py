"""What the kernel has of our networks, for the picture of them (`network/picture.py`).

Links, addresses and routes are asked of the host's namespace and of each container's, rules of
nft, sockets of /proc/net. What the engine has written down gives the names, and is what the kernel
is compared with: a cable that was deleted and a rule that was flushed are said where they lack.

Left out: link-local addresses, which every adapter has, and the ports of bridges of others.
"""

from __future__ import annotations

import _socket
import os
import struct

from ..kernel import users
from ..network import firewall
from ..network.links import inside
from ..network.picture import CLOSED, RELAY, RULE, Adapter, Cable, Door, Network, Picture
from ..network.ports import ANY, shown
from ..network.rules import EVERY, Rules
from . import networking, networks, teardown
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..network.links import Backend, Link
    from ..network.rules import Key
    from .home import Home


_EVERYWHERE = {"0.0.0.0/0", "::/0"}
# proc_pid_net(5): the state of a socket that waits: TCP_LISTEN, and of UDP one without a peer.
_WAITING = {"tcp": "0A", "udp": "07"}


def survey(home: Home, wanted: Sequence[dict[str, Any]]) -> Picture:
    """The picture of these networks (definitions) and of the host, at this moment."""
    with networks.lock(home):
        host, listening = _Place(networks.open_links()), _listening()
        rules = Rules(firewall.table(networks.tag(home)))
        living = _living(home)
        ours = {each["bridge"] for each in networks.all_of(home)}
        ours |= {each["link"] for state, _ in living for each in state["endpoints"]}
        drawn = tuple(_network(each, host, rules, listening, living) for each in wanted)
    adapters = tuple(
        Adapter(name, host.addresses.get(name, ()), host.gateways(name))
        for name, link in host.links.items()
        if name not in ours and not link.master and (link.up or name in host.addresses)
    )
    # Where no bridge is, there need be no tables.
    wrong = rules.lacks() if ours & host.links.keys() or not rules.known else []
    if living:
        wrong += _not_forwarding()
    if users.is_mapped():
        wrong = []  # a network without root has none of this, and needs none
    used = {each[f"address{v}"] for state, _ in living for each in state["endpoints"] for v in "46"}
    for (place, proto, number), (address, inner) in rules.doors().items():
        if address not in used:
            wrong.append(f"{shown(place, number)}/{proto} leads to nobody: {shown(address, inner)}")
    # The way out first: the picture shows it above.
    return Picture(tuple(sorted(adapters, key=lambda each: not each.gateways)), drawn, tuple(wrong))


class _Place:
    """A network namespace at this moment: links by name, addresses of each, default routes."""

    def __init__(self, links: Backend) -> None:
        try:
            self.links = {link.name: link for link in links.links()}
            self.addresses: dict[str, tuple[str, ...]] = {}
            for name, address in links.addresses():
                if not address.startswith("fe80:"):
                    self.addresses[name] = (*self.addresses.get(name, ()), address)
            self.defaults = [route for route in links.routes() if route.to in _EVERYWHERE]
        finally:
            links.close()

    def gateways(self, link: str) -> tuple[str, ...]:
        """Of the default routes by a link; "" for one without."""
        return tuple(route.gateway for route in self.defaults if route.link == link)

    def bare(self, link: str) -> set[str]:
        """A link's addresses without the length."""
        return {address.partition("/")[0] for address in self.addresses.get(link, ())}


def _living(home: Home) -> list[tuple[dict[str, Any], _Place]]:
    """The network.json of each container that lives, and its namespace. "name" has also the names
    of those who share it."""
    found, guests = [], _guests(home)
    for state in networks.living(home):
        live = records.load_live(home, state["id"])
        process = teardown.open_process(live) if live is not None else None
        if process is None:
            continue  # it is ending
        try:
            place = inside(process, lambda: _Place(networks.open_links()))
        finally:
            os.close(process)
        state["name"] = " + ".join([state["name"], *guests.get(state["id"], [])])
        found.append((state, place))
    return found


def _guests(home: Home) -> dict[str, list[str]]:
    """By a container's id the names of those who live in its network."""
    found: dict[str, list[str]] = {}
    for id in os.listdir(home.run):
        record = records.load(home, id)
        if record is not None and networking.shared_with(record):
            found.setdefault(networking.names_from(home, record), []).append(record.name)
    return found


def _network(
    network: dict[str, Any],
    host: _Place,
    rules: Rules,
    listening: set[Key],
    living: list[tuple[dict[str, Any], _Place]],
) -> Network:
    bridge = host.links.get(network["bridge"])
    here = [
        (state, endpoint, place)
        for state, place in living
        for endpoint in state["endpoints"]
        if endpoint["network"] == network["name"]
    ]
    here.sort(key=lambda each: _socket.inet_aton(each[1]["address4"]))
    cables = [
        _cable(state["name"], endpoint, host, place, rules)._replace(
            doors=_doors(state["ports"], endpoint, rules, listening)
        )
        for state, endpoint, place in here
    ]
    if bridge is None:
        absent = ((), ("the bridge is gone",)) if here else (("not made yet",), ())
        return Network(network["name"], network["bridge"], (), absent[0], tuple(cables), absent[1])
    known = {endpoint["link"] for state, _ in living for endpoint in state["endpoints"]}
    cables += [
        Cable("unknown", link.name, "", wrong=("it is no container's",))
        for link in host.links.values()
        if link.master == bridge.index and link.name not in known
    ]
    says, wrong = _way_out(network, host, rules)
    if not bridge.up:
        wrong.append("the bridge is down")
    gateways = {subnet["Gateway"] for subnet in network["subnets"]}
    wrong += [f"{each} is gone" for each in sorted(gateways - host.bare(bridge.name))]
    addresses = host.addresses.get(bridge.name, ())
    return Network(
        network["name"], bridge.name, addresses, tuple(says), tuple(cables), tuple(wrong)
    )


def _way_out(network: dict[str, Any], host: _Place, rules: Rules) -> tuple[list[str], list[str]]:
    """What is to be said of how a network gets beyond the host, and what is wrong with it."""
    by = ", ".join(dict.fromkeys(route.link for route in host.defaults))
    bridge = network["bridge"]
    if not rules.known:
        return [f"out by {by}" if by else "no way out"], []
    if network["internal"]:
        kept = bridge in rules.elements("internal") and rules.has("forwarded", "@internal")
        return (["internal: no way out"], []) if kept else ([], ["internal, but no rule keeps it"])
    if bridge in rules.elements("bridges") and rules.has("leaving", "@bridges", "masquerade"):
        return [f"out by {by}, masquerade" if by else "masquerade, no way out"], []
    return [], ["no masquerade"]


def _cable(name: str, endpoint: dict[str, Any], host: _Place, place: _Place, rules: Rules) -> Cable:
    link, bridge = host.links.get(endpoint["link"]), host.links.get(endpoint["bridge"])
    if link is None:
        return Cable(name, "", "", wrong=(f"the cable {endpoint['link']} is gone",))
    end = _other_end(link, place)
    wrong = []
    if bridge is not None and link.master != bridge.index:
        wrong.append("not plugged into the bridge")
    wrong += [f"{each.name} is down" for each in (link, end) if each is not None and not each.up]
    if rules.known and link.name not in rules.elements("links"):
        wrong.append("may send with any address")
    if end is None:
        return Cable(name, link.name, "", wrong=(*wrong, "it does not lead into the container"))
    wrong += [
        f"{endpoint[field]} is gone"
        for field in ("address4", "address6")
        if endpoint[field] and endpoint[field] not in place.bare(end.name)
    ]
    gateways = place.gateways(end.name)
    if endpoint["default"]:
        expected = {endpoint["gateway4"], endpoint["gateway6"]} - {""}
        wrong += [f"no route out by {each}" for each in sorted(expected.difference(gateways))]
    usual = bridge is not None and host.bare(bridge.name).issuperset(gateways)
    out = (endpoint["bridge"] if usual else ", ".join(gateways)) if gateways else ""
    addresses = place.addresses.get(end.name, ())
    return Cable(name, link.name, end.name, addresses, out, wrong=tuple(wrong))


def _other_end(link: Link, place: _Place) -> Link | None:
    """The end of a cable in another namespace: each has the other's index."""
    for other in place.links.values():
        if other.index == link.peer and other.peer == link.index:
            return other
    return None


def _doors(
    ports: Sequence[dict[str, Any]], endpoint: dict[str, Any], rules: Rules, listening: set[Key]
) -> tuple[Door, ...]:
    """The published ports of an endpoint: those that were asked for, and those that there are."""
    asked: dict[Key, int] = {}
    translated: set[Key] = set()
    for port in ports:
        if port["address4"] == endpoint["address4"]:
            both = [ANY, "::"] if os.path.exists("/proc/net/tcp6") else [ANY]
            what = port["proto"], port["hostPort"]
            for place in [port["hostIp"]] if port["hostIp"] else both:
                asked[(place, *what)] = port["port"]
            for version, given, _ in firewall.translations(port):
                translated.add((given or EVERY[version], *what))
    own = {endpoint["address4"], endpoint["address6"]}
    there = {key: inner for key, (address, inner) in rules.doors().items() if address in own}
    doors: dict[Key, Door] = {}
    for key in sorted({**asked, **there}, key=lambda key: (key[2], key[1], key[0])):
        place, proto, number = key
        # The kernel does not list SCTP's sockets that only hold a port.
        held = key in listening or proto == "sctp"
        way = RULE if key in there else RELAY if held and proto != "sctp" else CLOSED
        wrong = []
        if key not in asked:
            wrong.append("nobody has published it")
        elif not held:
            wrong.append("nobody listens")
        if key in translated - there.keys() and rules.known:
            wrong.append("no rule")
        inner = f"{there.get(key) or asked[key]}/{proto}"
        doors[key] = Door(shown(place, number), inner, way, ", ".join(wrong))
    for place, proto, number in list(doors):
        four, six = doors.get((ANY, proto, number)), doors.get(("::", proto, number))
        if place == "::" and four and six and four[1:] == six[1:]:
            doors[ANY, proto, number] = four._replace(place=f"*:{number}")
            del doors["::", proto, number]
    return tuple(doors.values())


def _listening() -> set[Key]:
    """The sockets of this host that wait for somebody."""
    found = set()
    for name in ("tcp", "udp", "tcp6", "udp6"):
        if not os.path.exists(f"/proc/net/{name}"):
            continue  # a kernel without IPv6
        with open(f"/proc/net/{name}") as file:
            fields = [line.split() for line in file][1:]
        family = _socket.AF_INET6 if name[3:] else _socket.AF_INET
        for _, local, _, state, *_ in fields:
            digits, _, number = local.partition(":")
            # Each 32 bits of an address are written as this machine's processor reads them.
            numbers = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
            address = _socket.inet_ntop(family, struct.pack(f"={len(numbers)}I", *numbers))
            if state == _WAITING[name[:3]]:
                found.add((address, name[:3], int(number, 16)))
    return found


def _not_forwarding() -> list[str]:
    """Where the host passes nothing on, no packet leaves a network."""
    found = []
    for name, switch in (("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding")):
        path = f"/proc/sys/net/{switch}"
        if os.path.exists(path):
            with open(path) as file:
                if file.read().strip() == "0":
                    found.append(f"this host does not forward {name}")
    return found

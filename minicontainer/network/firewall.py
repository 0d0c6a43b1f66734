"""The firewall of our networks, as text: two nftables tables, whole, and small changes to them.

All rules are static and look things up in sets and maps, so a container's start is one `add
element` and its end one `delete element`: no rule is ever inserted between others. Both tables
can be written again at any time from what lives (`ruleset`), which is also the repair after
somebody's `nft flush ruleset`.

Networks, endpoints and ports are the dictionaries of the state files: of a network "bridge",
"internal" and "subnets"; of an endpoint "link", "mac", "address4", "address6"; of a port "proto",
"hostIp", "hostPort", "address4", "address6", "port". An address that there is not is "".

What the tables do not do: accept what another table drops. A packet passes when *every* table
lets it, so a host firewall that refuses to forward goes on doing so (nft(8), "Verdict statement").
"""

from __future__ import annotations

import _socket

from .ports import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Values = Mapping[str, Any]

CHAPTER = 13

# `iifname` in postrouting needs Linux 5.7. Where br_netfilter is on, what only crosses a bridge
# passes the inet hooks too: hence `within`, and hence the hairpin goes by the sender's address.
_INET = """\
table inet TABLE
delete table inet TABLE
table inet TABLE {
  set bridges { type ifname; }
  set internal { type ifname; }
  set within { type ifname . ifname; }
  set subnets4 { type ifname . ipv4_addr; flags interval; }
  set subnets6 { type ifname . ipv6_addr; flags interval; }
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map given4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map given6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }

  # Nobody beyond this machine has a loopback address (CVE-2020-8558).
  chain arriving {
    type filter hook prerouting priority raw
    iifname != "lo" ip daddr 127.0.0.0/8 drop
  }

  # A published port: the packet is for this host, and goes to the container.
  chain incoming {
    type nat hook prerouting priority dstnat
    fib daddr type local jump publish
  }
  chain local {
    type nat hook output priority -100
    fib daddr type local jump publish
  }
  chain publish {
    ip daddr 127.0.0.0/8 return
    ip6 daddr { ::1, fe80::/10 } return
    dnat ip to ip daddr . meta l4proto . th dport map @given4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @given6
    dnat ip6 to meta l4proto . th dport map @any6
  }

  # What leaves a network does so with the host's address: also by a published port to another
  # network, or to the one that it left. Or the answer would take a shorter way, and not be known.
  chain leaving {
    type nat hook postrouting priority srcnat
    iifname @bridges iifname . oifname != @within masquerade
    ct status dnat oifname . ip saddr @subnets4 masquerade
    ct status dnat oifname . ip6 saddr @subnets6 masquerade
  }

  # Into a network only by a published port, or as an answer; out of it always. An internal
  # one is alone.
  chain forwarded {
    type filter hook forward priority filter
    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges ct status dnat accept
    oifname @bridges ct state established,related accept
    oifname @bridges drop
    GUARD
  }
}
"""

# A container sends with its own addresses alone, whatever its privileges. A neighbour
# advertisement carries its claim in the message, from bit 64 on (RFC 4861, 4.4); the keyword for
# it is younger than Debian 12. A VLAN's tag would hide it from the rules, and tag 0 is none to who
# receives it: so there are no tags.
_BRIDGE = """\
table bridge TABLE
delete table bridge TABLE
table bridge TABLE {
  set links { type ifname; }
  set senders { type ifname . ether_addr; }
  set senders4 { type ifname . ether_addr . ipv4_addr; }
  set senders6 { type ifname . ether_addr . ipv6_addr; }
  set claims6 { typeof iifname . @th,64,128; }

  chain entering {
    type filter hook prerouting priority dstnat
    iifname @links jump own
  }
  chain own {
    ether type != { ip, ip6, arp } drop
    iifname . ether saddr != @senders drop
    iifname . ether saddr . ip saddr @senders4 accept
    iifname . arp saddr ether . arp saddr ip @senders4 accept
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @claims6 drop
    iifname . ether saddr . ip6 saddr @senders6 accept
    ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @claims6 accept
    ip6 saddr :: icmpv6 type mld2-listener-report accept
    drop
  }
}
"""

# Docker's, libvirt's and other engines' networks are bridges, and have rules of their own.
_GUARD = 'meta nfproto {} meta iifkind != "bridge" meta oifkind != "bridge" drop'


def table(tag: str) -> str:
    """The name of both tables. tag: "" for the default data root, else 6 hexadecimal digits."""
    return f"minicontainer_{tag}" if tag else "minicontainer"


def ruleset(
    tag: str,
    networks: Iterable[Values],
    endpoints: Sequence[Values],
    ports: Iterable[Values],
    *,
    guard: Iterable[str] = (),
) -> str:
    """Both tables, whole, in the place of whatever was there: one transaction for nft(8).

    guard: "ipv4", "ipv6": where the host did not forward at all before us (see `forwarding`), so
    that it does not become a router for its neighbours.
    """
    text = _INET.replace("GUARD", "\n    ".join(_GUARD.format(family) for family in guard))
    lines = [(text + _BRIDGE).replace("TABLE", table(tag))]
    for network in networks:
        lines += _lines("add", tag, _of_network(network))
    return "".join(lines) + added(tag, endpoints, ports)


def gone(tag: str) -> str:
    """No tables any more."""
    names = [f"table {family} {table(tag)}\n" for family in ("inet", "bridge")]
    return "".join(f"{verb} {name}" for name in names for verb in ("add", "delete"))


def guard(tag: str, families: Iterable[str]) -> str:
    """Of both tables the guard alone (see `ruleset`), for a host that goes on forwarding when our
    last network has gone."""
    chain = f"inet {table(tag)} forwarded"
    hook = "{ type filter hook forward priority filter; }"
    rules = [f"add rule {chain} {_GUARD.format(family)}\n" for family in families]
    return f"{gone(tag)}add table inet {table(tag)}\nadd chain {chain} {hook}\n{''.join(rules)}"


def added(tag: str, endpoints: Sequence[Values], ports: Iterable[Values]) -> str:
    """The change for a container that comes; nft refuses it where a port is another's, or where
    one of the tables is gone."""
    # Its network's own element, once more: else a lost table would not be missed without a port.
    bridges = [("inet", "within", f'"{e["bridge"]}" . "{e["bridge"]}"') for e in endpoints]
    return "".join(_lines("add", tag, bridges + _of_container(endpoints, ports)))


def removed(tag: str, endpoints: Iterable[Values], ports: Iterable[Values]) -> str:
    """The change for a container that goes; nft refuses it where any of it is not there."""
    return "".join(_lines("delete", tag, _of_container(endpoints, ports, keys=True)))


def link_local(mac: str) -> str:
    """The link-local address that the kernel gives an adapter (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return _socket.inet_ntop(_socket.AF_INET6, b"\xfe\x80" + bytes(6) + host)


# (family, set or map, element)
_Element = tuple[str, str, str]


def _lines(verb: str, tag: str, elements: Iterable[_Element]) -> list[str]:
    return [
        f"{verb} element {family} {table(tag)} {name} {{ {element} }}\n"
        for family, name, element in elements
    ]


def _of_network(network: Values) -> list[_Element]:
    bridge = f'"{network["bridge"]}"'
    found = [("inet", "bridges", bridge), ("inet", "within", f"{bridge} . {bridge}")]
    if network["internal"]:
        found.append(("inet", "internal", bridge))
    for subnet in network["subnets"]:
        version = 6 if ":" in subnet["Subnet"] else 4
        found.append(("inet", f"subnets{version}", f"{bridge} . {subnet['Subnet']}"))
    return found


def _of_container(
    endpoints: Iterable[Values], ports: Iterable[Values], *, keys: bool = False
) -> list[_Element]:
    found = [element for endpoint in endpoints for element in _of_endpoint(endpoint)]
    for port in ports:
        for version, host, address in translations(port):
            key = f"{port['proto']} . {port['hostPort']}"
            value = "" if keys else f" : {address} . {port['port']}"
            if host:
                found.append(("inet", f"given{version}", f"{host} . {key}{value}"))
            else:
                found.append(("inet", f"any{version}", f"{key}{value}"))
    return found


def _of_endpoint(endpoint: Values) -> list[_Element]:
    link, mac = f'"{endpoint["link"]}"', endpoint["mac"]
    found = [("bridge", "links", link), ("bridge", "senders", f"{link} . {mac}")]
    if endpoint["address4"]:
        found.append(("bridge", "senders4", f"{link} . {mac} . {endpoint['address4']}"))
    for address in (link_local(mac), endpoint["address6"]):
        if address:
            number = _socket.inet_pton(_socket.AF_INET6, address).hex()
            found.append(("bridge", "senders6", f"{link} . {mac} . {address}"))
            found.append(("bridge", "claims6", f"{link} . 0x{number}"))
    return found


def translations(port: Values) -> list[tuple[int, str, str]]:
    """What the kernel can translate of a port: (4 or 6, host address or "" for any, container's
    address). The rest is the relay's: loopback, and from one version to the other."""
    host, found = port["hostIp"], []
    if port["address4"] and host in ("", ANY):
        found.append((4, "", port["address4"]))
    elif port["address4"] and ":" not in host and not host.startswith("127."):
        found.append((4, host, port["address4"]))
    if port["address6"] and host in ("", "::"):
        found.append((6, "", port["address6"]))
    elif port["address6"] and ":" in host and host != "::1" and not host.startswith("fe80:"):
        found.append((6, host, port["address6"]))
    return found

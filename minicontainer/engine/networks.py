"""Networks: what the user has defined, and who is on them.

A definition lasts, as a file `networks/NAME.json`. Who is on a network is nowhere written down as
a whole: every living container says of itself what it has (`network.json` in its run directory),
and that file goes with its life. So no address and no rule can be left over from one that died.
"""

from __future__ import annotations

import os

from .. import files, jsonio
from ..errors import EngineError
from ..image.digest import digest_of
from ..kernel import users
from . import home as homes
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ..network.addresses import Subnet
    from ..network.links import Backend
    from .home import Home

# The network that `run` uses when nobody says; made at its first use.
DEFAULT = "bridge"
# Not defined by anybody, and always there.
MODES = ("none", "host")
# What IPv4 and IPv6 keep for loopback, links and groups (RFC 6890).
_RESERVED = ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::1/128", "fe80::/10", "ff00::/8")
# The least and the most that a bridge carries, and the least that IPv6 wants (RFC 8200, 5).
_MTU_MIN, _MTU_MAX, _MTU_IPV6 = 68, 65535, 1280
FILE = "network.json"


def lock(home: Home) -> files.Lock:
    """The lock of all changes: who takes an address must know that nobody else takes it. An nft
    whose engine is killed goes on, and keeps it: its change comes before the cleaning up."""
    try:
        os.mkdir(directory(home), 0o700)
    except FileExistsError:
        pass
    return files.Lock(f"{directory(home)}/lock", inherit=True)


def directory(home: Home) -> str:
    """Where the definitions are."""
    return f"{home.root}/networks"


def tag(home: Home) -> str:
    """What sets another engine's names on this host apart: "" for the default data root."""
    return "" if home.root == homes.DATA_ROOT else digest_of(home.root.encode())[7:13]


def open_links() -> Backend:
    """The links of the network namespace that this thread is in, by the backend that
    MINICONTAINER_NETLINK names: "stdlib", the default, or "pyroute2". EngineError for another."""
    name = os.environ.get("MINICONTAINER_NETLINK") or "stdlib"
    if name == "stdlib":
        from ..network import links

        return links.Links()
    if name == "pyroute2":
        from ..network import links_pyroute2

        return links_pyroute2.Links()
    raise EngineError(
        f"invalid MINICONTAINER_NETLINK {name!r}: it is neither 'stdlib' nor 'pyroute2'"
    )


def load(home: Home, name: str) -> dict[str, Any] | None:
    """A definition by its name; None when there is none."""
    if not name or "/" in name or name in (".", ".."):
        return None
    try:
        found: dict[str, Any] = jsonio.read(f"{directory(home)}/{name}.json")
    except FileNotFoundError:
        return None
    return found


def find(home: Home, word: str) -> dict[str, Any]:
    """A definition by its name, or by the beginning of its id; EngineError when there is none, or
    more than one."""
    network = load(home, word)
    if network is not None:
        return network
    if word in MODES:
        raise EngineError(f"network {word} has no bridge: nothing is connected to it, or drawn")
    if word == DEFAULT and users.is_mapped():
        raise EngineError(
            "an ordinary user's containers are on no bridge: each has a network of its own",
            hint="minicontainer inspect CONTAINER, and port CONTAINER, show it",
        )
    if word == DEFAULT:
        return ensure_default(home)
    found = [each for each in all_of(home) if word and each["id"].startswith(word)]
    if len(found) > 1:
        raise EngineError(f"network {word} is ambiguous ({len(found)} matches found on name)")
    if not found:
        raise EngineError(f"network {word} not found", hint="see: minicontainer network ls")
    return found[0]


def all_of(home: Home) -> list[dict[str, Any]]:
    """All definitions, by name."""
    try:
        names = sorted(os.listdir(directory(home)))
    except FileNotFoundError:
        return []
    found = (load(home, name[:-5]) for name in names if name.endswith(".json"))
    return [network for network in found if network is not None]


def ensure_default(home: Home) -> dict[str, Any]:
    """The default network's definition, made when it is missing."""
    return load(home, DEFAULT) or define(home, DEFAULT)


def define(
    home: Home,
    name: str,
    *,
    subnets: Sequence[str] = (),
    gateways: Sequence[str] = (),
    internal: bool = False,
    ipv6: bool = True,
    mtu: int = 0,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Define a network; the caller holds the lock. EngineError when the name is taken or cannot
    be, or when a subnet is somebody else's.

    subnets, gateways: one of each version at most; what is not given is chosen.
    mtu: in bytes; 0: the usual one.
    """
    from ..network import addresses

    if users.is_mapped():
        raise EngineError(
            "a network of one's own wants the host's root",
            hint="an ordinary user's containers have one each: --network bridge",
        )
    check_name(name)
    if load(home, name) is not None or name in (*MODES, "default"):
        raise EngineError(f"network with name {name} already exists")
    given = [addresses.parse_subnet(text) for text in subnets]
    versions = [subnet.version for subnet in given]
    if len(set(versions)) < len(versions):
        raise EngineError("a network has one subnet of IPv4 and one of IPv6")
    if len({addresses.parse(gateway)[0] for gateway in gateways}) < len(gateways):
        raise EngineError("a network has one gateway of IPv4 and one of IPv6")
    if mtu and not _MTU_MIN <= mtu <= _MTU_MAX:
        raise EngineError(f"invalid MTU {mtu}: from {_MTU_MIN} to {_MTU_MAX} bytes")
    if 0 < mtu < _MTU_IPV6:
        if 6 in versions:
            raise EngineError(f"invalid MTU {mtu}: IPv6 wants {_MTU_IPV6} bytes or more")
        ipv6 = False
    reserved = [addresses.parse_subnet(text) for text in _RESERVED]
    taken = taken_subnets(home)
    for subnet in given:
        if any(subnet.overlaps(other) for other in reserved):
            raise EngineError(f"the subnet {subnet} has addresses that are not for networks")
        if any(subnet.overlaps(other) for other in taken if other.length):
            raise EngineError(f"the subnet {subnet} overlaps with a network or route of this host")
    if not any(subnet.version == 4 for subnet in given):
        given.insert(0, addresses.choose(taken))
    if ipv6 and has_ipv6() and not any(subnet.version == 6 for subnet in given):
        given.append(addresses.choose_local(os.urandom(5)))
    id = os.urandom(32).hex()
    mark = tag(home)
    default = f"mc-{mark}-0" if mark else "minicontainer0"
    network = {
        "name": name,
        "id": id,
        "created": records.now(),
        "driver": "bridge",
        "internal": internal,
        "ipv6": len(given) > 1,
        "subnets": [
            {"Subnet": str(subnet), "Gateway": _gateway(subnet, gateways)} for subnet in given
        ],
        "bridge": default if name == DEFAULT else f"mc-{id[:12]}",
        "mtu": mtu,
        "labels": labels or {},
    }
    files.write_atomic(f"{directory(home)}/{name}.json", jsonio.dumps(network))
    return network


def check_name(name: str) -> None:
    """EngineError for what cannot be a name: docker's rule, as for containers."""
    good = all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    if not good or not name[:1].isalnum() or len(name) > 128:
        raise EngineError(
            f"invalid network name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )


def _gateway(subnet: Subnet, gateways: Sequence[str]) -> str:
    from ..network import addresses

    if subnet.size < 4:
        raise EngineError(f"the subnet {subnet} has no room for containers")
    for gateway in gateways:
        if addresses.parse(gateway)[0] == subnet.version:
            if not subnet.has(gateway):
                raise EngineError(f"no matching subnet for gateway {gateway}")
            return gateway
    return subnet.address(1)


def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6 on new adapters."""
    try:
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6") as file:
            return file.read().strip() == "0"
    except FileNotFoundError:
        return False


def taken_subnets(home: Home) -> list[Subnet]:
    """What new networks must keep out of: the defined ones, and where this host's routes lead."""
    from ..network import addresses

    found = [
        addresses.parse_subnet(subnet["Subnet"])
        for network in all_of(home)
        for subnet in network["subnets"]
    ]
    links = open_links()
    try:
        found += [addresses.parse_subnet(route.to) for route in links.routes()]
    finally:
        links.close()
    return found


def remove(home: Home, network: dict[str, Any]) -> None:
    """Take a network down and forget it; EngineError while somebody is on it. The caller holds
    the lock, and renews the firewall (`firewalling.rebuild`). The default one comes back when it is
    used again."""
    here = containers(home, network["name"])
    if here:
        names = ", ".join(sorted(each["name"] for each in here))
        raise EngineError(f"network {network['name']} has active endpoints: {names}")
    links = open_links()
    try:
        links.delete(network["bridge"])
    finally:
        links.close()
    os.unlink(f"{directory(home)}/{network['name']}.json")


def living(home: Home) -> Iterator[dict[str, Any]]:
    """What each living container says of its network: "id", "name", "endpoints", "ports"."""
    try:
        ids = os.listdir(home.run)
    except FileNotFoundError:
        return
    for id in ids:
        try:
            yield {**jsonio.read(home.live(id, FILE)), "id": id}
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue  # it has no network, or is going


def containers(home: Home, name: str) -> list[dict[str, Any]]:
    """The living containers on a network."""
    return [each for each in living(home) if any(e["network"] == name for e in each["endpoints"])]

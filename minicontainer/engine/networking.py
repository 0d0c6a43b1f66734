"""A container's network, from its start to its end: addresses, a cable, rules, names.

The cable is laid when the container's process exists, for it is in that process's namespace that
its other end is born; the process meanwhile builds its file system, and waits before its first
instruction. What it got is written in `network.json` before the kernel is asked for anything, so
that whoever finds the file can undo all of it, and who finds none has nothing to undo.
"""

from __future__ import annotations

import os

from .. import files, jsonio
from ..errors import EngineError
from ..kernel import users
from . import networks, publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.process import Process
    from ..network.ports import Port
    from ..runtime.supervise import Service
    from .home import Home
    from .record import Record


class Connection:
    """A container's way to the network, in the hands of its supervisor.

    services: what the supervisor's loop has to do for it; held: its published ports.
    """

    __slots__ = ("home", "record", "services", "held")

    def __init__(self, home: Home, record: Record) -> None:
        self.home = home
        self.record = record
        self.services: list[Service] = []
        self.held: list[Port] = []

    def __enter__(self) -> Connection:
        """Hold the ports: a taken one is an error before anything starts."""
        if is_own(self.record):
            self.held = publishing.hold(self.record)
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.close()
        if self.held:
            # Only when no rule leads from them to us any more may they be another's.
            disconnect(self.home, self.record.id)
            publishing.release(self.held)

    def make(self, process: Process) -> None:
        """Connect the container that this process will be; nothing happens where it has no
        network, or one that exists already. EngineError when it cannot be."""
        if not is_own(self.record):
            return
        if users.is_mapped():
            from . import rootless_network

            self.services += rootless_network.connect(self.home, self.record, process, self.held)
            return
        from ..network.links import inside
        from . import nameserver, naming

        inner = inside(process.pidfd, networks.open_links)
        try:
            with networks.lock(self.home):
                names = [self.record.network, *self.record.more_networks]
                wanted = [networks.find(self.home, name) for name in names]
                endpoints: list[dict[str, Any]] = []
                for network in wanted:
                    asked = {} if endpoints else self.record.endpoint
                    endpoints.append(choose(self.home, self.record, network, asked, endpoints))
                # Ports lead to the first network that is not internal: there is one, or no ports.
                carrier = next((each for each in endpoints if each["gateway4"]), endpoints[0])
                state: dict[str, Any] = {
                    "name": self.record.name,
                    "hostname": self.record.hostname,
                    "endpoints": endpoints,
                    "ports": publishing.state(self.held, carrier),
                }
                server = nameserver.open_server(
                    self.home, self.record, process.pidfd, state["endpoints"]
                )
                self.services.append(server)
                state["resolver"] = server.port
                save(self.home, self.record.id, state)
                for network, endpoint in zip(wanted, endpoints, strict=True):
                    ports = state["ports"] if endpoint is carrier else []
                    lay(self.home, network, endpoint, inner, process.pid, ports)
        finally:
            inner.close()
        if state["ports"]:
            self.services.append(publishing.relay(self.home, self.record, self.held))
        server.settle()
        naming.write_files(self.home, self.record, state["endpoints"])


def is_own(record: Record) -> bool:
    """Whether a container has adapters of its own: not none, the host's, or another's."""
    return record.network not in networks.MODES and not record.network.startswith("container:")


def choose(
    home: Home,
    record: Record,
    network: dict[str, Any],
    wanted: dict[str, Any],
    others: list[dict[str, Any]],
) -> dict[str, Any]:
    """What a container gets on a network; the caller holds the lock until it is saved.

    wanted: "ip", "ip6", "mac", "aliases" as they were asked for. others: its endpoints so far, by
    which its way out may lead already. EngineError when an address is taken, or none is free.
    """
    from ..network import addresses, bridge

    on_it = [e for each in networks.living(home) for e in each["endpoints"]
             if e["network"] == network["name"]]  # fmt: skip
    subnets = {
        each.version: (each, subnet["Gateway"])
        for subnet in network["subnets"]
        for each in (addresses.parse_subnet(subnet["Subnet"]),)
    }

    def place_of(version: int, address: str, start: int) -> int:
        subnet, gateway = subnets[version]
        taken = [gateway, *(each[f"address{version}"] for each in on_it)]
        if not address:
            return addresses.free(subnet, filter(None, taken), start if start < subnet.size else 2)
        if not subnet.has(address):
            raise EngineError(
                f"invalid address {address}: it is not one for containers of the network "
                f"{network['name']} ({subnet})"
            )
        number = subnet.number(address) or 0
        if subnet.address(number) in taken:
            raise EngineError(f"address {address} is already in use on network {network['name']}")
        return number

    place, place6, address6 = place_of(4, wanted.get("ip") or "", 1), 0, wanted.get("ip6") or ""
    if 6 in subnets:
        # Beside each other: 172.17.0.5 and fd…::5. As unique as the one, as long as there is room.
        place6 = place_of(6, address6, place)
    elif address6:
        raise EngineError(f"invalid address {address6}: network {network['name']} has no IPv6")
    used = {each["interface"] for each in others}
    number = next(n for n in range(len(used) + 1) if f"eth{n}" not in used)
    return {
        "network": network["name"],
        "aliases": wanted.get("aliases", []),
        **bridge.endpoint(
            network,
            f"mc{record.id[:10]}" + (str(number) if number else ""),
            place,
            place6,
            interface=f"eth{number}",
            mac=wanted.get("mac") or "",
            default=not (network["internal"] or any(each["default"] for each in others)),
        ),
    }


def lay(
    home: Home,
    network: dict[str, Any],
    endpoint: dict[str, Any],
    inner: Any,
    pid: int,
    ports: list[dict[str, Any]],
    *,
    running: bool = False,
) -> None:
    """Connect an endpoint that is saved: bridge, cable, rules; the caller holds the lock.

    inner: the links of the container's namespace, which its process `pid` is in. running: the
    rules come first, for its programs would not wait for them.
    """
    from ..network import bridge, forwarding
    from . import firewalling

    links = networks.open_links()
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    change = None
    try:
        if bridge.create(links, network) or not forwarding.is_on():
            firewalling.rebuild(home)  # the endpoint is in it already
        else:
            change = firewalling.add(home, [endpoint], ports)
            if running:
                change.finish()
                change = None
        bridge.plug(links, inner, namespace, endpoint)
    finally:
        os.close(namespace)
        links.close()
        if change is not None:
            change.finish()


def disconnect(home: Home, id: str) -> None:
    """Undo what a container's network.json tells of; nothing happens where there is none."""
    if not os.path.exists(home.live(id, networks.FILE)):
        return
    with networks.lock(home):
        state = load(home, id)
        if state is None:
            return
        if "program" in state:
            from . import rootless_network

            rootless_network.disconnect(state["program"])
        else:
            cut(home, state["endpoints"], state["ports"], id)
            publishing.forget(state["ports"])
        os.unlink(home.live(id, networks.FILE))


def cut(
    home: Home,
    endpoints: list[dict[str, Any]],
    ports: list[dict[str, Any]],
    ended: str = "",
    saved: Callable[[], None] = lambda: None,
) -> None:
    """Remove the cables and the rules of endpoints. Both wait for the kernel, so they do it
    together. ended: the id of the container, when it is all of it that goes. saved: writes what is
    left; only then, for until all is gone nobody else may have the addresses."""
    from . import firewalling

    links = networks.open_links()
    change = firewalling.remove(home, endpoints, ports, ended)
    try:
        for endpoint in endpoints:
            links.delete(endpoint["link"])
    finally:
        links.close()
        change.finish(saved)


def load(home: Home, id: str) -> dict[str, Any] | None:
    """A living container's network.json; None when it has none."""
    try:
        found: dict[str, Any] = jsonio.read(home.live(id, networks.FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def save(home: Home, id: str, state: dict[str, Any]) -> None:
    """Write it."""
    files.write_atomic(home.live(id, networks.FILE), jsonio.dumps(state), mode=0o600)


def shared_with(record: Record) -> str:
    """The id of the container whose network this one shares; "" for none."""
    return record.network[10:] if record.network.startswith("container:") else ""


def names_from(home: Home, record: Record) -> str:
    """The id of the container whose files about names this one has: its own, or that of the first
    in a row of containers that share one network."""
    from . import record as records

    found: Record | None = record
    while found is not None and (other := shared_with(found)):
        record, found = found, records.load(home, other)
    return found.id if found is not None else shared_with(record)


def describe(home: Home, record: Record) -> dict[str, Any]:
    """NetworkSettings of `inspect` (moby, api/types/network)."""
    state = load(home, record.id)
    endpoints = state["endpoints"] if state else []
    shown = {each["network"]: describe_endpoint(each) for each in endpoints}
    if not shown and not shared_with(record):
        shown = {name: describe_endpoint({}) for name in (record.network, *record.more_networks)}
    first = shown.get(record.network) or describe_endpoint({})
    names = ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "GlobalIPv6Address",
             "GlobalIPv6PrefixLen", "IPv6Gateway")  # fmt: skip
    return {
        "Networks": shown,
        "Ports": publishing.by_port(state["ports"], record.exposed) if state else {},
        **{name: first[name] for name in names},
    }


def describe_endpoint(endpoint: dict[str, Any]) -> dict[str, Any]:
    """One of NetworkSettings.Networks."""
    return {
        "IPAddress": endpoint.get("address4", ""),
        "IPPrefixLen": endpoint.get("prefix4", 0),
        "Gateway": endpoint.get("gateway4", ""),
        "MacAddress": endpoint.get("mac", ""),
        "GlobalIPv6Address": endpoint.get("address6", ""),
        "GlobalIPv6PrefixLen": endpoint.get("prefix6", 0),
        "IPv6Gateway": endpoint.get("gateway6", ""),
        "Aliases": endpoint.get("aliases") or None,
    }

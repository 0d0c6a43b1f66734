"""The published ports of a container: held before it starts, served while it lives, shown.

Docker's rules. Ports lead to the network that the container is started on; an internal one has
none. They stand in network.json, with the addresses of the container.
"""

from __future__ import annotations

from .. import jsonio
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..network.ports import Port
    from ..network.relay import Relay
    from .home import Home
    from .record import Record

    Ports = Sequence[dict[str, Any]]


def check(network: str, asked: bool) -> None:
    """Refuse ports where the network is another container's: they are that one's matter."""
    if asked and network.startswith("container:"):
        raise EngineError(
            "conflicting options: port publishing and the container type network mode"
        )


def exposed(config: dict[str, Any], given: Iterable[str], bindings: Iterable[str]) -> list[str]:
    """Config.ExposedPorts: the image's EXPOSE, --expose and what is published; `5000/tcp`."""
    words = [*(config.get("ExposedPorts") or {}), *given]
    if words:
        from ..network import ports

        words = ports.parse_exposed(words)
    return sorted({*words, *bindings}, key=_natural)


def hold(record: Record) -> list[Port]:
    """Hold the ports of a container that starts; EngineError when one is taken."""
    if not (record.ports or (record.publish_all and record.exposed)):
        return []
    from ..network import ports

    wanted = record.ports
    if record.publish_all:
        wanted = ports.publish_all(wanted, record.exposed)
    return ports.hold(wanted)


def release(held: Iterable[Port]) -> None:
    """Let go of ports; twice is once."""
    from ..network import ports

    ports.release(held)


def state(held: Iterable[Port], endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """The "ports" of network.json, which lead to an endpoint."""
    return [
        {
            "proto": port.proto,
            "hostIp": port.ip,
            "hostPort": port.number,
            "address4": endpoint["address4"],
            "address6": endpoint["address6"],
            "port": port.inner,
        }
        for port in held
    ]


def waiting(state: dict[str, Any], endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the ports that lead nowhere at this moment out of network.json's "waiting", to lead to
    an endpoint; none where that is on an internal network."""
    if not endpoint["gateway4"]:
        return []
    addresses = {field: endpoint[field] for field in ("address4", "address6")}
    return [port | addresses for port in state.pop("waiting", [])]


def relay(home: Home, record: Record, held: Iterable[Port], namespace: int = -1) -> Relay:
    """The service of the supervisor's loop that serves held ports. namespace: a descriptor of the
    container's network, where only from inside it the container is reached; the relay's from now
    on."""
    import resource

    from ..network.relay import InnerRelay, Relay

    def addresses(port: Port) -> list[str]:
        # Asked for each client: `network disconnect` may have taken them away. IPv4 first: a
        # program that listens on 0.0.0.0 alone is more frequent than one on [::] alone.
        for each in load(home, record) or []:
            if (each["proto"], each["hostIp"], each["hostPort"]) == port.key:
                return [each[field] for field in ("address4", "address6") if each[field]]
        return []

    # The container's process has its limits already. Ours need not be a shell's usual 1024 files,
    # with which 64 idle clients would keep the next one waiting.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    made = Relay(addresses) if namespace < 0 else InnerRelay(addresses, namespace)
    for port in held:
        made.add(port)
    return made


def forget(ports: Ports) -> None:
    """Have the kernel forget the flows of ports that are published no more."""
    from ..network import conntrack

    for address in {port[field] for port in ports for field in ("address4", "address6")} - {""}:
        try:
            conntrack.forget(address)
        except OSError:
            return  # a kernel that cannot be asked: they end when the client is silent


def of(home: Home, record: Record) -> dict[str, Any]:
    """NetworkSettings.Ports of `inspect`: `5000/tcp` to its places on the host, or to None where
    it is only exposed. Empty for a container that does not live or has no network."""
    ports = load(home, record)
    return {} if ports is None else by_port(ports, record.exposed)


def load(home: Home, record: Record) -> list[dict[str, Any]] | None:
    """The "ports" of network.json; None where a container has none."""
    try:
        found: list[dict[str, Any]] = jsonio.read(home.live(record.id, "network.json"))["ports"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def by_port(ports: Ports, exposed: Iterable[str]) -> dict[str, Any]:
    """The same, from network.json's "ports" and ExposedPorts."""
    found: dict[str, Any] = dict.fromkeys(exposed)
    for port in ports:
        key = f"{port['port']}/{port['proto']}"
        places = found[key] = found.get(key) or []
        for ip in _shown(port["hostIp"]):
            places.append({"HostIp": ip, "HostPort": str(port["hostPort"])})
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def lines(ports: dict[str, Any]) -> list[str]:
    """The lines of `port`: `5000/tcp -> 0.0.0.0:5001`. ports: as of `by_port`."""
    return [f"{key} -> {place}" for key, places in ports.items() for place in places_of(places)]


def places_of(places: Ports | None) -> list[str]:
    """`0.0.0.0:5001`, `[::]:5001`."""
    return [_join(place["HostIp"], place["HostPort"]) for place in places or []]


def summary(ports: dict[str, Any]) -> str:
    """The PORTS of `ps`: `0.0.0.0:5001->5000/tcp, 53/udp`. ports: as of `by_port`.

    Neighbours with the same numbers inside and outside are one range (docker/cli, formatter).
    """
    ranges: list[tuple[str, str, int, int]] = []
    others = []
    for key, places in ports.items():
        text, _, proto = key.partition("/")
        number = int(text)
        for place in places or [None]:
            if place is not None and place["HostPort"] != text:
                others.append(f"{_join(place['HostIp'], place['HostPort'])}->{key}")
                continue
            ip = place["HostIp"] if place is not None else ""
            before = (ip, proto, number - 1)
            at = next((i for i, (*who, _, last) in enumerate(ranges) if (*who, last) == before), -1)
            if at >= 0:
                ranges[at] = ip, proto, ranges[at][2], number
            else:
                ranges.append((ip, proto, number, number))
    return ", ".join([*map(_range, ranges), *others])


def _range(one: tuple[str, str, int, int]) -> str:
    ip, proto, first, last = one
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{_join(ip, numbers)}->{numbers}/{proto}" if ip else f"{numbers}/{proto}"


def _join(ip: str, numbers: str) -> str:
    return f"[{ip}]:{numbers}" if ":" in ip else f"{ip}:{numbers}"


def _shown(ip: str) -> list[str]:
    return [ip] if ip else ["0.0.0.0", "::"]  # noqa: S104  # docker's way to say: everywhere


def _natural(port: str) -> tuple[int, str]:
    number, _, proto = port.partition("/")
    return int(number), proto

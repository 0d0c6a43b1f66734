"""Which network a container is to have, and what `network connect` and `disconnect` change."""

from __future__ import annotations

import os
import sys
from errno import ESRCH

from .. import jsonio
from ..errors import EngineError
from ..kernel import users
from . import ending, names, networking, networks, publishing, teardown
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..network.links import Backend
    from .create import Settings
    from .home import Home
    from .record import Record


def check(home: Home, settings: Settings) -> str:
    """What a container's --network comes to: none, host, bridge, a network's name, or
    `container:ID`, which also gives that one's hostname. EngineError for what cannot be, in
    docker's words."""
    word = settings.network or default(settings)
    word = networks.DEFAULT if word == "default" else word
    defined = word not in (*networks.MODES, networks.DEFAULT) and word[:10] != "container:"
    if word[:10] == "container:":
        _check_shared(settings)
        other = names.find(home, word[10:])
        ending.require_running(home, other)
        if records.load(home, networking.names_from(home, other)) is None:
            raise EngineError(f"the container whose network {other.name} has is gone")
        settings.hostname = other.hostname
        return f"container:{other.id}"
    if not defined and settings.endpoint.get("aliases"):
        raise EngineError(
            "network-scoped alias is supported only for containers in user defined networks"
        )
    if not defined and settings.endpoint.keys() & {"ip", "ip6"}:
        raise EngineError("user specified IP address is supported on user defined networks only")
    if word in networks.MODES:
        return word
    if users.is_mapped():
        from . import rootless_network

        return rootless_network.check(word, settings)
    from . import firewalling

    network = networks.find(home, word) if defined else None
    firewalling.check(internal=network is not None and network["internal"])
    return str(network["name"]) if network is not None else word


def check_more(home: Home, settings: Settings) -> list[str]:
    """The names of the networks that a container is to have beside its first one (`check`)."""
    found: list[str] = []
    for word in settings.more_networks:
        word = networks.DEFAULT if word == "default" else word
        for each in (word, settings.network):
            if each in networks.MODES or each.startswith("container:"):
                raise EngineError(f"conflicting options: {each} and another --network")
        if users.is_mapped():
            raise EngineError("more than one --network wants the host's root")
        with networks.lock(home):
            network = networks.find(home, word)
        if network["internal"]:
            from . import firewalling

            firewalling.check(internal=True)
        name = str(network["name"])
        if name in (settings.network, *found):
            raise EngineError(f"network {name!r} is specified multiple times")
        found.append(name)
    return found


def check_ports(home: Home, settings: Settings) -> None:
    """Take away, with a word, published ports that could lead nowhere."""
    names = [settings.network, *settings.more_networks]
    if not (settings.ports or settings.publish_all) or users.is_mapped():
        return
    if any(name in (*networks.MODES, networks.DEFAULT) or ":" in name for name in names):
        return
    with networks.lock(home):
        if all(networks.find(home, name)["internal"] for name in names):
            settings.ports, settings.publish_all = {}, False
            sys.stderr.write(
                "minicontainer: published ports are discarded when using internal networks alone\n"
            )


def default(settings: Settings) -> str:
    """The network of `run` when nobody says: the one that all containers share, as docker's;
    without root one's own, and none where there cannot be one, unless more is asked of it."""
    if users.is_mapped() and not (settings.ports or settings.publish_all or settings.endpoint):
        from . import rootless_network

        return rootless_network.default()
    return networks.DEFAULT


def _check_shared(settings: Settings) -> None:
    """Whoever joins another's network has that one's names and addresses."""
    for given, what in (
        (settings.hostname, "hostname"),
        (settings.names.get("Dns"), "dns"),
        (settings.names.get("ExtraHosts"), "custom host-to-IP mapping"),
        (settings.endpoint.get("mac"), "mac-address"),
        (settings.endpoint.get("ip"), "ip"),
        (settings.endpoint.get("ip6"), "ip6"),
    ):
        if given:
            raise EngineError(f"conflicting options: {what} and the network mode")


def attach(home: Home, record: Record, network: dict[str, Any], wanted: dict[str, Any]) -> None:
    """`network connect`: give a running container one more adapter."""
    from . import firewalling, nameserver

    firewalling.check(network["internal"])
    live = ending.require_running(home, record)
    state = networking.load(home, record.id)
    if state is None:
        raise EngineError(
            f"container {record.name} cannot be connected: it has --network {record.network}"
        )
    try:
        pidfd, inner = _open(live)
    except ProcessLookupError:
        raise ending.not_running(record) from None
    try:
        with networks.lock(home):
            state = networking.load(home, record.id)
            if state is None:
                raise ending.not_running(record)
            if any(each["network"] == network["name"] for each in state["endpoints"]):
                raise EngineError(
                    f"endpoint with name {record.name} already exists in network {network['name']}"
                )
            endpoint = networking.choose(home, record, network, wanted, state["endpoints"])
            before, ports = jsonio.dumps(state), publishing.waiting(state, endpoint)
            state["endpoints"].append(endpoint)
            state["ports"] += ports
            networking.save(home, record.id, state)
            try:
                networking.lay(home, network, endpoint, inner, live.pid, ports, running=True)
            except BaseException as error:
                state = jsonio.loads(before)
                _cut(home, record, state, [endpoint], ports)
                if isinstance(error, FileNotFoundError):  # of /proc/PID
                    raise ending.not_running(record) from None
                raise
        nameserver.follow(home, record, pidfd, state["endpoints"], state["resolver"])
    finally:
        inner.close()
        os.close(pidfd)


def detach(home: Home, record: Record, network: dict[str, Any]) -> None:
    """`network disconnect`: take a running container's adapter on a network away."""
    from . import firewalling, naming

    with networks.lock(home):
        state = networking.load(home, record.id) or {"endpoints": []}
        found = [each for each in state["endpoints"] if each["network"] == network["name"]]
        if not found:
            raise EngineError(
                f"container {record.name} is not connected to network {network['name']}"
            )
        state["endpoints"].remove(found[0])
        gone = [port for port in state["ports"] if port["address4"] == found[0]["address4"]]
        state["ports"] = [port for port in state["ports"] if port not in gone]
        # They stay held. Another network that leads out has them, or the next that comes.
        state["waiting"] = state.get("waiting", []) + gone
        moved = [port for each in state["endpoints"] for port in publishing.waiting(state, each)]
        state["ports"] += moved
        _cut(home, record, state, found, gone)
        publishing.forget(gone)
        if moved:
            firewalling.add(home, [], moved).finish()
        if found[0]["default"]:
            _find_way_out(home, record, state)
    naming.write_files(home, record, state["endpoints"])


def _cut(
    home: Home, record: Record, left: dict[str, Any], endpoints: list[Any], ports: list[Any]
) -> None:
    """Cut a running container off, and save what is left of its state."""
    networking.cut(home, endpoints, ports, saved=lambda: networking.save(home, record.id, left))


def _find_way_out(home: Home, record: Record, state: dict[str, Any]) -> None:
    """Lead the container's default route through a network that is left, where one leads out. The
    caller holds the lock."""
    from ..network import bridge

    endpoint = next((each for each in state["endpoints"] if each["gateway4"]), None)
    live = records.load_live(home, record.id)
    if endpoint is None or live is None:
        return
    try:
        pidfd, inner = _open(live)
    except ProcessLookupError:
        return  # it is ending
    try:
        bridge.lead_out(inner, endpoint)
    finally:
        inner.close()
        os.close(pidfd)
    endpoint["default"] = True
    networking.save(home, record.id, state)


def _open(live: records.Live) -> tuple[int, Backend]:
    """A living container's process and the links of its network; ProcessLookupError when it lives
    no more, though its state is still there."""
    from ..network.links import inside

    pidfd = teardown.open_process(live)
    if pidfd is None:
        raise ProcessLookupError
    try:
        return pidfd, inside(pidfd, networks.open_links)
    except BaseException as error:
        os.close(pidfd)
        if isinstance(error, OSError) and error.errno == ESRCH:
            raise ProcessLookupError from None
        raise

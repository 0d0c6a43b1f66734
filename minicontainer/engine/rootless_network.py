"""The network of a rootless container: one adapter, and a program beyond it (network/usermode.py).

It has no neighbours: each container has a program of its own, and reaches another one as everybody
does, by its published ports. So there is nothing to divide, and nothing to lock.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

from .. import files, jsonio
from ..errors import EngineError
from ..kernel import process
from ..network import links, usermode
from . import nameserver, naming, networks, publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.process import Process
    from ..network.ports import Port
    from ..runtime.supervise import Service
    from .create import Settings
    from .home import Home
    from .record import Record


def default() -> str:
    """Which network a rootless container gets when nobody named one: `bridge`, or where nothing
    can make it work `none`, with a warning on standard error."""
    try:
        name, _ = usermode.find(networks.DEFAULT)
        if name == "pasta" and not usermode.versions():
            raise EngineError("this host has no way out", hint="slirp4netns wants none")
    except EngineError as error:
        told = f"{error.message}; {error.hint}"
        sys.stderr.write(f"minicontainer: warning: the container has no network: {told}\n")
        return "none"
    return networks.DEFAULT


def check(word: str, settings: Settings) -> str:
    """A --network other than none, host and container, where root is only the user's own: `bridge`,
    or as podman says it pasta or slirp4netns, for that program. EngineError for all others."""
    if word != networks.DEFAULT and word not in usermode.PROGRAMS:
        raise EngineError(
            f"the network {word!r} wants the host's root",
            hint="an ordinary user has --network bridge, none, host or container:NAME",
        )
    for what, given in (
        ("--ip", settings.endpoint.get("ip")),
        ("--ip6", settings.endpoint.get("ip6")),
        ("--mac-address", settings.endpoint.get("mac")),
        ("--network-alias", settings.endpoint.get("aliases")),
        ("a published port of SCTP", any(port.endswith("/sctp") for port in settings.ports)),
    ):
        if given:
            raise EngineError(f"{what} wants the host's root")
    usermode.find(word)
    return word


def connect(home: Home, record: Record, waiting: Process, held: list[Port]) -> list[Service]:
    """Give the container that this process will be its adapter; what the supervisor's loop has to
    do for it. EngineError when it cannot be."""
    name, path = usermode.find(record.network)
    versions = [4] if name == "slirp4netns" else usermode.versions() or [4]
    services: list[Service] = []
    namespace = os.open(f"/proc/{waiting.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        program = usermode.start(name, path, namespace, versions)
        try:
            endpoint = describe(record, namespace, versions)
            state: dict[str, Any] = {
                "name": record.name,
                "hostname": record.hostname,
                "endpoints": [endpoint],
                "ports": publishing.state(held, endpoint),
                "program": {
                    "name": name,
                    "pid": program.pid,
                    "start": process.start_time(program.pid),
                },
            }
            path = home.live(record.id, networks.FILE)
            files.write_atomic(path, jsonio.dumps(state), mode=0o600)
        except BaseException:
            program.end()
            raise
        finally:
            program.close()
        if held:
            services.append(publishing.relay(home, record, held, os.dup(namespace)))
        if naming.asks_resolver(record, [endpoint]):
            server = nameserver.open_server(home, record, namespace, [endpoint])
            services.append(server)
            server.settle()
        naming.write_files(home, record, [endpoint])
    except BaseException:
        for service in services:
            service.close()
        raise
    finally:
        os.close(namespace)
    return services


def describe(record: Record, namespace: int, versions: list[int]) -> dict[str, Any]:
    """The endpoint of network.json. That it has no bridge says what it is."""
    inner = links.inside(namespace, links.Links)
    try:
        (mac,) = (link.mac for link in inner.links() if link.name == usermode.ADAPTER)
    finally:
        inner.close()
    four, six = 4 in versions, 6 in versions
    return {
        "network": record.network,
        "bridge": "",
        "link": "",
        "interface": usermode.ADAPTER,
        "mac": mac,
        "mtu": usermode.MTU,
        "default": True,
        "aliases": [],
        "address4": usermode.ADDRESS4 if four else "",
        "prefix4": usermode.PREFIX4 if four else 0,
        "gateway4": usermode.GATEWAY4 if four else "",
        "address6": usermode.ADDRESS6 if six else "",
        "prefix6": usermode.PREFIX6 if six else 0,
        "gateway6": usermode.GATEWAY6 if six else "",
    }


def disconnect(program: dict[str, Any]) -> None:
    """End the program that network.json names, and see it gone; twice is once."""
    pidfd = process.open_pid(program["pid"], program["start"])
    if pidfd is None:
        return
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        process.wait_ready(pidfd, None)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except (ProcessLookupError, ChildProcessError):
        return  # it is gone; or its parent, who waits for it, is another
    finally:
        os.close(pidfd)

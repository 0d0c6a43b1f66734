"""Forwarding between adapters, which a host does not do until somebody asks.

Whoever switches it on makes the host a router for all its neighbours, not only for containers. So
we remember where it was off before us, and the firewall then forwards nothing that is not ours.
"""

from __future__ import annotations

import os

from .. import files, jsonio
from ..errors import EngineError

CHAPTER = 13

_SETTINGS = "/proc/sys/net"
_SWITCHES = {"ipv4": "ipv4/ip_forward", "ipv6": "ipv6/conf/all/forwarding"}


def enable(state: str) -> list[str]:
    """Switch forwarding on for IPv4 and IPv6; those of the two that were off before us, which is
    what `firewall.ruleset` calls its guard.

    state: the file that remembers it until the next boot. EngineError when the kernel refuses.
    """
    guard: list[str] = jsonio.read(state) if os.path.exists(state) else []
    for family, switch in _SWITCHES.items():
        path = f"{_SETTINGS}/{switch}"
        if not os.path.exists(path) or _read(path) != "0":
            continue  # no IPv6 here, or somebody forwards
        if family not in guard:
            guard.append(family)
            files.write_atomic(state, jsonio.dumps(guard))  # first, or a kill leaves a router
        try:
            if family == "ipv6":
                _keep_advertised_routes()
            _write(path, "1")
        except OSError as error:
            raise EngineError(
                f"cannot switch on forwarding: {path}: {error.strerror}",
                hint="containers reach nothing beyond this host without it",
            ) from error
    return guard


def restore(state: str) -> None:
    """Switch it off again where it was off before us; nothing happens where we never did."""
    try:
        guard: list[str] = jsonio.read(state)
    except FileNotFoundError:
        return
    for family in guard:
        if os.path.exists(f"{_SETTINGS}/{_SWITCHES[family]}"):
            _write(f"{_SETTINGS}/{_SWITCHES[family]}", "0")
    os.unlink(state)


def _keep_advertised_routes() -> None:
    """A host that forwards forgets the routers that advertise themselves, its own way out, unless
    accept_ra is 2 (Linux, networking/ip-sysctl.rst)."""
    adapters = f"{_SETTINGS}/ipv6/conf"
    for name in os.listdir(adapters):
        path = f"{adapters}/{name}/accept_ra"
        if _read(path) == "1":
            _write(path, "2")


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)

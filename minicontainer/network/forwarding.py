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
_ADAPTERS = f"{_SETTINGS}/ipv6/conf"
_SWITCHES = {"ipv4": "ipv4/ip_forward", "ipv6": "ipv6/conf/all/forwarding"}


def enable(state: str) -> list[str]:
    """Switch forwarding on for IPv4 and IPv6; those of the two that were off before us, which is
    what `firewall.ruleset` calls its guard.

    state: the file that remembers it until the next boot. EngineError when the kernel refuses.
    """
    before: dict[str, list[str]] = {"guard": [], "advertised": []}
    if os.path.exists(state):
        before = jsonio.read(state)
    guard = before["guard"]
    for family, switch in _SWITCHES.items():
        path = f"{_SETTINGS}/{switch}"
        if not os.path.exists(path) or _read(path) != "0":
            continue  # no IPv6 here, or somebody forwards
        if family not in guard:
            guard.append(family)
            if family == "ipv6":
                before["advertised"] = [name for name in _adapters() if _advertised(name) == "1"]
            files.write_atomic(state, jsonio.dumps(before))  # first, or a kill leaves a router
        try:
            if family == "ipv6":
                # A host that forwards forgets the routers that advertise themselves, its own way
                # out, unless accept_ra is 2 (Linux, networking/ip-sysctl.rst).
                _change_advertised("1", "2", _adapters())
            _write(path, "1")
        except OSError as error:
            raise EngineError(
                f"cannot switch on forwarding: {path}: {error.strerror}",
                hint="containers reach nothing beyond this host without it",
            ) from error
    return guard


def is_on() -> bool:
    """Whether this host forwards all that it can."""
    paths = [f"{_SETTINGS}/{switch}" for switch in _SWITCHES.values()]
    return all(_read(path) != "0" for path in paths if os.path.exists(path))


def restore(state: str) -> None:
    """Switch it off again where it was off before us; nothing happens where we never did."""
    try:
        before: dict[str, list[str]] = jsonio.read(state)
    except FileNotFoundError:
        return
    for family in before["guard"]:
        if os.path.exists(f"{_SETTINGS}/{_SWITCHES[family]}"):
            _write(f"{_SETTINGS}/{_SWITCHES[family]}", "0")
    _change_advertised("2", "1", before["advertised"])
    os.unlink(state)


def _adapters() -> list[str]:
    """Those that speak IPv6, `all` and `default` among them."""
    return os.listdir(_ADAPTERS) if os.path.isdir(_ADAPTERS) else []


def _advertised(name: str) -> str:
    """An adapter's accept_ra; "" for one that has gone."""
    try:
        return _read(f"{_ADAPTERS}/{name}/accept_ra")
    except OSError:
        return ""


def _change_advertised(before: str, after: str, names: list[str]) -> None:
    for name in names:
        if _advertised(name) == before:
            _write(f"{_ADAPTERS}/{name}/accept_ra", after)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)

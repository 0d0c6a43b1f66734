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
                before["advertised"] = _advertised("1")
            files.write_atomic(state, jsonio.dumps(before))  # first, or a kill leaves a router
        try:
            if family == "ipv6":
                # A host that forwards forgets the routers that advertise themselves, its own way
                # out, unless accept_ra is 2 (Linux, networking/ip-sysctl.rst).
                _accept(_advertised("1"), "2")
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
    _accept([name for name in _advertised("2") if name in before["advertised"]], "1")
    os.unlink(state)


def _advertised(value: str) -> list[str]:
    """The adapters, `all` and `default` among them, whose accept_ra has this value."""
    try:
        names = os.listdir(_ADAPTERS)
    except FileNotFoundError:
        return []
    return [name for name in names if _read(f"{_ADAPTERS}/{name}/accept_ra") == value]


def _accept(names: list[str], value: str) -> None:
    for name in names:
        _write(f"{_ADAPTERS}/{name}/accept_ra", value)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)

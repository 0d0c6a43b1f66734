"""The firewall as the engine keeps it: small changes, and the whole again when one is refused.

All of it under the lock of `networks`: what is written anew is read from the containers that live
at that moment.
"""

from __future__ import annotations

import os
import sys

from ..errors import EngineError
from ..network import firewall, forwarding, nft
from . import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .home import Home


def check(internal: bool = False) -> None:
    """Say on standard error what is missing where nft is; EngineError for an internal network, of
    which no rule would keep the promise."""
    if nft.is_available():
        return
    if internal:
        raise EngineError(
            "an internal network wants the program nft, which this machine has not",
            hint="install nftables (apt install nftables)",
        )
    sys.stderr.write(
        "minicontainer: warning: there is no nft (apt install nftables): containers reach nothing "
        "beyond this host, their ports are relayed, and nothing keeps them apart\n"
    )


def rebuild(home: Home, ended: str = "") -> None:
    """Write both tables anew, from what is defined and what lives; without any network they go,
    and forwarding with them. Nothing happens where nft is missing.

    ended: the id of a container that lives no more, though its network.json is still there.
    """
    if not nft.is_available():
        return
    mark, defined = networks.tag(home), networks.all_of(home)
    state = f"{home.run}.forwarding"  # empty after a boot, as the switch is
    if not defined and _others_forward(state):
        nft.apply(firewall.guard(mark, forwarding.enable(state)))
        return
    if not defined:
        nft.apply(firewall.gone(mark))
        forwarding.restore(state)
        return
    guard = forwarding.enable(state)
    living = [each for each in networks.living(home) if each["id"] != ended]
    endpoints = [endpoint for each in living for endpoint in each["endpoints"]]
    ports = [port for each in living for port in each["ports"]]
    nft.apply(firewall.ruleset(mark, defined, endpoints, ports, guard=guard))


def _others_forward(state: str) -> bool:
    """Whether somebody who came after us may rely on what we have switched on. It stays on for
    them, with the rule that keeps the host from being a router for everybody."""
    if not os.path.exists(state):
        return False
    links = networks.open_links()
    try:
        return any(link.kind in ("bridge", "tun", "wireguard") for link in links.links())
    finally:
        links.close()


class Change:
    """A change that has begun. The kernel takes its time with one that removes: other things can be
    done before `finish`."""

    __slots__ = ("_home", "_ended", "_running")

    def __init__(self, home: Home, text: str, ended: str = "") -> None:
        self._home = home
        self._ended = ended
        self._running = nft.begin(text) if nft.is_available() else None

    def finish(self, saved: Callable[[], None] = lambda: None) -> None:
        """Wait for its end. Where the kernel has other tables than we think (after `nft flush
        ruleset`, or a newer version of ours) they are written anew, from what `saved` has written.
        """
        lost = False
        try:
            if self._running is not None:
                self._running.finish()
        except EngineError:
            lost = True
        saved()
        if lost:
            rebuild(self._home, self._ended)


def add(home: Home, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]]) -> Change:
    """Begin to let a container's packets through."""
    return Change(home, firewall.added(networks.tag(home), endpoints, ports))


def remove(
    home: Home, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]], ended: str = ""
) -> Change:
    """Begin to forget endpoints that are in no network.json any more, or in that of a container
    that has ended."""
    return Change(home, firewall.removed(networks.tag(home), endpoints, ports), ended)

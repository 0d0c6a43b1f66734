"""Who has which name: what the living containers say of themselves, read when it is asked.

A container has a file `network.json` in its run directory as long as it lives. So there is no
register that could be out of date: who has ended is not found any more.
"""

from __future__ import annotations

import _socket
import os

from .. import jsonio
from .dns import AAAA, A, packed
from .names import NAMELESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CHAPTER = 13

FILE = "network.json"


class Directory:
    """The names that one container can use: those on its own networks.

    run: the directory of the living containers; id: the container that asks.
    """

    __slots__ = ("run", "id", "_known")

    def __init__(self, run: str, id: str) -> None:
        self.run = run
        self.id = id
        # What a file said, by the container's id, and when: files are written once and replaced.
        self._known: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    def addresses(self, name: str, kind: int) -> list[bytes] | None:
        """The addresses of a name, in the kind that is asked for (A, AAAA); [] when whoever has
        the name has none such; None when nobody has it.

        `web` is looked for on all networks of the asker; `web.shop` is the `web` of network `shop`.
        """
        found: list[bytes] | None = None
        for _, endpoint, names in self._neighbours():
            if name in names or name.removesuffix(f".{endpoint['network'].lower()}") in names:
                found = found or []
                address = packed_address(endpoint, 4 if kind == A else 6)
                if kind in (A, AAAA) and address and address not in found:
                    found.append(address)
        return found

    def name(self, address: bytes) -> str | None:
        """The name of the container with an address on a network of the asker: `web.shop`. None
        for one that is too long for a name there (RFC 1035, section 2.3.4), too."""
        version = 4 if len(address) == 4 else 6
        for container, endpoint, _ in self._neighbours():
            if packed_address(endpoint, version) == address and len(container["name"]) < 64:
                return f"{container['name']}.{endpoint['network']}"
        return None

    def is_near(self, address: bytes) -> bool:
        """Whether an address belongs to a network of the asker."""
        version = 4 if len(address) == 4 else 6
        for endpoint in self.endpoints():
            own = packed_address(endpoint, version)
            host_bits = len(address) * 8 - int(endpoint.get(f"prefix{version}") or 0)
            if own and not (int.from_bytes(own) ^ int.from_bytes(address)) >> host_bits:
                return True
        return False

    def leads_out(self) -> bool:
        """Whether the asker has a way out of its networks: from an internal one there is none,
        and questions that are passed on would be one (CVE-2024-29018)."""
        return any(each.get("gateway4") or each.get("gateway6") for each in self.endpoints())

    def endpoints(self) -> list[dict[str, Any]]:
        """The asker's own endpoints."""
        endpoints: list[dict[str, Any]] = (self._read(self.id) or {}).get("endpoints", [])
        return endpoints

    def _neighbours(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], set[str]]]:
        """Each living container's endpoint on a network of the asker, and its names there."""
        shared = {endpoint["network"] for endpoint in self.endpoints()} - {NAMELESS}
        ids = os.listdir(self.run) if shared else []
        for gone in self._known.keys() - set(ids):
            del self._known[gone]
        for id in sorted(ids):
            container = self._read(id) or {}
            for endpoint in container.get("endpoints", []):
                if endpoint["network"] in shared:
                    names = [container["name"], container["hostname"], id[:12]]
                    yield (
                        container,
                        endpoint,
                        {each.lower() for each in (*names, *endpoint.get("aliases", []))},
                    )

    def _read(self, id: str) -> dict[str, Any] | None:
        path = f"{self.run}/{id}/{FILE}"
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if id not in self._known or self._known[id][0] != stamp:
                self._known[id] = stamp, jsonio.read(path)
            return self._known[id][1]
        except (OSError, ValueError):
            return None  # it has ended, or has no network


def packed_address(endpoint: dict[str, Any], version: int) -> bytes | None:
    """The IPv4 or IPv6 address of an endpoint as bytes; None when it has none."""
    family = _socket.AF_INET if version == 4 else _socket.AF_INET6
    return packed(endpoint.get(f"address{version}") or "", family)

"""The same links by pyroute2, a library that knows all of rtnetlink.

What `links` packs into bytes is a keyword here, and the library knows its number and its place. For
that it brings more than 300 modules, 150 ms of imports, and a cable takes five times as long. So it
is for programs that use it anyway; the engine does where MINICONTAINER_NETLINK=pyroute2 says so.
"""

from __future__ import annotations

import _socket
import _thread
from errno import ENODEV

from .. import extras
from ..errors import EngineError
from ..kernel import syscalls
from ..kernel.netlink import Answers
from .links import Link, Route, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 12

_EVERYWHERE = {_socket.AF_INET: "0.0.0.0/0", _socket.AF_INET6: "::/0"}
_MAIN, _UNICAST, _UP, _IFA_F_NODAD = 254, 1, 1, 0x02


class Links:
    """pyroute2's backend: the methods and the errors of `links.Links`.

    They are for the thread that made them: in another one pyroute2 would open a second socket, in
    the network namespace of that thread. EngineError when pyroute2 is missing.
    """

    __slots__ = ("_library", "_route", "_thread")

    def __init__(self) -> None:
        self._library = extras.find("pyroute2")
        if self._library is None:
            raise EngineError(
                "pyroute2 is not installed",
                hint="install the extra: pip install 'minicontainer[net]', "
                "or the package python3-pyroute2",
            )
        self._route = self._library.IPRoute(ext_ack=True)
        self._thread = _thread.get_ident()

    def add_bridge(self, name: str, mac: str, mtu: int) -> None:
        """Make a bridge. mac: fixed, or it would change with the ports that come and go."""
        self._ask("link", "add", ifname=name, kind="bridge", address=mac, **_sized(mtu))

    def add_veth(
        self, name: str, bridge: str, peer: str, namespace: int, mac: str, mtu: int
    ) -> None:
        """Make a cable from a port of the bridge, which is up, into another network namespace."""
        port = {"ifname": name, "master": self._find(bridge)["index"], "state": "up"}
        inside = {"ifname": peer, "address": mac, "net_ns_fd": namespace, **_sized(mtu)}
        self._ask("link", "add", kind="veth", peer=inside, **port, **_sized(mtu))

    def delete(self, name: str) -> bool:
        """Remove a link, with the other end of the cable; False when it is gone already."""
        try:
            self._ask("link", "del", ifname=name)
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return False
        return True

    def set_up(self, name: str) -> None:
        """Switch a link on."""
        self._ask("link", "set", ifname=name, state="up")

    def is_up(self, name: str) -> bool:
        """Whether a link is switched on."""
        return bool(self._find(name)["flags"] & _UP)

    def set_hairpin(self, name: str) -> None:
        """Let a bridge send what came in by this port out by it again (bridge(8), hairpin)."""
        self._ask("link", "set", ifname=name, kind="bridge_slave", mode=1)

    def add_address(self, name: str, address: str) -> None:
        """Give a link an address, ADDRESS/LENGTH, that can be used at once."""
        host, _, length = address.partition("/")
        index = self._find(name)["index"]
        self._ask(
            "addr", "add", index=index, address=host, prefixlen=int(length), flags=_IFA_F_NODAD
        )

    def add_route(self, to: str, gateway: str) -> None:
        """Send what is for `to` (ADDRESS/LENGTH) by way of a gateway that a link leads to."""
        self._ask("route", "add", dst=to, gateway=gateway)

    def links(self) -> list[Link]:
        """All links."""
        return [_link(answer) for answer in self._ask("get_links")]

    def addresses(self) -> list[tuple[str, str]]:
        """The (link's name, ADDRESS/LENGTH) of all addresses, IPv4 first."""
        names, found = self._names(), []
        for family in _EVERYWHERE:
            for answer in self._ask("get_addr", family=family):
                address = answer.get_attr("IFA_LOCAL") or answer.get_attr("IFA_ADDRESS")
                index, length = answer["index"], answer["prefixlen"]
                found.append((names.get(index, str(index)), f"{address}/{length}"))
        return found

    def routes(self) -> list[Route]:
        """The routes of the main table, IPv4 first."""
        names, found = self._names(), []
        for family, everywhere in _EVERYWHERE.items():
            for answer in self._ask("get_routes", family=family):
                if answer["table"] != _MAIN or answer["type"] != _UNICAST:
                    continue
                address = answer.get_attr("RTA_DST")
                to = f"{address}/{answer['dst_len']}" if address else everywhere
                link = names.get(answer.get_attr("RTA_OIF"), "")
                found.append(Route(to, answer.get_attr("RTA_GATEWAY") or "", link))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def _find(self, name: str) -> Any:
        (answer,) = self._ask("link", "get", ifname=name)
        return answer

    def _names(self) -> dict[int, str]:
        return {link.index: link.name for link in self.links()}

    def _ask(self, method: str, *words: str, **keywords: Any) -> list[Any]:
        """Call a method of IPRoute. Its NetlinkError, which is no OSError, becomes a SyscallError
        whose hint is what the kernel says beside the number."""
        if self._thread != _thread.get_ident():
            raise RuntimeError("pyroute2's links are for the thread that made them")
        said = ""

        def ask(*words: str, **keywords: Any) -> Answers:
            nonlocal said
            try:
                return Answers(getattr(self._route, method)(*words, **keywords))
            except self._library.NetlinkDumpInterrupted:
                return ask(*words, **keywords)  # something came or went meanwhile (before 0.9)
            except self._library.NetlinkError as error:
                said = str(error.args[1])
                raise OSError(error.code, said)

        try:
            answers: list[Any] = syscalls.through(f"IPRoute.{method}", ask, *words, **keywords)
        except syscalls.SyscallError as error:
            error.hint = said.lower() if said != error.strerror else None
            raise
        return answers


def _sized(mtu: int) -> dict[str, int]:
    return {"mtu": mtu} if mtu else {}


def _link(answer: Any) -> Link:
    info = answer.get_attr("IFLA_LINKINFO")
    return Link(
        answer["index"],
        printable(answer.get_attr("IFLA_IFNAME")),
        (info and info.get_attr("IFLA_INFO_KIND")) or "",
        answer.get_attr("IFLA_ADDRESS") or "",
        answer.get_attr("IFLA_MTU") or 0,
        bool(answer["flags"] & _UP),
        answer.get_attr("IFLA_MASTER") or 0,
        answer.get_attr("IFLA_LINK") or 0,
    )

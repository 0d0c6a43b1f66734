"""The picture of the networks: what hangs on which bridge, drawn for a terminal.

The host is the box on the left. In it are its adapters and, as double boxes, the bridges; each
container is a box beyond the host's wall, for it is another namespace. A cable goes through the
wall, from a port of the bridge to an adapter inside. A published port is an arrow through it.

The model is facts and words; whoever makes it has compared them with what should be, and says what
is wrong at the place where it is (`survey`). What is wrong has a `!`.
"""

from __future__ import annotations

from typing import NamedTuple

CHAPTER = 13

# How a published port's packets get to the container.
RULE, RELAY, CLOSED = "rule", "relay", "closed"
ARROWS = {RULE: "─▶", RELAY: "╌▶", CLOSED: " ✗"}
LEGEND = {
    RULE: "published port, translated by the kernel",
    RELAY: "published port, passed on by the container's supervisor",
    CLOSED: "published port that leads nowhere",
}
_NAME = 32
_PLAIN = str.maketrans("─│┌┐└┘┤┴┼═║╔╗╚╝╟╌▶✗…", "-|+++++++=|+++++~>x~")


class Door(NamedTuple):
    """A published port: `*:5001` of the host, `5000/tcp` inside, RULE, RELAY or CLOSED."""

    place: str
    inner: str
    way: str = RULE
    wrong: str = ""


class Cable(NamedTuple):
    """A container's place on a network: the cable's end at the bridge and its end inside ("": there
    is none), what that has, and by which gateway it gets out ("": not by this cable)."""

    container: str
    link: str
    interface: str
    addresses: tuple[str, ...] = ()
    out: str = ""
    doors: tuple[Door, ...] = ()
    wrong: tuple[str, ...] = ()


class Network(NamedTuple):
    """A network: the bridge, its addresses, what is to be said of it, who is on it."""

    name: str
    bridge: str
    addresses: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    cables: tuple[Cable, ...] = ()
    wrong: tuple[str, ...] = ()


class Adapter(NamedTuple):
    """An adapter of the host that is none of ours; gateways: of the default routes by it."""

    name: str
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


class Picture(NamedTuple):
    """The whole."""

    adapters: tuple[Adapter, ...] = ()
    networks: tuple[Network, ...] = ()
    wrong: tuple[str, ...] = ()


class Row(NamedTuple):
    """A line across the host's wall: "cable", a door's way, or ""; its words on both sides."""

    kind: str
    outside: str
    inside: str
    wrong: bool = False


def rows(cable: Cable) -> list[Row]:
    """What is in a container's box, line by line, and what leads to it."""
    first, *rest = cable.addresses or ("",)
    found = []
    if cable.link:
        inside = f"{cable.interface}  {first}".rstrip() if cable.interface else first
        found.append(Row("cable", cable.link, inside))
    found += [Row("", "", " " * len(f"{cable.interface}  ") + address) for address in rest]
    if cable.out:
        found.append(Row("", "", f"out by {cable.out}"))
    found += [Row("", "", f"! {wrong}", True) for wrong in cable.wrong]
    for door in cable.doors:
        inner = f"{door.inner}  ! {door.wrong}" if door.wrong else door.inner
        found.append(Row(door.way, door.place, inner, bool(door.wrong)))
    return found


def words(network: Network) -> list[str]:
    """What is in a bridge's box."""
    return [
        network.bridge, *network.addresses, *network.says, *(f"! {each}" for each in network.wrong)
    ]  # fmt: skip


def host_lines(picture: Picture) -> list[str]:
    """What is in the host's box above the bridges."""
    width = max((len(each.name) for each in picture.adapters), default=0)
    lines = [
        f"{name if not place else '':<{width}}  {address}"
        for name, addresses, _ in picture.adapters
        for place, address in enumerate(addresses or ("",))
    ]
    return [*map(str.rstrip, lines), *(f"! {each}" for each in picture.wrong)]


def ways_out(picture: Picture) -> list[str]:
    """`up0 by 198.51.100.2`, for each default route."""
    return [
        f"{each.name} by {gateway}" if gateway else each.name
        for each in picture.adapters
        for gateway in each.gateways
    ]


def legend(picture: Picture) -> list[tuple[str, str]]:
    """The signs that are in this picture, and what they mean."""
    cables = [cable for network in picture.networks for cable in network.cables]
    doors = [door for cable in cables for door in cable.doors]
    found = [(ARROWS[way], text) for way, text in LEGEND.items() if way in {d.way for d in doors}]
    if any(door.place.startswith("*") for door in doors):
        found.append(("*", "every address of this host, IPv4 and IPv6"))
    wrong = any(row.wrong for cable in cables for row in rows(cable))
    if wrong or picture.wrong or any(network.wrong for network in picture.networks):
        found.append(("!", "not as the engine has made it"))
    return found


def text(picture: Picture) -> str:
    """The picture in characters, of which `plain` makes ASCII."""
    cables = [cable for network in picture.networks for cable in network.cables]
    within = [row for cable in cables for row in rows(cable)]
    bridge = _widest(
        [f" {shorten(network.name)} " for network in picture.networks]
        + [word for network in picture.networks for word in words(network)]
    )
    middle = _widest([row.outside for row in within]) + 4
    box = _widest([f" {shorten(c.container)} " for c in cables] + [row.inside for row in within])
    host = max(bridge + 4 + middle, _widest(host_lines(picture)))
    ways = ways_out(picture)
    lines = ["  elsewhere"] if ways else []
    lines += [f"  │ {way}" for way in ways]
    lines.append(f"┌─{'┴' if ways else '─'} this host ".ljust(host + 3, "─") + "┐")
    lines += [f"│ {line:<{host}} │" for line in host_lines(picture)]
    for network in picture.networks:
        lines.append(f"│ {'':<{host}} │")
        lines += _network(network, bridge, host - bridge - 4, box)
    lines.append("└".ljust(host + 3, "─") + "┘")
    if signs := legend(picture):
        lines += ["", *(f" {sign:>2} {meaning}" for sign, meaning in signs)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def plain(text: str) -> str:
    """The same for a terminal that has ASCII alone."""
    return text.translate(_PLAIN)


def _network(network: Network, bridge: int, middle: int, box: int) -> list[str]:
    """A bridge and the containers beside it. The widths are of what is written in the boxes."""
    nothing = Row("", "", "")
    right: list[tuple[Row, str]] = []
    for cable in network.cables:
        right.append((nothing, f"┌ {shorten(cable.container)} ".ljust(box + 3, "─") + "┐"))
        right += [
            (row, f"{'┤' if row.kind == 'cable' else '│'} {row.inside:<{box}} │")
            for row in rows(cable)
        ]
        right.append((nothing, "└".ljust(box + 3, "─") + "┘"))
    inside = words(network)
    inside += [""] * (len(right) - 2 - len(inside))
    left = [f"╔ {shorten(network.name)} ".ljust(bridge + 3, "═") + "╗"]
    left += [f"║ {word:<{bridge}} ║" for word in inside]
    left.append("╚".ljust(bridge + 3, "═") + "╝")
    right += [(nothing, "")] * (len(left) - len(right))
    lines = []
    for half, (row, cell) in zip(left, right, strict=True):
        way = f"{'':<{middle}} │  "
        if row.kind == "cable":
            half, way = f"{half[:-1]}╟", f"{f'─ {row.outside} ':─<{middle}}─┼──"
        elif row.kind:
            arrow = ARROWS[row.kind]
            way = f"{row.outside:>{middle - 1}} {arrow[0]}┼{arrow}"
        lines.append(f"│ {half}{way}{cell}")
    return lines


def shorten(name: str) -> str:
    """A name that leaves room for the rest."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _widest(texts: list[str]) -> int:
    return max(map(len, texts), default=0)

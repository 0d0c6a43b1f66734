"""The picture of the networks as SVG: for a page, a slide, a wall.

The same boxes as in the terminal, but a container is drawn once, beside its first network, and its
other cables lead there from their bridges. It brings its own background, and asks for no font.
"""

from __future__ import annotations

from . import picture
from .picture import ARROWS, CLOSED, RELAY, Cable, Network, Picture, shorten

CHAPTER = 13

# In pixels: a line, the widest letter of the usual fonts (of a name, which is bold), margins, and
# the gap between the host's wall and the containers.
_LINE, _LETTER, _BOLD, _PAD, _LEFT, _GAP = 20, 7.9, 9.4, 14, 40, 72
_BACK, _PAPER, _SWITCH = "#f6f8f8", "#ffffff", "#e0f2f1"
_INK, _GREY, _CABLE, _DOOR, _WRONG = "#263238", "#607d8b", "#00796b", "#e65100", "#c62828"
_WAYS = {sign: way for way, sign in ARROWS.items()}


def draw(scene: Picture) -> str:
    """The picture as an SVG document."""
    sheet = _Sheet(scene)
    ways = picture.ways_out(scene)
    top = 46 + _LINE * len(ways) if ways else 24
    if ways:
        sheet.name(_LEFT, 28, "elsewhere")
        sheet.line(f"M{_LEFT + 12} 34V{top}", _CABLE)
        for number, way in enumerate(ways):
            sheet.word(_LEFT + 24, 50 + _LINE * number, way)
    sheet.name(_LEFT, top + 26, "this host")
    for number, line in enumerate(picture.host_lines(scene), 1):
        sheet.word(_LEFT, top + 30 + _LINE * number, line)
    y = top + 50.0 + _LINE * len(picture.host_lines(scene))
    ends: dict[Cable, float] = {}
    for network in scene.networks:
        y = _network(sheet, scene, network, y, ends) + 20
    sheet.box(24, top, sheet.wall - 24, y - top, _PAPER, _GREY)
    for sign, meaning in picture.legend(scene):
        y += _LINE + 2
        if sign in _WAYS:
            sheet.arrow(_WAYS[sign], _LEFT, _LEFT + 28, y + 2)
        else:
            sheet.word(_LEFT + 10, y + 6, sign, _DOOR)
        sheet.word(_LEFT + 40, y + 6, meaning, _GREY)
    return sheet.document(y + 24)


def _network(
    sheet: _Sheet, scene: Picture, network: Network, top: float, ends: dict[Cable, float]
) -> float:
    """A bridge, and beside it those containers that are not drawn yet; where it ends. ends: the
    cables of all that are drawn, and where they end."""
    y = top
    for cable in network.cables:
        if cable not in ends:
            y = _container(sheet, scene, cable.container, y, ends) + 12
            start = ends[cable]
        else:
            y += _LINE + 16
            start = y - 22
        if cable.link:
            sheet.wire(start, ends[cable])
            sheet.word(sheet.bridge + 12, start - 5, cable.link, _CABLE)
    y = max(y - 12, top + 36 + _LINE * len(picture.words(network)))
    sheet.box(_LEFT, top, sheet.bridge - _LEFT, y - top, _SWITCH, _CABLE)
    sheet.name(_LEFT + _PAD, top + 20, network.name)
    for number, word in enumerate(picture.words(network), 1):
        sheet.word(_LEFT + _PAD, top + 24 + _LINE * number, word)
    return y


def _container(
    sheet: _Sheet, scene: Picture, name: str, top: float, ends: dict[Cable, float]
) -> float:
    """A container with all its adapters; where it ends."""
    sheet.name(sheet.inner + _PAD, top + 20, name)
    y = top + 22
    for cable in (each for network in scene.networks for each in network.cables):
        if cable.container != name:
            continue
        y += 6
        ends[cable] = y + 14
        for row in picture.rows(cable):
            y += _LINE
            sheet.word(sheet.inner + _PAD, y - 2, row.inside, _WRONG if row.wrong else _INK)
            if row.kind in ARROWS:
                sheet.arrow(row.kind, sheet.wall - 8, sheet.inner, y - 6)
                sheet.word(sheet.wall - _PAD, y - 2, row.outside, _DOOR, end=True)
    sheet.box(sheet.inner, top, sheet.width - 24 - sheet.inner, y + 10 - top, _PAPER, _INK)
    return y + 10


class _Sheet:
    """What is drawn so far. From left to right: the bridges' edge, the host's wall, the containers'
    edge, the whole width."""

    def __init__(self, scene: Picture) -> None:
        cables = [cable for network in scene.networks for cable in network.cables]
        lines = [row for cable in cables for row in picture.rows(cable)]
        said = [word for network in scene.networks for word in picture.words(network)]
        self.bridge = _LEFT + _width(said, [network.name for network in scene.networks])
        ports = self.bridge + _width([row.outside for row in lines]) + 24
        self.wall = max(ports, _LEFT + _width(picture.host_lines(scene))) + _PAD
        self.inner = self.wall + _GAP
        boxes = _width([row.inside for row in lines], [cable.container for cable in cables])
        self.width = self.inner + boxes + 24 if cables else max(self.wall + 24, 440)
        self.boxes: list[str] = []
        self.wires: list[str] = []
        self.texts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, fill: str, edge: str) -> None:
        """A box. The host's comes last and goes under the others."""
        self.boxes.insert(
            0,
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
            f'fill="{fill}" stroke="{edge}" stroke-width="1.5"/>',
        )

    def line(self, path: str, colour: str, more: str = "") -> None:
        """A line, or several."""
        self.wires.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{more}/>'
        )

    def wire(self, y: float, to: float) -> None:
        """A cable, with a plug at both ends; to another height it gets in the gap."""
        start, wall, end = self.bridge, self.wall, self.inner
        bend = f"C{end:g} {y:g} {wall:g} {to:g} {end:g} {to:g}" if to != y else f"H{end:g}"
        self.line(f"M{start:g} {y:g}H{wall:g}{bend}", _CABLE)
        self.line(f"M{start - 4:g} {y:g}h8M{end - 4:g} {to:g}h8", _CABLE, ' style="stroke-width:8"')

    def arrow(self, way: str, start: float, end: float, y: float) -> None:
        """The way of a published port."""
        if way == CLOSED:
            self.line(f"M{(start + end) / 2 - 5:g} {y - 5:g}l10 10m0-10l-10 10", _WRONG)
            return
        dashes = ' stroke-dasharray="2 4"' if way == RELAY else ""
        self.line(f"M{start:g} {y:g}H{end:g}", _DOOR, f'{dashes} marker-end="url(#head)"')

    def word(self, x: float, y: float, text: str, colour: str = _INK, *, end: bool = False) -> None:
        """A line of text; what is wrong is red. end: x is where it ends."""
        anchor = ' text-anchor="end"' if end else ""
        self.texts.append(
            f'<text x="{x:g}" y="{y:g}" fill="{_WRONG if text[:1] == "!" else colour}" '
            f'font-family="monospace" xml:space="preserve"{anchor}>{_escape(text)}</text>'
        )

    def name(self, x: float, y: float, text: str) -> None:
        """The name of a box."""
        self.texts.append(
            f'<text x="{x:g}" y="{y:g}" fill="{_INK}" font-family="system-ui, sans-serif" '
            f'font-size="15" font-weight="600">{_escape(shorten(text))}</text>'
        )

    def document(self, height: float) -> str:
        """All of it."""
        size = f'width="{self.width:.0f}" height="{height:.0f}"'
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" '
                f'viewBox="0 0 {self.width:.0f} {height:.0f}" {size} font-size="13" role="img">',
                "<title>This host, its networks, and the containers on them</title>",
                '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
                'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
                f'<path d="M0 0 10 5 0 10z" fill="{_DOOR}"/></marker></defs>',
                f'<rect {size} fill="{_BACK}" rx="8"/>',
                *self.boxes,
                *self.wires,
                *self.texts,
                "</svg>\n",
            ]
        )


def _width(texts: list[str], names: list[str] | None = None) -> float:
    """A box as wide as these need it."""
    widths = [len(text) * _LETTER for text in texts]
    widths += [len(shorten(name)) * _BOLD for name in names or []]
    return max(widths, default=0) + 2 * _PAD


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

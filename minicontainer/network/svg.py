"""The picture of the networks as SVG: for a page, a slide, a wall.

The same boxes as in the terminal, but a container is drawn once, beside its first network, and its
other cables lead there from their bridges. It brings its own background, and asks for no font.
"""

from __future__ import annotations

from .picture import (
    CLOSED, RELAY, RULE, Cable, Network, Picture, Row, host_lines, legend, rows, shorten, ways_out,
    words,
)  # fmt: skip

CHAPTER = 13

# In pixels: a line, a letter of 13 pixels in the widest of the usual fonts, margins, the gap
# between the host's wall and the containers.
_LINE, _LETTER, _PAD, _GAP = 20, 7.9, 14, 72
_BACK, _PAPER, _SWITCH = "#f6f8f8", "#ffffff", "#e0f2f1"
_INK, _GREY, _CABLE, _DOOR, _WRONG = "#263238", "#78909c", "#00796b", "#e65100", "#c62828"
_DASHES = {RULE: "", RELAY: ' stroke-dasharray="2 4"', CLOSED: ' stroke-dasharray="1 6"'}


def draw(picture: Picture) -> str:
    """The picture as an SVG document."""
    cables = [(network, cable) for network in picture.networks for cable in network.cables]
    lines = [row for _, cable in cables for row in rows(cable)]
    says = [word for network in picture.networks for word in words(network)]
    bridge = _width([*says, *(shorten(network.name) for network in picture.networks)])
    left, right = 40.0, 40.0 + bridge + _width([row.outside for row in lines]) + 24
    wall = max(right, left + _width(host_lines(picture))) + _PAD
    box = wall + _GAP
    width = box + _width([r.inside for r in lines] + [shorten(c.container) for _, c in cables]) + 24
    ways = ways_out(picture)
    top = 30.0 + _LINE * len(ways) + (16 if ways else 0)
    boxes, wires, texts = [], [], []

    y = top + 26
    texts.append(_name(left, y, "this host"))
    for line in host_lines(picture):
        y += _LINE
        texts.append(_word(left, y, line, _WRONG if line.startswith("!") else _INK))
    y += 24

    at: dict[tuple[str, str], float] = {}  # where a cable ends: by container and link
    for network in picture.networks:
        start = y
        for cable in network.cables:
            if (cable.container, cable.link) in at:
                # It is drawn already: here is only the port that its cable begins at.
                y += _LINE
                wires.append(_wire(left + bridge, y - 6, wall, box, at[cable.container, cable.link]))
                texts.append(_label(left + bridge + 12, y - 11, cable.link))
                continue
            bottom = y + 24
            for other, mine in cables:
                if mine.container == cable.container:
                    at[mine.container, mine.link] = bottom + 8
                    if other is network and mine.link:
                        wires.append(_wire(left + bridge, bottom + 8, wall, box, bottom + 8))
                        texts.append(_label(left + bridge + 12, bottom + 3, mine.link))
                    for row in rows(mine):
                        bottom += _LINE
                        texts.append(_word(box + _PAD, bottom - 7, row.inside, _colour(row)))
                        if row.kind not in ("", "cable"):
                            wires.append(_arrow(row.kind, wall, box, bottom - 11))
                            texts.append(_word(wall - _PAD, bottom - 7, row.outside, _DOOR, end=True))
            boxes.append(_box(box, y, width - 24 - box, bottom - y + 4, _PAPER, _INK))
            texts.append(_name(box + _PAD, y + 18, shorten(cable.container)))
            y = bottom + 14
        y = max(y - 8, start + 32 + _LINE * len(words(network)))
        boxes.append(_box(left, start, bridge, y - start, _SWITCH, _CABLE, "2"))
        texts.append(_name(left + _PAD, start + 20, shorten(network.name)))
        for place, word in enumerate(words(network), 1):
            colour = _WRONG if word.startswith("!") else _INK
            texts.append(_word(left + _PAD, start + 20 + _LINE * place, word, colour))
        y += 20

    boxes.insert(0, _box(24, top, wall - 24, y - top, _PAPER, _GREY))
    if ways:
        wires.append(_line(f"M{left + 12} 34V{top}", _CABLE))
        texts.append(_name(left, 28, "elsewhere"))
        texts += [_word(left + 24, 50 + _LINE * n, way, _INK) for n, way in enumerate(ways)]
    for sign, meaning in legend(picture):
        y += _LINE + 2
        texts.append(_word(56, y + 6, sign.strip(), _WRONG if sign == "!" else _DOOR, end=True))
        texts.append(_word(66, y + 6, meaning, _GREY))
    height = y + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" font-size="13" role="img">',
            "  <title>This host, its networks, and the containers on them</title>",
            '  <defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
            'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0 10 5 0 10z" fill="{_DOOR}"/></marker></defs>',
            f'  <rect width="{width:.0f}" height="{height:.0f}" fill="{_BACK}" rx="8"/>',
            *boxes,
            *wires,
            *texts,
            "</svg>\n",
        ]
    )


def _width(texts: list[str]) -> float:
    return max(map(len, texts), default=0) * _LETTER + 2 * _PAD


def _colour(row: Row) -> str:
    return _WRONG if row.wrong else _INK


def _box(x: float, y: float, width: float, height: float, fill: str, edge: str, line: str = "1.5") -> str:
    return (
        f'  <rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" '
        f'stroke="{edge}" stroke-width="{line}"/>'
    )


def _line(path: str, colour: str, more: str = "") -> str:
    return f'  <path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{more}/>'


def _wire(start: float, y: float, wall: float, end: float, to: float) -> str:
    """A cable, with a plug at both ends; where it leads to another height it does so in the gap."""
    bend = f"H{wall:g}C{end:g} {y:g} {wall:g} {to:g} {end:g} {to:g}" if to != y else f"H{end:g}"
    plugs = "".join(
        f'<rect x="{x - 4:g}" y="{at - 4:g}" width="8" height="8" fill="{_CABLE}"/>'
        for x, at in ((start, y), (end, to))
    )
    return f"{_line(f'M{start:g} {y:g}{bend}', _CABLE)}{plugs}"


def _arrow(way: str, wall: float, end: float, y: float) -> str:
    head = ' marker-end="url(#head)"' if way != CLOSED else ""
    return _line(f"M{wall - 8:g} {y:g}H{end:g}", _DOOR, _DASHES[way] + head)


def _word(x: float, y: float, text: str, colour: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'  <text x="{x:g}" y="{y:g}" fill="{colour}" font-family="monospace" '
        f'xml:space="preserve"{anchor}>{_escape(text)}</text>'
    )


def _label(x: float, y: float, text: str) -> str:
    return _word(x, y, text, _CABLE)


def _name(x: float, y: float, text: str) -> str:
    return (
        f'  <text x="{x:g}" y="{y:g}" fill="{_INK}" font-family="system-ui, sans-serif" '
        f'font-size="15" font-weight="600">{_escape(text)}</text>'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

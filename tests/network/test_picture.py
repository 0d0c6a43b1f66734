"""The picture of the networks: small scenes, in characters and as SVG. No root needed."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as xml

import pytest

from minicontainer.network import picture, svg
from minicontainer.network.picture import (
    CLOSED,
    RELAY,
    Adapter,
    Cable,
    Door,
    Network,
    Picture,
)

UPLINK = Adapter("up0", ("198.51.100.1/24",), ("198.51.100.2",))
LOOPBACK = Adapter("lo", ("127.0.0.1/8",))
ONE = Cable(
    "one", "mc309defbcc7", "eth0", ("172.17.0.2/16", "fd73::2/64"), "mc0",
    (Door("*:5001", "5000/tcp"), Door("127.0.0.1:53", "53/udp", RELAY)),
)  # fmt: skip
SCENE = Picture(
    (UPLINK, LOOPBACK),
    (
        Network("bridge", "mc0", ("172.17.0.1/16",), ("out by up0, masquerade",), (ONE,)),
        Network("shop", "mc-34067a2b963d", (), ("not made yet",)),
    ),
)

DRAWN = """\
  elsewhere
  │ up0 by 198.51.100.2
┌─┴ this host ───────────────────────────────┐
│ up0  198.51.100.1/24                       │
│ lo   127.0.0.1/8                           │
│                                            │
│ ╔ bridge ════════════════╗                 │  ┌ one ────────────────┐
│ ║ mc0                    ╟─ mc309defbcc7 ──┼──┤ eth0  172.17.0.2/16 │
│ ║ 172.17.0.1/16          ║                 │  │       fd73::2/64    │
│ ║ out by up0, masquerade ║                 │  │ out by mc0          │
│ ║                        ║         *:5001 ─┼─▶│ 5000/tcp            │
│ ║                        ║   127.0.0.1:53 ╌┼╌▶│ 53/udp              │
│ ╚════════════════════════╝                 │  └─────────────────────┘
│                                            │
│ ╔ shop ══════════════════╗                 │
│ ║ mc-34067a2b963d        ║                 │
│ ║ not made yet           ║                 │
│ ╚════════════════════════╝                 │
└────────────────────────────────────────────┘

 ─▶ published port, translated by the kernel
 ╌▶ published port, passed on by the container's supervisor
  * every address of this host, IPv4 and IPv6
"""

# Bridges without containers, a cable that is gone, a port that nobody serves, no way out.
BROKEN = Picture(
    (LOOPBACK,),
    (
        Network(
            "bridge", "mc0", (), (),
            (
                Cable("one", "", "", wrong=("the cable mc1 is gone",)),
                Cable("two", "mc2", "eth0", ("172.17.0.3/16",), "",
                      (Door("0.0.0.0:80", "80/tcp", CLOSED, "nobody listens"),)),
            ),
            ("no masquerade",),
        ),
    ),
    ("there is no table inet minicontainer",),
)  # fmt: skip

DRAWN_BROKEN = """\
+-- this host ---------------------------+
| lo  127.0.0.1/8                        |
| ! there is no table inet minicontainer |
|                                        |
| + bridge =========+                    |  + one ---------------------+
| | mc0             |                    |  | ! the cable mc1 is gone  |
| | ! no masquerade |                    |  +--------------------------+
| |                 |                    |  + two ---------------------+
| |                 +- mc2 --------------+--+ eth0  172.17.0.3/16      |
| |                 |        0.0.0.0:80  + x| 80/tcp  ! nobody listens |
| +=================+                    |  +--------------------------+
+----------------------------------------+

  x published port that leads nowhere
  ! not as the engine has made it
"""


def test_a_scene_in_characters() -> None:
    assert picture.text(SCENE) == DRAWN


def test_what_is_wrong_is_said_where_it_is_and_in_ascii() -> None:
    drawn = picture.plain(picture.text(BROKEN))
    assert drawn == DRAWN_BROKEN
    assert drawn.isascii()


def test_nothing_at_all() -> None:
    assert picture.text(Picture((LOOPBACK,))) == (
        "┌── this host ────┐\n│ lo  127.0.0.1/8 │\n└─────────────────┘\n"
    )
    assert xml.fromstring(svg.draw(Picture()))


def crowd() -> Picture:
    """Thirty containers with names as long as they may be."""
    cables = [
        Cable(f"learner-{number}-{'x' * 100}", f"mc{number:010x}", "eth0", (f"10.1.0.{number}/24",))
        for number in range(2, 32)
    ]
    return Picture((UPLINK,), (Network("n" * 128, "mc-34067a2b963d", cables=tuple(cables)),))


def test_long_names_and_many_containers_stay_in_their_boxes() -> None:
    lines = picture.text(crowd()).splitlines()
    assert max(map(len, lines)) <= 110
    cables = [line for line in lines if "╟─" in line]
    assert len(cables) == 30
    assert len({line.index("┼") for line in cables}) == 1
    assert len([line for line in lines if "learner-" in line and line.endswith("─┐")]) == 30


# ---------------------------------------------------------------------------------------------- SVG


def parts(drawn: str, tag: str) -> list[xml.Element]:
    """The elements of a kind, in the order of the document."""
    return list(xml.fromstring(drawn).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def texts(drawn: str) -> list[str]:
    return [str(node.text) for node in parts(drawn, "text")]


@pytest.mark.parametrize("scene", [SCENE, BROKEN])
def test_the_svg_says_what_the_text_says(scene: Picture) -> None:
    drawn = svg.draw(scene)
    said = " ".join(" ".join(texts(drawn)).split())
    for network in scene.networks:
        for row in [row for cable in network.cables for row in picture.rows(cable)]:
            assert " ".join(row.inside.split()) in said
            assert row.outside in said
        for word in [network.name, *picture.words(network)]:
            assert word in said
    for line in [*picture.host_lines(scene), *picture.ways_out(scene)]:
        assert " ".join(line.split()) in said


def test_an_arrow_is_dashed_where_the_supervisor_passes_on() -> None:
    arrows = [path.attrib for path in parts(svg.draw(SCENE), "path") if "marker-end" in path.attrib]
    # One in the picture and one in the legend, of each kind.
    assert ["stroke-dasharray" in each for each in arrows].count(True) == 2
    assert len(arrows) == 4


def box_of(drawn: str, name: str) -> tuple[float, float, float, float]:
    """The smallest box around a text: left, top, right, bottom."""
    (at,) = [node for node in parts(drawn, "text") if node.text == name]
    x, y = float(at.attrib["x"]), float(at.attrib["y"])
    found = []
    for rect in parts(drawn, "rect"):
        left, top = (float(rect.attrib.get(key, 0)) for key in ("x", "y"))
        right, bottom = left + float(rect.attrib["width"]), top + float(rect.attrib["height"])
        if left <= x <= right and top <= y <= bottom:
            found.append((left, top, right, bottom))
    return min(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))


def test_a_container_on_two_networks_is_drawn_once_and_its_cables_lead_to_it() -> None:
    second = Cable("one", "mc309defbcc71", "eth1", ("10.1.0.2/24",))
    shop = Network("shop", "mc-34067a2b963d", ("10.1.0.1/24",), (), (second,))
    scene = Picture((), (SCENE.networks[0], shop))
    drawn = svg.draw(scene)
    assert texts(drawn).count("one") == 1
    assert picture.text(scene).count("┌ one ") == 2
    left, top, _, bottom = box_of(drawn, "one")
    wires = [path.attrib["d"] for path in parts(drawn, "path") if "H" in path.attrib["d"]]
    (curve,) = [path for path in wires if "C" in path]
    start, end = curve[1:].partition("H")[0].split(), curve.split()[-2:]
    assert (float(end[0]), top < float(end[1]) < bottom) == (left, True)
    assert box_of(drawn, "shop")[1] < float(start[1]) < box_of(drawn, "shop")[3]
    assert float(start[0]) == box_of(drawn, "shop")[2]


def test_no_two_containers_overlap() -> None:
    drawn = svg.draw(crowd())
    boxes = [box_of(drawn, name) for name in texts(drawn) if name.startswith("learner-")]
    assert len(boxes) == 30
    assert all(upper[3] < lower[1] for upper, lower in itertools.pairwise(boxes))
    height = float(xml.fromstring(drawn).attrib["height"])
    assert boxes[-1][3] < height
    assert box_of(drawn, "this host")[3] > boxes[-1][3] - 1


def test_what_a_name_says_is_no_markup() -> None:
    drawn = svg.draw(Picture((Adapter("a&b<c>", ()),)))
    assert "a&b<c>" in texts(drawn)

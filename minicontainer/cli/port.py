"""`port`: where a container's ports are on the host."""

from __future__ import annotations

from ..engine import names, publishing, teardown
from ..engine.home import Home
from ..errors import EngineError
from .options import Command, Values


def port(home: Home, values: Values) -> int:
    """The action of `minicontainer port`."""
    teardown.reconcile(home)
    word, *asked = values.words
    ports = publishing.of(home, names.find(home, word))
    if not asked:
        for line in publishing.lines(ports):
            print(line)
        return 0
    number, _, proto = asked[0].partition("/")
    if not (number.isascii() and number.isdigit()) or int(number) > 65535:
        raise EngineError(f"invalid port ({number})")
    places = ports.get(f"{number}/{proto or 'tcp'}")
    if not places:
        raise EngineError(f"no public port '{asked[0]}' published for {word}")
    for place in publishing.places_of(places):
        print(place)
    return 0


PORT = Command(
    "port",
    "CONTAINER [PORT[/PROTOCOL]]",
    "Show where a container's ports are on the host",
    port,
    minimum=1,
    maximum=2,
)

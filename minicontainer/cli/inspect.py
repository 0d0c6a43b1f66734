"""`inspect`: all that is known of containers and images, as docker's JSON."""

from __future__ import annotations

from .. import jsonio
from ..engine import describe, names, teardown
from ..engine.home import Home
from ..errors import EngineError
from . import output
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Look = Callable[[Home, str], dict[str, Any]]


def container(home: Home, word: str) -> dict[str, Any]:
    """A container, or EngineError."""
    return describe.inspect(home, names.find(home, word))


def image(home: Home, word: str) -> dict[str, Any]:
    """An image, or EngineError."""
    store = home.store()
    return store.inspect(store.resolve(word))


def anything(home: Home, word: str) -> dict[str, Any]:
    """A container of that name or id, otherwise an image."""
    try:
        return container(home, word)
    except EngineError as error:
        if not error.message.startswith("no such container"):
            raise
    try:
        return image(home, word)
    except EngineError:
        raise EngineError(f"no such object: {word}") from None


def _show(home: Home, values: Values, look: Look) -> int:
    teardown.reconcile(home)
    template = values.text("format")
    found: list[dict[str, Any]] = []
    code = output.for_each(values.words, lambda word: found.append(look(home, word)))
    _print(found, template)
    return code


def _print(found: Sequence[dict[str, Any]], template: str | None) -> None:
    if template in (None, "json"):
        print(output.pretty(found) if template is None else jsonio.dumps(found))
    else:
        for value in found:
            print(output.render(template or "", value))


def security(home: Home, values: Values) -> int:
    """What running containers can do, from the kernel: in words, or as `--format` asks."""
    from ..engine import ending, powers, spec
    from .security import describe as in_words

    def look(home: Home, word: str) -> dict[str, Any]:
        record = names.find(home, word)
        live = ending.require_running(home, record)
        found = powers.read(live, spec.load(home, record.id))
        return {"Id": record.id, "Name": f"/{record.name}", **found}

    if values.text("format") is not None:
        return _show(home, values, look)
    teardown.reconcile(home)
    return output.for_each(values.words, lambda word: print(in_words(look(home, word))))


def inspect(home: Home, values: Values) -> int:
    """The action of `minicontainer inspect`."""
    if values.flag("security"):
        return security(home, values)
    kinds: dict[str | None, Look] = {None: anything, "container": container, "image": image}
    look = kinds.get(values.text("type"))
    if look is None:
        raise EngineError(f"unknown type {values.text('type')!r}: use container or image")
    return _show(home, values, look)


def inspect_container(home: Home, values: Values) -> int:
    """The action of `minicontainer container inspect`."""
    if values.flag("security"):
        return security(home, values)
    return _show(home, values, container)


def inspect_image(home: Home, values: Values) -> int:
    """The action of `minicontainer image inspect`."""
    return _show(home, values, image)


FORMAT = Option("--format -f", "json, or a template such as {{.State.Pid}}", value="FORMAT")

SECURITY = Option("--security", "what a running container can do, as the kernel tells it, in words")

INSPECT = Command(
    "inspect",
    "NAME|ID [NAME|ID...]",
    "Show all that is known of containers and images",
    inspect,
    (FORMAT, SECURITY, Option("--type", "look only for a container or an image", value="TYPE")),
    minimum=1,
    later="--size -s",
)

CONTAINER_INSPECT = Command(
    "container inspect",
    "CONTAINER [CONTAINER...]",
    "Show all that is known of containers",
    inspect_container,
    (FORMAT, SECURITY),
    minimum=1,
    later="--size -s",
)

IMAGE_INSPECT = Command(
    "image inspect",
    "IMAGE [IMAGE...]",
    "Show all that is known of images",
    inspect_image,
    (FORMAT,),
    minimum=1,
)

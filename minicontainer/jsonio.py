"""JSON without the `json` package: its C scanner and encoder alone.

`import json` brings `re` and `enum` with it and costs 3 to 7 ms, a third of a container's start.
The scanner and the encoder below it are C code with no such needs.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Rules:
    """What json.JSONDecoder would tell the C scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012  # the C scanner keeps its keys here

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]  # it only reads attributes


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def loads(text: bytes | str) -> Any:
    """Read one JSON value (RFC 8259); ValueError when the text is anything else.

    Nesting beyond the interpreter's limit is a ValueError too: text comes from strangers.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(" \t\r\n")))
    except (StopIteration, SystemError):
        # The C scanner leaves the wording of an error to json.decoder, and fails without it.
        import json

        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"more than one JSON value: extra text at character {end}")
    return value


def dumps(value: Any, *, sort: bool = False) -> str:
    """One line of JSON without spaces; ASCII only, so that it is safe in any locale."""
    encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ":", ",", sort, False, False
    )
    return "".join(encode(value, 0))


def read(path: str) -> Any:
    """The JSON value in a file; OSError or ValueError."""
    with open(path, "rb") as file:
        return loads(file.read())

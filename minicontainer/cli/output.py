"""How results look: tables, ages, sizes, and the simple half of docker's templates."""

from __future__ import annotations

import sys
import time

from .. import jsonio
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def for_each(
    words: Sequence[str], act: Callable[[str], None], *, forgive: str | None = None
) -> int:
    """Do something for each word; an error is printed and the next one tried, as docker does.

    forgive: errors that say so are printed but do not count. Returns 0 or 1.
    """
    code = 0
    for word in words:
        try:
            act(word)
        except EngineError as error:
            print(error.render(), file=sys.stderr)
            if forgive is None or forgive not in error.message:
                code = 1
    return code


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell and three blanks, as docker prints them."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def seconds_since(moment: str) -> float:
    """Seconds from an RFC 3339 time to now."""
    return time.time() - parse_time(moment) / 1e9


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; ValueError for anything else."""
    import datetime

    body, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    moment = datetime.datetime.fromisoformat((body + zone).replace("Z", "+00:00"))
    # Without a zone it is the local time, as in docker.
    return int(moment.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0") or 0)


def duration(seconds: float) -> str:
    """A length of time as docker says it (go-units, HumanDuration): `2 minutes`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for unit, size, limit in (("hours", 1, 48), ("days", 24, 24 * 14), ("weeks", 168, 24 * 60),
                              ("months", 720, 24 * 365 * 2)):  # fmt: skip
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // (24 * 365)} years"


def ago(moment: str) -> str:
    """An age as docker shows it: `2 minutes ago`; "N/A" when nobody knows, as for the
    time 0 of a reproducible build."""
    try:
        if parse_time(moment) <= 0:
            return "N/A"
        return f"{duration(seconds_since(moment))} ago"
    except ValueError:
        return "N/A"


def size(count: float) -> str:
    """Bytes as docker shows them: powers of 1000, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}TB"


def shorten(text: str, length: int) -> str:
    """At most so many characters, the last one an ellipsis when some are missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def pretty(value: Any, indent: str = "") -> str:
    """JSON over several lines with four blanks a level, as `docker inspect` prints it."""
    deeper = indent + "    "
    if isinstance(value, dict) and value:
        inside = [f"{deeper}{jsonio.dumps(str(k))}: {pretty(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inside) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"{deeper}{pretty(v, deeper)}" for v in value) + f"\n{indent}]"
    return jsonio.dumps(value)


def show(head: dict[str, str], rows: Sequence[dict[str, Any]], template: str | None) -> None:
    """Print rows as docker's `--format` says: a table, JSON lines, or a template.

    head: field to column head, the columns of the default table. rows: all fields, by name.
    template: None and "table" for the table, "json", "table TEMPLATE" or TEMPLATE.
    """
    if template in (None, "table"):
        print(table(list(head.values()), [[str(row[name]) for name in head] for row in rows]))
    elif template == "json":
        for row in rows:
            print(jsonio.dumps(row))
    else:
        assert template is not None
        as_table = template.startswith("table ")
        lines = [render(template.removeprefix("table "), row) for row in rows]
        if as_table:
            names = {name: head.get(name, name.upper()) for row in rows[:1] for name in row} or head
            lines.insert(0, render(template.removeprefix("table "), names))
            cells = [line.split("\t") for line in lines]
            width = max(len(line) for line in cells)
            cells = [line + [""] * (width - len(line)) for line in cells]
            print(table(cells[0], cells[1:]))
        else:
            for line in lines:
                print(line)


def render(template: str, value: Any) -> str:
    """Fill in docker's `{{.Field}}`, `{{.State.Pid}}` and `{{json .Field}}`.

    EngineError for Go's larger language (range, if, index…), and for a field that there is not.
    """
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    parts = text.split("{{")
    done = [parts[0]]
    for part in parts[1:]:
        inside, closed, after = part.partition("}}")
        if not closed:
            raise EngineError(f"invalid template {template!r}: a {{{{ is not closed")
        done.append(_expression(template, inside.strip(" -"), value))
        done.append(after)
    return "".join(done)


def _expression(template: str, text: str, value: Any) -> str:
    words = text.split()
    as_json = words[:1] == ["json"]
    path = words[1:] if as_json else words
    if len(path) != 1 or not path[0].startswith("."):
        raise EngineError(
            f"invalid template {template!r}: cannot do {{{{{text}}}}}",
            hint="{{.Field}}, {{.Field.Field}} and {{json .Field}} are understood",
        )
    for name in filter(None, path[0].split(".")):
        if not isinstance(value, dict) or name not in value:
            raise EngineError(f"invalid template {template!r}: there is no field {path[0]}")
        value = value[name]
    if as_json:
        return jsonio.dumps(value)
    return _go(value)


def _go(value: Any) -> str:
    """A value as Go's templates print it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, list):
        return "[" + " ".join(_go(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{_go(v)}" for k, v in sorted(value.items())) + "]"
    return str(value)

"""`logs`: what a container has written."""

from __future__ import annotations

import os
import time

from ..engine import logs, names, teardown
from ..engine.home import Home
from ..errors import EngineError
from .options import Command, Option, Values
from .output import parse_time

UNITS = {"s": 1, "m": 60, "h": 3600}


def show(home: Home, values: Values) -> int:
    """The action of `minicontainer logs`."""
    teardown.reconcile(home)
    record = names.find(home, values.words[0])
    text = values.text("tail") or "all"
    tail = None if text == "all" else _count(text)
    since, until = moment(values.text("since")), moment(values.text("until"))
    for entry in logs.read(home, record.id, tail=tail, follow=values.flag("follow")):
        if since is not None or until is not None:
            at = parse_time(entry.time)
            if (since is not None and at < since) or (until is not None and at > until):
                continue
        line = f"{entry.time} {entry.text}" if values.flag("timestamps") else entry.text
        _write(1 if entry.stream == "stdout" else 2, line.encode(errors="replace"))
    return 0


def _count(text: str) -> int | None:
    try:
        count = int(text)
    except ValueError:
        raise EngineError(f"invalid value for --tail: {text!r}, use a number or all") from None
    return count if count >= 0 else None


def _write(descriptor: int, data: bytes) -> None:
    """Straight to the descriptor: the two streams come in the order in which they were."""
    while data:
        data = data[os.write(descriptor, data) :]


def moment(text: str | None) -> int | None:
    """Nanoseconds since 1970 of a time, or of so long ago: `2024-05-01T10:00:00Z`, `1h30m`."""
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        pass
    try:
        return int(float(text) * 1e9)
    except ValueError:
        pass
    seconds, number = 0.0, ""
    for character in text:
        if character in UNITS and number:
            try:
                seconds += float(number) * UNITS[character]
            except ValueError:
                break
            number = ""
        else:
            number += character
    if number or not text:
        raise EngineError(f"invalid time {text!r}: use 2024-05-01T10:00:00Z or 42m")
    return time.time_ns() - int(seconds * 1e9)


LOGS = Command(
    "logs",
    "CONTAINER",
    "Show what a container has written",
    show,
    (
        Option("--follow -f", "wait for more until the container ends"),
        Option("--since", "only what came after a time, or so long ago (42m)", value="TIME"),
        Option("--tail -n", "only the last lines", value="COUNT", default="all"),
        Option("--timestamps -t", "show the time of each line"),
        Option("--until", "only what came before a time, or so long ago", value="TIME"),
    ),
    minimum=1,
    maximum=1,
    later="--details",
)

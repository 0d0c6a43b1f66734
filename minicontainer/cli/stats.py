"""`stats`: what containers take, once or again and again."""

from __future__ import annotations

import os
import sys
import time

from ..engine import control, names, teardown
from ..engine.home import Home
from ..engine.record import Record
from ..errors import EngineError
from . import output
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
# A share of the processor is a difference: over this many seconds, as docker takes it.
INTERVAL = 1.0


def stats(home: Home, values: Values) -> int:
    """The action of `minicontainer stats`."""
    teardown.reconcile(home)
    for word in values.words:
        names.find(home, word)  # an unknown one is told at once
    samples: dict[str, tuple[float, int]] = {}
    take(home, values, samples)
    while True:
        time.sleep(INTERVAL)
        rows = take(home, values, samples)
        once = values.flag("no-stream")
        if not once and sys.stdout.isatty():
            sys.stdout.write("\033[H\033[J")  # to the top left corner, and clear from there
        output.show(HEAD, rows, values.text("format"))
        if once:
            return 0
        sys.stdout.flush()
        teardown.reconcile(home)


def take(home: Home, values: Values, samples: dict[str, tuple[float, int]]) -> list[dict[str, Any]]:
    """One row for each container; samples: when each was last looked at, and its processor time."""
    if values.words:
        records = [names.find(home, word) for word in values.words]
    else:
        records = names.all_records(home)
    rows = []
    for record in records:
        try:
            rows.append(row(home, record, samples, full=values.flag("no-trunc")))
        except EngineError:
            if values.words or values.flag("all"):
                rows.append(empty(record, full=values.flag("no-trunc")))
    return rows


def row(
    home: Home, record: Record, samples: dict[str, tuple[float, int]], *, full: bool
) -> dict[str, Any]:
    """The fields of a running container, by docker's names; EngineError when it does not run."""
    found = control.usage(home, record)
    now = time.monotonic()
    before, cpu = samples.get(record.id, (now - INTERVAL, found["cpu"]))
    samples[record.id] = now, found["cpu"]
    share = (found["cpu"] - cpu) / ((now - before) * 1e9 or 1)
    limit = found["limit"] or machine_memory()
    return {
        **empty(record, full=full),
        "CPUPerc": f"{share:.2%}",
        "MemUsage": f"{binary(found['memory'])} / {binary(limit)}",
        "MemPerc": f"{found['memory'] / limit:.2%}",
        "NetIO": f"{output.size(found['received'])} / {output.size(found['sent'])}",
        "BlockIO": f"{output.size(found['read'])} / {output.size(found['written'])}",
        "PIDs": str(found["pids"]),
    }


def empty(record: Record, *, full: bool) -> dict[str, Any]:
    """The same for one that does not run."""
    identity = record.id if full else record.short_id
    return {
        "Container": identity,
        "ID": identity,
        "Name": record.name,
        "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "MemPerc": "0.00%",
        "NetIO": "0B / 0B",
        "BlockIO": "0B / 0B",
        "PIDs": "0",
    }


def machine_memory() -> int:
    """All memory of the machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def binary(count: float) -> str:
    """Bytes as docker shows memory: powers of 1024, four digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g}{unit}"
        count /= 1024
    return f"{count:.4g}TiB"


STATS = Command(
    "stats",
    "[CONTAINER...]",
    "Show what containers take",
    stats,
    (
        Option("--all -a", "also those that do not run"),
        Option("--format", "table, json, or a template such as {{.MemUsage}}", value="FORMAT"),
        Option("--no-stream", "once, and not again and again"),
        Option("--no-trunc", "show ids whole"),
    ),
)

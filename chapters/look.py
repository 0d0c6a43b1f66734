"""What a program sees, from no container at all to the engine: one probe, one column per stage."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from chapters import stages
from chapters.stages import CLONE, Stage

# One line `name: value` for each question. It says "-" where the program cannot even ask.
PROBE = r"""
count() { set -- $1; [ -e "$1" ] && echo $# || echo -; }
echo "host name: $(hostname)"
echo "own number: $(read -r pid rest 2>&- </proc/self/stat && echo $$ || echo -)"
echo "processes: $(count '/proc/[0-9]*')"
echo "mounts: $([ -e /proc/self/mounts ] && grep -c . /proc/self/mounts || echo -)"
echo "names in /: $(count '/*')"
echo "names in /dev: $(count '/dev/*')"
echo "queues and segments of: $([ -e /proc/self/ns/ipc ] && readlink /proc/self/ns/ipc || echo -)"
echo "writes to /etc stay: $(
    if ! [ -e /proc/mounts ]; then echo yes
    elif grep -q '^overlay / ' /proc/mounts; then echo no
    else echo yes; fi)"
echo "powers (CapEff): $(sed -n 's/^CapEff:.0*//p' /proc/self/status 2>&- || echo -)"
"""


def probe(stage: Stage, rootfs: Path) -> dict[str, str]:
    """What a program sees at this stage: {question: answer}."""
    done = subprocess.run(
        stage.command(rootfs, "sh", "-c", PROBE),
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    rows = [line.partition(": ") for line in done.stdout.splitlines()]
    return {name: value or "-" for name, colon, value in rows if colon}


def table(rootfs: Path, on: Sequence[Stage] = ()) -> str:
    """The answers of all stages, one row for each."""
    found = [(stage, probe(stage, rootfs)) for stage in on or stages.stages()]
    names = list(found[0][1])
    rows = [["", *names], *([s.label, *(a.get(n, "-") for n in names)] for s, a in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)

"""What a program sees, from no container at all to the engine: one probe, one column per stage."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from chapters import patience, stages
from chapters.stages import CLONE, Stage

# One line `question: answer` each; "-" where the program has nothing to ask: no /proc, no /dev.
PROBE = r"""
count() { if [ -e "$1" ]; then echo $#; else echo -; fi; }
echo "host name: $(hostname)"
echo "in /: $(count /*)"
echo "in /dev: $(count /dev/*)"
echo "processes: $(count /proc/[0-9]*)"
if [ -e /proc/self ]; then
    echo "mounts: $(grep -c . /proc/self/mounts)"
    echo "root is: $(sed -n 's|^[^ ]* / \([^ ]*\) .*|\1|p' /proc/self/mounts | tail -n 1)"
    echo "IPC namespace: $(readlink /proc/self/ns/ipc | tr -dc 0-9)"
    echo "adapters: $(sed -n 's/ *\([^ ]*\):.*/\1/p' /proc/self/net/dev | tr '\n' ' ')"
    echo "capabilities: $(sed -n 's/^CapEff:[^1-9a-f]*//p' /proc/self/status)"
fi
"""


def probe(stage: Stage, rootfs: Path) -> dict[str, str]:
    """What a program sees at this stage: {question: answer}."""
    done = subprocess.run(
        stage.command(rootfs, "sh", "-c", PROBE),
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
        check=False,
    )
    rows = [line.partition(": ") for line in done.stdout.splitlines()]
    return {name: value or "-" for name, colon, value in rows if colon}


def table(rootfs: Path, on: Sequence[Stage] = ()) -> str:
    """The answers of all stages, one row for each."""
    found = [(stage, probe(stage, rootfs)) for stage in on or stages.stages()]
    names = list(found[0][1])
    rows = [["", *names]]
    rows += [[stage.label, *(answers.get(name, "-") for name in names)] for stage, answers in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)

"""What a start may import: an interpreter's imports are most of a small start's time.

Measured by the interpreter itself (-X importtime), on the command as a user runs it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, Engine

# Beside our own modules. Each of these is C, or a file of a few lines (0.1 ms and less); json
# would cost 3 to 7 ms, argparse 6, socket 4, typing or pathlib 7 to 10, subprocess 8 to 12.
ALLOWED = {
    "__future__",
    "_ctypes",
    "_json",
    "_sha2",
    "_sha256",
    "_signal",
    "_socket",
    "_struct",
    "_weakref",
    "_weakrefset",
    "ctypes",
    "ctypes._endian",
    "errno",
    "fcntl",
    "gc",
    "itertools",
    "resource",
    "select",
    "struct",
    "termios",
    "types",
}


def imported(command: list[str]) -> set[str]:
    """The modules that a Python command line imports beyond the bare interpreter's."""

    def run(arguments: list[str]) -> set[str]:
        done = subprocess.run(
            ["/usr/bin/python3", "-IS", "-X", "importtime", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines[1:]}

    return run(command) - run(["-c", "import os, sys"])


def strangers(modules: set[str]) -> set[str]:
    """The modules that are neither ours nor on the list."""
    return {
        name
        for name in modules - ALLOWED
        if name != "minicontainer" and not name.startswith("minicontainer.")
    }


def command(engine: Engine, *arguments: str) -> list[str]:
    return [str(COMMAND), *engine.command(*arguments)[1:]]


@pytest.mark.root
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--rm", "--network", "none", "IMAGE", "true"],
        ["run", "--network", "none", "--name", "kept", "-e", "A=1", "-w", "/tmp", "IMAGE", "true"],
        ["run", "--rm", "-i", "--init", "--user", "1:1", "-v", "/tmp:/mnt", "IMAGE", "true"],
        ["run", "-d", "--network", "none", "IMAGE", "true"],
    ],
    ids=["small", "kept", "many options", "detached"],
)
def test_a_run_imports_nothing_big(engine: Engine, starter: str, arguments: list[str]) -> None:
    words = [starter if word == "IMAGE" else word for word in arguments]
    assert strangers(imported(command(engine, *words))) == set()


@pytest.mark.root
def test_an_exec_imports_nothing_big(engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "box", starter, "sleep", "1000")
    assert strangers(imported(command(engine, "exec", "box", "true"))) == set()


@pytest.mark.root
def test_a_run_imports_no_other_command(engine: Engine, starter: str) -> None:
    modules = imported(command(engine, "run", "--rm", "--network", "none", starter, "true"))
    # Every container has /etc/hosts.
    modules -= {"minicontainer.network", "minicontainer.network.names"}
    rooms = ("build", "network", "image.pull", "image.registry", "image.layer", "image.archive")
    assert not [
        name for name in modules for room in rooms if name.startswith(f"minicontainer.{room}")
    ]


def test_a_stranger_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import ctypes\nif True:\n    import json")
    assert {"json", "re", "enum"} <= strangers(imported([str(program)]))

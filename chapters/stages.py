"""The stages: the program as it runs with no container, in each chapter's, and in the engine's."""

from __future__ import annotations

import functools
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent


class Stage:
    """One way of running a program, as a command line.

    number: 0 is no container at all, then the chapters; label: how it is called and shown;
    module: what Python runs, None for stage 0.
    """

    def __init__(self, number: int, label: str, module: str | None) -> None:
        self.number = number
        self.label = label
        self.module = module

    def command(self, rootfs: str | Path, *command: str) -> list[str]:
        """The command line that runs a command at this stage; to be run in the clone."""
        if self.module is None:
            return list(command)
        # -S: a stage needs nothing that is installed, and starts 10 ms sooner.
        return [sys.executable, "-S", "-m", self.module, str(rootfs), *command]

    def __repr__(self) -> str:
        return self.label


@functools.cache
def chapters() -> list[dict[str, Any]]:
    """The chapters of the manifest, in order; `folder` is added: ch03_mounts."""
    found: list[dict[str, Any]] = tomllib.loads((HERE / "book.toml").read_text())["chapter"]
    for chapter in found:
        chapter["folder"] = f"ch{chapter['number']:02}_{chapter['name']}"
    return found


def ready() -> list[dict[str, Any]]:
    """The chapters that are written."""
    return [chapter for chapter in chapters() if chapter["status"] == "ready"]


BARE = Stage(0, "no container", None)


@functools.cache
def stages() -> list[Stage]:
    """No container, every written chapter, the engine: each keeps what the one before gives."""
    found = [BARE]
    for chapter in ready():
        label = f"{chapter['number']:02} {chapter['name']}"
        found.append(Stage(chapter["number"], label, f"chapters.{chapter['folder']}.container"))
    found.append(Stage(99, "engine", "chapters.engine"))
    return found


def find(name: str) -> Stage:
    """The stage that a person means by `3`, `03`, `mounts`, `engine` or `0`; KeyError."""
    for stage in stages():
        names = {stage.label, *stage.label.split(), str(stage.number)}
        if name.lower() in names:
            return stage
    raise KeyError(name)

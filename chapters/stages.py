"""The stages: the program as it runs with no container, in each chapter's, and in the engine's."""

from __future__ import annotations

import functools
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

Chapter = dict[str, Any]

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

    @property
    def names(self) -> list[str]:
        """What a person may call it, the shortest first."""
        if self.number == ENGINE:
            return ["engine"]
        return [str(self.number), *self.label.split()] if self.number else ["0", "none"]

    def command(self, rootfs: str | Path, *command: str) -> list[str]:
        """The command line that runs a command at this stage; to be run in the clone."""
        if self.module is None:
            return list(command)
        # -S: a stage needs nothing that is installed, and starts 10 ms sooner.
        return [sys.executable, "-S", "-m", self.module, str(rootfs), *command]

    def __repr__(self) -> str:
        return self.label


@functools.cache
def chapters() -> list[Chapter]:
    """The chapters of the manifest, in order; `folder` is added: ch03_mounts."""
    found: list[Chapter] = tomllib.loads((HERE / "book.toml").read_text())["chapter"]
    for chapter in found:
        chapter["folder"] = f"ch{chapter['number']:02}_{chapter['name']}"
    return found


def ready() -> list[Chapter]:
    """The chapters that are written."""
    return [chapter for chapter in chapters() if chapter["status"] == "ready"]


BARE = Stage(0, "no container", None)
ENGINE = 99


@functools.cache
def stages() -> list[Stage]:
    """No container, every written chapter, the engine: each keeps what the one before gives."""
    found = [BARE]
    for chapter in ready():
        label = f"{chapter['number']:02} {chapter['name']}"
        found.append(Stage(chapter["number"], label, f"chapters.{chapter['folder']}.container"))
    found.append(Stage(ENGINE, "engine", "chapters.engine"))
    return found


def find_chapter(name: str) -> Chapter:
    """The chapter that a person means by `3`, `03` or `mounts`; KeyError."""
    for chapter in chapters():
        if name in (chapter["name"], str(chapter["number"]), f"{chapter['number']:02}"):
            return chapter
    raise KeyError(name)


def find(name: str) -> Stage:
    """The stage that a person means by `3`, `03`, `mounts`, `engine` or `0`; KeyError."""
    for stage in stages():
        if name in stage.names:
            return stage
    raise KeyError(name)


def kill_tree(pid: int) -> None:
    """End a process that we started and all that it has started (SIGKILL)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            below = [int(child) for child in children.read().split()]
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in below:
        kill_tree(child)

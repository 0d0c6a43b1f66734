"""`pause`, `unpause`, `update` and `top`: running containers under their cgroup."""

from __future__ import annotations

from ..engine import control, names, teardown
from ..engine.home import Home
from ..errors import EngineError
from . import limits
from .options import Command, Values
from .output import for_each


def pause(home: Home, values: Values) -> int:
    """The action of `minicontainer pause`."""

    def one(word: str) -> None:
        control.pause(home, names.find(home, word))
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one)


def unpause(home: Home, values: Values) -> int:
    """The action of `minicontainer unpause`."""

    def one(word: str) -> None:
        control.unpause(home, names.find(home, word))
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one)


def update(home: Home, values: Values) -> int:
    """The action of `minicontainer update`."""
    changes = limits.limits(values)
    if not changes:
        raise EngineError("you must provide one or more flags when using this command")

    def one(word: str) -> None:
        control.update(home, names.find(home, word), changes)
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one)


def top(home: Home, values: Values) -> int:
    """The action of `minicontainer top`: the host's ps(1), less what is not the container's."""
    import subprocess

    teardown.reconcile(home)
    pids = control.processes(home, names.find(home, values.words[0]))
    try:
        done = subprocess.run(
            ["ps", *(values.words[1:] or ["-ef"])], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise EngineError("this machine has no ps", hint="apt-get install procps") from None
    if done.returncode:
        raise EngineError(f"ps: {done.stderr.strip() or 'it failed'}")
    head, *rows = done.stdout.splitlines()
    if "PID" not in head.split():
        raise EngineError("couldn't find PID field in ps output")
    column = head.split().index("PID")
    print(head)
    for row in rows:
        fields = row.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            print(row)
    return 0


PAUSE = Command(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Stop all processes of containers where they stand",
    pause,
    minimum=1,
)

UNPAUSE = Command(
    "unpause", "CONTAINER [CONTAINER...]", "Let paused containers go on", unpause, minimum=1
)

UPDATE = Command(
    "update",
    "CONTAINER [CONTAINER...]",
    "Change the limits of containers",
    update,
    tuple(row[0] for row in limits.UPDATABLE),
    minimum=1,
    later="--cpu-rt-period --cpu-rt-runtime --kernel-memory --restart",
)

TOP = Command(
    "top",
    "CONTAINER [PS OPTIONS]",
    "Show the processes of a container",
    top,
    minimum=1,
    interspersed=False,
)

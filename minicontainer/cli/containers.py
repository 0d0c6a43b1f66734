"""`rm` and `container prune`: containers that are no longer needed."""

from __future__ import annotations

import sys

from ..engine import ending, names, teardown
from ..engine.home import Home
from ..errors import EngineError
from .options import Command, Option, Values
from .output import for_each


def remove(home: Home, values: Values) -> int:
    """The action of `minicontainer rm`."""
    force = values.flag("force")

    def one(word: str) -> None:
        ending.remove(home, names.find(home, word), force=force)
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one, forgive="no such container" if force else None)


def prune(home: Home, values: Values) -> int:
    """The action of `minicontainer container prune`."""
    teardown.reconcile(home)
    if not values.flag("force") and not confirm("this removes all stopped containers"):
        return 1
    for record in names.all_records(home):
        if not ending.state(home, record).running:
            try:
                ending.remove(home, record)
            except EngineError:
                continue  # started this moment
            print(record.id)
    return 0


def confirm(what: str) -> bool:
    """Ask a person; no answer is no."""
    print(f"{what}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)  # the end of the input: what follows begins its own line
    return answer.strip().lower() in ("y", "yes")


RM = Command(
    "rm",
    "CONTAINER [CONTAINER...]",
    "Remove containers",
    remove,
    (Option("--force -f", "kill a running container first"),),
    minimum=1,
    later="--link -l --volumes -v",
)

PRUNE = Command(
    "container prune",
    "",
    "Remove all stopped containers",
    prune,
    (Option("--force -f", "do not ask"),),
    maximum=0,
    later="--filter",
)

"""`stop`, `kill` and `wait`: the end of containers, from outside."""

from __future__ import annotations

from ..engine import ending, names, teardown
from ..engine.home import Home
from ..engine.record import Record
from .options import Command, Option, Values
from .output import for_each


def stop(home: Home, values: Values) -> int:
    """The action of `minicontainer stop`."""
    signal = values.text("signal")
    if signal is not None:
        ending.parse_signal(signal)

    def one(word: str) -> None:
        record = names.find(home, word)
        record.stop_signal = signal or record.stop_signal
        ending.stop(home, record, values.number("timeout"))
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one)


def kill(home: Home, values: Values) -> int:
    """The action of `minicontainer kill`."""
    number = ending.parse_signal(values.text("signal") or "KILL")

    def one(word: str) -> None:
        ending.kill(home, names.find(home, word), number)
        print(word)

    teardown.reconcile(home)
    return for_each(values.words, one)


def wait(home: Home, values: Values) -> int:
    """The action of `minicontainer wait`."""
    teardown.reconcile(home)
    # All are looked up before the first wait: one with --rm may be gone after it.
    found: dict[str, Record] = {}

    def look(word: str) -> None:
        found[word] = names.find(home, word)

    code = for_each(values.words, look)
    for record in found.values():
        print(ending.wait(home, record), flush=True)
    return code


STOP = Command(
    "stop",
    "CONTAINER [CONTAINER...]",
    "Ask containers to end, and kill those that do not",
    stop,
    (
        Option("--signal -s", "the signal to send instead of the container's own", value="SIGNAL"),
        Option("--timeout -t", "seconds to wait before the container is killed; -1: for ever",
               value="SECONDS", number=True),
    ),
    minimum=1,
)  # fmt: skip

KILL = Command(
    "kill",
    "CONTAINER [CONTAINER...]",
    "Send a signal to containers",
    kill,
    (Option("--signal -s", "the signal", value="SIGNAL", default="KILL"),),
    minimum=1,
)

WAIT = Command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Wait for containers to end, and print their exit codes",
    wait,
    minimum=1,
)

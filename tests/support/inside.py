"""Run a Python function inside new namespaces and bring back what it saw."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from minicontainer import jsonio
from minicontainer.kernel import process


def inside(function: Callable[[], Any], namespaces: int = 0, *, fork: bool = False) -> Any:
    """The value of `function`, run in a child born into `namespaces`; it must have a JSON form.

    The child cannot import: what the function needs must be imported already. What it raises
    comes back as EngineError.
    """
    read, write = os.pipe()

    def child() -> None:
        os.write(write, jsonio.dumps(function()).encode())

    started = process.spawn(child, namespaces, fork=fork)
    os.close(write)
    try:
        with open(read, "rb") as pipe:
            told = pipe.read()
        started.wait_exec()
        started.wait()
    finally:
        started.close()
    return jsonio.loads(told)

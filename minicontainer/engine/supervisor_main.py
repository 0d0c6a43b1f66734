"""The supervisor's side of supervisor.spawn: its life, from the command line to the exit code."""

from __future__ import annotations

import os

from .. import files, jsonio
from ..errors import EngineError
from . import record as records
from .home import Home
from .run import live


def main(words: list[str]) -> None:
    """The supervisor's own life; ends the process."""
    root, run, id, lock_text, ready_text, how = words
    lock = files.Lock(Home(root, run).live(id, "lock"))
    lock.descriptor, ready = int(lock_text), int(ready_text)
    for descriptor in (lock.descriptor, ready):
        os.set_inheritable(descriptor, False)
    _close_others({0, 1, 2, lock.descriptor, ready})
    os.chdir("/")  # or we would keep somebody's file system busy

    def tell(text: str) -> None:
        nonlocal ready
        if ready >= 0:
            os.write(ready, text.encode())
            os.close(ready)
            ready = -1

    code = 125
    try:
        home = Home(root, run)
        record = records.load(home, id)
        if record is None:
            raise EngineError(f"no such container: {id}")
        code = live(home, record, lock, attach=how == "attach", on_running=lambda: tell("+"))
    except (EngineError, OSError) as error:
        fields = {
            "message": str(error),
            "hint": getattr(error, "hint", None),
            "exit_code": getattr(error, "exit_code", 125),
            "notes": getattr(error, "__notes__", []),
        }
        tell(jsonio.dumps(fields))
    os._exit(code)


def _close_others(keep: set[int]) -> None:
    """Close what the caller's shell may have left open: it would stay so for days."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listdir itself used

"""The end of a container, from outside: signals, stop, waiting, removal.

These commands never tear down a living container: its supervisor does, and they wait for it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import time

from ..errors import EngineError
from ..kernel import cgroups, process
from . import lifetime, names
from . import record as records
from .record import Live, Record
from .teardown import let_go, open_process
from .teardown import remove as remove_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .home import Home


class State:
    """What a container is doing: status as docker names it, and the process if it has one."""

    __slots__ = ("status", "live")

    def __init__(self, status: str, live: Live | None) -> None:
        self.status = status
        self.live = live

    @property
    def running(self) -> bool:
        """Whether it has a process, be it one that stands still."""
        return self.status in ("running", "paused")


def state(home: Home, record: Record) -> State:
    """created, running, paused, exited or dead: from the lock, the process and its cgroup, not
    from the record."""
    live = records.load_live(home, record.id)
    if live is not None and lifetime.is_alive(home, record.id):
        still = live.cgroup and cgroups.choose(live.cgroup).is_frozen()
        return State("paused" if still else "running", live)
    return State(record.status, None)


def parse_signal(text: str) -> int:
    """A signal's number, from `9`, `KILL`, `SIGKILL` or `RTMIN+3`; EngineError otherwise."""
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    number: object = None
    if name.isdigit():
        number = int(name)
    elif name.isalnum():
        number = getattr(_signal, f"SIG{name}", None)
    elif base == "RTMIN" and plus and offset.isdigit():
        number = _signal.SIGRTMIN + int(offset)
    if isinstance(number, int) and number in _signal.valid_signals():
        return int(number)
    raise EngineError(f"invalid signal: {text}")


def kill(home: Home, record: Record, signal: int) -> None:
    """Send a signal to a container's first process; EngineError when it does not run."""
    live = require_running(home, record)
    descriptor = open_process(live)
    if descriptor is None:
        raise not_running(record)
    end = lifetime.End(home, record.id)
    try:
        _signal.pidfd_send_signal(descriptor, signal)
        if signal == _signal.SIGKILL:
            let_go(live)
        # Docker returns from a SIGKILL when the container has ended, and so do we.
        if signal == _signal.SIGKILL:
            end.wait()
    finally:
        end.close()
        os.close(descriptor)


def stop(home: Home, record: Record, seconds: float | None = None) -> None:
    """Ask a container to end (its STOPSIGNAL), wait, then kill it; returns when it is gone.

    seconds: how long to wait; the container's own timeout when None; for ever when negative.
    Nothing happens when it does not run.
    """
    live = state(home, record).live
    while live is None and lifetime.is_alive(home, record.id):
        time.sleep(0.005)  # being started or torn down at this moment: milliseconds
        live = state(home, record).live
    end = lifetime.End(home, record.id)
    descriptor = None if live is None else open_process(live)
    try:
        if descriptor is not None:
            patience = float(record.stop_timeout) if seconds is None else seconds
            _signal.pidfd_send_signal(descriptor, parse_signal(record.stop_signal))
            let_go(live)
            if not process.wait_ready(descriptor, None if patience < 0 else patience):
                _signal.pidfd_send_signal(descriptor, _signal.SIGKILL)
        end.wait()
    except ProcessLookupError:
        end.wait()  # it ended while we came
    finally:
        end.close()
        if descriptor is not None:
            os.close(descriptor)


def wait(home: Home, record: Record) -> int:
    """Wait for a container's end; its exit code. At once when it does not run."""
    end = lifetime.End(home, record.id)
    try:
        code = end.wait()
    finally:
        end.close()
    if code is not None:
        return code
    from .teardown import reconcile

    reconcile(home)  # its supervisor may have been killed this moment
    after = records.load(home, record.id)
    return record.exit_code if after is None else after.exit_code


def remove(home: Home, record: Record, *, force: bool = False) -> None:
    """Remove a container; force: kill it first if it runs. EngineError in docker's words."""
    while True:
        if state(home, record).running:
            if not force:
                status = state(home, record).status
                raise EngineError(
                    f'cannot remove container "/{record.name}": container is {status}: '
                    "stop the container before removing or force remove"
                )
            try:
                kill(home, record, _signal.SIGKILL)
            except EngineError:
                pass  # it ended while we came
        try:
            lock = lifetime.claim(home, record.id, block=False)
            break
        except BlockingIOError:
            # Being started or torn down at this moment, which takes milliseconds.
            time.sleep(0.005)
    try:
        remove_files(home, record.id, record.name or names.of(home, record.id))
    finally:
        lifetime.drop(home, record.id, lock)


def require_running(home: Home, record: Record) -> Live:
    """The live part of a container's state; EngineError when it does not run."""
    live = state(home, record).live
    if live is None:
        raise not_running(record)
    return live


def not_running(record: Record) -> EngineError:
    """What to say of a container that should run."""
    return EngineError(f"container {record.id} is not running", exit_code=1)

"""Beside a running container: copy its streams, pass signals on, wait for its end. One loop."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import select
import time
from errno import EAGAIN, EIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ..kernel.process import Process

    class Service(Protocol):
        """What else is done for a container beside its streams, in the same loop.

        descriptor: an epoll(7) of the service's own, so that many of its sockets cost the loop
        one. due: when it wants a turn although none of them is ready, by time.monotonic(), or
        None. serve: one turn, which never waits. It raises nothing: a container must not end
        because somebody sent it something odd. close: twice is once.
        """

        descriptor: int
        due: float | None

        def serve(self) -> None: ...
        def close(self) -> None: ...


CHUNK = 65536
# Docker's client gives up at the third.
PATIENCE = 3
# Everything that a user may send to the engine and mean for the container. Not SIGCHLD, SIGPIPE
# and SIGWINCH, which are ours, nor what the kernel raises for a fault of our own.
_OURS = {
    _signal.SIGKILL,
    _signal.SIGSTOP,
    _signal.SIGCHLD,
    _signal.SIGPIPE,
    _signal.SIGWINCH,
    _signal.SIGTTIN,
    _signal.SIGTTOU,
    _signal.SIGTSTP,
    _signal.SIGSEGV,
    _signal.SIGBUS,
    _signal.SIGFPE,
    _signal.SIGILL,
    _signal.SIGABRT,
    _signal.SIGTRAP,
    _signal.SIGSYS,
    _signal.SIGURG,
}


class Pump:
    """One direction of one stream: bytes from `source` to `target`.

    source, target: descriptors; target None: nowhere. log: called with the bytes too, or None.
    inward: to the container (its standard input), which does not keep the container alive.
    The source is closed at its end, and the target too when it is `inward`.
    """

    __slots__ = ("source", "target", "log", "inward", "pending", "moved")

    def __init__(
        self,
        source: int,
        target: int | None,
        log: Callable[[bytes], None] | None = None,
        *,
        inward: bool = False,
    ) -> None:
        self.source = source
        self.target = target
        self.log = log
        self.inward = inward
        self.pending = b""
        self.moved = 0

    def move(self) -> bool:
        """Move what is there; False when the stream is at its end."""
        try:
            data = os.read(self.source, CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == EIO:  # the other side of a terminal is closed
                return False
            raise
        if not data:
            return False
        self.moved += len(data)
        if self.log is not None:
            self.log(data)
        if self.target is None:
            return True
        self.pending = data
        return self.flush()

    def flush(self) -> bool:
        """Write what is pending; False when nobody will ever read it."""
        assert self.target is not None
        try:
            while self.pending:
                self.pending = self.pending[os.write(self.target, self.pending) :]
        except OSError as error:
            if error.errno == EAGAIN:
                return True
            # A closed pipe, a full disk, a dead terminal: the user's matter, not the container's.
            self.pending = b""
            return False
        return True


def supervise(
    process: Process,
    pumps: list[Pump],
    *,
    forward: bool = True,
    on_resize: Callable[[], None] | None = None,
    services: Sequence[Service] = (),
) -> int:
    """Stay beside a process until it ends; its exit code (0 to 255, 128 + n after signal n).

    forward: pass signals on to it; the third SIGINT or SIGTERM kills it, for it may ignore them,
    and a person who asks three times means it.
    on_resize: called when the user's window changes its size. services: get their turns too.
    Output that the process wrote before its end is copied whole.
    """
    handlers = {}
    asked = 0

    def pass_on(number: int, frame: object) -> None:
        nonlocal asked
        asked += number in (_signal.SIGINT, _signal.SIGTERM)
        if asked == PATIENCE:
            number = _signal.SIGKILL
            try:
                os.write(2, b"minicontainer: got 3 SIGTERM/SIGINTs, killing the process\n")
            except OSError:
                pass  # nobody is there to read it
        process.signal(number)

    if forward:
        for number in _signal.valid_signals() - _OURS:
            handlers[number] = _signal.signal(number, pass_on)
    if on_resize is not None:
        resize = on_resize
        handlers[_signal.SIGWINCH] = _signal.signal(_signal.SIGWINCH, lambda *_: resize())
    try:
        _loop(process, pumps, services)
        return process.wait()
    finally:
        for number, handler in handlers.items():
            _signal.signal(number, handler)
        for pump in pumps:
            _close(pump)


def _loop(process: Process, pumps: list[Pump], services: Sequence[Service]) -> None:
    for pump in pumps:
        # A container that does not read its input must not stop our loop; nor must one that
        # ended while a process it left behind still holds the other end of the pipe. The user's
        # own descriptors stay as they are: their flags are shared with the user's shell.
        if pump.inward and pump.target is not None:
            os.set_blocking(pump.target, False)
        elif not pump.inward:
            os.set_blocking(pump.source, False)
    live = list(pumps)
    while True:
        poll = select.poll()
        poll.register(process.pidfd, select.POLLIN)
        for pump in live:
            if pump.pending and pump.target is not None:
                poll.register(pump.target, select.POLLOUT)
            else:
                poll.register(pump.source, select.POLLIN)
        for service in services:
            poll.register(service.descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(_patience(services))}
        for service in services:
            if service.descriptor in ready or _is_due(service):
                service.serve()
        for pump in list(live):
            if pump.pending and pump.target in ready:
                going = pump.flush()
            elif not pump.pending and pump.source in ready:
                going = pump.move()
            else:
                continue
            if not going:
                live.remove(pump)
                _close(pump)
        if process.pidfd in ready:
            break
    for pump in live:
        if not pump.inward:
            _drain(pump)


def _patience(services: Sequence[Service]) -> float | None:
    """How long the loop may wait, in milliseconds; None for ever."""
    times = [service.due for service in services if service.due is not None]
    return max(0.0, min(times) - time.monotonic()) * 1000 if times else None


def _is_due(service: Service) -> bool:
    return service.due is not None and service.due <= time.monotonic()


def _drain(pump: Pump) -> None:
    """Copy what the ended process has left in the pipe, and no more than it can hold: another
    process that has it open may go on writing for ever."""
    try:
        most = pump.moved + fcntl.fcntl(pump.source, fcntl.F_GETPIPE_SZ)
    except OSError:
        most = pump.moved + CHUNK  # a terminal: it holds less
    while pump.pending or pump.moved < most:
        poll = select.poll()
        if pump.pending and pump.target is not None:
            # The user's descriptor does not block: wait, or the rest would be lost.
            poll.register(pump.target, select.POLLOUT)
            poll.poll()
            going = pump.flush()
        else:
            poll.register(pump.source, select.POLLIN)
            going = bool(poll.poll(0)) and pump.move()
        if not going:
            return


def _close(pump: Pump) -> None:
    """Close what belongs to the pump. The end of the user's input is told to the container; the
    end of the user's interest gives the container the SIGPIPE that a plain program would get."""
    mine = pump.target if pump.inward else pump.source
    if mine is not None and mine >= 0:
        os.close(mine)
    if pump.inward:
        pump.target = None
    else:
        pump.source = -1

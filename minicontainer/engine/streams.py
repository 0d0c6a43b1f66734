"""The standard streams of a process in a container, and what joins them to the user.

The container never gets the user's own descriptors: through a terminal it could type for the
user, and through a file it could change the flags that the user's shell shares. It gets pipes of
ours, or a terminal of its own devpts.
"""

from __future__ import annotations

import os

from ..kernel import terminal
from ..runtime.supervise import Pump
from .logs import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Streams:
    """inner: the container's standard input, output and error, until it is started.

    pumps: what copies between them and the user, for `supervise`. on_resize: to be called when
    the user's window changes, or None. devpts: the file system that the terminal is on, or None.
    held: descriptors that are only kept open.
    """

    __slots__ = ("inner", "pumps", "on_resize", "devpts", "held")

    def __init__(self) -> None:
        self.inner: tuple[int, int, int] = (-1, -1, -1)
        self.pumps: list[Pump] = []
        self.on_resize: Callable[[], None] | None = None
        self.devpts: int | None = None
        self.held: list[int] = []

    def close_inner(self) -> None:
        """Close the container's ends in this process: it has them now."""
        for descriptor in {*self.inner, *([] if self.devpts is None else [self.devpts])}:
            if descriptor >= 0:
                os.close(descriptor)
        self.inner, self.devpts = (-1, -1, -1), None

    def close(self) -> None:
        """Close everything of ours; twice is once."""
        self.close_inner()
        for pump in self.pumps:
            end = pump.target if pump.inward else pump.source
            if end is not None and end >= 0:
                os.close(end)
        for descriptor in self.held:
            os.close(descriptor)
        self.pumps, self.held = [], []

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Held:
    """A descriptor that is closed at the end of a `with` block, or before it."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Close it; twice is once."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_null() -> Streams:
    """Nothing to read, and nobody who reads."""
    streams = Streams()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    streams.inner = (null, null, null)
    return streams


def open_pipes(*, interactive: bool, attach: bool, uid: int, log: Writer | None = None) -> Streams:
    """Pipes: the two outputs stay apart, and the input is empty unless interactive.

    attach: joined to our own standard streams. uid: who may open the pipes by name
    (/dev/stdout): the container's user.
    """
    streams = Streams()
    try:
        standard_in = _open_input(streams, interactive, attach, uid)
        streams.inner = (standard_in, -1, -1)
        standard_out = _open_output(streams, 1 if attach else None, uid, log, "stdout")
        streams.inner = (standard_in, standard_out, -1)
        standard_error = _open_output(streams, 2 if attach else None, uid, log, "stderr")
        streams.inner = (standard_in, standard_out, standard_error)
    except BaseException:
        streams.close()
        raise
    return streams


def _open_input(streams: Streams, interactive: bool, attach: bool, uid: int) -> int:
    if not interactive:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    inner, end = os.pipe2(os.O_CLOEXEC)
    os.fchown(inner, uid, -1)
    if attach:
        streams.pumps.append(Pump(0, end, inward=True))
    else:
        # Nobody writes, but the container waits for input, as in `docker run -di`.
        streams.held.append(end)
    return inner


def _open_output(
    streams: Streams, target: int | None, uid: int, log: Writer | None, name: str
) -> int:
    end, inner = os.pipe2(os.O_CLOEXEC)
    os.fchown(inner, uid, -1)
    streams.pumps.append(Pump(end, target, log.stream(name) if log else None))
    return inner


def open_terminal(
    pair: tuple[int, int],
    *,
    interactive: bool,
    attach: bool,
    uid: int,
    log: Writer | None = None,
    devpts: int | None = None,
) -> Streams:
    """A terminal: one stream for both outputs, line editing, Ctrl-C as a signal.

    pair: (our end, the container's end). Otherwise as for pipes.
    """
    outer, inner = pair
    streams = Streams()
    streams.inner = (inner, inner, inner)
    streams.devpts = devpts
    # While any inner end is open, ours reads no EIO: a program may close all of its own, and open
    # /dev/console again later.
    streams.held.append(os.dup(inner))
    streams.pumps = [Pump(outer, 1 if attach else None, log.stream("stdout") if log else None)]
    os.fchown(inner, uid, -1)
    if attach and interactive:
        streams.pumps.append(Pump(0, os.dup(outer), inward=True))
    screen = next((number for number in (1, 0) if os.isatty(number)), None)
    if attach and screen is not None:

        def resize() -> None:
            try:
                terminal.copy_size(screen, outer)
            except OSError:
                return  # one of the two is gone: no reason to end the container

        streams.on_resize = resize
        resize()
    return streams


def is_user_terminal(tty: bool, interactive: bool) -> bool:
    """Whether the user's terminal is to be put into raw mode: keys then reach the container."""
    return tty and interactive and os.isatty(0)

"""What a person sees of a pull: docker's lines, and on a terminal its moving bars.

`Progress` itself is silent, for programs; `choose` takes the one that suits a stream. A pull
calls `pulling`, then `update` from any of its threads, then `finished`; the end of the `with`
block gives the terminal back, whatever happened.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

    from .reference import Reference

# Redraws per second: a terminal at the end of a slow line has to follow.
_RATE = 10
_BAR = 50
_SHORTEST_BAR = 10
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


class Progress:
    """Says nothing."""

    def pulling(self, reference: Reference) -> None:
        """The registry has the image; its layers come next."""

    def update(self, layer: str, status: str, done: int = 0, total: int = 0) -> None:
        """What happens to a layer (its digest) now; done, total: bytes, 0 when unknown."""

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        """All is there. digest: by which the registry serves the name."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Name(Progress):
    """For `-q`: the image's whole name at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        print(reference, file=self._stream, flush=True)


class Lines(Progress):
    """For files and pipes: a line for each change of a layer's status."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._status: dict[str, str] = {}

    def pulling(self, reference: Reference) -> None:
        self._print(f"{reference.tag or reference.digest}: Pulling from {reference.repository}")

    def update(self, layer: str, status: str, done: int = 0, total: int = 0) -> None:
        with self._lock:
            if self._status.get(layer) == status:
                return
            self._status[layer] = status
            # What moves is for the eye; a log wants what happened.
            if status not in ("Downloading", "Extracting", "Waiting"):
                self._print(f"{short(layer)}: {status}")

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        familiar = reference.familiar()
        outcome = "Downloaded newer image" if newer else "Image is up to date"
        self._print(f"Digest: {digest}")
        self._print(f"Status: {outcome} for {familiar}")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bars(Lines):
    """For terminals: a line per layer, redrawn in place by a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._layers: dict[str, tuple[str, int, int]] = {}
        self._drawn = 0
        self._changed = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def update(self, layer: str, status: str, done: int = 0, total: int = 0) -> None:
        with self._lock:
            self._layers[layer] = (status, done, total)
            self._changed = True

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        self._halt()
        super().finished(reference, digest, newer)

    def __enter__(self) -> Progress:
        self._stream.write(_HIDE)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._halt()
        self._stream.write(_SHOW)
        self._stream.flush()

    def _halt(self) -> None:
        """Stop the ticking and draw the last state; nothing more the second time."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join()
            self._draw()

    def _tick(self) -> None:
        while not self._end.wait(1 / _RATE):
            try:
                self._draw()
            except OSError:
                return  # the terminal is gone; the pull need not be

    def _draw(self) -> None:
        with self._lock:
            if not self._changed:
                return
            self._changed = False
            states = list(self._layers.items())
        columns, rows = _size(self._stream)
        lines = [_line(layer, *state, columns) for layer, state in states]
        if len(lines) >= rows:
            # Cursor movement ends at the top of the screen, so show only what fits: what moves.
            busy = [
                line
                for line, (_, (status, _, _)) in zip(lines, states, strict=True)
                if status not in ("Pull complete", "Already exists")
            ]
            lines = [
                *busy[: max(rows - 2, 0)],
                f"({len(lines)} layers, {len(busy)} to go)"[:columns],
            ]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        # Each line clears its own rest; \x1b[J clears below, when there are fewer than before.
        text = "".join(f"{line}\x1b[K\n" for line in lines)
        self._stream.write(f"{up}\r{text}\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)


def choose(stream: TextIO, quiet: bool = False) -> Progress:
    """What suits the stream that a command prints to; quiet: docker's `-q`."""
    if quiet:
        return Name(stream)
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(stream)
    return Lines(stream)


def short(layer: str) -> str:
    """A digest as docker shows it."""
    return layer.removeprefix("sha256:")[:12]


def _line(layer: str, status: str, done: int, total: int, columns: int) -> str:
    """One layer in at most so many columns; the bar gives way before the numbers do."""
    text = f"{short(layer)}: {status}"
    if total:
        numbers = f"{_bytes(done)}/{_bytes(total)}"
        width = min(_BAR, columns - 46)
        if width >= _SHORTEST_BAR:
            filled = min(done, total) * width // total
            bar = ("=" * filled + ">")[:width].ljust(width)
            text = f"{text:<25} [{bar}] {numbers:>15}"
        else:
            text = f"{text} {numbers}"
    return text[:columns]


def _bytes(count: float) -> str:
    """A size in docker's way: powers of 1000, four digits at most."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}TB"


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows, now: a window may change while we draw."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24

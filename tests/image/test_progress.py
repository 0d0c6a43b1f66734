"""What a pull shows: docker's lines in a pipe, bars on a terminal, a name with -q."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from minicontainer.image import progress
from minicontainer.image.reference import Reference

ALPINE = Reference.parse("alpine")
DIGEST = "sha256:" + "d" * 64
LAYERS = ["sha256:" + f"{number:x}" * 64 for number in range(1, 9)]


def play(shown: progress.Progress, layers: list[str]) -> None:
    with shown:
        shown.pulling(ALPINE)
        for layer in layers:
            shown.update(layer, "Pulling fs layer")
        for layer in layers:
            for done in (1_000_000, 2_000_000):
                shown.update(layer, "Downloading", done, 2_000_000)
            shown.update(layer, "Download complete")
            shown.update(layer, "Extracting", 1, 2)
            shown.update(layer, "Pull complete")
        shown.finished(ALPINE, DIGEST, newer=True)


def test_lines() -> None:
    stream = io.StringIO()
    play(progress.choose(stream), LAYERS[:1])
    assert stream.getvalue().splitlines() == [
        "latest: Pulling from library/alpine",
        "111111111111: Pulling fs layer",
        "111111111111: Download complete",
        "111111111111: Pull complete",
        f"Digest: {DIGEST}",
        "Status: Downloaded newer image for alpine:latest",
    ]


def test_by_digest_and_up_to_date() -> None:
    stream = io.StringIO()
    reference = ALPINE.with_digest(DIGEST)
    with progress.choose(stream) as shown:
        shown.pulling(reference)
        shown.finished(reference, DIGEST, newer=False)
    assert stream.getvalue().splitlines() == [
        f"{DIGEST}: Pulling from library/alpine",
        f"Digest: {DIGEST}",
        f"Status: Image is up to date for alpine@{DIGEST}",
    ]


def test_quiet() -> None:
    stream = io.StringIO()
    play(progress.choose(stream, quiet=True), LAYERS)
    assert stream.getvalue() == "docker.io/library/alpine:latest\n"


class Screen:
    """A terminal of some size, and what is on it: enough of one to read our own sequences."""

    def __init__(self, rows: int, columns: int) -> None:
        self.controller, worker = pty.openpty()
        fcntl.ioctl(worker, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.stream: TextIO = open(worker, "w")  # noqa: SIM115  close() does
        self.rows = rows
        self.output = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.controller, 65536):
                self.output += data
        except OSError:
            pass  # EIO: the other side is closed

    def close(self) -> str:
        self.stream.close()
        self._reader.join()
        os.close(self.controller)
        return self.output.decode()

    def lines(self) -> list[str]:
        """The screen at the end, scrolled-off lines first."""
        text = self.close()
        lines, row = [""], 0
        for part in re.split(r"(\x1b\[[?\d]*[A-Za-z]|\r|\n)", text):
            if part == "\n":
                row += 1
                if row == len(lines):
                    lines.append("")
            elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
                assert int(up[1]) < self.rows, "the cursor cannot leave the screen"
                row -= int(up[1])
            elif part == "\x1b[J":
                lines[row:] = [""]
            elif part == "\x1b[K" or part in ("\r", progress._HIDE, progress._SHOW):
                continue
            elif part:
                lines[row] = part
        return lines


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen(24, 100)
    yield screen
    if not screen.stream.closed:
        screen.close()


def test_bars_end_as_a_list(screen: Screen) -> None:
    play(progress.choose(screen.stream), LAYERS[:2])
    assert screen.lines() == [
        "latest: Pulling from library/alpine",
        "111111111111: Pull complete",
        "222222222222: Pull complete",
        f"Digest: {DIGEST}",
        "Status: Downloaded newer image for alpine:latest",
        "",
    ]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            100,
            "111111111111: Downloading [========================>                         ]"
            "  14.74MB/29.5MB",
        ),
        (80, "111111111111: Downloading [================>                 ]  14.74MB/29.5MB"),
        (50, "111111111111: Downloading 14.74MB/29.5MB"),
        (20, "111111111111: Downlo"),
    ],
)
def test_a_bar_in_the_middle(columns: int, line: str) -> None:
    screen = Screen(24, columns)
    with progress.choose(screen.stream) as shown:
        shown.update(LAYERS[0], "Downloading", 14_740_000, 29_500_000)
    assert screen.lines() == [line, ""]


def test_the_cursor_comes_back_after_a_failure(screen: Screen) -> None:
    with pytest.raises(KeyboardInterrupt), progress.choose(screen.stream) as shown:
        shown.update(LAYERS[0], "Downloading", 1, 2)
        raise KeyboardInterrupt
    output = screen.close()
    assert output.startswith(progress._HIDE)
    assert output.endswith(progress._SHOW)


def test_many_updates_are_few_drawings(screen: Screen) -> None:
    begin = time.monotonic()
    with progress.choose(screen.stream) as shown:
        while time.monotonic() < begin + 0.3:
            shown.update(LAYERS[0], "Downloading", 1, 2)
    drawings = screen.close().count("Downloading")
    assert 1 <= drawings <= (time.monotonic() - begin) * progress._RATE + 1


@pytest.mark.parametrize(("rows", "columns"), [(5, 100), (24, 30), (2, 20)])
def test_small_terminals(rows: int, columns: int) -> None:
    screen = Screen(rows, columns)
    play(progress.choose(screen.stream), LAYERS)
    for line in screen.lines()[1:-3]:
        assert len(line) <= columns


def test_a_dumb_terminal_gets_lines(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    play(progress.choose(screen.stream), LAYERS[:1])
    assert "\x1b" not in screen.close()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (29_500_000, "29.5MB"), (1_234_567_890, "1.235GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert progress._bytes(count) == text

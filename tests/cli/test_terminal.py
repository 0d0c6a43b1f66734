"""`-t`: a terminal in the container, and the user's own one left as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from chapters import patience
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm]

TIMEOUT = patience.seconds(20)


class Session:
    """A command on a terminal of its own, typed at and read by the test."""

    def __init__(self, command: list[str]) -> None:
        self.outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(inner)
        self.inner = inner
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        self.seen = b""

    def expect(self, text: bytes) -> bytes:
        """Read until the text comes; what came before it."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.seen:
            ready, _, _ = select.select([self.outer], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not come, but {self.seen!r}"
            self.seen += os.read(self.outer, 4096)
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: bytes) -> None:
        os.write(self.outer, text)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def wait(self) -> int:
        return self.process.wait(TIMEOUT)

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.inner) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.outer)
        os.close(self.inner)


Open = Callable[..., Session]


@pytest.fixture
def terminal(engine: Engine) -> Iterator[Open]:
    sessions = []

    def open_session(*words: str) -> Session:
        session = Session(engine.command(*words))
        sessions.append(session)
        return session

    yield open_session
    for session in sessions:
        session.close()


def test_a_shell(terminal: Open, engine: Engine, starter: str) -> None:
    shell = terminal("run", "--rm", "-it", starter, "sh")
    shell.expect(b"# ")
    shell.type(b"tty; test -t 2 && echo $TERM; stty size; exit 5\n")
    shell.expect(b"/dev/pts/0\r\n")
    shell.expect(b"xterm\r\n")
    shell.expect(b"24 80\r\n")
    assert shell.wait() == 5
    assert shell.is_restored()
    assert os.listdir(engine.run_root) == []


def test_the_window_is_followed(terminal: Open, starter: str) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    shell = terminal("run", "--rm", "-it", starter, "sh", "-c", script)
    shell.expect(b"ready\r\n")
    shell.resize(33, 99)
    shell.expect(b"33 99\r\n")
    assert shell.wait() == 0


def test_keys_become_signals_inside(terminal: Open, starter: str) -> None:
    script = "trap 'echo got INT; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    shell = terminal("run", "--rm", "-it", starter, "sh", "-c", script)
    shell.expect(b"ready\r\n")
    shell.type(b"\x03")
    shell.expect(b"got INT\r\n")
    assert shell.wait() == 7
    assert shell.is_restored()


def test_end_of_input(terminal: Open, starter: str) -> None:
    shell = terminal("run", "--rm", "-it", starter, "cat")
    shell.type(b"x\n")
    shell.expect(b"x\r\nx\r\n")
    shell.type(b"\x04")
    assert shell.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_comes_back_after_a_signal(
    terminal: Open, starter: str, number: signal.Signals
) -> None:
    script = "trap 'exit 3' TERM HUP; echo ready; while :; do sleep 0.05; done"
    shell = terminal("run", "--rm", "-it", starter, "sh", "-c", script)
    shell.expect(b"ready\r\n")
    assert not shell.is_restored()
    shell.process.send_signal(number)
    assert shell.wait() == 3
    assert shell.is_restored()


def test_the_terminal_comes_back_after_an_error(terminal: Open, starter: str) -> None:
    shell = terminal("run", "--rm", "-it", starter, "no-such")
    shell.expect(b"not found in PATH")
    assert shell.wait() == 127
    assert shell.is_restored()


def test_exec_on_a_terminal(terminal: Open, engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "web", starter, "sleep", "1000")
    shell = terminal("exec", "-it", "-u", "app", "web", "sh")
    shell.expect(b"$ ")
    shell.type(b"tty; id -un; stty size; exit 4\n")
    shell.expect(b"/dev/pts/")
    shell.expect(b"app\r\n")
    shell.expect(b"24 80\r\n")
    assert shell.wait() == 4
    assert shell.is_restored()


def test_without_a_terminal_of_the_users(engine: Engine, starter: str) -> None:
    for words in (["run", "--rm", "-it", starter, "sh"], ["exec", "-it", "web", "sh"]):
        done = engine.run(*words, check=False)
        assert (done.returncode, done.stderr) == (
            1, "minicontainer: the input device is not a TTY\n",
        )  # fmt: skip
    # Only the output: as in docker, that needs none.
    assert engine.output("run", "--rm", "-t", starter, "tty") == "/dev/pts/0"


def test_detached_with_a_terminal(engine: Engine, starter: str) -> None:
    engine.run("run", "-dt", "--name", "web", starter, "sh", "-c", "tty; echo err >&2")
    engine.run("wait", "web")
    done = engine.run("logs", "web")
    assert (done.stdout.split(), done.stderr) == (["/dev/pts/0", "err"], "")

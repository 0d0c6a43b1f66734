"""Beside a running process: streams, signals, the end."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

import pytest

from minicontainer.kernel import process
from minicontainer.runtime import supervise

pytestmark = pytest.mark.root
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def begin(script: str, *streams: int) -> process.Process:
    def child() -> None:
        for number, stream in enumerate(streams):
            os.dup2(stream, number, inheritable=True)
        process.execute(["sh", "-c", script], ENVIRONMENT)

    started = process.spawn(child)
    started.wait_exec()
    for stream in set(streams):
        os.close(stream)
    return started


def null() -> int:
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def test_a_megabyte_through_and_back() -> None:
    """More than a pipe holds, in both directions at once: no deadlock, no lost byte."""
    data = os.urandom(1 << 20)
    to_child, child_in = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    feed, out = to_child[0], os.pipe2(os.O_CLOEXEC)
    echo = begin("cat", child_in[0], out[1], null())
    collected = bytearray()
    pumps = [
        supervise.Pump(feed, child_in[1], inward=True),
        supervise.Pump(out[0], None, collected.extend),
    ]

    def write() -> None:
        with open(to_child[1], "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert supervise.supervise(echo, pumps, forward=False) == 0
    finally:
        writer.join()
        echo.close()
        os.close(feed)
    assert bytes(collected) == data


def test_the_last_words_are_copied_whole() -> None:
    out = os.pipe2(os.O_CLOEXEC)
    child = begin("head -c 60000 /dev/zero; exit 3", null(), out[1], null())
    collected = bytearray()
    code = supervise.supervise(child, [supervise.Pump(out[0], None, collected.extend)])
    child.close()
    assert (code, len(collected)) == (3, 60000)


def test_a_reader_that_leaves_gives_the_program_its_sigpipe() -> None:
    out, user = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    os.close(user[0])
    child = begin("while :; do echo y; done", null(), out[1], null())
    code = supervise.supervise(child, [supervise.Pump(out[0], user[1])])
    child.close()
    os.close(user[1])
    assert code == 128 + signal.SIGPIPE


def test_signals_are_passed_on_and_handlers_put_back() -> None:
    out = os.pipe2(os.O_CLOEXEC)
    before = signal.getsignal(signal.SIGTERM)
    child = begin(
        "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done", null(), out[1], null()
    )

    def on_output(data: bytes) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    code = supervise.supervise(child, [supervise.Pump(out[0], None, on_output)])
    child.close()
    assert code == 42
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_grandchild_that_keeps_the_pipe_does_not_keep_us() -> None:
    out = os.pipe2(os.O_CLOEXEC)
    child = begin("sleep 1000 & echo $!; exit 4", null(), out[1], null())
    collected = bytearray()
    try:
        code = supervise.supervise(child, [supervise.Pump(out[0], None, collected.extend)])
    finally:
        child.close()
        os.kill(int(collected), signal.SIGKILL)
    assert code == 4


def test_a_program_that_reads_nothing_does_not_stop_the_loop() -> None:
    feed, child_in = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    child = begin("sleep 0.2; exit 6", child_in[0], null(), null())
    code = supervise.supervise(child, [supervise.Pump(zero, child_in[1], inward=True)])
    child.close()
    for descriptor in (*feed, zero):
        os.close(descriptor)
    assert code == 6


def test_a_full_disk_behind_the_users_stream_is_no_error_of_ours() -> None:
    out = os.pipe2(os.O_CLOEXEC)
    full = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
    child = begin("echo lost; exit 5", null(), out[1], null())
    code = supervise.supervise(child, [supervise.Pump(out[0], full)])
    child.close()
    os.close(full)
    assert code == 5


def test_who_asks_three_times_means_it(capfd: pytest.CaptureFixture[str]) -> None:
    out = os.pipe2(os.O_CLOEXEC)
    child = begin(
        "trap 'echo no' INT TERM; echo ready; while :; do sleep 0.05; done", null(), out[1], null()
    )
    signals = iter((signal.SIGINT, signal.SIGTERM, signal.SIGINT))
    heard = []

    def on_output(data: bytes) -> None:
        heard.append(data)
        os.kill(os.getpid(), next(signals))

    code = supervise.supervise(child, [supervise.Pump(out[0], None, on_output)])
    child.close()
    assert (code, heard) == (128 + signal.SIGKILL, [b"ready\n", b"no\n", b"no\n"])
    assert capfd.readouterr().err == "minicontainer: got 3 SIGTERM/SIGINTs, killing the process\n"


class Echo:
    """A service: says back what arrives, and ends the container when its time has come."""

    def __init__(self, pipe: int, due: float | None, end: int) -> None:
        self.pipe, self.due, self.end = pipe, due, end
        self.heard = b""
        self.epoll = select.epoll()
        self.epoll.register(pipe, select.EPOLLIN)
        self.descriptor = self.epoll.fileno()

    def serve(self) -> None:
        if self.epoll.poll(0):
            self.heard += os.read(self.pipe, 100)
        elif self.due is not None and self.due <= time.monotonic():
            self.due = None
            os.close(self.end)

    def close(self) -> None:
        self.epoll.close()


def test_a_service_gets_its_turn_when_something_arrives_and_when_it_is_due() -> None:
    """The program waits for the end of its input, which comes from the service when it is due."""
    said, told = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    waiting = begin("echo hello >&2; cat", said[0], null(), told[1])
    service = Echo(told[0], time.monotonic() + 0.05, said[1])
    try:
        assert supervise.supervise(waiting, [], forward=False, services=[service]) == 0
        assert service.heard == b"hello\n"
        assert service.due is None
    finally:
        waiting.close()
        service.close()
        os.close(told[0])

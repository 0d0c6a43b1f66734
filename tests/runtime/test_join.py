"""One more process inside a running container."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import chroot, flags, mounts, namespaces, process
from minicontainer.runtime import join, supervise
from tests.runtime import bundle
from tests.support.inside import inside

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox")]


class Running:
    def __init__(self, container: process.Process, wanted: dict[str, Any]) -> None:
        self.pid = container.pid
        self.started = process.start_time(container.pid)
        self.wanted = wanted

    def execute(self, *arguments: str, **changes: Any) -> tuple[int, str]:
        read, write = os.pipe2(os.O_CLOEXEC)
        fork = changes.pop("fork", False)
        wanted = {**self.wanted, "args": list(arguments), **changes}
        output = bytearray()
        try:
            joined = join.join(self.pid, self.started, wanted, (write, write, write), fork=fork)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        pump = supervise.Pump(read, None, output.extend)
        code = supervise.supervise(joined, [pump], forward=False)
        joined.close()
        return code, output.decode()


@pytest.fixture
def running(tmp_path: Path, rootfs: Path) -> Iterator[Running]:
    spec = bundle.write(tmp_path, rootfs, args=["sleep", "1000"])
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    container = bundle.begin(tmp_path, (null, null, null))
    os.close(null)
    try:
        yield Running(container, spec["process"])
    finally:
        container.signal(signal.SIGKILL)
        container.wait()
        container.close()
        bundle.remove_cgroup(tmp_path)


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
def test_it_shares_everything_with_the_container(running: Running, fork: bool) -> None:
    code, output = running.execute(
        "sh", "-c", "hostname; ls /proc | grep -c '^[0-9]'; for n in mnt uts ipc pid net; do "
        "[ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n differs; done; "
        "exit 5",
        fork=fork,
    )  # fmt: skip
    assert code == 5
    lines = output.split()
    assert lines[0] == "runc"
    assert len(lines) == 2


def test_the_caller_stays_where_it_was(running: Running) -> None:
    before = [namespaces.identity("self", kind) for kind in ("mount", "pid", "uts")]
    running.execute("true")
    assert [namespaces.identity("self", kind) for kind in ("mount", "pid", "uts")] == before
    child = process.spawn(lambda: None)
    assert child.pid > 100  # a child of ours has a number of our own PID namespace
    assert child.wait() == 0
    child.close()


def test_what_it_may_do_is_what_the_container_may(running: Running) -> None:
    _, output = running.execute("sh", "-c", "grep -E 'Cap|NoNew' /proc/self/status")
    _, first = running.execute("sh", "-c", "grep -E 'Cap|NoNew' /proc/1/status")
    assert output == first


@pytest.mark.parametrize(("command", "code"), [("no-such", 127), ("/etc", 126)])
def test_errors_before_exec(running: Running, command: str, code: int) -> None:
    with pytest.raises(EngineError) as caught:
        running.execute(command)
    assert caught.value.exit_code == code


def test_an_ended_container_cannot_be_joined(running: Running) -> None:
    running.started += 1
    with pytest.raises(EngineError, match="is gone"):
        running.execute("true")


def test_a_working_directory_outside_is_refused(running: Running) -> None:
    leaked = os.open("/usr", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        for number in range(3, 24):
            with pytest.raises(EngineError):
                running.execute("pwd", cwd=f"/proc/self/fd/{number}")
    finally:
        os.close(leaked)


def test_a_terminal_is_on_the_containers_devpts(running: Running) -> None:
    outer, inner = join.open_terminal(running.pid)
    output = bytearray()
    wanted = {**running.wanted, "args": ["sh", "-c", "tty; ls /dev/pts"]}
    joined = join.join(
        running.pid, running.started, wanted, (inner, inner, inner), has_terminal=True
    )
    os.close(inner)
    pump = supervise.Pump(outer, None, output.extend)
    assert supervise.supervise(joined, [pump], forward=False) == 0
    joined.close()
    assert output.decode().split() == ["/dev/pts/0", "0", "ptmx"]


def test_it_cannot_be_watched_before_its_exec(running: Running) -> None:
    """The joining process is the host's Python: it must not be open to those inside."""
    script = (
        "while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done 2>/dev/null | "
        "grep -m1 python && exit 1"
    )
    read, write = os.pipe2(os.O_CLOEXEC)
    watcher = join.join(
        running.pid, running.started, {**running.wanted, "args": ["sh", "-c", script]},
        (write, write, write),
    )  # fmt: skip
    try:
        os.close(write)
        for _ in range(100):
            running.execute("true")
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            print(os.read(read, 100))
    finally:
        watcher.signal(signal.SIGKILL)
        watcher.wait()
        watcher.close()
        os.close(read)


def test_the_root_is_the_containers_also_when_the_engine_runs_in_a_chroot(
    tmp_path: Path, rootfs: Path
) -> None:
    """setns(2) leads to the root of the mount namespace; that is then the host's."""
    (rootfs / "mark").touch()
    bundle.write(tmp_path, rootfs, args=["sleep", "1000"])

    def chrooted() -> list[object]:
        mounts.make_private()
        host = mounts.clone("/", ["rbind"])
        mounts.attach(host, os.open("/mnt", os.O_PATH | os.O_DIRECTORY))
        chroot.chroot("/mnt")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        container = bundle.begin(tmp_path, (null, null, null))
        try:
            running = Running(container, wanted)
            return list(running.execute("ls", "/mark"))
        finally:
            container.signal(signal.SIGKILL)
            container.wait()
            bundle.remove_cgroup(tmp_path)

    wanted = json.loads((tmp_path / "config.json").read_text())["process"]
    assert inside(chrooted, flags.CLONE_NEWNS) == [0, "/mark\n"]

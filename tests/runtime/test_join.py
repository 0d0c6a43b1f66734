"""One more process inside a running container."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
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


def sibling(report: bytes, pids: int = 0) -> process.Process:
    return join._sibling(report, pids, "the-program")


def test_a_report_that_no_stub_wrote_is_not_believed() -> None:
    """Whoever may trace the newborn can write to its pipe: numbers, and more of them."""
    child = process.spawn(signal.pause)
    pids = namespaces.identity("self", "pid")
    pid = struct.pack("<i", -child.pid)
    try:
        for forged in (pid + b"x", pid + struct.pack("<ii", 2, 2), b"x" * 70_000):
            with pytest.raises(EngineError, match="interfered"):
                sibling(forged)
        # A child of ours, but not in that namespace, or no child of ours at all: they live.
        with pytest.raises(EngineError, match="interfered"):
            sibling(pid + struct.pack("<i", -os.getppid()), pids=1)
        os.kill(child.pid, 0)
        assert not select.select([child.pidfd], [], [], 0)[0]
        with pytest.raises(EngineError, match="interfered"):
            sibling(pid * 2, pids)
        assert select.select([child.pidfd], [], [], 10)[0], "the newborn lives on"
        child.ended = 137  # it was waited for
    finally:
        child.end()
        child.close()


@pytest.mark.parametrize(
    ("report", "words"),
    [(b"", "was killed"), (struct.pack("<i", 12), "in the container: cannot allocate memory")],
)
def test_nothing_was_born(report: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        sibling(report)


def test_a_program_that_is_the_stub_itself_ends(running: Running, rootfs: Path) -> None:
    """`#!/proc/self/exe` runs the sealed stub once more, inside: it finds no report, and ends."""
    script = rootfs / "tmp" / "again"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    code, output = running.execute("/tmp/again")
    assert (code, output) == (127, "")


def test_an_exec_in_a_container_that_is_gone(running: Running) -> None:
    os.kill(running.pid, signal.SIGKILL)
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(EngineError):
        running.execute("true")

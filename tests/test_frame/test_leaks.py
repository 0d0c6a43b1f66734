"""The leak check finds each kind of thing that a container could leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import leaks


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def leave_process(cleanup: ExitStack) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    cleanup.callback(process.wait)
    cleanup.callback(process.kill)


def leave_orphan(cleanup: ExitStack) -> None:
    """A grandchild whose parent is gone, with an empty environment, in a session of its own."""
    answer = subprocess.run(
        ["setsid", "--fork", "env", "-i", "sh", "-c", "echo $$; exec sleep 1000 >&- 2>&-"],
        capture_output=True, check=True,
    )  # fmt: skip
    cleanup.callback(os.kill, int(answer.stdout), signal.SIGKILL)


def leave_zombie(cleanup: ExitStack) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    cleanup.callback(process.wait)


def leave_descriptor(cleanup: ExitStack) -> None:
    cleanup.callback(os.close, os.open("/", os.O_RDONLY))


def leave_temporary(cleanup: ExitStack) -> None:
    cleanup.callback(os.rmdir, tempfile.mkdtemp())


def leave_mount(cleanup: ExitStack) -> None:
    directory = tempfile.mkdtemp()
    cleanup.callback(os.rmdir, directory)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    cleanup.callback(subprocess.run, ["umount", directory], check=True)


def leave_link(cleanup: ExitStack) -> None:
    name = f"mctest{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    cleanup.callback(subprocess.run, ["ip", "link", "del", name], check=True)


def leave_address(cleanup: ExitStack) -> None:
    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "lo"], check=True)
    cleanup.callback(
        subprocess.run, ["ip", "address", "del", "192.0.2.1/24", "dev", "lo"], check=True
    )


def leave_address6(cleanup: ExitStack) -> None:
    subprocess.run(["ip", "address", "add", "2001:db8::9/128", "dev", "lo"], check=True)
    cleanup.callback(
        subprocess.run, ["ip", "address", "del", "2001:db8::9/128", "dev", "lo"], check=True
    )


def leave_route(cleanup: ExitStack) -> None:
    subprocess.run(["ip", "route", "add", "192.0.2.0/24", "dev", "lo"], check=True)
    cleanup.callback(subprocess.run, ["ip", "route", "del", "192.0.2.0/24"], check=True)


def leave_rule(cleanup: ExitStack) -> None:
    subprocess.run(["nft", "add table inet mctest; add chain inet mctest own"], check=True)
    cleanup.callback(subprocess.run, ["nft", "delete table inet mctest"], check=True)


def leave_forwarding(cleanup: ExitStack) -> None:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    cleanup.callback(path.write_text, path.read_text())
    path.write_text("1")


def leave_network_namespace(cleanup: ExitStack) -> None:
    """What `ip netns add` leaves, without the mount that it makes of the directory for good."""
    if not os.path.isdir("/run/netns"):
        os.mkdir("/run/netns")
        cleanup.callback(os.rmdir, "/run/netns")
    Path("/run/netns/mctest").touch()
    cleanup.callback(os.unlink, "/run/netns/mctest")


def leave_cgroup(cleanup: ExitStack) -> None:
    path = f"{leaks.CGROUP_ROOTS[0]}/minicontainer-test"
    os.mkdir(path)
    cleanup.callback(os.rmdir, path)


@pytest.mark.parametrize(
    ("leave", "sentence"),
    [
        (leave_process, "process left: "),
        (leave_orphan, "process left: "),
        (leave_zombie, "process left: "),
        (leave_descriptor, "descriptor left open: "),
        (leave_temporary, "file left: "),
        pytest.param(leave_mount, "mount left: ", marks=pytest.mark.root),
        pytest.param(leave_link, "network link left: mctest", marks=pytest.mark.root),
        pytest.param(leave_address, "network address left: 192.0.2.1/32", marks=pytest.mark.root),
        pytest.param(leave_address6, "network address left: 2001:db8::9", marks=pytest.mark.root),
        pytest.param(leave_route, "route left: 192.0.2.0/24", marks=pytest.mark.root),
        pytest.param(
            leave_rule,
            "firewall rule left: table inet mctest",
            marks=[pytest.mark.root, pytest.mark.tools("nft")],
        ),
        pytest.param(
            leave_forwarding,
            "network setting left: ipv4.ip_forward = 1",
            marks=pytest.mark.root,
        ),
        pytest.param(leave_network_namespace, "file left: /run/netns/m", marks=pytest.mark.root),
        pytest.param(leave_cgroup, "cgroup left: ", marks=pytest.mark.root),
    ],
)
def test_a_leak_is_found(
    leave: Callable[[ExitStack], None],
    sentence: str,
    cleanup: ExitStack,
    temporaries: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.05)
    before = leaks.Snapshot(str(temporaries))
    leave(cleanup)
    assert [line for line in before.leaks() if line.startswith(sentence)]


def test_a_quiet_test_leaks_nothing(temporaries: Path) -> None:
    before = leaks.Snapshot(str(temporaries))
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["ls", directory], check=True)
    assert before.leaks() == []


def test_a_process_on_its_way_out_is_waited_for() -> None:
    before = leaks.Snapshot()
    subprocess.run(["setsid", "--fork", "sleep", "0.1"], check=True)
    assert before.leaks() == []


def test_a_service_of_the_session_may_start_processes() -> None:
    """A browser that several tests share makes a process for each page."""
    script = "read line; sleep 1000 & echo; read line; kill $!"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as service:
        assert service.stdin and service.stdout
        before = leaks.Snapshot()
        service.stdin.write(b"\n")
        service.stdin.flush()
        service.stdout.readline()
        assert before.leaks() == []
        service.stdin.write(b"\n")


def test_a_thread_may_close_what_it_holds() -> None:
    """A server's thread ends a moment after the server was closed."""
    before = leaks.Snapshot()
    descriptor = os.open("/", os.O_RDONLY)
    timer = threading.Timer(0.05, os.close, [descriptor])
    timer.start()
    assert before.leaks() == []
    timer.join()


def test_a_process_of_somebody_else_is_not_ours() -> None:
    """Another program on this machine may start what it likes while our tests run."""
    before = leaks.Snapshot()
    other = "import ctypes; ctypes.CDLL(None).prctl(29, 70000, 0, 0, 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{other}; print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline()
    # Its slack is its own now, so only its pipes, which are ours, are named.
    kinds = {line.partition(":")[0] for line in before.leaks()}
    process.communicate(b"\n")
    assert kinds == {"descriptor left open"}

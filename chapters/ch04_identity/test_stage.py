"""Chapter 04: the program has a host name, and System V and POSIX objects, of its own."""

from __future__ import annotations

import subprocess

import pytest

from chapters.conftest import Container, Running
from chapters.ground import HOST_NAME
from minicontainer.kernel import namespaces


def host_name(pid: int) -> str:
    """The host name as the namespace of a process has it."""
    command = ["nsenter", f"--uts=/proc/{pid}/ns/uts", "uname", "-n"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("kind", ["uts", "ipc"])
def test_the_namespaces_are_its_own(stage: Container, kind: str) -> None:
    with stage.start() as container:
        inside = namespaces.identity(container.pid, kind)
        assert inside != namespaces.identity(container.host, kind)


def test_it_has_a_name_of_its_own(stage: Container) -> None:
    with stage.start() as container:
        assert host_name(container.pid) == "container"
        assert host_name(container.host) == HOST_NAME
    assert stage.output("hostname") == "container\n"


def test_the_host_keeps_its_name(stage: Container) -> None:
    with stage.start("hostname owned 2>&-") as container:
        assert host_name(container.host) == HOST_NAME


def segments(container: Running, pid: int) -> int:
    """How many shared memory segments the IPC namespace of a process has."""
    command = ["nsenter", f"--ipc=/proc/{pid}/ns/ipc", "cat", "/proc/sysvipc/shm"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return len(table.splitlines()) - 1


def test_the_hosts_shared_memory_is_not_there(stage: Container) -> None:
    with stage.start() as container:
        make = ["nsenter", f"--ipc=/proc/{container.host}/ns/ipc", "ipcmk", "--shmem", "4096"]
        subprocess.run(make, stdout=subprocess.DEVNULL, check=True)
        assert segments(container, container.host) == 1
        assert segments(container, container.pid) == 0

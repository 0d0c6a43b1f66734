"""Chapter 05: the program is number 1, sees no process of the host, and ends all with its end."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

from chapters import patience
from chapters.conftest import Container
from minicontainer.kernel import namespaces, procfs


def test_the_pid_namespace_is_its_own(stage: Container) -> None:
    with stage.start() as container:
        inside = namespaces.identity(container.pid, "pid")
        assert inside != namespaces.identity(container.host, "pid")


def test_it_is_number_one(stage: Container) -> None:
    with stage.start() as container:
        assert container.status("NSpid").split()[-1] == "1"
    assert stage.output("echo $$") == "1\n"


def test_proc_shows_its_processes_and_no_others(stage: Container) -> None:
    with stage.start() as container:
        assert procfs.pids(str(container.path("/proc"))) == [1]


def test_proc_cannot_be_misused(stage: Container) -> None:
    with stage.start() as container:
        proc = container.mounts()["/proc"]
    assert "proc" in proc[6:]
    assert {"nosuid", "nodev", "noexec"} <= set(proc[5].split(","))


def add_null(rootfs: Path) -> None:
    """Give the root file system a /dev/null: sh opens it for every process in the background."""
    os.mknod(rootfs / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def test_an_orphan_becomes_its_child(stage: Container) -> None:
    """Somebody must wait for a process whose parent is gone: the first one of the namespace."""
    add_null(stage.rootfs)
    with stage.start("sh -c 'sleep 2 >&- 2>&- &'") as container:
        with open(f"/proc/{container.pid}/task/{container.pid}/children") as children:
            orphans = children.read().split()
        assert len(orphans) == 1


def test_all_end_with_the_first(stage: Container) -> None:
    """The sleeper holds the other end of our pipe: end of file says that it is no more."""
    add_null(stage.rootfs)
    with stage.start("sleep 2 &") as container:
        assert procfs.pids(str(container.path("/proc"))) == [1, 2]
        assert container.end() == 0
        poll = select.poll()
        assert container.program.stdout
        poll.register(container.program.stdout, select.POLLIN)
        assert poll.poll(patience.seconds(1) * 1000), "a process of the container lives on"

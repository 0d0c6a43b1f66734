"""Chapter 08: the limits hold, measured from outside; a device must have been given to it."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from chapters.ch06_devices.attack import find_disk
from chapters.ch08_cgroups.attack import HOG, MIB, cached
from chapters.conftest import Container, Running
from chapters.ground import Missing
from minicontainer.kernel import cgroupfs, cgroups, namespaces

V2 = cgroups.is_v2()
MEMORY = 64 * MIB
PROCESSES = 64


def group_of(container: Running) -> str:
    """The directory that holds the container's limit on memory, in the host's cgroup tree."""
    for row in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
        _, controllers, path = row.split(":", 2)
        if V2:
            return f"{cgroupfs.MOUNT}{path}"
        if "memory" in controllers.split(","):
            return f"{cgroupfs.MOUNT}/memory{path}"
    raise AssertionError("no cgroup with memory")


def cpu_time(container: Running) -> float:
    """The processor time of all processes of the container, in seconds."""
    group = Path(group_of(container))
    if V2:
        return cgroupfs.fields((group / "cpu.stat").read_text())["usage_usec"] / 1e6
    account = str(group).replace("/memory/", "/cpuacct/")
    return int(Path(f"{account}/cpuacct.usage").read_text()) / 1e9


def test_it_is_in_a_cgroup_of_its_own(stage: Container) -> None:
    with stage.start() as container:
        group = Path(group_of(container))
        assert group.parent.name == "minicontainer"
        inside = (group / "cgroup.procs").read_text().split()
        assert str(container.pid) in inside
        assert str(container.host) not in inside
        limit = (group / ("memory.max" if V2 else "memory.limit_in_bytes")).read_text()
        assert int(limit) == MEMORY
        container.end()
        assert not group.exists()


def test_it_sees_no_other_cgroup(stage: Container) -> None:
    with stage.start() as container:
        own = namespaces.identity("self", "cgroup")
        assert namespaces.identity(container.pid, "cgroup") != own
    rows = stage.output("cat /proc/self/cgroup").splitlines()
    assert rows
    assert [row for row in rows if "minicontainer" in row] == []


def test_memory_is_held(stage: Container) -> None:
    script = 'dd if=/dev/zero of=/dev/null bs="$1" count=1 && echo "has $1"'
    assert "has 8M" in stage.output(script, "8M")
    assert "has" not in stage.output(script, f"{HOG}M")


def test_memory_that_is_a_file_is_held(stage: Container) -> None:
    """A tmpfs counts for whoever writes to it."""
    script = """
        dd if=/dev/zero of=/dev/shm/file bs=1M count=48 2>/dev/null && echo 48
        dd if=/dev/zero of=/dev/null bs=32M count=1 2>/dev/null && echo 80
    """
    assert stage.output(script).splitlines()[:1] == ["48"]
    assert "80" not in stage.output(script).splitlines()


def test_page_cache_is_held(stage: Container) -> None:
    file, size = stage.rootfs / "big", MEMORY + 16 * MIB
    with open(file, "wb") as made:
        made.truncate(size)
    if cached(file):
        pytest.skip("this machine lacks disk-cache: its files are in memory anyhow")
    assert stage.output("cat /big | wc -c") == f"{size}\n"
    assert cached(file) <= MEMORY


def test_the_number_of_processes_is_held(stage: Container) -> None:
    script = f"(i=0; while [ $i -lt {2 * PROCESSES} ]; do sleep 9 & i=$((i+1)); echo started; done)"
    assert 32 < stage.output(script).count("started") <= PROCESSES
    assert stage.output("echo well") == "well\n"


def test_the_processor_is_held(stage: Container) -> None:
    """Half a processor for four loops, of a machine that has more, measured for a second."""
    script = "for i in 1 2 3 4; do (while :; do :; done) & done"
    with stage.start(script) as container:
        began, before = time.monotonic(), cpu_time(container)
        while time.monotonic() < began + 1:
            time.sleep(0.1)  # allowed: time is what is measured
        share = (cpu_time(container) - before) / (time.monotonic() - began)
    assert share < 0.65


def test_a_disk_cannot_be_had_on_any_file_system(stage: Container) -> None:
    try:
        major, minor = find_disk()
    except Missing as missing:
        pytest.skip(f"this machine lacks block-device: {missing}")
    os.mknod(stage.rootfs / "disk", stat.S_IFBLK | 0o666, os.makedev(major, minor))
    script = """
        mkdir -p /mnt && mount -t tmpfs mine /mnt
        mknod /mnt/disk b "$1" "$2"
        for disk in /disk /mnt/disk; do (: <$disk) && echo "opened $disk"; done
    """
    assert "opened" not in stage.output(script, str(major), str(minor))


def test_the_default_devices_work_wherever_they_are(stage: Container) -> None:
    """The filter asks for numbers, not for places."""
    os.mknod(stage.rootfs / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert stage.output("head -c 3 /zero | od -An -tx1").split() == ["00", "00", "00"]


def test_no_hierarchy_can_be_made(stage: Container) -> None:
    """The way of CVE-2022-0492: a version 1 hierarchy, whose release agent the host would run."""
    script = """
        mkdir -p /mnt/groups
        mount -t cgroup -o none,name=test groups /mnt/groups && echo mounted
    """
    assert "mounted" not in stage.output(script)

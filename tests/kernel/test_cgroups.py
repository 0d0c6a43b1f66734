"""Control groups, in whichever version this machine has: looked at from outside, in cgroupfs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import cgroups, devicefilter, limits, mounts, process, syscalls

pytestmark = pytest.mark.root

V2 = cgroups.is_v2()
MIB = 1 << 20
# Files of both worlds.
MEMORY, PIDS = ("memory.max" if V2 else "memory.limit_in_bytes"), "pids.max"

Make = Callable[..., Any]


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make cgroups that are gone after the test."""
    made = []

    def make(wanted: dict[str, Any] | None = None, name: str = "") -> Any:
        group = cgroups.create(name or f"test-{os.getpid()}-{len(made)}", wanted or {})
        made.append(group)
        return group

    yield make
    for group in made:
        group.remove()


def start(group: Any, script: str) -> process.Process:
    """A shell inside a cgroup; it is past its exec when this returns."""

    def child() -> None:
        group.enter()
        process.execute(["sh", "-c", script], dict(os.environ))

    # In a process of its own: this one may have threads.
    return process.spawn(child, 0, group.descriptor)


def ended(group: Any, script: str) -> int:
    started = start(group, script)
    try:
        started.wait_exec()
        return started.wait()
    finally:
        started.close()


def test_a_process_is_inside_from_its_first_instruction(make: Make, tmp_path: Path) -> None:
    group = make()
    out = tmp_path / "cgroup"
    assert ended(group, f"cat /proc/self/cgroup >{out}") == 0
    rows = out.read_text().splitlines()
    if V2:
        assert rows == [f"0::{group.path}"]
    else:
        inside = {row.split(":")[1] for row in rows if row.endswith(f":{group.path}")}
        assert {"memory", "pids", "devices", "freezer"} <= inside


@pytest.mark.needs("cgroup-v2")
def test_without_clone3_the_child_enters_by_itself(make: Make, tmp_path: Path) -> None:
    from minicontainer.kernel import namespaces

    group = make()
    out = tmp_path / "cgroup"

    def child() -> None:
        process.execute(["sh", "-c", f"cat /proc/self/cgroup >{out}"], dict(os.environ))

    for kinds in ([], ["pid", "mount"]):
        started = process.spawn(child, namespaces.bits(kinds), group.descriptor, fork=True)
        started.wait_exec()
        assert started.wait() == 0
        started.close()
        assert out.read_text() == f"0::{group.path}\n"


def test_limits_are_in_the_files_before_anything_runs(make: Make) -> None:
    group = make({"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}})
    assert group.pids() == []
    assert group.read(MEMORY) == f"{64 * MIB}\n"
    assert group.read(PIDS) == "9\n"


def test_the_number_of_processes_is_held(make: Make, tmp_path: Path) -> None:
    group = make({"pids": {"limit": 10}})
    out = tmp_path / "started"
    script = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 9 & echo $i >>{out}; done"
    assert ended(group, script) != 0
    assert out.read_text().splitlines()[-1] == "9"  # and the shell itself
    group.kill()


def test_memory_is_held_and_a_kill_is_counted(make: Make) -> None:
    group = make({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    assert group.oom_kills() == 0
    assert ended(group, "exec dd if=/dev/zero of=/dev/null bs=128M count=1 2>/dev/null") == 137
    assert group.oom_kills() == 1


def test_page_cache_and_tmpfs_are_memory_too(make: Make, tmp_path: Path) -> None:
    group = make({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    name = f"/dev/shm/minicontainer-test-{os.getpid()}"
    try:
        assert ended(group, f"exec dd if=/dev/zero of={name} bs=1M count=128 2>/dev/null") == 137
        assert os.stat(name).st_size < 33 * MIB
    finally:
        os.unlink(name)
    # What was read is given back when it has to be; what was written, only when the disk has it,
    # and version 1 does not wait for that. So this file is there already, and in no memory.
    with open(tmp_path / "big", "wb") as file:
        for _ in range(96):
            file.write(bytes(MIB))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert ended(group, f"exec dd if={tmp_path}/big of=/dev/null bs=1M 2>/dev/null") == 0


def test_a_share_of_the_processor_is_held(make: Make) -> None:
    """A quarter of one processor, asked for by four loops for a second."""
    group = make({"cpu": {"quota": 25_000, "period": 100_000}})
    script = "for i in 1 2 3 4; do (while :; do :; done) & done; exec sleep 1"
    before = os.times().elapsed
    assert ended(group, script) == 0
    group.kill()
    took = os.times().elapsed - before
    assert 0.01 * 1e9 < group.usage()["cpu"] < (0.25 * took + 0.2) * 1e9


def test_all_stand_still_and_go_on(make: Make) -> None:
    group = make()
    started = start(group, "while :; do :; done")
    try:
        started.wait_exec()
        assert not group.is_frozen()
        group.freeze()
        assert group.is_frozen()
        before = group.usage()["cpu"]
        # A frozen process uses no time, however long another runs meanwhile.
        subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
        assert group.usage()["cpu"] == before
        group.thaw()
        assert not group.is_frozen()
        while group.usage()["cpu"] == before:
            pass
    finally:
        group.kill()
        started.wait()
        started.close()


def test_kill_takes_all_even_frozen_ones(make: Make) -> None:
    group = make()
    started = start(group, "sleep 1000 & sleep 1000 & sleep 1000 & echo; wait")
    try:
        started.wait_exec()
        while len(group.pids()) < 4:
            pass
        group.freeze()
        group.remove()
        assert started.wait() == 137
    finally:
        started.close()
    assert not V2 or not os.path.exists(group.directory)


def test_remove_twice_and_of_nothing(make: Make) -> None:
    group = make()
    group.remove()
    group.remove()
    cgroups.choose("there-never-was-one").remove()


def test_what_a_killed_engine_left_is_replaced(make: Make) -> None:
    left = make({"pids": {"limit": 3}}, name=f"test-{os.getpid()}-left")
    left.close()
    again = make(name=f"test-{os.getpid()}-left")
    assert again.read(PIDS) == "max\n"


def test_one_that_is_in_use_is_left_alone(make: Make) -> None:
    group = make()
    started = start(group, "exec sleep 1000")
    try:
        started.wait_exec()
        with pytest.raises(EngineError, match="is in use"):
            cgroups.create(group.path, {})
        assert group.pids() == [started.pid]
    finally:
        group.kill()
        started.wait()
        started.close()


def test_a_missing_controller_is_named_and_why(make: Make) -> None:
    with pytest.raises(EngineError, match=r"cannot set hugetlb\.7GB"):
        make({"hugepageLimits": [{"pageSize": "7GB", "limit": 1}]})
    group = cgroups.choose(f"test-{os.getpid()}-0")
    assert group.pids() == [] if not V2 else not os.path.exists(group.directory)


@pytest.mark.parametrize("path", ["", "/", "../x", "a/../../b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(EngineError, match="not a path below the top"):
        cgroups.choose(path)


def test_only_listed_devices_can_be_opened(make: Make, tmp_path: Path) -> None:
    group = make({"devices": devicefilter.DOCKER})
    os.mknod(tmp_path / "kmsg", 0o600 | 0o020000, os.makedev(1, 11))
    assert ended(group, "head -c 1 /dev/zero >/dev/null </dev/urandom") == 0
    assert ended(group, f"exec 2>/dev/null; : <{tmp_path}/kmsg") != 0
    assert ended(group, f"mknod {tmp_path}/mem c 1 1 && exec 2>/dev/null && : <{tmp_path}/mem") != 0
    assert (tmp_path / "mem").is_char_device()


def test_a_device_of_ones_own_can_be_let_in(make: Make, tmp_path: Path) -> None:
    kmsg = devicefilter.rule(True, "c", 1, 11, "r")
    group = make({"devices": [*devicefilter.DOCKER, kmsg]})
    os.mknod(tmp_path / "kmsg", 0o600 | 0o020000, os.makedev(1, 11))
    assert ended(group, f": <{tmp_path}/kmsg") == 0
    assert ended(group, f"exec 2>/dev/null; : >>{tmp_path}/kmsg") != 0


@pytest.mark.needs("cgroup-v2")
def test_the_filter_is_attached() -> None:
    with cgroups.create(f"test-{os.getpid()}-bpf", {"devices": devicefilter.DOCKER}) as group:
        assert devicefilter.count(group.descriptor) == 1


@pytest.mark.needs("cgroup-v2")
def test_a_cgroup_with_processes_hands_nothing_down() -> None:
    """The rule of no internal processes, in words."""
    with cgroups.create(f"test-{os.getpid()}-outer", {}) as outer:
        started = start(outer, "exec sleep 1000")
        try:
            started.wait_exec()
            inner = cgroups.Cgroup(f"{outer.path}/inner")
            inner.create()
            for wanted in ({"memory": {"limit": 64 * MIB}}, {"pids": {"limit": 9}}):
                with pytest.raises(EngineError, match="rule of no internal processes"):
                    inner.limit(wanted)
            inner.close()
            assert Path(f"{outer.directory}/cgroup.type").read_text() == "domain\n"
        finally:
            outer.kill()
            started.wait()
            started.close()


def test_a_hierarchy_that_is_busy_for_a_moment_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers: list[int] = []  # the errno of each attempt to come; after them it works

    def create(*_: object) -> int:
        if numbers:
            raise syscalls.SyscallError(numbers.pop(0), "fsconfig(…)", None)
        return 7

    monkeypatch.setattr(mounts, "create", create)
    numbers[:] = [errno.EBUSY, errno.EBUSY]
    assert limits._create_hierarchy(["pids"]) == 7
    for lasting in ([errno.EBUSY] * (limits.RETRIES + 1), [errno.EPERM]):
        numbers[:] = lasting
        with pytest.raises(syscalls.SyscallError):
            limits._create_hierarchy(["pids"])
        assert numbers == []

"""pause, unpause, update, stats and top, looked at in the kernel's files."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from minicontainer.cli import stats
from minicontainer.kernel import cgroups
from tests.support.engine import Engine

pytestmark = pytest.mark.root

V2 = cgroups.is_v2()
MIB = 1 << 20
LOOP = ["sh", "-c", "while :; do :; done"]


def start(engine: Engine, starter: str, *words: str, command: list[str] | None = None) -> Any:
    """A container `box`; its cgroup."""
    engine.run("run", "-d", "--name", "box", *words, starter, *(command or ["sleep", "1000"]))
    return cgroups.choose(engine.output("inspect", "--format", "{{.Id}}", "box"))


def test_a_paused_container_stands_still(engine: Engine, starter: str) -> None:
    group = start(engine, starter, command=LOOP)
    assert engine.output("pause", "box") == "box"
    before = group.usage()["cpu"]
    began = time.monotonic()
    while time.monotonic() < began + 0.3:
        pass
    assert group.usage()["cpu"] == before
    state = json.loads(engine.output("inspect", "box"))[0]["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert "(Paused)" in engine.output("ps")
    assert "is already paused" in engine.run("pause", "box", check=False).stderr
    done = engine.run("exec", "box", "true", check=False)
    assert (done.returncode, "unpause the container before exec" in done.stderr) == (1, True)
    assert "container is paused" in engine.run("rm", "box", check=False).stderr
    assert engine.output("unpause", "box") == "box"
    while group.usage()["cpu"] == before:
        pass
    assert "is not paused" in engine.run("unpause", "box", check=False).stderr


@pytest.mark.parametrize("words", [["stop", "-t", "1"], ["kill"], ["rm", "-f"]], ids=str)
def test_a_paused_container_can_be_ended(engine: Engine, starter: str, words: list[str]) -> None:
    start(engine, starter)
    engine.run("pause", "box")
    engine.run(*words, "box")
    assert engine.output("ps", "-q") == ""


def test_a_paused_container_of_a_killed_engine_is_cleared(engine: Engine, starter: str) -> None:
    group = start(engine, starter)
    engine.run("pause", "box")
    identity = engine.output("inspect", "--format", "{{.Id}}", "box")
    state = json.loads((engine.run_root / identity / "state.json").read_text())
    os.kill(state["engine"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while engine.output("ps", "-q"):
        assert time.monotonic() < deadline
    assert group.pids() == []


def test_limits_change_while_it_runs_and_stay(engine: Engine, starter: str) -> None:
    group = start(engine, starter, "-m", "64m", "--pids-limit", "20")
    words = ["-m", "96m", "--memory-swap", "128m", "--cpus", "0.5", "--pids-limit", "-1"]
    assert engine.output("update", *words, "box") == "box"
    expected = (
        {"memory.max": str(96 * MIB), "memory.swap.max": str(32 * MIB),
         "cpu.max": "50000 100000", "pids.max": "max"}
        if V2 else
        {"memory.limit_in_bytes": str(96 * MIB), "memory.memsw.limit_in_bytes": str(128 * MIB),
         "cpu.cfs_quota_us": "50000", "pids.max": "max"}
    )  # fmt: skip
    assert {file: group.read(file).strip() for file in expected} == expected
    # Down again, and both at once: the order of the two writes matters in version 1.
    engine.run("update", "-m", "32m", "--memory-swap", "48m", "box")
    found = json.loads(engine.output("inspect", "box"))[0]["HostConfig"]
    assert (found["Memory"], found["MemorySwap"], found["NanoCpus"]) == (
        32 * MIB, 48 * MIB, 5 * 10**8,
    )  # fmt: skip
    assert found["PidsLimit"] is None
    engine.run("kill", "box")
    found = json.loads(engine.output("inspect", "box"))[0]["HostConfig"]
    assert found["Memory"] == 32 * MIB


def test_an_update_that_cannot_be_changes_nothing(engine: Engine, starter: str) -> None:
    group = start(engine, starter, "-m", "64m", "--memory-swap", "64m")
    for words, said in (
        (["-m", "96m"], "update the memoryswap at the same time"),
        (["--cpu-period", "5"], "CPU cfs period"),
        (["--cpuset-cpus", "4000"], "cannot set cpuset.cpus"),
        ([], "one or more flags"),
    ):
        done = engine.run("update", *words, "box", check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert group.read("memory.max" if V2 else "memory.limit_in_bytes") == f"{64 * MIB}\n"
    found = json.loads(engine.output("inspect", "box"))[0]["HostConfig"]
    assert (found["Memory"], found["CpusetCpus"], found["CpuPeriod"]) == (64 * MIB, "", 0)


def test_stats_tell_what_it_takes(engine: Engine, starter: str) -> None:
    fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=20 2>/dev/null; while :; do :; done"
    start(engine, starter, "-m", "64m", "--cpus", "0.3", command=["sh", "-c", fill])
    while engine.output("exec", "box", "sh", "-c", "pidof dd || echo filled") != "filled":
        pass
    head, line = engine.output("stats", "--no-stream").splitlines()
    assert head.split("   ")[0] == "CONTAINER ID"
    row = json.loads(engine.output("stats", "--no-stream", "--format", "json", "box"))
    assert row["Name"] == "box" and row["ID"] in line
    assert 1 < float(row["CPUPerc"].rstrip("%")) < 45
    used, limit = row["MemUsage"].split(" / ")
    assert limit == "64MiB" and 20 <= float(used.removesuffix("MiB")) < 40
    assert row["PIDs"] == "1"
    engine.run("kill", "box")
    assert engine.output("stats", "--no-stream").count("\n") == 0
    assert "0B / 0B" in engine.output("stats", "--no-stream", "--all")
    assert "no such container" in engine.run("stats", "nobody", check=False).stderr


def test_top_shows_its_processes_and_no_others(engine: Engine, starter: str) -> None:
    start(engine, starter, command=["sh", "-c", "sleep 4321 & sleep 4322 & wait"])
    while engine.output("top", "box").count("sleep") < 2:
        pass
    head, *rows = engine.output("top", "box", "-o", "pid,args").splitlines()
    assert head.split() == ["PID", "COMMAND"]
    assert len(rows) == 3 and sum(" sleep 432" in row for row in rows) == 3
    assert "PID field" in engine.run("top", "box", "-o", "args", check=False).stderr


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (64 * MIB, "64MiB"), (1 << 40, "1TiB")],
)
def test_memory_is_shown_as_docker_does(count: int, text: str) -> None:
    assert stats.binary(count) == text

"""The options that limit a container: docker's words in, the kernel's files out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cli import limits
from minicontainer.engine import limits as engine_limits
from minicontainer.errors import EngineError
from minicontainer.kernel import cgroupfs, cgroups
from tests.support.engine import Engine

V2 = cgroups.is_v2()
MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("64m", 64 * MIB), ("64M", 64 * MIB), ("64mb", 64 * MIB),
        ("64MiB", 64 * MIB), ("1g", 1024 * MIB), ("1.5k", 1536), ("2 kb", 2048), ("7b", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert limits.size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "64x", "6 4m", "1..5k", "٤", "m64", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=f"invalid size: '{re.escape(text)}'"):
        limits.size(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("1", 10**9), ("0.5", 5 * 10**8), (".25", 25 * 10**7), ("1.50", 15 * 10**8)]
)
def test_processors(text: str, cpus: int) -> None:
    assert limits.cpus(text) == cpus


@pytest.mark.parametrize("text", ["", ".", "x", "-1", "1.5.2", "0.0000000001"])
def test_what_is_no_number_of_processors(text: str) -> None:
    with pytest.raises(ValueError, match=r"rational number|too precise"):
        limits.cpus(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")),
    ],
)
def test_devices(text: str, parts: tuple[str, str, str]) -> None:
    assert tuple(limits.device(text).values()) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "/dev/a:/dev/b:x",
        "/dev/a:b",
        "/dev/a:/b:rr",
        "/a:/../b",
        "/dev/a:/dev/b:rw:x",
        ":r",
    ],
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(EngineError, match=r"device|mode|absolute"):
        limits.device(text)


@pytest.mark.parametrize("text", ["c 1:3 rwm", "b *:* m", "a 8:* r"])
def test_device_rules(text: str) -> None:
    assert limits.device_rule(text) == text


@pytest.mark.parametrize("text", ["", "c", "x 1:3 r", "c 1 r", "c 1:3", "c 1:x r", "c 1:3 rx"])
def test_what_is_no_device_rule(text: str) -> None:
    with pytest.raises(EngineError, match="invalid device cgroup format"):
        limits.device_rule(text)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"Memory": MIB}, "minimum memory limit allowed is 6MB"),
        ({"MemorySwap": 64 * MIB}, "always set the memory limit"),
        ({"Memory": 64 * MIB, "MemorySwap": 32 * MIB}, "larger than memory limit"),
        ({"MemoryReservation": 1}, "minimum memory reservation allowed is 6MB"),
        ({"Memory": 8 * MIB, "MemoryReservation": 9 * MIB}, "less than memory reservation"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Nano CPUs and CPU Quota"),
        ({"NanoCpus": 10**9, "CpuPeriod": 5000}, "Nano CPUs and CPU Period"),
        ({"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
        ({"NanoCpus": 1}, "range of CPUs is from 0.01 to"),
        ({"CpuPeriod": 5}, "CPU cfs period"),
        ({"CpuQuota": 5}, "CPU cfs quota"),
        ({"BlkioWeight": 5}, "range of blkio weight is from 10 to 1000"),
        ({"CpusetCpus": "0-"}, "invalid value 0- for cpuset cpus"),
        ({"CpusetMems": "3-1"}, "invalid value 3-1 for cpuset mems"),
    ],
)
def test_dockers_sentences(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        engine_limits.check(asked)


@pytest.mark.parametrize(
    "name", ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.msgmaxx", "net..x"]
)
def test_a_kernel_parameter_of_the_host_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match=f"sysctl '{re.escape(name)}' is"):
        engine_limits.check_sysctls({name: "1"}, "none")


def test_in_the_hosts_network_its_parameters_are_the_hosts() -> None:
    assert engine_limits.check_sysctls({"net.ipv4.ip_forward": "1"}, "none")
    with pytest.raises(EngineError, match="host's network"):
        engine_limits.check_sysctls({"net.ipv4.ip_forward": "1"}, "host")


# --------------------------------------------------------------------- in containers, from outside

root = [pytest.mark.root, pytest.mark.tools("busybox")]


def group_of(engine: Engine, name: str) -> Any:
    """The cgroup of a running container, as its first process has it in /proc."""
    pid = int(engine.output("inspect", "--format", "{{.State.Pid}}", name))
    identity = engine.output("inspect", "--format", "{{.Id}}", name)
    rows = Path(f"/proc/{pid}/cgroup").read_text()
    assert f"/minicontainer/{identity}" in rows
    return cgroups.choose(identity)


def host_config(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.output("inspect", name))[0]["HostConfig"]
    return found


@pytest.mark.root
def test_limits_reach_the_kernel_and_inspect(engine: Engine, starter: str) -> None:
    engine.run(
        "run", "-d", "--name", "box", "-m", "64m", "--memory-swap", "96m", "--memory-reservation",
        "32m", "--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0", "--pids-limit", "50",
        "--oom-score-adj", "300", "--shm-size", "1m", "--sysctl", "kernel.msgmax=4321",
        "--ulimit", "nofile=64:128", starter, "sleep", "1000",
    )  # fmt: skip
    group = group_of(engine, "box")
    expected = (
        {"memory.max": f"{64 * MIB}", "memory.swap.max": f"{32 * MIB}", "cpu.weight": "20",
         "memory.low": f"{32 * MIB}", "cpu.max": "50000 100000", "cpuset.cpus": "0",
         "pids.max": "50"}
        if V2 else
        {"memory.limit_in_bytes": f"{64 * MIB}", "memory.memsw.limit_in_bytes": f"{96 * MIB}",
         "memory.soft_limit_in_bytes": f"{32 * MIB}", "cpu.cfs_quota_us": "50000",
         "cpu.shares": "512", "cpuset.cpus": "0", "pids.max": "50"}
    )  # fmt: skip
    assert {file: group.read(file).strip() for file in expected} == expected
    pid = engine.output("inspect", "--format", "{{.State.Pid}}", "box")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "300\n"
    assert "64                   128" in Path(f"/proc/{pid}/limits").read_text()
    assert os.statvfs(f"/proc/{pid}/root/dev/shm").f_blocks * 4096 == MIB
    assert engine.output("exec", "box", "cat", "/proc/sys/kernel/msgmax") == "4321"
    found = host_config(engine, "box")
    asked = {"Memory": 64 * MIB, "MemorySwap": 96 * MIB, "MemoryReservation": 32 * MIB,
             "NanoCpus": 5 * 10**8, "CpuShares": 512, "CpusetCpus": "0", "PidsLimit": 50,
             "OomScoreAdj": 300, "ShmSize": MIB, "Sysctls": {"kernel.msgmax": "4321"},
             "CpuQuota": 0, "BlkioWeight": 0, "OomKillDisable": False, "Devices": []}  # fmt: skip
    assert {name: found[name] for name in asked} == asked


@pytest.mark.root
def test_an_end_by_memory_is_told_everywhere(engine: Engine, starter: str) -> None:
    hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"]
    done = engine.run("run", "--name", "hog", "-m", "32m", starter, *hog, check=False)
    assert done.returncode == 137
    assert "out of memory: its limit of 32 MiB was used up, the container was killed" in done.stderr
    state = json.loads(engine.output("inspect", "hog"))[0]["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    assert host_config(engine, "hog")["MemorySwap"] == 64 * MIB
    done = engine.run("run", "--name", "well", "-m", "32m", starter, "true")
    assert done.stderr == ""
    assert not json.loads(engine.output("inspect", "well"))[0]["State"]["OOMKilled"]


@pytest.mark.root
def test_one_more_process_has_the_same_limits(engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "box", "--pids-limit", "20", starter, "sleep", "1000")
    with engine.start("exec", "-i", "box", "cat", stdin=subprocess.PIPE) as one:
        assert one.stdin and one.stdout
        one.stdin.write("x\n")
        one.stdin.flush()
        assert one.stdout.readline() == "x\n"
        assert len(group_of(engine, "box").pids()) == 2
        one.communicate()
    script = "for i in $(seq 30); do sleep 5 & done"
    done = engine.run("exec", "box", "sh", "-c", script, check=False)
    assert "Resource temporarily unavailable" in done.stderr or "an't fork" in done.stderr


@pytest.mark.root
def test_a_share_of_the_processor(engine: Engine, starter: str) -> None:
    """Measured under load, for a second: four loops that may have a fifth of a processor."""
    script = "for i in 1 2 3 4; do (while :; do :; done) & done; sleep 1000"
    engine.run("run", "-d", "--name", "hog", "--cpus", "0.2", starter, "sh", "-c", script)
    group = group_of(engine, "hog")
    began, before = time.monotonic(), group.usage()["cpu"]
    while time.monotonic() < began + 1:
        time.sleep(0.1)  # allowed: time is what is measured
    share = (group.usage()["cpu"] - before) / ((time.monotonic() - began) * 1e9)
    assert share < 0.3


@pytest.mark.root
def test_two_beside_each_other_get_what_their_shares_say(engine: Engine, starter: str) -> None:
    """One to four, on one processor; it must come out nearer to that than to equal parts."""
    loop = ["sh", "-c", "while :; do :; done"]
    for name, shares in (("small", "256"), ("big", "1024")):
        words = ["run", "-d", "--name", name, "--cpuset-cpus", "0", "--cpu-shares", shares]
        engine.run(*words, starter, *loop)
    groups = [group_of(engine, name) for name in ("small", "big")]
    before = [group.usage()["cpu"] for group in groups]
    began = time.monotonic()
    while time.monotonic() < began + 2:
        time.sleep(0.1)  # allowed: time is what is measured
    small, big = (
        group.usage()["cpu"] - old for group, old in zip(groups, before, strict=True)
    )  # fmt: skip
    assert big > 2 * small > 0


@pytest.mark.root
def test_nothing_is_left_of_a_killed_engines_cgroup(engine: Engine, starter: str) -> None:
    running = engine.start("run", "--rm", "--name", "box", "-m", "64m", starter, "sleep", "1000")
    group: Any = None
    while group is None:
        assert running.poll() is None, running.communicate()
        found = engine.run("inspect", "--format", "{{.State.Pid}}", "box", check=False)
        if found.stdout.strip() not in ("", "0"):
            group = group_of(engine, "box")
    running.send_signal(signal.SIGKILL)
    running.communicate()
    engine.run("ps")
    assert group.pids() == []
    assert not group.has("memory.max" if V2 else "memory.limit_in_bytes")


@pytest.mark.root
def test_what_cannot_be_given_is_not_left_out(engine: Engine, starter: str) -> None:
    run = ["run", "--rm"]
    done = engine.run(*run, "--cpuset-cpus", "4000", starter, "true", check=False)
    assert done.returncode == 125
    assert "cannot set cpuset.cpus to '4000'" in done.stderr
    done = engine.run(*run, "--device-read-bps", "/dev/none:1m", starter, "true", check=False)
    assert "cannot limit the device /dev/none: no such file or directory" in done.stderr
    done = engine.run(*run, "--device-read-bps", "/dev/null:1m", starter, "true", check=False)
    assert "it is not a block device" in done.stderr
    done = engine.run(*run, "--oom-kill-disable", starter, "true", check=False)
    assert "--oom-kill-disable cannot be had: without the OOM killer" in done.stderr
    done = engine.run(*run, "-m", "5x", starter, "true", check=False)
    assert 'invalid argument "5x" for "-m, --memory" flag: invalid size: \'5x\'' in done.stderr
    done = engine.run(*run, "--oom-score-adj", "2000", starter, "true", check=False)
    assert "range for oom score adj is [-1000, 1000]" in done.stderr
    assert os.listdir(engine.root / "containers") == []


@pytest.mark.root
def test_a_controller_that_is_missing_is_named(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    """A machine without one: its files are hidden from the engine, in a mount namespace."""
    hidden = cgroupfs.MOUNT if V2 else f"{cgroupfs.MOUNT}/memory"
    script = f'umount {hidden} && exec "$@"'
    words = engine.command("run", "--rm", "-m", "64m", starter, "true")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    if V2:
        assert "no control groups that could be used" in done.stderr
    else:
        assert "cannot set memory.limit_in_bytes: " in done.stderr
        assert "memory controller" in done.stderr


@pytest.mark.root
def test_a_device_and_what_may_be_done_with_it(engine: Engine, starter: str) -> None:
    run = ["run", "--rm", "--device", "/dev/loop-control:/dev/log:r"]
    read = "exec 3</dev/log && echo readable; exec 4>/dev/log && echo writable"
    done = engine.run(*run, starter, "sh", "-c", read, check=False)
    assert done.stdout == "readable\n"
    assert "Operation not permitted" in done.stderr
    words = ["run", "--rm", "--device-cgroup-rule", "c 10:237 r", starter, "sh", "-c"]
    assert engine.output(*words, "mknod /x c 10 237 && : </x && echo yes") == "yes"
    done = engine.run("run", "--rm", "--device", "/dev/nowhere", starter, "true", check=False)
    assert 'while adding custom device "/dev/nowhere": no such file or directory' in done.stderr


@pytest.mark.root
def test_fifty_at_once_and_none_is_lost(engine: Engine, starter: str) -> None:
    words = ["run", "--rm", "-m", "64m", "--pids-limit", "20", "--cpus", "0.5", starter, "echo"]
    running = [engine.start(*words, str(number)) for number in range(50)]
    told = [one.communicate(timeout=300) for one in running]
    assert [(out, err) for out, err in told] == [(f"{number}\n", "") for number in range(50)]
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []


@pytest.mark.root
@pytest.mark.needs("cgroup-v2", "systemd")
def test_in_a_delegated_scope_it_stays_there(engine: Engine, starter: str) -> None:
    """And there the engine leaves its own cgroup for a leaf: it must have no internal process."""
    scope = ["systemd-run", "--quiet", "--scope", "--property=Delegate=yes"]
    run = engine.command("run", "-d", "--name", "box", "-m", "64m", starter, "sleep", "1000")
    subprocess.run([*scope, *run], check=True, capture_output=True)
    pid = engine.output("inspect", "--format", "{{.State.Pid}}", "box")
    identity = engine.output("inspect", "--format", "{{.Id}}", "box")
    path = cgroups.own_path(int(pid))
    assert path.endswith(f".scope/minicontainer/{identity}")
    assert Path(f"{cgroupfs.MOUNT}{path}/memory.max").read_text() == f"{64 * MIB}\n"
    # Whoever ends it may be somewhere else in the tree.
    engine.run("rm", "-f", "box")
    assert not os.path.exists(f"{cgroupfs.MOUNT}{path}")
    # With somebody else's process in the way the limit cannot be had, and that is said.
    shell = ["sh", "-c", 'sleep 100 & "$@"; code=$?; kill $!; exit $code', "sh"]
    run = engine.command("run", "--rm", "-m", "64m", starter, "true")
    done = subprocess.run([*scope, *shell, *run], check=False, capture_output=True, text=True)
    assert done.returncode == 125
    assert "it has processes of its own" in done.stderr


@pytest.mark.root
@pytest.mark.needs("cgroup-v2", "spare-disk")
def test_the_speed_of_a_disk(engine: Engine, starter: str) -> None:
    """The book's machine has a disk to spare: 1 MiB a second, of which 3 MiB are read."""
    disk = "/dev/vdb"
    read = ["dd", f"if={disk}", "of=/dev/null", "bs=256k", "count=12", "iflag=direct"]
    took = []
    for limit in (["--device-read-bps", f"{disk}:64m"], ["--device-read-bps", f"{disk}:1m"]):
        began = time.monotonic()
        engine.run("run", "--rm", "--device", disk, *limit, starter, *read)
        took.append(time.monotonic() - began)
    assert took[1] > 2 > took[0] or took[1] > took[0] + 1.5

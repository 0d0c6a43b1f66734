"""From OCI's words to files, in both worlds: numbers as runc computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import resources


def v2(wanted: dict[str, Any], *there: str) -> list[tuple[str, str]]:
    return resources.to_v2(wanted, has=lambda file: file in there)


def v1(wanted: dict[str, Any], *there: str) -> list[tuple[str, str]]:
    return resources.to_v1(wanted, has=lambda file: file in there)


@pytest.mark.host
@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (100, 4), (512, 20), (1024, 39), (262144, 10000), (1, 1)]
)
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    """runc 1.1, libcontainer/cgroups/utils.go, ConvertCPUSharesToCgroupV2Value."""
    assert resources.weight_of_shares(shares) == weight


@pytest.mark.host
@pytest.mark.parametrize(("blkio", "weight"), [(10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_a_block_weight_is_stretched(blkio: int, weight: int) -> None:
    assert resources.weight_of_blkio(blkio) == weight


MIB = 1 << 20


@pytest.mark.host
@pytest.mark.parametrize(
    ("wanted", "new", "old"),
    [
        ({}, [], []),
        ({"memory": {"limit": 64 * MIB}}, [("memory.max", "67108864")],
         [("memory.limit_in_bytes", "67108864")]),
        ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
         [("memory.swap.max", str(32 * MIB)), ("memory.max", str(64 * MIB))],
         [("memory.limit_in_bytes", str(64 * MIB)),
          ("memory.memsw.limit_in_bytes", str(96 * MIB))]),
        ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}},
         [("memory.swap.max", "0"), ("memory.max", str(64 * MIB))],
         [("memory.limit_in_bytes", str(64 * MIB)),
          ("memory.memsw.limit_in_bytes", str(64 * MIB))]),
        ({"memory": {"limit": 64 * MIB, "swap": -1}},
         [("memory.swap.max", "max"), ("memory.max", str(64 * MIB))],
         [("memory.limit_in_bytes", str(64 * MIB))]),
        ({"memory": {"reservation": 32 * MIB}}, [("memory.low", str(32 * MIB))],
         [("memory.soft_limit_in_bytes", str(32 * MIB))]),
        ({"cpu": {"quota": 50_000, "period": 100_000}}, [("cpu.max", "50000 100000")],
         [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")]),
        ({"cpu": {"quota": 50_000}}, [("cpu.max", "50000 100000")],
         [("cpu.cfs_quota_us", "50000")]),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max 100000")], [("cpu.cfs_quota_us", "-1")]),
        ({"cpu": {"shares": 512, "cpus": "0-1", "mems": "0"}},
         [("cpu.weight", "20"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
         [("cpu.shares", "512"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"pids": {"limit": 50}}, [("pids.max", "50")], [("pids.max", "50")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
        ({"pids": {"limit": 0}}, [], []),
        ({"blockIO": {"weight": 500}}, [("io.weight", "default 4950")], [("blkio.weight", "500")]),
        ({"blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
                      "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 9}]}},
         [("io.max", "8:0 wbps=1024"), ("io.max", "8:16 riops=9")],
         [("blkio.throttle.write_bps_device", "8:0 1024"),
          ("blkio.throttle.read_iops_device", "8:16 9")]),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
         [("hugetlb.2MB.max", str(4 * MIB))], [("hugetlb.2MB.limit_in_bytes", str(4 * MIB))]),
    ],
)  # fmt: skip
def test_words_become_files(wanted: Any, new: Any, old: Any) -> None:
    assert v2(wanted) == new
    assert v1(wanted) == old


@pytest.mark.host
def test_the_scheduler_decides_the_name_of_the_weight() -> None:
    wanted = {"blockIO": {"weight": 300}}
    assert v2(wanted, "io.bfq.weight") == [("io.bfq.weight", "300")]
    assert v1(wanted, "blkio.bfq.weight") == [("blkio.bfq.weight", "300")]


@pytest.mark.host
def test_no_limit_on_swap_is_written_where_swap_is_counted() -> None:
    wanted = {"memory": {"swap": -1}}
    assert v1(wanted) == []
    file = "memory.memsw.limit_in_bytes"
    assert v1(wanted, file) == [(file, "-1")]


@pytest.mark.host
def test_unified_is_written_as_it_is_line_by_line() -> None:
    wanted = {"unified": {"memory.high": "1048576", "io.max": "8:0 rbps=1\n8:16 rbps=2"}}
    assert v2(wanted) == [
        ("memory.high", "1048576"), ("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")
    ]  # fmt: skip
    with pytest.raises(EngineError, match="version 2"):
        v1(wanted)
    for name in ("../memory.max", "tasks/x.y", "cgroup"):
        with pytest.raises(EngineError, match="is no file of a cgroup"):
            v2({"unified": {name: "1"}})


@pytest.mark.host
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"memory": {"disableOOMKiller": True}}, "disableOOMKiller cannot be had: without the OOM"),
        ({"memory": {"kernel": 5}}, "linux.resources.memory.kernel cannot be had"),
        ({"cpu": {"realtimeRuntime": 5}}, "cpu.realtimeRuntime cannot be had"),
        ({"network": {"classID": 5}}, "linux.resources.network cannot be had"),
        ({"rdma": {"mlx5_1": {}}}, "linux.resources.rdma cannot be had"),
        ({"blockIO": {"weightDevice": [1]}}, "blockIO.weightDevice cannot be had"),
    ],
)
def test_what_nobody_gives_is_refused(wanted: Any, words: str) -> None:
    for convert in (v1, v2):
        with pytest.raises(EngineError, match=words):
            convert(wanted)


@pytest.mark.host
def test_swap_without_memory_is_refused() -> None:
    with pytest.raises(EngineError, match="needs a limit on memory"):
        v2({"memory": {"swap": 5}})
    with pytest.raises(EngineError, match="must not be below"):
        v2({"memory": {"swap": 5, "limit": 6}})
    with pytest.raises(EngineError, match="version 1"):
        v2({"memory": {"swappiness": 5}})
    assert v1({"memory": {"swappiness": 0}}) == [("memory.swappiness", "0")]


def test_the_disk_below_a_file(tmp_path: Path) -> None:
    """A whole disk, whatever partition the file lies on; nothing for a tmpfs."""
    assert resources.throttle("/dev/shm", 1) == {}
    found = resources.throttle(str(tmp_path), 4096)
    if found:
        (entry,) = found["blockIO"]["throttleReadBpsDevice"]
        disks = [file.read_text().strip() for file in Path("/sys/block").glob("*/dev")]
        assert f"{entry['major']}:{entry['minor']}" in disks and entry["rate"] == 4096

"""The same limits by runc and by us: every file of the cgroup holds the same."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.kernel import cgroups
from minicontainer.runtime import start
from tests.runtime import bundle

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox")]

MIB = 1 << 20
FILES = (
    "memory.max memory.swap.max memory.low cpu.max cpu.weight cpuset.cpus cpuset.mems pids.max "
    "io.max hugetlb.2MB.max "
    "memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes cpu.shares "
    "cpu.cfs_quota_us cpu.cfs_period_us devices.list "
    "blkio.throttle.read_bps_device blkio.throttle.write_iops_device"
).split()


def disk() -> dict[str, int]:
    """A whole disk of this machine."""
    for name in sorted(os.listdir("/sys/block")):
        major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
        return {"major": int(major), "minor": int(minor)}
    pytest.skip("this machine lacks block-device: no disk")


CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "memory": {"memory": {"limit": 64 * MIB, "swap": 100 * MIB, "reservation": 32 * MIB}},
    "no swap": {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}},
    "cpu": {"cpu": {"shares": 512, "quota": 30_000, "period": 50_000, "cpus": "0", "mems": "0"}},
    "a quota alone": {"cpu": {"quota": 30_000}},
    "pids": {"pids": {"limit": 77}},
    "io": {
        "blockIO": {
            "throttleReadBpsDevice": [{"rate": 4 * MIB}],
            "throttleWriteIOPSDevice": [{"rate": 50}],
        }
    },
    "devices": {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
            {"allow": True, "type": "b", "major": 8, "access": "r"},
            {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "rwm"},
        ]
    },
}


@pytest.mark.parametrize("name", CASES)
def test_every_file_is_the_same(tmp_path: Path, rootfs: Path, name: str) -> None:
    spec = bundle.write(tmp_path, rootfs, args=["sleep", "1000"])
    wanted = json.loads(json.dumps(CASES[name]))
    for entries in wanted.get("blockIO", {}).values():
        entries[0].update(disk())
    own = {"devices": [{"allow": False, "access": "rwm"}], **wanted}
    spec["linux"]["resources"] = own
    found = {}
    for who in ("runc", "ours"):
        path = f"/minicontainer/oracle-{who}-{os.getpid()}"
        spec["linux"]["cgroupsPath"] = path
        (tmp_path / "config.json").write_text(json.dumps(spec))
        identity = f"oracle-{os.getpid()}"
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if who == "runc":
            subprocess.run(
                ["runc", "run", "--detach", "--bundle", tmp_path, identity],
                stdin=null, stdout=null, stderr=null, check=True,
            )  # fmt: skip
        else:
            container = bundle.begin(tmp_path, (null, null, null))
        os.close(null)
        try:
            group = cgroups.choose(path)
            assert len(group.pids()) == 1
            found[who] = {
                file: sorted(group.read(file).splitlines()) for file in FILES if group.has(file)
            }
        finally:
            if who == "runc":
                subprocess.run(["runc", "delete", "--force", identity], check=True)
            else:
                container.signal(9)
                container.wait()
                container.close()
                start.remove_cgroup(spec, str(tmp_path))
                group.close()
    assert found["ours"] == found["runc"]

"""The same bundle by runc and by us gives the same container, field by field.

runc is the oracle, not a model of it: a shell inside tells what it finds, the same script under
both runtimes, and the two accounts are compared. The bundles are one that `runc spec` wrote and
one that our engine wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import bundle
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox")]

PROBE = r"""
echo "=status"; grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask)' /proc/self/status
echo "=limits"; cat /proc/self/limits
echo "=env"; env | sort
echo "=where"; pwd; hostname; cat /proc/self/oom_score_adj
echo "=mounts"; cat /proc/self/mountinfo
echo "=dev"; stat -c '%A %u %g %t:%T %N' /dev /dev/* /dev/pts/*
echo "=masked"; for path in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/acpi \
  /proc/scsi /sys/firmware /proc/latency_stats; do
  echo "$path $(ls -ldn $path 2>&1 | cut -c1-30)" \
    "$(ls $path 2>/dev/null | wc -l) $(cat $path 2>/dev/null | wc -c)"
done
echo "=written"; for path in /proc/sys/kernel/core_pattern /proc/bus /proc/sysrq-trigger \
  /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /file /dev/shm/file; do
  (: >> $path) 2>/dev/null && echo "$path yes" || echo "$path no"
done
echo "=fds"; ls /proc/self/fd
echo "=namespaces"; for kind in mnt uts ipc pid net cgroup user; do
  readlink /proc/self/ns/$kind; done
"""


def account(output: str) -> dict[str, list[str]]:
    """The sections of what the probe printed."""
    sections: dict[str, list[str]] = {}
    name = ""
    for line in output.splitlines():
        if line.startswith("="):
            name = line[1:]
            sections[name] = []
        else:
            sections[name].append(line)
    return sections


def mount_table(lines: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Mount point: (type, options) of a mountinfo, without what differs from run to run."""
    table = {}
    for line in lines:
        fields = line.split()
        dash = fields.index("-")
        options = set(fields[5].split(","))
        table[fields[4]] = (fields[dash + 1], sorted(options - {"relatime"}))
    return table


def by_runc(directory: Path, name: str) -> str:
    found = subprocess.run(
        ["runc", "run", "--bundle", directory, name],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


def compare(theirs: dict[str, list[str]], ours: dict[str, list[str]]) -> None:
    assert ours.keys() == theirs.keys()
    for section in ("status", "limits", "env", "where", "dev", "masked", "written", "fds"):
        differences = set(ours[section]) ^ set(theirs[section])
        assert not differences, (section, sorted(differences))
        assert ours[section] == theirs[section]
    own, others = mount_table(ours["mounts"]), mount_table(theirs["mounts"])
    # Of the v1 hierarchies each shows those it likes, and runc leaves the directory above them
    # writable in a cgroup namespace: there it is enough that ours is read-only.
    for table in (own, others):
        for point in [point for point in table if point.startswith("/sys/fs/cgroup")]:
            assert table is others or "ro" in table[point][1], point
            table.pop(point)
    differences = {p: (own.get(p), others.get(p)) for p in own.keys() | others.keys()}
    assert {p: pair for p, pair in differences.items() if pair[0] != pair[1]} == {}


CHANGES: dict[str, dict[str, Any]] = {
    "as runc spec writes it": {},
    "a user": {"user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 2000]}},
    "a user with a umask": {"user": {"uid": 7, "gid": 7, "umask": 0o077}},
    "powers to gain": {"noNewPrivileges": False},
    "ambient": {
        "user": {"uid": 1000, "gid": 1000},
        "capabilities": {
            name: ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        },
    },
    "no powers": {"capabilities": {}},
    "limits": {
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "oomScoreAdj": 500,
    },
    "elsewhere": {"cwd": "/tmp/new/deep", "env": ["PATH=/bin", "A=1", "B=x y=z"]},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_bundle_of_runcs(tmp_path: Path, rootfs: Path, name: str) -> None:
    changes = {"args": ["/bin/sh", "-c", PROBE], **CHANGES[name]}
    spec = bundle.write(tmp_path, rootfs, **changes)
    spec["root"]["readonly"] = "cwd" not in changes
    spec["linux"]["sysctl"] = {"kernel.domainname": "test.example", "net.ipv4.ip_forward": "1"}
    spec["linux"]["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 3}
    ]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    theirs = account(by_runc(tmp_path, f"oracle-{tmp_path.name}"))
    code, output = bundle.run(tmp_path)
    assert code == 0
    compare(theirs, account(output))


def test_a_bundle_with_users_of_its_own(tmp_path: Path, rootfs: Path) -> None:
    probe = PROBE + "echo =maps; cat /proc/self/[ug]id_map /proc/self/setgroups\n"
    probe += "echo =owners; : > /tmp/new; stat -c '%u %g %n' / /tmp/new /sys /proc /dev/mqueue\n"
    user = {"uid": 0, "gid": 0, "additionalGids": [7]}
    spec = bundle.write(tmp_path, rootfs, args=["/bin/sh", "-c", probe], user=user)
    spec["root"]["readonly"] = False
    # On version 2 `runc spec` has asked for the second already.
    asked = [namespace["type"] for namespace in spec["linux"]["namespaces"]]
    missing = [kind for kind in ("user", "cgroup") if kind not in asked]
    spec["linux"]["namespaces"] += [{"type": kind} for kind in missing]
    spec["linux"]["uidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 300000, "size": 5},
    ]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    for path in (rootfs, *rootfs.rglob("*")):
        os.chown(path, 100000, 200000, follow_symlinks=False)
    for above in tmp_path.parents[:2]:
        above.chmod(0o711)  # runc's root of the namespace walks there; ours need not
    tmp_path.chmod(0o711)
    theirs = account(by_runc(tmp_path, f"oracle-{tmp_path.name}"))
    (rootfs / "tmp" / "new").unlink()
    code, output = bundle.run(tmp_path)
    assert code == 0
    ours = account(output)
    found = os.stat(rootfs / "tmp" / "new")
    assert (found.st_uid, found.st_gid) == (100000, 200000)
    # runc makes the IPC namespace before it has the group.
    assert "0 65534 /dev/mqueue" in theirs["owners"]
    theirs["owners"][-1] = "0 0 /dev/mqueue"
    theirs["dev"] = [line.replace(" 0 65534 ", " 0 0 ") for line in theirs["dev"]]
    assert ours["maps"] == theirs["maps"]
    assert ours["owners"] == theirs["owners"]
    compare(theirs, ours)


def test_runc_runs_what_our_engine_wrote(tmp_path: Path, engine: Engine, starter: str) -> None:
    identity = engine.run(
        "run", "--detach", "--user", "1000:5", "--env", "A=b", "--workdir", "/tmp",
        # Go, and so runc, raises the soft limit to the hard one for itself, and forgets it there.
        "--hostname", "box", "--ulimit", "nofile=512:512", starter, "sleep", "1000",
    ).stdout.strip()  # fmt: skip
    container = engine.root / "containers" / identity
    (tmp_path / "bundle").mkdir()
    spec = json.loads((container / "config.json").read_text())
    spec["process"]["args"] = ["/bin/sh", "-c", PROBE]
    (layer,) = [entry for entry in (engine.root / "layers").iterdir() if entry.is_dir()]
    shutil.copytree(layer, tmp_path / "bundle" / "rootfs", symlinks=True)
    spec["root"]["path"] = "rootfs"
    del spec["linux"]["cgroupsPath"]  # in use: the container still runs
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(spec))
    theirs = account(by_runc(tmp_path / "bundle", f"oracle-{identity[:12]}"))
    code, output = bundle.run(tmp_path / "bundle")
    assert code == 0
    compare(theirs, account(output))
    assert "Uid:\t1000\t1000\t1000\t1000" in theirs["status"]
    assert "A=b" in theirs["env"]

"""A specification with `linux.seccomp`: loaded at the right moment, in every kind of start."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import (
    capabilities,
    process,
    seccomp,
    seccomp_compiler,
    seccomp_default,
    seccomp_profile,
)
from minicontainer.runtime import join
from minicontainer.runtime import spec as specification
from tests.kernel import bpf, probe
from tests.runtime import bundle
from tests.runtime.test_oracle import by_runc

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox")]

SHOW = (
    "grep -E '^(Seccomp|CapPrm|CapEff|CapBnd|NoNewPrivs):' /proc/self/status; hostname other 2>&1"
)
KILL = ["CAP_KILL"]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def default() -> dict[str, Any]:
    chosen = seccomp_profile.select(
        seccomp_default.profile(), KILL, os.uname().machine, os.uname().release
    )
    assert chosen is not None
    return chosen


def only(names: str) -> dict[str, Any]:
    """A profile of what is named and of what every C program does first."""
    more = "brk mmap munmap mprotect arch_prctl read openat close exit exit_group set_tid_address"
    rule = {"names": f"{names} {more}".split(), "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}


def write(directory: Path, rootfs: Path, profile: Any, **changes: Any) -> None:
    spec = bundle.write(directory, rootfs, **changes)
    spec["linux"]["seccomp"] = profile
    (directory / "config.json").write_text(json.dumps(spec))


USERS: dict[str, dict[str, Any]] = {
    "root": {},
    "another": {"user": {"uid": 1000, "gid": 1000}},
    "ambient": {
        "user": {"uid": 1000, "gid": 1000}, "capabilities": {name: KILL for name in SETS},
    },
    "powerless": {"capabilities": {}},
}  # fmt: skip


@pytest.mark.parametrize("promised", [True, False], ids=["no_new_privs", "new_privs"])
@pytest.mark.parametrize("who", USERS)
def test_it_is_there_and_the_power_to_load_it_is_gone(
    tmp_path: Path, rootfs: Path, who: str, promised: bool
) -> None:
    changes = {"args": ["/bin/sh", "-c", SHOW], "noNewPrivileges": promised, **USERS[who]}
    write(tmp_path, rootfs, default(), **changes)
    code, output = bundle.run(tmp_path)
    fields = dict(line.split(":\t") for line in output.splitlines() if "\t" in line)
    assert fields["Seccomp"] == "2"
    assert fields["NoNewPrivs"] == ("1" if promised else "0")
    admin = capabilities.mask(["CAP_SYS_ADMIN"])
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert not int(fields[name], 16) & admin, name
    if who == "ambient":
        assert int(fields["CapPrm"], 16) == capabilities.mask(KILL)
    assert code != 0
    assert "Operation not permitted" in output


@pytest.mark.parametrize("promised", [True, False], ids=["no_new_privs", "new_privs"])
def test_a_start_needs_little_of_a_profile(tmp_path: Path, rootfs: Path, promised: bool) -> None:
    """Of the start itself; the program is one that needs as little (assembled by the C library)."""
    needed = "execve execveat fcntl write" + ("" if promised else " capset")
    write(tmp_path, rootfs, only(f"{needed} getuid prlimit64 set_robust_list rseq"
          " readlinkat readlink getrandom rt_sigaction ioctl"), args=["echo", "it runs"],
          noNewPrivileges=promised)  # fmt: skip
    assert bundle.run(tmp_path) == (0, "it runs\n")


@pytest.mark.parametrize("missing", "execve execveat fcntl write capset".split())
def test_what_a_start_needs_is_told_before_it_begins(
    tmp_path: Path, rootfs: Path, missing: str
) -> None:
    needed = "execve execveat fcntl write capset".split()
    given = only(" ".join(name for name in needed if name != missing))
    write(tmp_path, rootfs, given, noNewPrivileges=False)
    with pytest.raises(EngineError, match=f"refuses {missing}, which a start needs"):
        bundle.run(tmp_path)
    if missing == "capset":
        spec = json.loads((tmp_path / "config.json").read_text())
        spec["process"]["noNewPrivileges"] = True
        assert specification.compile_filter(spec)


def test_an_init_needs_more(tmp_path: Path, rootfs: Path) -> None:
    allowed = "execve execveat fcntl write capset clone"
    write(tmp_path, rootfs, only(allowed))
    with pytest.raises(EngineError, match="refuses rt_sigprocmask and rt_sigtimedwait and kill"):
        bundle.run(tmp_path, init=True)


def test_behind_the_default_an_init_does_its_work(tmp_path: Path, rootfs: Path) -> None:
    script = "(sleep 0 & exit 0) & wait; grep Seccomp: /proc/1/status; exit 7"
    write(tmp_path, rootfs, default(), args=["/bin/sh", "-c", script])
    assert bundle.run(tmp_path, init=True) == (7, "Seccomp:\t2\n")


def test_whoever_joins_is_filtered_too(tmp_path: Path, rootfs: Path) -> None:
    write(tmp_path, rootfs, default(), args=["sleep", "1000"])
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    container = bundle.begin(tmp_path, (null, null, null))
    filter = seccomp_compiler.compile_filter(default())
    try:
        assert "Seccomp:\t2\n" in Path(f"/proc/{container.pid}/status").read_text()
        wanted = json.loads((tmp_path / "config.json").read_text())["process"]
        started = process.start_time(container.pid)
        joined = join.join(container.pid, started, wanted, (null, null, null), filter=filter)
        assert "Seccomp:\t2\n" in Path(f"/proc/{joined.pid}/status").read_text()
        joined.signal(signal.SIGKILL)
        joined.wait()
        joined.close()
    finally:
        os.close(null)
        container.signal(signal.SIGKILL)
        container.wait()
        container.close()
        bundle.remove_cgroup(tmp_path)


def test_a_filter_that_cannot_be_loaded_stops_the_start(tmp_path: Path, rootfs: Path) -> None:
    """Fail closed: no program without its filter."""
    bundle.write(tmp_path, rootfs, args=["echo", "it ran"])
    with pytest.raises(EngineError, match="seccomp"):
        bundle.run(tmp_path, filter=seccomp.Filter(b"\0" * 8))


@pytest.mark.host
@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, "linux.seccomp: defaultAction: the action is missing"),
        (7, "linux.seccomp: an object was expected here"),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "unknown action 'SCMP_ACT_MAYBE'"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": 1}]},
            r"linux.seccomp: syscalls\[0\].action: unknown action 1",
        ),
        (
            {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/agent"},
            "SCMP_ACT_NOTIFY cannot be had",
        ),
    ],
)
def test_a_bad_profile_is_told_by_place_and_reason(
    tmp_path: Path, rootfs: Path, profile: Any, words: str
) -> None:
    write(tmp_path, rootfs, profile)
    with pytest.raises(EngineError, match=words):
        bundle.run(tmp_path)


@pytest.mark.needs("x86-64")
@pytest.mark.host
@pytest.mark.tools("cc")
@pytest.mark.parametrize("who", ["root", "another"])
def test_runc_refuses_the_same_calls(tmp_path: Path, rootfs: Path, who: str) -> None:
    """The same specification under runc, which has libseccomp make its filter: every call that
    exists, with arguments that do nothing, gets the same answer."""
    probe.build(rootfs / "bin" / "probe")
    write(tmp_path, rootfs, default(), args=["probe"], **USERS[who])
    theirs = probe.read(by_runc(tmp_path, f"seccomp-{tmp_path.name}"))
    code, output = bundle.run(tmp_path)
    assert code == 0
    ours = probe.read(output)
    assert len(ours) > 300
    newer = {name for name, number in bpf.TABLES["x86_64"].items() if number > 449}
    assert {n: (ours[n], theirs[n]) for n in ours if ours[n] != theirs[n]}.keys() <= newer

"""Capabilities, --privileged and --security-opt: from the command line to what the kernel says.

What docker answers to the same was recorded from docker 20.10.24.
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest

from minicontainer.engine import security
from minicontainer.errors import EngineError
from minicontainer.kernel import capabilities
from tests.support.engine import Engine

pytestmark = pytest.mark.vm
AVAILABLE = capabilities.read()["CapBnd"]
DEFAULT = f"{capabilities.mask(capabilities.DEFAULT):x}"


def choose(add: list[str], drop: list[str], privileged: bool = False) -> list[str]:
    return security.choose_capabilities(add, drop, privileged=privileged)


@pytest.mark.host
def test_capabilities() -> None:
    assert choose([], []) == capabilities.DEFAULT
    assert "CAP_MKNOD" in capabilities.DEFAULT
    added = choose(["net_admin", "CAP_CHOWN"], ["kill"])
    assert "CAP_NET_ADMIN" in added and "CAP_KILL" not in added
    assert added.count("CAP_CHOWN") == 1
    assert choose(["KILL"], ["ALL"]) == ["CAP_KILL"]
    assert choose([], ["all"]) == []
    # What is both added and dropped is added, and ALL is all but what is dropped (moby, caps).
    assert "CAP_KILL" in choose(["KILL"], ["KILL"])
    assert "CAP_KILL" not in choose(["ALL"], ["KILL"])


def test_privileged_is_all_that_the_engine_has() -> None:
    assert capabilities.mask(choose([], ["ALL"], privileged=True)) == AVAILABLE


@pytest.mark.host
@pytest.mark.parametrize(
    ("add", "drop", "words"),
    [
        (["foo"], [], 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ([], ["cap_foo"], 'invalid CapDrop: unknown capability: "CAP_FOO"'),
        ([""], [], 'invalid CapAdd: unknown capability: "CAP_"'),
        (["CAP_CAP_KILL"], [], 'invalid CapAdd: unknown capability: "CAP_CAP_KILL"'),
    ],
)
def test_unknown_capabilities(add: list[str], drop: list[str], words: str) -> None:
    with pytest.raises(EngineError) as caught:
        choose(add, drop)
    assert (caught.value.message, caught.value.exit_code) == (words, 125)


@pytest.mark.host
def test_what_the_engine_does_not_have_it_does_not_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    bounding = AVAILABLE & ~capabilities.mask(["SYS_TIME"])
    monkeypatch.setattr(capabilities, "read", lambda: {"CapBnd": bounding})
    with pytest.raises(EngineError, match=r'not available in .*environment: "CAP_SYS_TIME"'):
        choose(["SYS_TIME"], [])
    assert "CAP_SYS_TIME" not in choose(["ALL"], []) + choose([], [], privileged=True)


@pytest.mark.host
@pytest.mark.parametrize(
    ("given", "no_new_privileges", "system_paths"),
    [
        ([], False, False),
        (["no-new-privileges"], True, False),
        (["no-new-privileges:true"], True, False),
        (["no-new-privileges=1"], True, False),
        (["no-new-privileges", "no-new-privileges=false"], False, False),
        (["systempaths=unconfined"], False, True),
    ],
)
def test_security_options(given: list[str], no_new_privileges: bool, system_paths: bool) -> None:
    options = security.Options(given)
    assert options.no_new_privileges == no_new_privileges
    assert options.system_paths == system_paths


@pytest.mark.host
@pytest.mark.parametrize(
    "option", ["", "foo", "foo=bar", "no-new-privileges:maybe", "systempaths=x", "systempaths"]
)
def test_malformed_security_options(option: str) -> None:
    with pytest.raises(EngineError) as caught:
        security.Options([option])
    assert caught.value.message == f'invalid --security-opt: "{option}"'


def test_the_hosts_devices(tmp_path: Path) -> None:
    for name in ("pts", "shm", "net"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / "pipe", 0o640)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "console")
    (found,) = security.host_devices(str(tmp_path))
    assert found == {
        "path": f"{tmp_path}/net/pipe", "type": "p", "major": 0, "minor": 0,
        "fileMode": 0o640, "uid": 0, "gid": 0,
    }  # fmt: skip


# ---------------------------------------------------------------------------- in a real container


def sh(engine: Engine, starter: str, script: str, *options: str) -> list[str]:
    return engine.output("run", "--rm", *options, starter, "sh", "-c", script).splitlines()


@pytest.mark.root
def test_privileged(engine: Engine, starter: str, tmp_path: Path) -> None:
    script = """
        grep CapEff /proc/self/status | cut -f 2
        [ -w /proc/sys/kernel/core_pattern ] && [ -w /sys/class/net/lo/mtu ] && echo writable
        grep -c -E ' (/proc|/sys)/[^ ]* ' /proc/mounts
        grep -E ' /sys/fs/cgroup' /proc/mounts | grep -c ' ro,'
        mknod /x c 1 5 && head -c 1 /x | od -An -tx1
        mount -t tmpfs mine /mnt && echo mounted
        head -c 1 /volume/zero | od -An -tx1
    """
    os.mknod(tmp_path / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    found = sh(engine, starter, script, "--privileged", "-v", f"{tmp_path}:/volume")
    assert int(found[0], 16) == AVAILABLE
    assert found[1] == "writable"
    assert found[3:] == ["0", " 00", "mounted", " 00"]
    inside = sh(engine, starter, "ls -l /dev | grep -c '^[bc]'", "--privileged")
    listed = [d for d in security.host_devices() if d["path"].count("/") == 2]
    assert int(inside[0]) == len({device["path"] for device in listed} | {"/dev/tty"})


@pytest.mark.root
def test_privileged_makes_no_devices_in_a_dev_of_the_users(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    engine.run("run", "--rm", "--privileged", "-v", f"{tmp_path}/dev:/dev", starter, "true")
    assert os.listdir(tmp_path / "dev") == ["null"]


@pytest.mark.root
def test_privileged_has_the_devices_modes_and_never_changes_a_bound_one(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    bound = tmp_path / "null"
    os.mknod(bound, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(bound, 7, 8)
    loop = next(d for d in security.host_devices() if d["path"] != "/dev/null")
    script = f"stat -c '%a %u %g' {loop['path']}"
    found = sh(engine, starter, script, "--privileged", "-v", f"{bound}:/dev/null")
    assert found == [f"{loop['fileMode']:o} {loop['uid']} {loop['gid']}"]
    assert (bound.stat().st_uid, bound.stat().st_gid) == (7, 8)
    assert stat.S_IMODE(bound.stat().st_mode) == 0o600


@pytest.mark.root
def test_system_paths(engine: Engine, starter: str) -> None:
    script = "grep -c -E ' (/proc|/sys/firmware)/[^ ]* ' /proc/mounts"
    assert sh(engine, starter, f"{script}; true")[0] != "0"
    option = ["--security-opt", "systempaths=unconfined"]
    assert sh(engine, starter, f"{script}; true", *option) == ["0"]
    # Its powers are what they were: nothing there can be remounted, and nothing else is open.
    assert sh(engine, starter, "mount -t tmpfs x /mnt 2>/dev/null || echo no", *option) == ["no"]


@pytest.mark.host
@pytest.mark.root
def test_inspect_says_what_was_asked_for(engine: Engine, starter: str) -> None:
    engine.run(
        "run", "--name", "web", "--cap-add", "NET_ADMIN", "--cap-drop", "kill",
        "--security-opt", "no-new-privileges", starter, "true",
    )  # fmt: skip
    template = "{{json .HostConfig.CapAdd}}{{json .HostConfig.CapDrop}}"
    found = engine.output("inspect", "-f", f"{template}{{{{json .HostConfig.SecurityOpt}}}}", "web")
    assert found.replace(" ", "") == '["NET_ADMIN"]["kill"]["no-new-privileges"]'
    assert engine.output("inspect", "-f", "{{.HostConfig.Privileged}}", "web") == "false"


# VFS_CAP_REVISION_2 with the effective bit: <linux/capability.h>, struct vfs_cap_data
def file_capabilities(names: list[str]) -> bytes:
    permitted = capabilities.mask(names)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    return struct.pack("<5I", 0x02000001, low, 0, high, 0)


@pytest.fixture
def programs(tmp_path: Path, rootfs: Path) -> str:
    """A directory to bind at /p: busybox with two file capabilities, and set-user-ID busybox."""
    for name in ("carries", "setuid"):
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "busybox").write_bytes((rootfs / "bin" / "busybox").read_bytes())
        (tmp_path / "p" / name / "busybox").chmod(0o755)
    carries = file_capabilities(["NET_RAW", "CHOWN"])
    os.setxattr(tmp_path / "p" / "carries" / "busybox", "security.capability", carries)
    (tmp_path / "p" / "setuid" / "busybox").chmod(0o4755)
    (tmp_path / "p" / "passwd").write_text(
        "root::0:0:root:/:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n"
    )
    return f"{tmp_path}/p:/p"


NO_NEW = ("--security-opt", "no-new-privileges")


@pytest.mark.root
@pytest.mark.tools("busybox")
@pytest.mark.parametrize(
    ("options", "user", "found"),
    [
        ((), "1000", "2001"),
        (NO_NEW, "1000", "0"),
        # Root has what it has; a file's capabilities are of no account to it.
        ((), "0", DEFAULT),
        (NO_NEW, "0", DEFAULT),
        # A program whose capabilities cannot be given is not executed (EPERM; docker the same).
        (("--cap-drop", "CHOWN"), "1000", "operation not permitted"),
        (("--cap-drop", "ALL"), "0", "operation not permitted"),
    ],
)
def test_a_program_that_carries_capabilities(
    engine: Engine, starter: str, programs: str, options: tuple[str, ...], user: str, found: str
) -> None:
    done = engine.run(
        "run", "--rm", "-v", programs, "-u", user, *options, starter,
        "/p/carries/busybox", "grep", "CapEff", "/proc/self/status", check=False,
    )  # fmt: skip
    if done.returncode:
        assert (done.returncode, found in done.stderr) == (126, True)
    else:
        assert int(done.stdout.split()[1], 16) == int(found, 16)


@pytest.mark.root
@pytest.mark.tools("busybox")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["0", DEFAULT]),
        (("--cap-drop", "ALL", "--cap-add", "SETUID", "--cap-add", "SETGID"), ["0", "c0"]),
        (NO_NEW, ["su: must be suid to work properly"]),
    ],
)
def test_a_set_user_id_program(
    engine: Engine, starter: str, programs: str, options: tuple[str, ...], found: list[str]
) -> None:
    """busybox's su, with a root that has no password: as root it has the bounding set, no more."""
    passwd = f"{programs.partition(':')[0]}/passwd:/etc/passwd"
    script = "/p/setuid/busybox su root -c 'id -u; sed -n s/^CapEff:.0*//p /proc/self/status' 2>&1"
    told = sh(
        engine, starter, f"{script}; true", "-v", programs, "-v", passwd, "-u", "1000", *options
    )
    assert told == found


# ------------------------------------------------------------------------------------------- exec


MASKS = "grep -E '^(Uid|Cap|NoNew)' /proc/self/status"


def masks(text: str) -> list[str]:
    """Uid, CapPrm, CapEff, CapBnd, NoNewPrivs of a status file, short; the others must be 0."""
    rows = dict(line.split(":\t") for line in text.splitlines())
    assert int(rows["CapInh"], 16) == int(rows["CapAmb"], 16) == 0
    sets = [f"{int(rows[name], 16):x}" for name in ("CapPrm", "CapEff", "CapBnd")]
    return [rows["Uid"].split("\t")[0], *sets, rows["NoNewPrivs"]]


@pytest.mark.root
@pytest.mark.parametrize(
    ("container", "user", "found"),
    [
        ((), "app", ["1000", "0", "0", DEFAULT, "0"]),
        ((), "0", ["0", DEFAULT, DEFAULT, DEFAULT, "0"]),
        (("-u", "app"), "0", ["0", DEFAULT, DEFAULT, DEFAULT, "0"]),
        (("-u", "app"), "app", ["1000", "0", "0", DEFAULT, "0"]),
        (NO_NEW, "0", ["0", DEFAULT, DEFAULT, DEFAULT, "1"]),
        # Nothing is permitted in there, and an exec may not add anything.
        (("-u", "app", *NO_NEW), "0", ["0", "0", "0", DEFAULT, "1"]),
        (("--cap-drop", "ALL"), "0", ["0", "0", "0", "0", "0"]),
    ],
)
def test_exec_gives_what_dockers_gives(
    engine: Engine, starter: str, container: tuple[str, ...], user: str, found: list[str]
) -> None:
    engine.run("run", "-d", "--name", "web", *container, starter, "sleep", "1000")
    assert masks(engine.output("exec", "-u", user, "web", "sh", "-c", MASKS)) == found


@pytest.mark.root
def test_exec_privileged(engine: Engine, starter: str) -> None:
    # As under docker, the filter and the profile of the container hold for the command too.
    unfiltered = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    engine.run("run", "-d", "--name", "web", "-u", "app", *unfiltered, starter, "sleep", "1000")
    words = ["exec", "--privileged", "-u", "0", "web", "sh", "-c"]
    every = f"{AVAILABLE:x}"
    assert masks(engine.output(*words, MASKS)) == ["0", every, every, every, "0"]
    assert engine.output(*words, "mount -t tmpfs x /mnt && echo mounted") == "mounted"
    # As under docker: who is not root has them only in the bounding set.
    told = engine.output("exec", "--privileged", "web", "sh", "-c", MASKS)
    assert masks(told) == ["1000", "0", "0", every, "0"]


@pytest.mark.root
@pytest.mark.host  # forty commands beside a busy watcher take minutes on an emulated processor
def test_exec_beside_one_who_may_trace_everything(engine: Engine, starter: str) -> None:
    """CAP_SYS_PTRACE opens every process that has a number inside, also one that is not dumpable.

    The watcher looks into all that it sees, as fast as it can. What it may find is the container's
    own programs and the sealed stub: never the engine's Python, its memory or its environment.
    """
    watch = """
        while :; do
            for p in /proc/[0-9]*; do
                readlink $p/exe
                tr '\\0' '\\n' <$p/environ
                sed -n 's/^CapPrm:.0*/CapPrm /p' $p/status
            done 2>/dev/null
        done
    """
    engine.run(
        "run", "-d", "--name", "tracer", "--cap-add", "SYS_PTRACE", starter, "sh", "-c", watch
    )
    for _ in range(40):
        engine.run("exec", "tracer", "true", environment={"SECRET": "of the host"})
    deadline = time.monotonic() + 5
    seen: set[str] = set()
    while time.monotonic() < deadline and "/memfd:join (deleted)" not in seen:
        engine.run("exec", "tracer", "true", environment={"SECRET": "of the host"})
        seen = set(engine.output("logs", "tracer").splitlines())
    assert not [line for line in seen if "python" in line or "SECRET" in line]
    own = capabilities.mask([*capabilities.DEFAULT, "SYS_PTRACE"])
    assert {line for line in seen if line.startswith("CapPrm ")} == {f"CapPrm {own:x}"}


@pytest.mark.root
@pytest.mark.host
@pytest.mark.tools("setcap")
def test_the_attribute_is_what_setcap_writes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    subprocess.run(["setcap", "cap_net_raw,cap_chown+ep", program], check=True)
    found = os.getxattr(program, "security.capability")
    assert found == file_capabilities(["NET_RAW", "CHOWN"])

"""A container from a bundle: what is inside, what the host sees, what is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import namespaces, process
from minicontainer.runtime import spec as specification
from minicontainer.runtime import start
from tests.runtime import bundle

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox")]
SH = ["sh", "-c"]


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
def test_exit_codes(tmp_path: Path, rootfs: Path, fork: bool) -> None:
    bundle.write(tmp_path, rootfs, args=[*SH, "exit 7"])
    assert bundle.run(tmp_path, fork=fork) == (7, "")


def test_it_is_process_one_with_its_own_name_and_root(tmp_path: Path, rootfs: Path) -> None:
    (rootfs / "mark").touch()
    bundle.write(tmp_path, rootfs, args=[*SH, "echo $$; hostname; ls / | tr '\\n' ' '; id -u"])
    code, output = bundle.run(tmp_path)
    assert code == 0
    assert output.split() == [
        "1", "runc", "bin", "dev", "etc", "mark", "proc", "root", "sys", "tmp", "var", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such"], 127, "not found in PATH"),
        (["/no/such"], 127, "no such file"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "permission denied"),
        (["/script"], 127, "no such file"),
    ],
)
def test_a_command_that_cannot_run(
    tmp_path: Path, rootfs: Path, arguments: list[str], code: int, words: str
) -> None:
    (rootfs / "script").write_text("#!/no/interpreter\n")
    (rootfs / "script").chmod(0o755)
    bundle.write(tmp_path, rootfs, args=arguments)
    with pytest.raises(EngineError, match=words) as caught:
        bundle.run(tmp_path)
    assert caught.value.exit_code == code


def test_the_host_sees_new_namespaces_and_the_recorded_process_waits(
    tmp_path: Path, rootfs: Path
) -> None:
    bundle.write(tmp_path, rootfs, args=["sleep", "1000"])
    spec = specification.load(str(tmp_path / "config.json"))
    root = start.open_root(str(tmp_path), spec)
    seen: list[str] = []

    def on_created(created: process.Process) -> None:
        seen.append(Path(f"/proc/{created.pid}/comm").read_text().strip())

    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    container = start.start(spec, str(tmp_path), root, (null, null, null), on_created)
    try:
        os.close(root)
        os.close(null)
        assert seen[0].startswith("python") or seen[0] == "pytest"
        assert os.readlink(f"/proc/{container.pid}/exe") == "/bin/busybox"
        for kind in ("mount", "uts", "ipc", "pid", "network"):
            own = namespaces.identity("self", kind)
            assert namespaces.identity(container.pid, kind) != own, kind
    finally:
        container.signal(signal.SIGKILL)
        assert container.wait() == 137
        container.close()
        bundle.remove_cgroup(tmp_path)


def test_a_failed_recording_lets_nothing_run(tmp_path: Path, rootfs: Path) -> None:
    (rootfs / "tmp").chmod(0o777)
    spec = bundle.write(tmp_path, rootfs, args=["touch", "/tmp/ran"])
    spec["root"]["readonly"] = False
    root = start.open_root(str(tmp_path), spec)

    def on_created(_: process.Process) -> None:
        raise EngineError("the disk is full")

    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(EngineError, match="disk is full"):
            start.start(spec, str(tmp_path), root, (null, null, null), on_created)
    finally:
        os.close(root)
        os.close(null)
    assert not (rootfs / "tmp" / "ran").exists()


def test_inherited_descriptors_do_not_reach_the_program(tmp_path: Path, rootfs: Path) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    bundle.write(tmp_path, rootfs, args=[*SH, "ls /proc/self/fd"])
    try:
        _, output = bundle.run(tmp_path)
    finally:
        os.close(leaked)
    assert output.split() == ["0", "1", "2", "3"]  # 3 is ls reading the directory


def test_a_working_directory_outside_is_refused(tmp_path: Path, rootfs: Path) -> None:
    """CVE-2024-21626: a leaked descriptor of a host directory as working directory."""
    leaked = os.open("/usr", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        for number in range(3, 24):
            bundle.write(tmp_path, rootfs, cwd=f"/proc/self/fd/{number}", args=["pwd"])
            with pytest.raises(EngineError):
                print(bundle.run(tmp_path))
    finally:
        os.close(leaked)


@pytest.mark.parametrize(
    ("path", "words"), [("/bin/sh", "not a directory"), ("/gone/below", "file exists")]
)
def test_a_working_directory_that_cannot_be_made(
    tmp_path: Path, rootfs: Path, path: str, words: str
) -> None:
    (rootfs / "gone").symlink_to("/nowhere")
    bundle.write(tmp_path, rootfs, cwd=path, args=["pwd"])
    with pytest.raises(EngineError, match=f"working directory {path!r}: {words}"):
        bundle.run(tmp_path)


def test_the_host_interpreter_is_never_executed_inside(tmp_path: Path, rootfs: Path) -> None:
    """CVE-2019-5736: `#!/proc/self/exe` executes whatever makes the last exec."""
    (rootfs / "exploit").write_text("#!/proc/self/exe\n")
    (rootfs / "exploit").chmod(0o755)
    for arguments in (["/exploit"], ["/proc/self/exe", "-c", "print('python')"]):
        bundle.write(tmp_path, rootfs, args=arguments)
        try:
            _, output = bundle.run(tmp_path)
        except EngineError as error:
            output = error.message
        assert "python" not in output.lower()


def test_a_proc_that_is_a_link_is_refused(tmp_path: Path, rootfs: Path) -> None:
    (rootfs / "proc").rmdir()
    (rootfs / "elsewhere").mkdir()
    (rootfs / "proc").symlink_to("/elsewhere")
    bundle.write(tmp_path, rootfs, args=["true"])
    with pytest.raises(EngineError, match="/proc"):
        bundle.run(tmp_path)


def test_the_user_its_groups_and_no_capabilities(tmp_path: Path, rootfs: Path) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [1002, 1003]}
    bundle.write(
        tmp_path, rootfs, user=user, args=[*SH, "id -u; id -G; grep Cap /proc/self/status"]
    )
    _, output = bundle.run(tmp_path)
    rows = output.split("\n")
    assert rows[0] == "1000"
    assert rows[1].split() == ["1001", "1002", "1003"]
    masks = dict(row.split(":\t") for row in rows[2:] if row)
    assert int(masks["CapEff"], 16) == 0
    assert int(masks["CapBnd"], 16) == 1 << 29 | 1 << 10 | 1 << 5


@pytest.mark.parametrize("name", ["RLIMIT_FSIZE", "RLIMIT_NOFILE"])
def test_a_limit_does_not_stop_the_start_itself(tmp_path: Path, rootfs: Path, name: str) -> None:
    """The limit is the program's: our own last step must not run into it."""
    limit = {"type": name, "soft": 4, "hard": 4}
    bundle.write(tmp_path, rootfs, rlimits=[limit], args=["true"])
    assert bundle.run(tmp_path) == (0, "")


def test_init_reaps_and_forwards(tmp_path: Path, rootfs: Path) -> None:
    bundle.write(tmp_path, rootfs, args=[*SH, "echo $$; trap 'exit 9' TERM; kill -TERM $$"])
    assert bundle.run(tmp_path, init=True) == (9, "2\n")


@pytest.mark.host
def test_nothing_stays_behind_two_hundred_times(tmp_path: Path, rootfs: Path) -> None:
    """The leak check around this test does the looking."""
    bundle.write(tmp_path, rootfs, args=["true"])
    for _ in range(200):
        assert bundle.run(tmp_path)[0] == 0


def with_users(spec: dict[str, Any]) -> dict[str, Any]:
    table = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
    spec["linux"].update(uidMappings=table, gidMappings=table)
    return spec


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
def test_in_a_user_namespace_root_reaches_only_what_is_mounted(
    tmp_path: Path, rootfs: Path, fork: bool
) -> None:
    secret = tmp_path / "closed" / "secret"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("of the host's root\n")
    secret.chmod(0o600)
    script = "id -u; cat /given/open; cat /given/secret; ls /given; mknod /dev/m c 1 3"
    spec = with_users(bundle.write(tmp_path, rootfs, args=[*SH, script]))
    (secret.parent / "open").write_text("for all\n")
    (secret.parent / "open").chmod(0o644)
    # Only the host's root may walk to it: it is mounted all the same, and then its mode counts.
    spec["mounts"].append(
        {"destination": "/given", "source": str(secret.parent), "options": ["rbind"]}
    )
    spec["root"]["readonly"] = False
    (tmp_path / "config.json").write_text(json.dumps(spec))
    os.chown(rootfs, 100000, 100000)
    secret.parent.chmod(0o711)
    tmp_path.chmod(0o700)
    code, output = bundle.run(tmp_path, fork=fork)
    assert code == 1
    assert output.splitlines() == [
        "0",
        "for all",
        "cat: can't open '/given/secret': Permission denied",
        "ls: can't open '/given': Permission denied",
        "mknod: /dev/m: Operation not permitted",
    ]


def test_a_device_in_a_user_namespace_is_the_hosts_and_keeps_its_owner(
    tmp_path: Path, rootfs: Path
) -> None:
    host = os.stat("/dev/zero")
    spec = with_users(
        bundle.write(tmp_path, rootfs, args=[*SH, "stat -c '%t:%T %u' /dev/own /dev/fifo"])
    )
    spec["linux"]["devices"] = [
        {"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 3},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o600, "uid": 3},
    ]
    spec["root"]["readonly"] = False
    (tmp_path / "config.json").write_text(json.dumps(spec))
    os.chown(rootfs, 100000, 100000)
    assert bundle.run(tmp_path) == (0, "1:5 65534\n0:0 3\n")
    now = os.stat("/dev/zero")
    assert (now.st_uid, now.st_mode) == (host.st_uid, host.st_mode)
    spec["linux"]["devices"] = [{"path": "/dev/none", "type": "b", "major": 240, "minor": 99}]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    with pytest.raises(EngineError, match="no node of the device 240:99"):
        bundle.run(tmp_path)

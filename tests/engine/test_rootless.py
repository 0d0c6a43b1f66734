"""An ordinary user's engine: no root, no daemon, and the machine's root is not in it."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chapters import patience
from minicontainer.engine import rootless
from minicontainer.errors import EngineError
from minicontainer.image.store import Store
from minicontainer.kernel import cgroupfs, cgroups, flags, process, users
from tests.image import small
from tests.support import ordinary
from tests.support.ordinary import FIRST, UID, Ordinary

pytestmark = [
    pytest.mark.root,
    pytest.mark.vm,
    pytest.mark.tools("busybox", "setpriv", "newuidmap"),
    pytest.mark.needs("user-namespaces"),
]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Ordinary]:
    with ordinary.user(tmp_path) as engine:
        engine.run("image", "starter")
        yield engine


def pid_of(engine: Ordinary, name: str) -> int:
    return int(engine.output("inspect", "--format", "{{.State.Pid}}", name))


def ids(pid: int) -> list[int]:
    """The user and group of a process, and the owner of its program, as the host sees them."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(line.split()[1]) for line in status if line.startswith(("Uid", "Gid"))]


def test_root_inside_is_the_user_outside(user: Ordinary) -> None:
    script = "id -u; stat -c '%u:%g' /etc/passwd /home/app; echo x > /etc/new; chown 33:44 /etc/new"
    user.run("run", "--name", "box", "starter", "sh", "-c", script)
    assert user.output("logs", "box").split() == ["0", "0:0", "1000:1000"]
    (upper,) = user.root.glob("containers/*/upper")
    made = (upper / "etc" / "new").stat()
    assert (made.st_uid, made.st_gid) == (FIRST + 32, FIRST + 43)
    (app,) = user.root.glob("layers/*/home/app")
    assert app.stat().st_uid == FIRST + 999
    # Owners that the user himself could not remove go with the container.
    user.run("rm", "box")
    assert not upper.exists()


def test_a_life_in_the_background(user: Ordinary) -> None:
    user.run("run", "--detach", "--name", "box", "starter", "sh", "-c", "echo up; exec sleep 1000")
    other = ["run", "--detach", "--name", "other", "--user", "app", "starter", "sleep", "1000"]
    user.run(*other)
    assert ids(pid_of(user, "box")) == [UID, UID]
    assert ids(pid_of(user, "other")) == [FIRST + 999] * 2
    assert user.output("ps", "--format", "{{.Names}}").split() == ["other", "box"]
    assert user.output("logs", "box") == "up"
    # One namespace for all, or nobody could do this to another's processes.
    spaces = {os.readlink(f"/proc/{pid_of(user, name)}/ns/user") for name in ("box", "other")}
    assert len(spaces) == 1
    assert user.output("exec", "--user", "app", "box", "id", "-u") == "1000"
    assert user.output("exec", "other", "id", "-u") == "1000"
    user.run("stop", "--timeout", "0", "other", "box")
    assert user.output("ps", "--all", "--format", "{{.State}}").split() == ["exited"] * 2
    user.run("rm", "other", "box")
    assert os.listdir(user.root / "containers") == []


def test_it_cannot_do_what_the_user_cannot(user: Ordinary, tmp_path: Path) -> None:
    secret = user.home.parent / "secret"
    secret.write_text("the host's root's\n")
    secret.chmod(0o600)
    own = user.home / "own"
    own.write_text("the user's\n")
    os.chown(own, UID, UID)
    volumes = ["--volume", f"{secret}:/secret", "--volume", f"{own}:/own"]
    script = "cat /own; cat /secret; mknod /x b 8 0; cat /proc/1/environ >/dev/null && echo fine"
    done = user.run("run", "--rm", *volumes, "starter", "sh", "-c", script)
    assert done.stdout.split("\n") == ["the user's", "fine", ""]
    assert "/secret': Permission denied" in done.stderr
    assert "Operation not permitted" in done.stderr


@pytest.mark.parametrize("network", ["none", "host"])
def test_networks_and_terminals(user: Ordinary, network: str) -> None:
    script = "ls /sys/class/net | wc -l; touch /sys/x; stat -c '%u:%g' /dev/console; tty"
    done = user.run("run", "--rm", "-t", "--network", network, "starter", "sh", "-c", script)
    links, refused, console, tty = done.stdout.replace("\r", "").split("\n")[:4]
    host = len(os.listdir("/sys/class/net"))
    assert (int(links) == host) if network == "host" else (int(links) <= host)
    assert "Read-only" in refused and (console, tty) == ("0:5", "/dev/pts/0")


@pytest.mark.host
def test_a_killed_engine_leaves_nothing_that_the_next_command_does_not_find(
    user: Ordinary,
) -> None:
    started = user.start("run", "--name", "box", "--user", "app", "starter", "cat", "/dev/zero")
    assert started.stdout is not None
    started.stdout.read(1)
    started.kill()
    started.communicate()
    assert user.output("ps", "--all", "--format", "{{.State}}") == "exited"


@pytest.mark.host
def test_with_a_single_user_everything_is_roots_and_a_word_says_so(tmp_path: Path) -> None:
    with ordinary.user(tmp_path, ranges=False) as user:
        made = user.run("image", "starter")
        assert "warning: no further users" in made.stderr
        script = "stat -c %u /home/app; id -u; tty; cat /proc/self/uid_map"
        done = user.run("run", "--rm", "--tty", "starter", "sh", "-c", script)
        assert done.stdout.split() == ["0", "0", "/dev/pts/0", "0", str(UID), "1"]
        assert user.output("run", "--rm", "starter", "ls", "/dev/pts") == "ptmx"
        user.run("run", "-d", "--name", "box", "--hostname", "box", "starter", "sleep", "1000")
        assert user.output("exec", "box", "hostname") == "box"
        failed = user.run("exec", "--user", "app", "box", "true", check=False)
        assert "1000 does not exist in the container's user namespace" in failed.stderr
        user.run("rm", "--force", "box")
        failed = user.run("run", "--rm", "--user", "app", "starter", "true", check=False)
        assert failed.returncode == 125
        assert "1000 does not exist in the container's user namespace" in failed.stderr


@pytest.mark.host
def test_a_directory_of_somebody_elses_is_not_used(user: Ordinary) -> None:
    user.run("run", "--rm", "starter", "true")
    for path in (user.run_root, Path(f"{user.run_root}.users")):
        before = path.stat()
        os.chown(path, 0, 0)
        failed = user.run("ps", check=False)
        assert failed.returncode == 1 and "not a private directory of yours" in failed.stderr
        os.chown(path, before.st_uid, before.st_gid)
        path.chmod(0o755)
        assert user.run("ps", check=False).returncode == 1
        path.chmod(0o700)
    assert user.run("ps").returncode == 0


@pytest.mark.host
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor"),
        ("kernel/unprivileged_userns_clone", "0", "unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "max_user_namespaces=15000"),
    ],
)
def test_why_a_machine_forbids_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setattr(rootless, "_sysctl", lambda asked: value if asked == name else "")
    told: EngineError = rootless.refusal(PermissionError(1, "no"))
    assert "forbids user namespaces" in told.message
    assert words in told.render()


def test_a_machine_with_no_more_user_namespaces(user: Ordinary) -> None:
    ready_read, ready_write = os.pipe()
    told, tell = os.pipe()
    words = [*user.become(), str(user.code / "bin" / "minicontainer"), "ps"]

    def inside() -> None:
        os.read(ready_read, 1)
        users.become_root()
        # The limit of a namespace counts what is made in it: the host's stays as it is.
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        os.dup2(tell, 2)
        os.execvpe(words[0], words, user.environment)

    child = process.spawn(inside, flags.CLONE_NEWUSER)
    users.write_maps(child.pid, [(0, 0, 65536)], [(0, 0, 65536)])
    os.write(ready_write, b"+")
    assert child.wait() == 1
    assert "user.max_user_namespaces=0" in os.read(told, 4096).decode()
    child.close()
    for descriptor in (ready_read, ready_write, told, tell):
        os.close(descriptor)


def entry(name: str, kind: bytes, mode: int = 0o755, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode = kind, mode
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def test_an_image_is_unpacked_as_far_as_a_user_can(user: Ordinary, tmp_path: Path) -> None:
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    sh = entry("bin/sh", tarfile.REGTYPE, size=len(busybox))
    base = io.BytesIO()
    with tarfile.open(fileobj=base, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("bin", "d", "dev"):
            archive.addfile(entry(directory, tarfile.DIRTYPE))
        archive.addfile(sh, io.BytesIO(busybox))
        marked = entry("d/old", tarfile.REGTYPE, uid=33, gid=44)
        marked.pax_headers = {"SCHILY.xattr.trusted.x": "y", "SCHILY.xattr.user.x": "y"}
        archive.addfile(marked)
        archive.addfile(entry("gone", tarfile.REGTYPE))
        archive.addfile(entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0))
        archive.addfile(entry("fifo", tarfile.FIFOTYPE))
    above = small.tar({"d/.wh..wh..opq": b"", "d/new": b"", ".wh.gone": b""})
    store = Store(str(tmp_path / "store"))
    small.add(store, "odd:latest", [base.getvalue(), above])
    small.add(store, "base:latest", [base.getvalue()])
    with tarfile.open(user.home / "odd.tar", "w") as archive:
        archive.add(store.layout, ".")
    (user.home / "odd.tar").chmod(0o644)
    user.run("load", "--input", user.home / "odd.tar")
    script = "echo /* /d/*; stat -c %u:%g /d/* /disk"
    done = user.run("run", "--rm", "odd", "sh", "-c", f"busybox() {{ /bin/sh \"$@\"; }}; {script}",
                    check=False)  # fmt: skip
    shown = done.stdout.split()
    assert "/d/new" in shown and "/fifo" in shown
    assert not {"/d/old", "/gone", "/disk"} & set(shown)
    assert "/d/old" in user.output("run", "--rm", "base", "sh", "-c", "echo /d/*").split()


@pytest.mark.host
def test_many_first_commands_at_once_share_one_namespace(user: Ordinary) -> None:
    command = ["run", "--detach", "starter", "sh", "-c", "readlink /proc/self/ns/user; sleep 1000"]
    started = [user.start(*command) for _ in range(6)]
    said = [each.communicate(timeout=patience.seconds(60))[1] for each in started]
    assert [each.returncode for each in started] == [0] * 6, said
    names = user.output("ps", "--format", "{{.Names}}").split()
    assert len(names) == 6
    assert len({os.readlink(f"/proc/{pid_of(user, name)}/ns/user") for name in names}) == 1


def test_what_it_can_do_is_told_as_it_is(user: Ordinary) -> None:
    user.run("run", "--detach", "--name", "box", "starter", "sleep", "1000")
    told = user.output("inspect", "--security", "box")
    assert f"that is user {UID} of the host" in told
    assert "nothing is mapped" not in told
    assert re.search(r"user +its own", told)


@pytest.mark.host
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--userns", "remap"], "wants the host's root"),
        (["--ulimit", "nofile=9999999:9999999"], "cannot set the limit nofile"),
    ],
)
def test_what_it_cannot_have_is_refused(user: Ordinary, options: list[str], words: str) -> None:
    failed = user.run("run", "--rm", *options, "starter", "true", check=False)
    assert failed.returncode == 125
    assert words in failed.stderr


@pytest.mark.host
@pytest.mark.needs("cgroup-v1")
def test_a_limit_that_cannot_be_had_is_refused(user: Ordinary) -> None:
    failed = user.run("run", "--rm", "--memory", "64m", "starter", "true", check=False)
    assert failed.returncode == 125
    assert "cannot make the cgroup" in failed.stderr
    assert user.output("ps", "--all", "--quiet") == ""


# ------------------------------------------------------------------------------------------ limits


@pytest.fixture
def delegated(user: Ordinary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ordinary]:
    """The user's engine in a cgroup that is his, as `Delegate=yes` of systemd makes one."""
    top = Path(cgroupfs.MOUNT)
    (top / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    group = top / f"minicontainer-test-{os.getpid()}"
    for directory in (group, group / "shell"):
        directory.mkdir()
        for path in (directory, directory / "cgroup.procs", directory / "cgroup.subtree_control"):
            os.chown(path, UID, UID)
    os.setxattr(group, "user.delegate", b"1")
    enter = ["sh", "-c", f'echo $$ >{group}/shell/cgroup.procs; exec "$@"', "sh"]
    monkeypatch.setattr(user, "become", lambda: [*enter, *Ordinary.become()])
    yield user
    user.remove_containers()
    cgroups.choose(f"/{group.name}").remove()


@pytest.mark.needs("cgroup-v2")
def test_limits_in_a_delegated_cgroup(delegated: Ordinary) -> None:
    limits = ["-m", "32m", "--pids-limit", "20", "--cpus", "0.5"]
    delegated.run("run", "--detach", "--name", "box", *limits, "starter", "sleep", "1000")
    files = [f"/sys/fs/cgroup/{name}" for name in ("memory.max", "pids.max", "cpu.max")]
    found = delegated.output("exec", "box", "cat", *files)
    assert found.split() == [str(32 << 20), "20", "50000", "100000"]
    assert int(delegated.output("stats", "--no-stream", "--format", "{{.PIDs}}", "box")) == 1
    delegated.run("update", "-m", "48m", "--memory-swap", "64m", "box")
    assert delegated.output("exec", "box", "cat", files[0]) == str(48 << 20)
    delegated.run("pause", "box")
    assert "Paused" in delegated.output("ps", "--format", "{{.Status}}")
    delegated.run("unpause", "box")
    hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]
    done = delegated.run("run", "--rm", "-m", "32m", "starter", *hog, check=False)
    assert done.returncode == 137 and "out of memory: its limit of 32 MiB" in done.stderr
    delegated.run("rm", "--force", "box")

"""--userns remap: root inside is nobody outside, and the image is none the wiser."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from errno import EINVAL
from pathlib import Path

import pytest

from minicontainer.engine import home, run, userns
from minicontainer.engine.create import Settings
from minicontainer.errors import EngineError
from minicontainer.kernel import mounts, syscalls
from tests.support import subids
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.tools("busybox")]
FIRST = 500000


@pytest.fixture(autouse=True)
def ranges(tmp_path: Path) -> Iterator[None]:
    text = f"other:1:1\nminicontainer:{FIRST}:65536\nbad line\nroot:700000:10\nroot:800000:5\n"
    with subids.given(tmp_path, text, text + "users:900000:65536\n"):
        yield


def box(engine: Engine, starter: str, *options: str) -> tuple[str, int]:
    """A running container with users of its own: its id, its first process."""
    given = options or ("--userns", "remap")
    identity = engine.output("run", "--detach", *given, starter, "sleep", "1000")
    return identity, int(engine.output("inspect", "--format", "{{.State.Pid}}", identity))


def test_its_root_is_nobody_of_the_host(engine: Engine, starter: str) -> None:
    identity, pid = box(engine, starter)
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.findall(r"^[UG]id:\t(\d+)", status, re.M) == [str(FIRST)] * 2
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(FIRST), "65536"]
    shown = json.loads(engine.output("inspect", identity))[0]["HostConfig"]
    assert shown["UsernsMode"] == "remap"
    assert shown["IDMappings"]["UidMap"] == [f"0:{FIRST}:65536"]


def test_the_images_files_have_their_owners_and_what_is_written_has_the_ranges(
    engine: Engine, starter: str
) -> None:
    identity, _ = box(engine, starter)
    script = "stat -c '%u %g' / /etc/passwd /home/app /etc/hosts; echo x >> /home/app/new; "
    script += "chown 5:7 /home/app/new; chmod u+s /bin/busybox; mkdir /d"
    said = engine.output("exec", identity, "sh", "-c", script)
    assert said.split("\n") == ["0 0", "0 0", "1000 1000", "0 0"]
    upper = engine.root / "containers" / identity / "upper"
    found = {
        name: (os.lstat(upper / name).st_uid - FIRST, os.lstat(upper / name).st_gid - FIRST)
        for name in ("", "d", "home/app", "home/app/new", "usr/bin/busybox")
    }
    assert found == {
        "": (0, 0), "d": (0, 0), "home/app": (1000, 1000), "home/app/new": (5, 7),
        "usr/bin/busybox": (0, 0),
    }  # fmt: skip
    # The layer is as it was, for all others.
    assert engine.output("run", "--rm", starter, "stat", "-c", "%u", "/home/app") == "1000"
    engine.run("rm", "--force", identity)
    assert not upper.exists()


def test_exec_joins_its_users_too(engine: Engine, starter: str) -> None:
    identity, pid = box(engine, starter)
    said = engine.output("exec", identity, "sh", "-c", "id -u; readlink /proc/self/ns/user")
    assert said.split() == ["0", os.readlink(f"/proc/{pid}/ns/user")]
    said = engine.output("exec", "--user", "app", identity, "sh", "-c", "id; echo x > /dev/stdout")
    assert said == "uid=1000(app) gid=1000(app) groups=100(users),1000(app)\nx"
    failed = engine.run("exec", "--user", "70000", identity, "true", check=False)
    assert failed.returncode == 1
    assert "70000 does not exist in the container's user namespace" in failed.stderr


def test_a_terminal_is_its_own(engine: Engine, starter: str) -> None:
    script = "stat -c '%u %g' $(tty) /dev/console; chmod 600 /dev/console; echo made > /dev/tty"
    done = engine.run("run", "--rm", "--tty", "--userns", "remap", starter, "sh", "-c", script)
    assert done.stdout.replace("\r", "") == "0 5\n0 5\nmade\n"


def test_a_volume_keeps_its_owner_unless_it_is_mapped(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("the host's\n")
    (volume / "file").chmod(0o600)
    script = "stat -c %u /v/file; cat /v/file; echo x > /v/new"
    command = ["run", "--rm", "--userns", "remap", "--volume", f"{volume}:/v", starter]
    done = engine.run(*command, "sh", "-c", script, check=False)
    assert done.stdout == "65534\n"
    assert done.stderr.count("ermission denied") == 2
    command[5] += ":idmap"
    assert engine.output(*command, "sh", "-c", script) == "0\nthe host's"
    assert (volume / "new").stat().st_uid == 0
    failed = engine.run("run", "--rm", *command[4:], "true", check=False)
    assert failed.returncode == 125 and "idmap wants a user namespace" in failed.stderr


def test_without_idmapped_mounts_a_layer_is_copied_once_and_goes_with_the_image(
    engine: Engine, starter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(mount: int, users: int) -> None:
        raise syscalls.SyscallError(EINVAL, f"mount_setattr({mount}, {users})", None)

    monkeypatch.setattr(mounts, "map_owners", cannot)
    here = home.Home(str(engine.root), str(engine.run_root))
    layers = engine.root / "layers"
    before = {path.name for path in layers.iterdir()}
    for _ in range(2):
        script = "test $(stat -c %u /home/app /etc/passwd | tr '\\n' :) = 1000:0: && touch /new"
        settings = Settings(starter, ["sh", "-c", script], userns="remap", remove=True)
        assert run.run(here, settings) == 0
        (copy,) = [p for p in layers.iterdir() if p.name not in before]
        assert (copy / "home" / "app").stat().st_uid == FIRST + 1000
    engine.run("rmi", "--force", starter)
    assert not copy.exists()


@pytest.mark.host
@pytest.mark.parametrize(
    ("text", "uids", "gids"),
    [
        ("", None, None),
        ("host", None, None),
        ("remap=root", [[0, 700000, 10], [10, 800000, 5]], [[0, 700000, 10], [10, 800000, 5]]),
        ("remap=0:users", [[0, 700000, 10], [10, 800000, 5]], [[0, 900000, 65536]]),
    ],
)
def test_whose_ranges(
    text: str, uids: list[list[int]] | None, gids: list[list[int]] | None
) -> None:
    assert userns.choose(text) == ({"uids": uids, "gids": gids} if uids else {})


@pytest.mark.host
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keep-id", "invalid --userns"),
        ("host=x", "invalid --userns"),
        ("remap=nobody", "gives 'nobody' no range"),
        ("remap=root:nogroup", "subgid gives 'nogroup' no range"),
    ],
)
def test_what_cannot_be(text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        userns.choose(text)


@pytest.mark.host
def test_a_range_with_the_hosts_root_is_refused(tmp_path: Path) -> None:
    given = subids.given(tmp_path, "minicontainer:0:65536\n")
    with given, pytest.raises(EngineError, match="the host's root"):
        userns.choose("remap")
    with pytest.raises(EngineError, match="host's network namespace"):
        userns.choose("remap", "host")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (f"--ulimit=nofile={2**31}", "cannot set the limit nofile to 2147483648:2147483648: "),
        ("--oom-score-adj=-500", "cannot set oom_score_adj to -500: "),
    ],
)
def test_what_only_the_machines_root_may_raise_is_refused(
    engine: Engine, starter: str, option: str, told: str
) -> None:
    """The limits are the machine's, and in there nobody is the machine's root."""
    done = engine.run("run", "--rm", "--userns", "remap", option, starter, "true", check=False)
    assert done.returncode == 125
    line, hint = done.stderr.splitlines()
    assert line.startswith(f"minicontainer: {told}")
    assert "CAP_SYS_RESOURCE on the host" in hint
    assert not os.listdir(engine.root / "containers")
    # What lowers is everybody's.
    lower = ["--ulimit", "nofile=64:128", "--oom-score-adj", "500"]
    script = "ulimit -Hn; cat /proc/self/oom_score_adj"
    said = engine.output("run", "--rm", "--userns", "remap", *lower, starter, "sh", "-c", script)
    assert said.split() == ["128", "500"]

"""Root inside, with docker's default powers, against the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.engine import create, teardown
from minicontainer.engine.home import Home
from minicontainer.errors import EngineError
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.tools("busybox")]


def test_the_hosts_null_device_stays_as_it_is(engine: Engine, starter: str) -> None:
    """Who holds a descriptor of a file may change its owner and mode."""
    before = os.stat("/dev/null")
    script = "chmod 0640 /dev/stdin; chown 1000:5 /dev/stdin; stat -c %a:%u /dev/stdin"
    inside = engine.output("run", "--name", "box", "-d", starter, "sleep", "1000")
    assert inside
    engine.run("run", "--rm", starter, "sh", "-c", script)
    engine.run("exec", "box", "sh", "-c", script)
    engine.run("exec", "--user", "1000", "box", "sh", "-c", "chmod 0600 /dev/stdin", check=False)
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


def test_device_files_of_a_volume_are_dead_and_read_only_goes_down(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    """Until the device cgroup: a device file does not care for `ro`."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.mknod(volume / "zero", 0o020666, os.makedev(1, 5))
    read = ["head", "-c", "1", "/data/zero"]
    done = engine.run("run", "--rm", "-v", f"{volume}:/data", starter, *read, check=False)
    assert "Permission denied" in done.stderr
    words = ["run", "--rm", "-v", "/:/host:ro", starter, "sh", "-c"]
    done = engine.run(*words, ": 3>>/host/proc/sys/kernel/core_pattern", check=False)
    assert "Read-only file system" in done.stderr
    done = engine.run(*words, ": >/host/dev/shm/minicontainer-test", check=False)
    assert "Read-only file system" in done.stderr
    one = engine.run("run", "--rm", "-v", "/dev/zero:/one", starter, "head", "-c", "1", "/one")
    assert one.stdout == "\0"


def test_mknod_comes_with_the_device_cgroup() -> None:
    with pytest.raises(EngineError, match="chapter 08"):
        create.choose_capabilities(["MKNOD"], [])
    assert "CAP_MKNOD" not in create.choose_capabilities(["ALL"], [])


def test_no_exec_beside_a_tracer(engine: Engine, starter: str) -> None:
    words = ["run", "-d", "--name", "tracer", "--cap-add", "SYS_PTRACE", starter]
    engine.run(*words, "sleep", "1000")
    done = engine.run("exec", "tracer", "true", check=False)
    assert "CAP_SYS_PTRACE" in done.stderr
    assert done.returncode


def test_a_start_is_not_swept_away(engine: Engine, starter: str) -> None:
    """Commands that begin together after a boot: one sweeps while the other starts."""
    identity = engine.output("run", "-d", "--rm", starter, "sleep", "1000")
    teardown.sweep(Home(str(engine.root), str(engine.run_root)))
    assert (engine.root / "containers" / identity / "container.json").exists()
    engine.run("rm", "-f", identity)


def test_a_number_of_any_length_in_the_images_files(engine: Engine, starter: str) -> None:
    done = engine.run("run", "--rm", "--user", "9" * 5000, starter, "true", check=False)
    assert done.returncode == 125
    assert "internal error" not in done.stderr

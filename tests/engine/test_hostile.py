"""Root inside, with docker's default powers, against the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minicontainer.engine import create, spec, teardown
from minicontainer.engine.home import Home
from minicontainer.errors import EngineError
from minicontainer.kernel import cgroups
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


def test_device_files_of_a_volume_are_guarded_and_read_only_goes_down(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    """A device file does not care for `ro`; the filter does not care where a device file is."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.mknod(volume / "zero", 0o020666, os.makedev(1, 5))
    os.mknod(volume / "loops", 0o020666, os.makedev(10, 237))
    read = ["head", "-c", "1"]
    mounted = ["run", "--rm", "-v", f"{volume}:/data", starter]
    assert engine.run(*mounted, *read, "/data/zero").stdout == "\0"
    done = engine.run(*mounted, *read, "/data/loops", check=False)
    assert "Operation not permitted" in done.stderr
    words = ["run", "--rm", "-v", "/:/host:ro", starter, "sh", "-c"]
    done = engine.run(*words, ": 3>>/host/proc/sys/kernel/core_pattern", check=False)
    assert "Read-only file system" in done.stderr
    done = engine.run(*words, ": >/host/dev/shm/minicontainer-test", check=False)
    assert "Read-only file system" in done.stderr
    one = engine.run("run", "--rm", "-v", "/dev/zero:/one", starter, "head", "-c", "1", "/one")
    assert one.stdout == "\0"


def test_a_node_can_be_made_and_only_harmless_ones_opened(engine: Engine, starter: str) -> None:
    script = "mknod /zero c 1 5; mknod /loops c 10 237; head -c 1 /zero | wc -c; : </loops"
    done = engine.run("run", "--rm", starter, "sh", "-c", script, check=False)
    assert done.stdout == "1\n"
    assert "Operation not permitted" in done.stderr


def test_without_a_device_filter_nodes_are_dead_and_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine whose kernel has no such thing keeps the older, stricter walls."""
    monkeypatch.setattr(cgroups, "unguarded", lambda: "it is another machine")
    with pytest.raises(EngineError, match=r"CAP_MKNOD cannot be had here.*another machine"):
        compose(cap_add=["MKNOD"])
    assert "CAP_MKNOD" not in compose(cap_add=["ALL"]).capabilities
    record = compose()
    assert "CAP_MKNOD" not in record.capabilities
    assert not record.guarded
    assert spec.cgroup(record, []) == {}
    record.mounts = [spec.mount("/host", "bind", "/", ["rbind"])]
    made = {entry["destination"]: entry for entry in spec.mounts(Home("/root", "/run"), record)}
    assert {"nodev", "rnodev"} <= set(made["/host"]["options"])
    for asked in ({"devices": [{"PathOnHost": "/dev/null"}]}, {"device_rules": ["c 1:3 r"]}):
        with pytest.raises(EngineError, match="another machine"):
            compose(**asked)


def compose(**asked: Any) -> create.Record:
    settings = create.Settings("image", ["true"], **asked)
    return create.compose("0" * 64, "sha256:0", {}, settings)


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

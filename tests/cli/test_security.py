"""`inspect --security`: what a container can do, from the kernel, as words and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cli import security
from minicontainer.engine import powers
from minicontainer.engine.security import host_devices
from minicontainer.kernel import capabilities, devices
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm]


def start(engine: Engine, starter: str, *options: str) -> None:
    engine.run("run", "--detach", "--name", "web", *options, starter, "sleep", "1000")


def look(engine: Engine) -> dict[str, Any]:
    (found,) = json.loads(engine.output("inspect", "--security", "--format", "json", "web"))
    assert isinstance(found, dict)
    return found


def test_a_container_as_it_comes(engine: Engine, starter: str) -> None:
    start(engine, starter)
    found = look(engine)
    assert found["Name"] == "/web"
    assert found["User"]["Uid"] == found["User"]["HostUid"] == 0
    for name in ("Effective", "Permitted", "Bounding"):
        assert set(found["Capabilities"][name]) == set(capabilities.DEFAULT)
    assert found["Capabilities"]["Inheritable"] == found["Capabilities"]["Ambient"] == []
    assert not found["Capabilities"]["NoNewPrivileges"]
    shared = {kind for kind, entry in found["Namespaces"].items() if entry["Shared"]}
    assert shared == {"user"}
    assert found["KernelPaths"]["Writable"] == found["KernelPaths"]["Unmasked"] == []
    names = {node["Path"].removeprefix("/dev/") for node in found["Devices"]["Nodes"]}
    assert names == {name for name, _, _ in devices.DEVICES} | {"pts/ptmx"}
    # The root too: behind the device filter, as in docker.
    assert found["Devices"]["Live"] == ["/", "/dev"]
    assert {mount["Path"] for mount in found["Host"]["Mounts"]} == {
        "/etc/hostname", "/etc/hosts", "/etc/resolv.conf",
    }  # fmt: skip
    assert found["Host"]["RootWritable"]


def test_a_container_with_everything(engine: Engine, starter: str, tmp_path: Path) -> None:
    odd = tmp_path / "a place"
    odd.mkdir()
    start(
        engine, starter, "--privileged", "--user", "app", "--network", "host", "--read-only",
        "--volume", f"{odd}:/the data:ro",
    )  # fmt: skip
    found = look(engine)
    assert (found["User"]["Uid"], found["User"]["Groups"]) == (1000, [100, 1000])
    assert found["Capabilities"]["Permitted"] == []
    assert capabilities.mask(found["Capabilities"]["Bounding"]) == capabilities.read()["CapBnd"]
    shared = {kind for kind, entry in found["Namespaces"].items() if entry["Shared"]}
    assert shared == {"user", "network"}
    assert {"/proc/sys", "/sys"} <= set(found["KernelPaths"]["Writable"])
    assert not [path for path in found["KernelPaths"]["Writable"] if path.startswith("/sys/")]
    assert "/proc/keys" in found["KernelPaths"]["Unmasked"] or not os.path.exists("/proc/keys")
    nodes = {(node["Path"], node["Major"], node["Minor"]) for node in found["Devices"]["Nodes"]}
    for device in host_devices():
        if device["type"] != "p":
            assert (device["path"], device["major"], device["minor"]) in nodes
    data = next(mount for mount in found["Host"]["Mounts"] if mount["Path"] == "/the data")
    assert data["Source"].endswith("/a place") and not data["Writable"]
    assert not found["Host"]["RootWritable"]


def test_options_change_what_is_found(engine: Engine, starter: str) -> None:
    start(
        engine, starter, "--cap-drop", "ALL", "--cap-add", "KILL",
        "--security-opt", "no-new-privileges", "--security-opt", "systempaths=unconfined",
    )  # fmt: skip
    found = look(engine)
    assert found["Capabilities"]["Permitted"] == ["CAP_KILL"]
    assert found["Capabilities"]["NoNewPrivileges"]
    # /proc/sys may be written; /sys is a read-only mount all the same, as under docker.
    assert "/proc/sys" in found["KernelPaths"]["Writable"]
    assert "/sys" not in found["KernelPaths"]["Writable"]


@pytest.mark.host
def test_in_words(engine: Engine, starter: str) -> None:
    start(engine, starter, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")
    words = engine.output("inspect", "--security", "web")
    lines = [line.strip() for line in words.splitlines()]
    assert lines[0].startswith("web (")
    assert "it has 1 of 41:" in lines
    assert f"CAP_NET_ADMIN  {capabilities.POWERS['NET_ADMIN']}" in lines
    assert "no program that it executes can give it more: that is its whole bounding set" in lines
    assert "user      the host's  chapter 11" in lines
    assert "those that every container has, and no other" in lines
    assert max(map(len, words.splitlines())) <= 80 or "/etc/" in words
    for title, chapter in (("capabilities", "09"), ("system calls", "10"), ("limits", "08")):
        assert any(line.startswith(title) and line.endswith(f"chapter {chapter}") for line in lines)


def test_what_the_filter_refuses(engine: Engine, starter: str, tmp_path: Path) -> None:
    start(engine, starter)
    found = look(engine)["Seccomp"]
    assert {"bpf", "clone3", "keyctl", "mount", "unshare"} < set(found["Refused"])
    assert found["RefusedWithSomeArguments"] == ["clone", "personality", "socket"]
    words = engine.output("inspect", "--security", "web")
    number = f"of {found['Calls']} it refuses {len(found['Refused'])}, among them: bpf, keyctl"
    assert number in words
    # The rules are this container's: another one's are other rules.
    engine.run("rm", "-f", "web")
    start(engine, starter, "--cap-add", "SYS_ADMIN")
    found = look(engine)["Seccomp"]
    assert "keyctl" in found["Refused"] and "mount" not in found["Refused"]
    assert found["RefusedWithSomeArguments"] == ["personality", "socket"]
    engine.run("rm", "-f", "web")
    profile = tmp_path / "own.json"
    rule = '{"names": ["chmod", "fchmod"], "action": "SCMP_ACT_KILL"}'
    profile.write_text(f'{{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{rule}]}}')
    start(engine, starter, "--security-opt", f"seccomp={profile}")
    assert "it refuses 2: chmod, fchmod\n" in engine.output("inspect", "--security", "web")
    engine.run("rm", "-f", "web")
    start(engine, starter, "--security-opt", "seccomp=unconfined")
    assert "all of them: there is no filter" in engine.output("inspect", "--security", "web")


def test_which_devices_the_cgroup_lets_through(engine: Engine, starter: str) -> None:
    start(engine, starter, "--device-cgroup-rule", "c 42:7 rw")
    rules = look(engine)["Devices"]["Allowed"]["Rules"]
    assert {"c 42:7 rw", "c 1:3 rwm", "c *:* m"} < set(rules)
    assert "b *:* rwm" not in rules and "a *:* rwm" not in rules
    assert "its control group allows (chapter 08):" in engine.output("inspect", "--security", "web")
    engine.run("rm", "-f", "web")
    start(engine, starter, "--privileged")
    words = engine.output("inspect", "--security", "web")
    assert "its control group allows all devices (chapter 08)" in words


def test_a_user_is_told_what_a_program_could_give(engine: Engine, starter: str) -> None:
    start(engine, starter, "--user", "app", "--cap-drop", "ALL", "--cap-add", "KILL")
    words = engine.output("inspect", "--security", "web")
    assert "it has none" in words
    assert "set-user-ID" in words and "CAP_KILL  send signals" in words


@pytest.mark.host
def test_templates_and_what_does_not_run(engine: Engine, starter: str) -> None:
    start(engine, starter)
    template = "{{.Capabilities.NoNewPrivileges}}"
    found = engine.output("container", "inspect", "--security", "--format", template, "web")
    assert found == "false"
    engine.run("rm", "--force", "web")
    engine.run("run", "--name", "web", starter, "true")
    done = engine.run("inspect", "--security", "web", check=False)
    assert done.returncode == 1 and "is not running" in done.stderr
    assert engine.run("inspect", "--security", "nobody", check=False).returncode == 1


def test_a_dev_that_is_a_link_out_of_the_container(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    """Names below the container's root are the container's, and it may have made them links."""
    start(engine, starter)
    pid = int(engine.output("inspect", "--format", "{{.State.Pid}}", "web"))
    directory = tmp_path / "root"
    directory.mkdir()
    (directory / "dev").symlink_to("/dev")
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    assert list(powers._nodes(root, "/dev", False)) == []
    os.close(root)
    assert pid


@pytest.mark.host
def test_the_deepest_mount_counts() -> None:
    rows = [
        "1 0 0:1 / / rw - overlay overlay rw",
        "2 1 0:2 / /proc rw,nodev - proc proc rw",
        "3 2 0:2 /sys /proc/sys ro - proc proc rw",
        "4 2 0:3 /null /proc/keys rw - tmpfs tmpfs rw",
        "5 1 0:4 /x\\040y /with\\040blank rw - ext4 /dev/sda ro",
    ]
    mounts = [powers._Mount(row) for row in rows]
    assert powers._covering(mounts, "/proc/sys/kernel").readonly
    assert powers._covering(mounts, "/proc/system").point == "/proc"
    assert powers._covering(mounts, "/proc/keys").kind == "tmpfs"
    assert powers._covering(mounts, "/etc").point == "/"
    odd = powers._covering(mounts, "/with blank/file")
    assert (odd.root, odd.readonly) == ("/x y", True)


@pytest.mark.host
def test_a_mapped_user_and_a_filter_in_words() -> None:
    found = {"Uid": 0, "Gid": 0, "Groups": [], "HostUid": 100000}
    assert list(security._user(found))[1] == "that is user 100000 of the host"
    assert list(security._seccomp({"Mode": "filter", "Filters": 2})) == [
        "those that 2 filters let through"
    ]

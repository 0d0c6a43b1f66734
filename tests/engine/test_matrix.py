"""Who a program is and what it may do, over a matrix of users, capabilities and no-new-privileges:
/proc/1/status as the kernel tells it, the same under runc with the same specification, and the
same under podman with the same command line.

Where podman differs on purpose it is written down here; docker (20.10.24, recorded by hand, as it
needs a daemon) does as we do in these places too.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minicontainer.engine import security, spec, users
from minicontainer.kernel import capabilities
from tests.runtime import bundle
from tests.support.engine import Engine

FIELDS = ("Uid", "Gid", "Groups", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,app\nusers:x:100:app\napp:x:1001:\n"

USERS: list[tuple[str, list[str]]] = [
    ("", []),
    ("app", []),
    ("app:users", ["wheel"]),
    ("1234", []),
    ("5:7", ["77", "users"]),
    ("0:5", []),
]
POWERS: list[tuple[list[str], list[str]]] = [
    ([], []),
    ([], ["ALL"]),
    (["kill", "CAP_NET_BIND_SERVICE"], ["all"]),
    (["NET_ADMIN"], ["CHOWN"]),
    (["ALL"], ["SYS_ADMIN"]),
]


def told(status: str) -> dict[str, str]:
    """The fields of a status file that tell who a process is, and what it may do."""
    rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {name: " ".join(rows[name].split()) for name in FIELDS}


@pytest.mark.root
@pytest.mark.tools("runc", "busybox")
@pytest.mark.parametrize("powers", POWERS, ids=str)
def test_as_under_runc(tmp_path: Path, rootfs: Path, powers: tuple[list[str], list[str]]) -> None:
    (rootfs / "etc" / "passwd").write_text(PASSWD)
    (rootfs / "etc" / "group").write_text(GROUP)
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    names = security.choose_capabilities(*powers)
    for (user, groups), locked in itertools.product(USERS, (False, True)):
        found = users.resolve(root, user, groups)
        bundle.write(
            tmp_path,
            rootfs,
            args=["cat", "/proc/1/status"],
            user=found.to_spec(),
            capabilities=spec.capability_sets(names, found.uid),
            noNewPrivileges=locked,
        )
        theirs = subprocess.run(
            ["runc", "run", "--bundle", tmp_path, f"matrix-{tmp_path.name}"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True,
        ).stdout  # fmt: skip
        code, ours = bundle.run(tmp_path)
        assert code == 0, ours
        assert told(ours) == told(theirs), (user, groups, powers, locked)
        assert told(ours)["NoNewPrivs"] == str(int(locked))
    os.close(root)


# ---------------------------------------------------------------------------------------- podman

CONFIGURATION = """
[containers]
default_ulimits=["nofile=1024:1024","nproc=1024:1024"]
[engine]
cgroup_manager="cgroupfs"
runtime="runc"
events_logger="file"
"""
Podman = Callable[..., str]


@pytest.fixture
def podman(tmp_path: Path, engine: Engine, starter: str) -> Iterator[Podman]:
    """podman with a store of the test's own, which has the starter image as `starter`."""
    home = tmp_path / "podman"
    home.mkdir()
    (home / "containers.conf").write_text(CONFIGURATION)
    (home / "storage.conf").write_text(
        f'[storage]\ndriver="vfs"\nrunroot="{home}/run"\ngraphroot="{home}/graph"\n'
    )
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            ["podman", *words], env=environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    (layer,) = [entry for entry in (engine.root / "layers").iterdir() if entry.is_dir()]
    archive = tmp_path / "layer.tar"
    subprocess.run(["tar", "--directory", layer, "--create", "--file", archive, "."], check=True)
    run("import", str(archive), "starter")
    yield run
    run("rm", "--all", "--force", "--time", "0")
    run("system", "reset", "--force")


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.tools("podman", "runc")
def test_as_under_podman(engine: Engine, starter: str, podman: Podman) -> None:
    choices = [
        [],
        ["--cap-drop", "ALL"],
        ["--cap-drop", "ALL", "--cap-add", "kill"],
        ["--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN"],
        ["--security-opt", "no-new-privileges"],
    ]
    who = [[], ["-u", "app"], ["-u", "1234"], ["-u", "5:7", "--group-add", "users"]]
    for user, options in itertools.product(who, choices):
        words = ["run", "--network", "none", *user, *options]
        # Not in the foreground: podman 4.3 may wait 20 seconds for one that ends at once.
        container = podman(*words, "--detach", "starter", "sleep", "1000").strip()
        pid = podman("inspect", "--format", "{{.State.Pid}}", container).strip()
        theirs = told(Path(f"/proc/{pid}/status").read_text())
        ours = told(engine.output(*words, "--rm", starter, "cat", "/proc/1/status"))
        if user and "--cap-add" in options:
            # What was added podman gives a user who is not root at once, and for ever (ambient).
            # Docker does not (moby, oci.SetCapabilities): only a program that carries it has it.
            added = capabilities.mask([options[options.index("--cap-add") + 1]])
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert (int(theirs.pop(name), 16), int(ours.pop(name), 16)) == (added, 0)
        # Docker lists a process' first group among the additional ones too, for those who test by
        # a group that they have dropped (CVE-2022-36109); podman does not.
        own = ours["Gid"].split()[0]
        theirs["Groups"], ours["Groups"] = (
            " ".join(group for group in found["Groups"].split() if group != own)
            for found in (theirs, ours)
        )
        assert ours == theirs, json.dumps([words, ours, theirs], indent=1)

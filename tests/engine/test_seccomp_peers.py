"""The same calls are refused with the same errno as by docker, and by podman with our profile.

A program makes every system call of x86-64 with arguments that do nothing (tests/kernel/probe), in
a container of each engine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.kernel import seccomp_default
from tests.bench import peers
from tests.kernel import bpf, probe
from tests.support.engine import Engine

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.needs("x86-64"),
    pytest.mark.tools("cc", "tar"),
]

# libseccomp 2.5 knows the calls up to 449; what is newer is ENOSYS for those who use it.
KNOWN = 449
# What docker 20.10 lets through and docker of today does not,
TIGHTENED = {
    "io_uring_setup", "io_uring_enter", "io_uring_register", "socket(0xc)", "socket(0x13)",
    "socket(0x26)", "socket(0x28)", "socket(0x2e)",
}  # fmt: skip
# and what it refused and docker of today lets through.
LOOSENED = {
    "name_to_handle_at", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_vm_readv",
    "process_vm_writev",
}  # fmt: skip
POWERS = {
    "plain": [],
    "admin": ["--cap-add", "SYS_ADMIN"],
    "tracer": ["--cap-add", "SYS_PTRACE"],
    "clock": ["--cap-add", "SYS_TIME"],
    "no chroot": ["--cap-drop", "SYS_CHROOT"],
    "user": ["--user", "1000"],
}


def image(directory: Path) -> Path:
    """An image of nothing but the probe, in the form that `import` takes."""
    (directory / "root").mkdir()
    probe.build(directory / "root" / "probe")
    subprocess.run(
        ["tar", "-C", directory / "root", "-cf", directory / "probe.tar", "."], check=True
    )
    return directory / "probe.tar"


def asked(peer: peers.Peer, *options: str) -> dict[str, int]:
    """What the probe finds in a container of another engine."""
    done = subprocess.run(
        [*peer.command, "run", "--rm", "--network", "none", *options, "probe", "/probe"],
        env={**os.environ, **peer.environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return probe.read(done.stdout)


def ours(engine: Engine, *options: str) -> dict[str, int]:
    return probe.read(
        engine.output("run", "--rm", "--network", "none", *options, "probe", "/probe")
    )


def different(one: dict[str, int], other: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The calls that one of them refuses (EPERM, ENOSYS) in another way than the other."""
    assert one.keys() == other.keys()
    numbers = bpf.TABLES["x86_64"]
    return {
        label: (one[label], other[label])
        for label in one
        if one[label] != other[label]
        and {one[label], other[label]} & {1, 38}
        and numbers[label.partition("(")[0]] <= KNOWN
    }


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    directory = tmp_path_factory.mktemp("docker")
    with peers.docker(directory / "daemon") as peer:
        assert peer is not None
        archive = image(directory)
        peer.run("import", archive, "probe")
        peer.run("save", "--output", directory / "saved.tar", "probe")
        peer.environment["SAVED"] = str(directory / "saved.tar")
        yield peer


@pytest.mark.needs("docker")
@pytest.mark.parametrize("powers", POWERS)
def test_docker_refuses_the_same(engine: Engine, docker: peers.Peer, powers: str) -> None:
    engine.run("load", "--input", docker.environment["SAVED"])
    theirs, own = asked(docker, *POWERS[powers]), ours(engine, *POWERS[powers])
    assert own["getppid"] == 0
    found = different(own, theirs)
    assert set(found) <= TIGHTENED | LOOSENED, found
    assert all(own[label] == 1 for label in set(found) & TIGHTENED), found


@pytest.mark.needs("docker")
@pytest.mark.parametrize("powers", POWERS)
def test_docker_makes_the_same_of_our_policy(
    engine: Engine, docker: peers.Peer, tmp_path: Path, powers: str
) -> None:
    """Its JSON, given to docker as a profile: what is refused is the same to the last call."""
    engine.run("load", "--input", docker.environment["SAVED"])
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(seccomp_default.profile()))
    theirs = asked(docker, "--security-opt", f"seccomp={file}", *POWERS[powers])
    given = ours(engine, "--security-opt", f"seccomp={file}", *POWERS[powers])
    own = ours(engine, *POWERS[powers])
    assert given == own
    assert different(own, theirs) == {}


@pytest.mark.tools("podman")
def test_podman_makes_the_same_of_our_policy(engine: Engine, tmp_path: Path) -> None:
    peer = peers.podman(tmp_path / "podman")
    assert peer is not None
    try:
        peer.run("import", image(tmp_path), "probe")
        peer.run("save", "--output", tmp_path / "saved.tar", "localhost/probe")
        engine.run("load", "--input", tmp_path / "saved.tar")
        engine.run("tag", "localhost/probe:latest", "probe")
        file = tmp_path / "ours.json"
        file.write_text(json.dumps(seccomp_default.profile()))
        theirs = asked(peer, "--security-opt", f"seccomp={file}")
        assert different(ours(engine), theirs) == {}
    finally:
        peer.run("system", "reset", "--force")

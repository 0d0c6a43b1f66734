"""What a start, an exec and a pull cost, here and there. Nothing is asserted about time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.bench import measure, peers
from tests.bench.conftest import Report
from tests.bench.peers import Peer
from tests.image import generate

pytestmark = [pytest.mark.root, pytest.mark.tools("runc", "busybox", "docker-registry", "skopeo")]


@pytest.fixture(scope="module")
def others(place: Path) -> Iterator[list[Peer]]:
    """The engines that are installed: podman, docker."""
    with peers.docker(place / "docker") as docker:
        yield [peer for peer in (peers.podman(place / "podman"), docker) if peer]


@pytest.fixture(scope="module")
def starters(others: list[Peer], engine_peer: Peer, registry: str, place: Path) -> dict[str, str]:
    """The starter image in every engine's store: its name, by engine."""
    image = f"{registry}/bench/starter:latest"
    layout = f"oci:{engine_peer.command[2]}/images:docker.io/library/starter:latest"
    peers.quiet("skopeo", "copy", "--dest-tls-verify=false", layout, f"docker://{image}")
    for peer in others:
        peer.pull(image)
    return {"minicontainer": "starter", **{peer.name: image for peer in others}}


def test_run_without_network(
    report: Report, engine_peer: Peer, others: list[Peer], starters: dict[str, str], place: Path
) -> None:
    bundle = peers.bundle(place / "bundle", engine_peer, "starter")
    words = ["run", "--rm", "--network", "none"]
    work: dict[str, Callable[[], None]] = {
        "minicontainer run": partial(engine_peer.run, *words, "starter", "true"),
        "runc run": partial(peers.quiet, "runc", "run", "--bundle", bundle, "bench"),
    }
    for peer in others:
        work[f"{peer.name} run"] = partial(peer.run, *words, starters[peer.name], "true")
    report.add(
        "run --rm --network none IMAGE true (warm)",
        measure.interleave(work, 20),
        **{"runc run": 1.0},
    )


@pytest.mark.tools("nft", "/usr/lib/podman/netavark")
def test_run_with_a_published_port(
    report: Report, engine_peer: Peer, others: list[Peer], starters: dict[str, str]
) -> None:
    """Docker's daemon has no bridge here: see peers.docker."""
    work: dict[str, Callable[[], None]] = {}
    for number, peer in enumerate((engine_peer, *others)):
        if peer.name != "docker":
            port = ["-p", f"{5001 + number}:5000"]
            image = starters[peer.name]
            work[f"{peer.name} run"] = partial(peer.run, "run", "--rm", *port, image, "true")
    try:
        times = measure.interleave(work, 20)
    finally:
        engine_peer.run("network", "prune", "--force")
        peers.forget_podmans_network()
    report.add("run --rm -p 5001:5000 IMAGE true (warm)", times, **{"podman run": 0.2})


def test_exec(
    report: Report, engine_peer: Peer, others: list[Peer], starters: dict[str, str]
) -> None:
    work = {}
    running = [engine_peer, *others]
    for peer in running:
        image = starters[peer.name]
        peer.run("run", "-d", "--name", "bench-exec", "--network", "none", image, "sleep", "1000")
        work[f"{peer.name} exec"] = partial(peer.run, "exec", "bench-exec", "true")
    try:
        times = measure.interleave(work, 20)
    finally:
        for peer in running:
            peer.run("rm", "-f", "bench-exec")
    report.add("exec CONTAINER true", times, **{"docker exec": 0.35})


def test_start_from_a_python_program(report: Report, engine_peer: Peer, place: Path) -> None:
    """All in a mount namespace without the cgroup v2 mount, where crun refuses to run."""
    bundle = peers.bundle(place / "inner", engine_peer, "starter")
    inner = Path(__file__).with_name("inner.py")
    script = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, inner, bundle],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report.add(
        "start of true from inside a Python program", json.loads(done.stdout), **{"crun run": 0.6}
    )


def test_pull(
    report: Report,
    engine_peer: Peer,
    others: list[Peer],
    registry: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    layout = tmp_path_factory.mktemp("generated")
    generate.image(layout)
    image = f"{registry}/bench/generated:latest"
    peers.quiet(
        "skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{image}"
    )
    everyone = [engine_peer, *others]
    times = measure.interleave(
        {f"{peer.name} pull": partial(peer.pull, image) for peer in everyone},
        3,
        {f"{peer.name} pull": partial(forget, peer, image) for peer in everyone},
    )
    title = "pull of 117 MB: 3 layers, 15,000 files, loopback registry"
    report.add(title, times, **{"podman pull": 0.5})


def forget(peer: Peer, image: str) -> None:
    listed = subprocess.run(
        [*peer.command, "images", "--quiet", image],
        env={**peers.os.environ, **peer.environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if listed.stdout.strip():
        peer.forget(image)

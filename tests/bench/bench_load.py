"""Ten thousand requests through a published port, here and there: how many in a second, none lost.

The client is ab(1), on this host; the server is the registry's, whose first page is empty, so that
the way there costs more than the answer.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.bench import peers
from tests.bench.conftest import Report
from tests.bench.peers import Peer
from tests.support.network import Outside

pytestmark = [
    pytest.mark.root,
    pytest.mark.tools("ab", "busybox", "docker-registry", "nft", "skopeo"),
]

REQUESTS, CLIENTS, ROUNDS = 10_000, 50, 3

SERVE = r"""
printf '{version: 0.1, log: {accesslog: {disabled: true}, level: error},
storage: {inmemory: {}}, http: {addr: ":5000"}}' >/tmp/settings
exec docker-registry serve /tmp/settings
"""


@pytest.fixture
def servers(engine_peer: Peer, registry: str, place: Path) -> Iterator[dict[str, int]]:
    """One in every engine: the published port, by engine."""
    engine_peer.run("image", "starter", "--add", "docker-registry", "server")
    image = f"{registry}/bench/server:latest"
    layout = f"oci:{engine_peer.command[2]}/images:docker.io/library/server:latest"
    peers.quiet("skopeo", "copy", "--dest-tls-verify=false", layout, f"docker://{image}")
    images = {engine_peer: "server"}
    if podman := peers.podman(place / "podman-load"):
        podman.pull(image)
        images[podman] = image
    ports = {}
    try:
        for number, (peer, name) in enumerate(images.items()):
            ports[peer.name] = 5001 + number
            words = ["run", "-d", "--name", "server", "-p", f"{5001 + number}:5000", name]
            peer.run(*words, "sh", "-c", SERVE)
            ready = "until wget -qO- http://127.0.0.1:5000/; do :; done"
            peer.run("exec", "server", "sh", "-c", ready)
        yield ports
    finally:
        for peer in images:
            peer.run("rm", "-f", "server")
        engine_peer.run("network", "prune", "--force")
        peers.forget_podmans_network()


def seconds(address: str, port: int, *options: str) -> float:
    """How long all requests take; AssertionError when one is lost."""
    words = ["ab", "-q", "-n", str(REQUESTS), "-c", str(CLIENTS), *options]
    done = subprocess.run(
        [*words, f"http://{address}:{port}/"], capture_output=True, text=True, check=False
    )
    said = dict(re.findall(r"^(.*?):\s+([\d.]+)", done.stdout, re.MULTILINE))
    assert said.get("Complete requests") == str(REQUESTS), done.stdout + done.stderr
    assert (said["Failed requests"], said.get("Non-2xx responses", "0")) == ("0", "0")
    return float(said["Time taken for tests"])


def test_requests(report: Report, outside: Outside, servers: dict[str, int]) -> None:
    """To this host's own address, which every engine has the kernel translate; and to loopback,
    which ours relays. Each request has a connection of its own, or the connections are kept."""
    for options, connections in (("", "a connection each"), ("-k", "connections that are kept")):
        for address, way in ((outside.host4, "the host's address"), ("127.0.0.1", "loopback")):
            times: dict[str, list[float]] = {name: [] for name in servers}
            for number in range(ROUNDS + 1):
                for name, port in servers.items():
                    took = seconds(address, port, *options.split())
                    if number:  # the first round warms up
                        times[name].append(took)
            report.add(f"{REQUESTS:,} requests to {way}, {connections}", times)
            rates = {name: REQUESTS / median(each) for name, each in times.items()}
            report.note(", ".join(f"{name}: {rate:,.0f} a second" for name, rate in rates.items()))

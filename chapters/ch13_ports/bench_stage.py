"""What chapter 13 costs: two runs of nft, which the kernel keeps waiting for the second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from minicontainer.network import bridge, firewall, nft

TAG = "bench13"
NETWORK = {
    "bridge": "bench13",
    "internal": False,
    "mtu": 1500,
    "subnets": [
        {"Subnet": "10.113.0.0/24", "Gateway": "10.113.0.1"},
        {"Subnet": "fd00:113::/64", "Gateway": "fd00:113::1"},
    ],
}


@pytest.mark.usefixtures("neighbour")
def test_start_ports(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program; the bridge is
    there already."""
    benchmark(start_once)


def test_rules(benchmark: BenchmarkFixture) -> None:
    """The rules of one container with one port: added, and removed."""
    endpoint = bridge.endpoint(NETWORK, "bench13-2", 2)
    port = {"proto": "tcp", "hostIp": "", "hostPort": 5002, "port": 5000,
            "address4": endpoint["address4"], "address6": endpoint["address6"]}  # fmt: skip
    nft.apply(firewall.ruleset(TAG, [NETWORK], [], []))

    def come_and_go() -> None:
        nft.apply(firewall.added(TAG, [endpoint], [port]))
        nft.apply(firewall.removed(TAG, [endpoint], [port]))

    benchmark(come_and_go)
    nft.apply(firewall.gone(TAG))

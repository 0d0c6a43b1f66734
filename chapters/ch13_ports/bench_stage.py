"""What chapter 13 costs: two runs of nft, which the kernel keeps waiting for the second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from chapters.ch13_ports import container
from minicontainer.network import firewall, nft

# Beside the stage's own, which may be there meanwhile.
TAG = "bench13"


@pytest.mark.usefixtures("neighbour")
def test_start_ports(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program; the bridge is
    there already."""
    benchmark(start_once)


def test_rules(benchmark: BenchmarkFixture) -> None:
    """The rules of one container with one port: added, and removed."""
    endpoint, port = container.lease(2)
    nft.apply(firewall.ruleset(TAG, [container.NETWORK], [], []))

    def come_and_go() -> None:
        nft.apply(firewall.added(TAG, [endpoint], [port]))
        nft.apply(firewall.removed(TAG, [endpoint], [port]))

    benchmark(come_and_go)
    nft.apply(firewall.gone(TAG))

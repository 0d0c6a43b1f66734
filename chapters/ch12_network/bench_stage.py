"""What chapter 12 costs: a namespace, a cable, addresses; and a bridge for the first of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from chapters.ch12_network import container
from minicontainer.network import bridge, links
from tests.support.netns import Namespace

# Beside the stage's own, which may be there meanwhile.
NETWORK = container.NETWORK | {"bridge": "bench12"}


@pytest.mark.usefixtures("neighbour")
def test_start_network(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program; the bridge is
    there already."""
    benchmark(start_once)


@pytest.fixture
def host() -> Iterator[links.Links]:
    """The links of the host."""
    found = links.Links()
    yield found
    found.close()


def test_create_bridge(benchmark: BenchmarkFixture, host: links.Links) -> None:
    """A bridge with two addresses; its removal, which takes longer, is not counted."""

    def remove() -> None:
        host.delete("bench12")

    benchmark.pedantic(bridge.create, (host, NETWORK), setup=remove, rounds=20)
    remove()


def test_plug(benchmark: BenchmarkFixture, host: links.Links) -> None:
    """A cable from a bridge into a namespace, with addresses and routes on its other end."""
    endpoint = bridge.endpoint(NETWORK, "bench12-2", 2)
    with Namespace() as inside:
        entry = os.open(f"/proc/{inside.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inner = inside.call(links.Links)
        bridge.create(host, NETWORK)

        def remove() -> None:
            host.delete("bench12-2")

        benchmark.pedantic(bridge.plug, (host, inner, entry, endpoint), setup=remove, rounds=50)
        host.delete("bench12")
        inner.close()
        os.close(entry)

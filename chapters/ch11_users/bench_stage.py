"""What chapter 11 costs: a namespace for the layers' owners, its tables, a device mounted each."""

from __future__ import annotations

import os
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from minicontainer.kernel import users


def test_start_users(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)


def test_open_namespace(benchmark: BenchmarkFixture) -> None:
    """A user namespace with nobody in it, for idmapped mounts."""
    rows = [(0, 100000, 65536)]
    benchmark(lambda: os.close(users.open_namespace(rows, rows)))

"""What chapter 08 costs: a cgroup made and removed, its limits, the device filter."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture


def test_start_cgroups(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)

"""What chapter 03 costs: a mount namespace, a bind mount, pivot_root."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture


def test_start_mounts(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)

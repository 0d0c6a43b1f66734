"""What chapter 05 costs: a PID namespace, and a /proc."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture


def test_start_processes(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)

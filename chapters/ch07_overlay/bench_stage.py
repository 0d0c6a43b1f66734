"""What chapter 07 costs: an overlay, and a directory for its writes."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture


def test_start_overlay(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)

"""What chapter 10 costs: choosing and compiling the filter, and the kernel's own work on it."""

from __future__ import annotations

import os
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from minicontainer.kernel import capabilities, seccomp_compiler, seccomp_default, seccomp_profile


def test_start_seccomp(benchmark: BenchmarkFixture, start_once: Callable[[], None]) -> None:
    """Start, run and end of the smallest program, from inside a lean Python program."""
    benchmark(start_once)


def test_compile(benchmark: BenchmarkFixture) -> None:
    """From the policy to a program: what the engine does once, and the stage at every start."""
    system = os.uname()
    names = [f"CAP_{name}" for name in capabilities.NAMES[:10]]

    def compile() -> None:
        chosen = seccomp_profile.select(
            seccomp_default.profile(), names, system.machine, system.release
        )
        assert chosen is not None
        seccomp_compiler.compile_filter(chosen)

    benchmark(compile)

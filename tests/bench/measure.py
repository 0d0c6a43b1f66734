"""Paired timings: each round does every piece of work once, so that noise falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleave(
    work: dict[str, Callable[[], None]],
    rounds: int,
    before: dict[str, Callable[[], None]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every round for every name. before: untimed preparation of a round."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, act in work.items():
            if before and name in before:
                before[name]()
            began = time.perf_counter()
            act()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    return times


def table(title: str, times: dict[str, list[float]], targets: dict[str, float]) -> list[str]:
    """Rows of text: minimum, median and maximum in ms, and our median as a part of theirs.

    targets: the ratio that the design asks for, by peer.
    """
    own = statistics.median(next(iter(times.values())))
    rows = [title, f"  {'':22}{'min':>9}{'median':>9}{'max':>9}   ours / theirs"]
    for number, (name, seconds) in enumerate(times.items()):
        middle = statistics.median(seconds)
        row = f"  {name:22}" + "".join(
            f"{value * 1000:9.1f}" for value in (min(seconds), middle, max(seconds))
        )
        if number:
            row += f"   {own / middle:.2f}"
        if name in targets:
            row += f"  (target: at most {targets[name]:.2f})"
        rows.append(row)
    return rows

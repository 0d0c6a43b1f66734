"""How long to wait for what should have ended long ago: the one place that knows of slow machines.

An emulated processor, as the VM has where there is no hypervisor, is 8 to 17 times slower. A limit
of time is there to end what hangs, not what is slow, so every one of them goes through here.
"""

from __future__ import annotations

import functools
import time

# What the loop below takes on an ordinary machine of today, in seconds of processor time.
ORDINARY = 0.015


@functools.cache
def slowness() -> float:
    """How many times slower than an ordinary machine this one is: from 1 to 30."""
    began = time.process_time()
    for _ in range(500_000):
        pass
    return min(30.0, max(1.0, (time.process_time() - began) / ORDINARY))


def seconds(ordinary: float) -> float:
    """The limit to set here, in seconds, for what takes at most `ordinary` seconds elsewhere."""
    return ordinary * slowness()

"""The attack of chapter 05: find a process of the host, kill it, and leave by way of it.

The program mounts /proc for itself, as root may. /proc/PID/root is a *magic link*: not a path
that is walked from our root, but a jump to the directory that is that process's root.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from chapters.ground import Ground
from minicontainer.kernel import process

NAME = "victim"
FIND = """
mkdir -p /proc
[ -e /proc/self ] || mount -t proc proc /proc
for directory in /proc/[0-9]*; do
    read -r name <$directory/comm && [ "$name" = victim ] && victim=$directory
done 2>&-
"""


def with_victim(attack: Callable[[Ground, process.Process], bool]) -> Callable[[Ground], bool]:
    """Give an attack a process of the host, which we started and nobody needs."""

    def attack_victim(ground: Ground) -> bool:
        ready_read, ready_write = os.pipe()

        def live() -> None:
            with open("/proc/self/comm", "w") as comm:
                comm.write(NAME)
            os.write(ready_write, b".")
            signal.pause()

        victim = process.spawn(live)
        try:
            os.read(ready_read, 1)
            return attack(ground, victim)
        finally:
            victim.signal(signal.SIGKILL)
            victim.wait()
            victim.close()
            os.close(ready_read)
            os.close(ready_write)

    attack_victim.__doc__ = attack.__doc__
    attack_victim.__name__ = attack.__name__
    return attack_victim


@with_victim
def see_a_process(ground: Ground, victim: process.Process) -> bool:
    """see a process of the host"""
    return f"/proc/{victim.pid}" in ground.run(FIND + 'echo "found: $victim"').split()


@with_victim
def kill_a_process(ground: Ground, victim: process.Process) -> bool:
    """kill a process of the host"""
    ground.run(FIND + '[ "$victim" ] && kill -TERM "${victim#/proc/}"')
    gone = os.waitid(os.P_PIDFD, victim.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return gone is not None and gone.si_status == signal.SIGTERM


@with_victim
def leave_through_a_process(ground: Ground, victim: process.Process) -> bool:
    """leave through a process of the host, and read a file"""
    secret = ground.file("secret", "the host's secret")
    found = ground.run(FIND + '[ "$victim" ] && cat "$victim/root$1"', secret)
    return "the host's secret" in found


ATTACKS = (see_a_process, kill_a_process, leave_through_a_process)

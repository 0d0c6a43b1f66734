"""The attack of chapter 07: leave a program behind, for the next container to run."""

from __future__ import annotations

from chapters.ground import Ground

LEAVE = """
echo "#!/bin/sh" >/bin/what-time
echo "echo this is not the time" >>/bin/what-time
chmod 755 /bin/what-time
"""


def poison_the_next(ground: Ground) -> bool:
    """leave a program that the next container runs"""
    ground.run(LEAVE)
    return "not the time" in ground.run("what-time")


def remove_for_the_next(ground: Ground) -> bool:
    """remove a file that the next container needs"""
    needed = ground.rootfs / "etc" / "passwd"
    assert needed.exists()
    ground.run("rm /etc/passwd")
    return not needed.exists()


ATTACKS = (poison_the_next, remove_for_the_next)

"""The attack of chapter 06: the raw disk, and the files that change the kernel for everybody.

The disk is opened for reading, and one sector is read and thrown away. /proc/sysrq-trigger, with
which one can crash the machine, is opened and not written. core_pattern (write `|program` to it
and the kernel runs the program, as the host's root, at the next crash) gets the value it has.
"""

from __future__ import annotations

import os
from pathlib import Path

from chapters.ground import Ground, Missing


def read_the_disk(ground: Ground) -> bool:
    """make a node for the host's disk, and read it past all file systems"""
    major, minor = find_disk()
    script = """
        for directory in /tmp /dev /dev/shm /run; do
            mkdir -p $directory
            rm -f $directory/disk
            mknod $directory/disk b "$1" "$2" &&
                dd if=$directory/disk of=/dev/null bs=512 count=1 && echo "read it"
        done
    """
    return "read it" in ground.run(script, str(major), str(minor))


def find_disk() -> tuple[int, int]:
    """The (major, minor) of a disk that can be opened here, or else of any block device (an unused
    loop device stands in where somebody guards the disks); Missing if there is none."""
    nodes = sorted(Path("/sys/class/block").iterdir(), key=lambda node: -size_of(node))
    for node in [Path("/dev") / node.name for node in nodes]:
        try:
            os.close(os.open(node, os.O_RDONLY))
        except OSError:
            continue
        number = node.stat().st_rdev
        return os.major(number), os.minor(number)
    raise Missing("this machine has no block device that can be opened")


def size_of(node: Path) -> int:
    """The size of a block device, in sectors."""
    return int((node / "size").read_text())


def change_core_pattern(ground: Ground) -> bool:
    """change what the host does when a program crashes"""
    script = """
        pattern=$(cat /proc/sys/kernel/core_pattern)
        echo "$pattern" >/proc/sys/kernel/core_pattern && echo "written"
    """
    return "written" in ground.run(script)


def open_sysrq_trigger(ground: Ground) -> bool:
    """reach the file that can crash or reboot the host"""
    if not os.path.exists("/proc/sysrq-trigger"):
        raise Missing("this kernel has no /proc/sysrq-trigger")
    # In a subshell: a special builtin whose redirection fails ends the shell.
    return "open" in ground.run("(: >>/proc/sysrq-trigger) && echo open")


ATTACKS = (read_the_disk, change_core_pattern, open_sysrq_trigger)

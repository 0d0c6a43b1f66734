"""The attack of chapter 08: take what others need, and reach what the host keeps for itself.

Every hog is bounded by the script itself: so much memory, so many processes, so many seconds, and
it ends. The disk is opened for reading. The release agent is a program that does nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from chapters import patience, stages
from chapters.ch06_devices.attack import find_disk
from chapters.ground import Ground, Missing
from minicontainer.kernel import resources

MIB = 1 << 20
HOG, SEVERAL = 160, 200
# MiB, and MiB a second: twice what the stage allows. Any disk is faster.
READ, FAST = 32, 16


def hog_memory(ground: Ground) -> bool:
    """take 160 MiB of memory"""
    script = 'dd if=/dev/zero of=/dev/null bs="$1"M count=1 && echo "has it"'
    return "has it" in ground.run(script, str(HOG), may_die=True)


def hog_memory_by_files(ground: Ground) -> bool:
    """take 160 MiB of memory by writing files that are nowhere else"""
    script = """
        mkdir -p /mnt && mount -t tmpfs -o size=1g hog /mnt && cd /mnt || cd /dev/shm
        dd if=/dev/zero of=file bs=1M count="$1" && echo "has it"
    """
    return "has it" in ground.run(script, str(HOG), may_die=True)


def hog_the_cache(ground: Ground) -> bool:
    """fill the host's page cache, by reading 160 MiB of files"""
    file = ground.rootfs / "big"
    with open(file, "wb") as made:
        made.truncate(HOG * MIB)
    if cached(file):
        raise Missing("this file system has no page cache to be filled")
    ground.run("cat /big >/dev/null", may_die=True)
    return cached(file) > HOG * MIB * 3 // 4


def cached(file: Path) -> int:
    """How many bytes of a file are in memory (mincore(2))."""
    size = file.stat().st_size
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), size) as pages:
        told = ctypes.create_string_buffer(size // mmap.PAGESIZE)
        view = ctypes.c_char.from_buffer(pages)
        mincore = ctypes.CDLL(None).mincore
        mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), told)
        del view
        return sum(byte & 1 for byte in told.raw) * mmap.PAGESIZE


def hog_processes(ground: Ground) -> bool:
    """start 200 processes: a fork bomb with a short fuse"""
    script = """
        (i=0; while [ $i -lt "$1" ]; do sleep 100 & i=$((i + 1)); echo started; done)
    """
    return ground.run(script, str(SEVERAL), may_die=True).count("started") == SEVERAL


def hog_the_processor(ground: Ground) -> bool:
    """leave a busy neighbour a tenth of the processor"""
    allowed = os.sched_getaffinity(0)
    # All on one processor, so that it does not matter how many the machine has.
    os.sched_setaffinity(0, {min(allowed)})
    diary = ground.file("diary", "")
    try:
        with open(diary, "w") as written:
            neighbour = subprocess.Popen([sys.executable, "-S", "-c", NEIGHBOUR], stdout=written)
        try:
            script = """
                for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & pids="$pids $!"; done
                read began rest </proc/uptime
                sleep "$1"
                read ended rest </proc/uptime
                kill $pids; wait; times
                echo $began $ended
            """
            told = ground.run(script, str(round(min(10, patience.seconds(2))))).split()
        finally:
            stages.kill_tree(neighbour.pid)
            neighbour.wait()
    finally:
        os.sched_setaffinity(0, allowed)
    began, ended = map(float, told[-2:])
    rows = [list(map(float, line.split())) for line in diary.read_text().splitlines()[:-1]]
    inside = [used for moment, used in rows if began <= moment <= ended]
    left = inside[-1] - inside[0] if inside else 0
    taken = sum(map(seconds, told[-4:-2]))
    return left < taken / 3


# A busy process that writes down when it had had how much of the processor.
NEIGHBOUR = """
import time
while True:
    print(time.clock_gettime(time.CLOCK_BOOTTIME), time.process_time(), flush=True)
    for _ in range(10_000): pass
"""


def seconds(text: str) -> float:
    """What the shell's `times` prints: `0m1.23s`."""
    minutes, _, rest = text.rstrip("s").partition("m")
    return int(minutes) * 60 + float(rest)


def hog_the_disk(ground: Ground) -> bool:
    """read 32 MiB past the cache, faster than 16 MiB a second: the disk is for nobody else then"""
    if not resources.throttle(str(ground.rootfs), 1):
        raise Missing("the files lie on no disk that can be limited")
    file = ground.rootfs / "big"
    file.write_bytes(os.urandom(MIB) * READ)
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        raise Missing("this file system has no reads past the cache") from None
    script = """
        read began rest </proc/uptime
        dd if=/big of=/dev/null bs=1M iflag=direct && echo "has it"
        read ended rest </proc/uptime
        echo $began $ended
    """
    told = ground.run(script)
    if "has it" not in told:
        raise Missing("this dd does not read past the cache")
    began, ended = map(float, told.split()[-2:])
    return ended - began < READ / FAST


def read_the_disk(ground: Ground) -> bool:
    """make a node for the host's disk, on a file system of one's own, and read it"""
    major, minor = find_disk()
    script = """
        mkdir -p /mnt && mount -t tmpfs mine /mnt
        for directory in /mnt /tmp /dev/shm; do
            mknod $directory/disk b "$1" "$2" &&
                dd if=$directory/disk of=/dev/null bs=512 count=1 && echo "read it"
        done
    """
    return "read it" in ground.run(script, str(major), str(minor))


def name_a_release_agent(ground: Ground) -> bool:
    """name the program that the kernel runs, as the host's root, when a cgroup gets empty"""
    with tempfile.TemporaryDirectory(dir=ground.directory) as directory:
        name = f"name=attack-{os.path.basename(directory).lower()}"
        script = """
            mkdir -p /mnt/groups && mount -t cgroup -o "none,$1" groups /mnt/groups &&
                echo /bin/true >/mnt/groups/release_agent && cat /mnt/groups/release_agent
        """
        return "/bin/true" in ground.run(script, name)


ATTACKS = (
    hog_memory,
    hog_memory_by_files,
    hog_the_cache,
    hog_processes,
    hog_the_processor,
    hog_the_disk,
    read_the_disk,
    name_a_release_agent,
)

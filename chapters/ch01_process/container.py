"""Chapter 01: a process. The program is our child; it gets what we give it, and no more.

Run it: sudo python3 -m chapters.ch01_process.container ROOTFS COMMAND [ARGUMENT…]

ROOTFS is taken, so that every stage is called alike, and not used before chapter 02.
"""

from __future__ import annotations

import sys

from chapters import command_line
from minicontainer.kernel import flags, process, syscalls

# Not os.environ: what is in ours (keys, tokens, proxies) is not the program's business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
}


def run(rootfs: str, command: list[str]) -> int:
    """Run the command; its exit code, or 128 + n when signal n killed it."""

    def child() -> None:
        # A descriptor that is open here would stay open in the program, whatever it leads to.
        syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
        process.execute(command, ENVIRONMENT)

    return process.run(child)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

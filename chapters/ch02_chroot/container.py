"""Chapter 02: a root directory. The program's `/` is ROOTFS, and the host's files have no path.

Run it: sudo python3 -m chapters.ch02_chroot.container ROOTFS COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import sys

from chapters import command_line
from minicontainer.kernel import chroot, flags, process, syscalls

# Not os.environ: what is in ours (keys, tokens, proxies) is not the program's business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
}


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system; its exit code, or 128 + n after signal n."""

    def child() -> None:
        chroot.chroot(rootfs)

        # A descriptor that is open here would stay open in the program, whatever it leads to.
        syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
        process.execute(command, ENVIRONMENT)

    return process.run(child)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

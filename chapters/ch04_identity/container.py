"""Chapter 04: an identity. A host name, shared memory and message queues of the program's own.

Run it: sudo python3 -m chapters.ch04_identity.container ROOTFS COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import sys

from chapters import command_line
from minicontainer.kernel import flags, mounts, namespaces, process, syscalls

# Not os.environ: what is in ours (keys, tokens, proxies) is not the program's business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
}
NAMESPACES = namespaces.bits(["mount", "uts", "ipc"])


def run(rootfs: str, command: list[str]) -> int:
    """Run the command in the root file system; its exit code, or 128 + n after signal n."""

    def child() -> None:
        # Our mount namespace began as a copy of the host's, and may still share with it.
        mounts.make_private()
        # pivot_root takes a mount point, and ROOTFS is a directory: mount it on itself.
        tree = mounts.clone(rootfs, ["rbind"])
        root = mounts.attach_root(tree, rootfs)
        mounts.pivot_root(root)

        # The UTS namespace too began as a copy: without a name of its own it has the host's.
        namespaces.set_hostname("container")

        # A descriptor that is open here would stay open in the program, whatever it leads to.
        syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
        process.execute(command, ENVIRONMENT)

    return process.run(child, NAMESPACES)


if __name__ == "__main__":
    sys.exit(command_line.main(run))

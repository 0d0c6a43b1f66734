"""The kernel's numbers, under the kernel's names (include/uapi/linux/*.h).

Where two architectures differ the number is chosen here; x86-64 and aarch64 are known. System
calls from 424 on have the same number everywhere.
"""

from __future__ import annotations

import os

CHAPTER = 1

_ARM = os.uname().machine == "aarch64"

# <asm/unistd.h>
NR_pivot_root = 41 if _ARM else 155
NR_keyctl = 219 if _ARM else 250
NR_bpf = 280 if _ARM else 321
NR_seccomp = 277 if _ARM else 317
NR_open_tree, NR_move_mount, NR_fsopen, NR_fsconfig, NR_fsmount = 428, 429, 430, 431, 432
NR_clone3, NR_close_range, NR_openat2, NR_pidfd_getfd = 435, 436, 437, 438
NR_mount_setattr = 442

# <linux/mount.h>, mount(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS = 1, 2, 4, 8, 16
MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW = 32, 64, 128, 256
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_MOVE, MS_REC = 1024, 2048, 4096, 8192, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25

# umount2(2)
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8

# The new mount interface: fsopen(2), fsmount(2), move_mount(2), open_tree(2), mount_setattr(2)
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6
MOVE_MOUNT_F_SYMLINKS, MOVE_MOUNT_F_AUTOMOUNTS, MOVE_MOUNT_F_EMPTY_PATH = 1, 2, 4
MOVE_MOUNT_T_SYMLINKS, MOVE_MOUNT_T_AUTOMOUNTS, MOVE_MOUNT_T_EMPTY_PATH = 0x10, 0x20, 0x40
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME = 0x10, 0x20, 0x70
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000

# <linux/fcntl.h>: the *at() family
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR = -100, 0x100, 0x200
AT_NO_AUTOMOUNT, AT_EMPTY_PATH, AT_RECURSIVE = 0x800, 0x1000, 0x8000

# open(2), openat2(2)
O_WRONLY, O_RDWR, O_CREAT, O_EXCL = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_EXCL
O_NOCTTY, O_TRUNC, O_NONBLOCK = os.O_NOCTTY, os.O_TRUNC, os.O_NONBLOCK
O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC, O_PATH = os.O_DIRECTORY, os.O_NOFOLLOW, os.O_CLOEXEC, os.O_PATH
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 1, 2, 4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 8, 16

# <linux/sched.h>: clone3(2), unshare(2), setns(2)
CLONE_NEWTIME, CLONE_FILES, CLONE_PIDFD, CLONE_NEWNS = 0x80, 0x400, 0x1000, 0x20000
CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# prctl(2)
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_GET_KEEPCAPS, PR_SET_KEEPCAPS = 1, 3, 4, 7, 8
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 23, 24, 36
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 39, 47

# <linux/seccomp.h>: seccomp(2)
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 2, 4
SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP = 0x80000000, 0, 0x30000
SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE = 0x50000, 0x7FF00000
SECCOMP_RET_LOG, SECCOMP_RET_ALLOW = 0x7FFC0000, 0x7FFF0000

# keyctl(2)
KEYCTL_GET_KEYRING_ID, KEYCTL_JOIN_SESSION_KEYRING = 0, 1

# close_range(2)
CLOSE_RANGE_CLOEXEC = 4


def decode(prefixes: str, value: int) -> str:
    """Name the bits of a flag word: `decode("MS_", 6)` is `MS_NOSUID|MS_NODEV`.

    prefixes: names that may appear, separated by blanks; bits without a name are shown in hex.
    """
    names = []
    for prefix in prefixes.split():
        for name, bit in globals().items():
            if name.startswith(prefix) and bit and bit.bit_count() == 1 and value & bit:
                names.append(name)
                value &= ~bit
    if value or not names:
        names.append(hex(value) if value else "0")
    return "|".join(names)


def name_of(prefix: str, value: int) -> str:
    """Name one value of a list: `name_of("PR_", 38)` is `PR_SET_NO_NEW_PRIVS`."""
    for name, number in globals().items():
        if name.startswith(prefix) and number == value:
            return name
    return str(value)

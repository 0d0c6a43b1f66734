"""Capabilities: root's power, cut into pieces that can be given up one by one (capabilities(7)).

A process has five sets of them, and each has its question. Effective: what may I do now?
Permitted: what may I make effective? Inheritable and ambient: what do I keep when I execute a
program? Bounding: what can I, and all that I ever execute, gain at the most?
"""

from __future__ import annotations

from errno import EINVAL

from ..errors import EngineError
from . import flags, syscalls

CHAPTER = 9

# <linux/capability.h>, in the order of their numbers: the name, and what it lets a process do.
POWERS = {
    "CHOWN": "give any file to any user and group",
    "DAC_OVERRIDE": "read, write and enter whatever the mode bits say",
    "DAC_READ_SEARCH": "read any file, and open files by their inode, past all directories",
    "FOWNER": "change the mode and times of files of others",
    "FSETID": "keep set-user-ID bits on files that it writes",
    "KILL": "send signals to processes of others",
    "SETGID": "take any group",
    "SETUID": "become any user",
    "SETPCAP": "drop from the bounding set, and add to the inheritable one",
    "LINUX_IMMUTABLE": "change files that are marked immutable",
    "NET_BIND_SERVICE": "listen on ports below 1024",
    "NET_BROADCAST": "nothing: it is not used",
    "NET_ADMIN": "set up adapters, addresses, routes and firewalls of its network",
    "NET_RAW": "make any packet, and read all that pass in its network",
    "IPC_LOCK": "keep memory from being swapped out",
    "IPC_OWNER": "use System V objects of others",
    "SYS_MODULE": "load code into the kernel",
    "SYS_RAWIO": "reach ports and memory of the hardware",
    "SYS_CHROOT": "change the root directory, and join mount namespaces",
    "SYS_PTRACE": "read and change any process that it sees",
    "SYS_PACCT": "switch process accounting",
    "SYS_ADMIN": "mount, make and join namespaces, and a hundred other things",
    "SYS_BOOT": "restart the machine, and load another kernel",
    "SYS_NICE": "take more of the processors than others",
    "SYS_RESOURCE": "go beyond limits and quotas",
    "SYS_TIME": "set the machine's clock",
    "SYS_TTY_CONFIG": "hang up terminals",
    "MKNOD": "make device files",
    "LEASE": "be told, and hold others up, when a file is opened",
    "AUDIT_WRITE": "write to the kernel's audit log",
    "AUDIT_CONTROL": "change what the kernel audits",
    "SETFCAP": "give capabilities to files",
    "MAC_OVERRIDE": "pass by the Smack security module",
    "MAC_ADMIN": "set up the Smack security module",
    "SYSLOG": "read the kernel's log and its addresses",
    "WAKE_ALARM": "wake the machine up",
    "BLOCK_SUSPEND": "keep the machine awake",
    "AUDIT_READ": "read the kernel's audit log",
    "PERFMON": "measure, and so observe, all processes",
    "BPF": "load programs into the kernel's virtual machine",
    "CHECKPOINT_RESTORE": "set process numbers, and look into other processes' files",
}
NAMES = list(POWERS)

# What root of a container keeps: docker's list (moby, oci/caps/defaults.go). MKNOD is safe
# only behind the device filter of chapter 08, and is left out where there is none.
DEFAULT = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID "
    "CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL "
    "CAP_AUDIT_WRITE"
).split()

_capset = syscalls.Call("capset", syscalls.STRUCT, syscalls.STRUCT)
_VERSION_3 = 0x20080522
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4


def mask(names: list[str]) -> int:
    """The bit mask of a list of names (`CAP_CHOWN` or `CHOWN`); EngineError for an unknown one."""
    bits = 0
    for name in names:
        try:
            bits |= 1 << NAMES.index(name.upper().removeprefix("CAP_"))
        except ValueError:
            raise EngineError(f"unknown capability {name!r}") from None
    return bits


def words(bits: int) -> list[str]:
    """The names in a mask, as `CAP_CHOWN`."""
    return [f"CAP_{name}" for number, name in enumerate(NAMES) if bits >> number & 1]


def drop_bounding(keep: int) -> None:
    """Give up, for this process and all it will ever execute, what is not in `keep`.

    The bounding set limits what a set-user-ID root or file-capability program can gain. Without
    this, dropping all other sets is no loss to root: the next execve(2) gives them back.
    """
    for number in range(64):
        if not keep >> number & 1:
            try:
                syscalls.prctl(flags.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == EINVAL:
                    return  # this kernel has no capability of that number, nor any above
                raise


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three masks of the calling process (capset(2)).

    It can give up, never gain: what is permitted must be permitted now, what is effective must be
    permitted then, and what is inheritable must be permitted or bounding. PermissionError if not.
    """
    header = syscalls.Packed.of("Ii", lambda: "{version=3, pid=0}", _VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = syscalls.Packed.of(
        "6I",
        lambda: (
            f"{{effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x}}}"
        ),
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    _capset(header, data)


def set_ambient(bits: int) -> None:
    """Set the capabilities that a program without privileges of its own keeps across exec.

    Each must be permitted and inheritable already, or the kernel refuses it.
    """
    syscalls.prctl(flags.PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            syscalls.prctl(flags.PR_CAP_AMBIENT, _AMBIENT_RAISE, number)


def set_no_new_privileges() -> None:
    """Never again gain powers by executing a set-user-ID or file-capability program; for this
    process and all its children (PR_SET_NO_NEW_PRIVS)."""
    syscalls.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)


def read(pid: int | str = "self") -> dict[str, int]:
    """The five masks of a process: CapInh, CapPrm, CapEff, CapBnd, CapAmb (proc(5)).

    pid: a number as this /proc knows it; FileNotFoundError when there is no such process.
    """
    masks = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("Cap"):
                name, _, value = line.partition(":")
                masks[name] = int(value, 16)
    return masks

"""Capabilities: root's power, cut into pieces that can be given up one by one (capabilities(7))."""

from __future__ import annotations

from errno import EINVAL

from ..errors import EngineError
from . import flags, syscalls

CHAPTER = 9

# <linux/capability.h>, in the order of their numbers.
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
    "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
    "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
    "CHECKPOINT_RESTORE"
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

    The bounding set limits what a set-user-ID root or file-capability program can gain.
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
    """Set the three masks of the calling process (capset(2))."""
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
    """The five masks of a process: CapInh, CapPrm, CapEff, CapBnd, CapAmb (proc(5))."""
    masks = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("Cap"):
                name, _, value = line.partition(":")
                masks[name] = int(value, 16)
    return masks

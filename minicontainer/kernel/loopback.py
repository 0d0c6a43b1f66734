"""The loopback interface of a new network namespace: it is there from birth, and down."""

from __future__ import annotations

import fcntl
import os
import struct

from . import syscalls

CHAPTER = 12

_AF_INET, _SOCK_DGRAM = 2, 2
_socket = syscalls.Call(
    "socket",
    syscalls.Kind(syscalls.INT.ctype, {_AF_INET: "AF_INET"}.__getitem__),
    syscalls.Kind(
        syscalls.INT.ctype, {_SOCK_DGRAM | os.O_CLOEXEC: "SOCK_DGRAM|SOCK_CLOEXEC"}.__getitem__
    ),
    syscalls.INT,
)

# <linux/sockios.h>, <linux/if.h>
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class Command(int):
    """SIOCSIFFLAGS, which the trace shows by its name."""

    def __str__(self) -> str:
        return "SIOCSIFFLAGS"


class Request(bytearray):
    """A `struct ifreq`, which the trace shows in words."""

    def __str__(self) -> str:
        return '{"lo", IFF_UP}'


def bring_up() -> None:
    """Bring up `lo` of the caller's network namespace; the kernel then gives it 127.0.0.1 and
    ::1 (netdevice(7)). Any program that serves itself over 127.0.0.1 needs it."""
    request = struct.Struct("16sh22x")
    socket = _socket(_AF_INET, _SOCK_DGRAM | os.O_CLOEXEC, 0)
    try:
        found = fcntl.ioctl(socket, _SIOCGIFFLAGS, request.pack(b"lo", 0))
        name, flags = request.unpack(found)
        wanted = Request(request.pack(name, flags | _IFF_UP))
        syscalls.through("ioctl", fcntl.ioctl, socket, Command(_SIOCSIFFLAGS), wanted)
    finally:
        os.close(socket)

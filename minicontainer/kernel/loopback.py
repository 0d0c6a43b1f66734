"""The loopback interface of a new network namespace: it is there from birth, and down."""

from __future__ import annotations

import fcntl
import os
import struct

from . import syscalls

CHAPTER = 12

_socket = syscalls.Call("socket", syscalls.INT, syscalls.INT, syscalls.INT)
_AF_INET, _SOCK_DGRAM = 2, 2

# <linux/sockios.h>, <linux/if.h>
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def bring_up() -> None:
    """Bring up `lo` of the caller's network namespace; the kernel then gives it 127.0.0.1 and
    ::1 (netdevice(7)). Any program that serves itself over 127.0.0.1 needs it."""
    request = struct.Struct("16sh22x")
    socket = _socket(_AF_INET, _SOCK_DGRAM | os.O_CLOEXEC, 0)
    try:
        found = fcntl.ioctl(socket, _SIOCGIFFLAGS, request.pack(b"lo", 0))
        name, flags = request.unpack(found)
        wanted = request.pack(name, flags | _IFF_UP)
        syscalls.through("ioctl", fcntl.ioctl, socket, _SIOCSIFFLAGS, wanted)
    finally:
        os.close(socket)

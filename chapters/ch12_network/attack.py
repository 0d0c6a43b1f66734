"""The attack of chapter 12: no file, no process, no power. There is a socket, and one calls.

Eleven chapters are about what one machine has in it. The network is what connects machines, and the
host's is still the container's: its addresses, its ports, its loopback, which programs take for the
one place where only friends can be, and the sockets whose names lie in no file system.
"""

from __future__ import annotations

import os
import socket
import subprocess

from chapters import patience
from chapters.ch10_seccomp.attack import LAST, NUMBERS, Program
from chapters.ground import Ground
from chapters.stages import CLONE

# <asm/unistd.h>: x86-64, aarch64
NUMBERS |= {"read": (0, 63), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201)}
LOCALHOST = "127.0.0.1"


def call_the_loopback(ground: Ground) -> bool:
    """call a service that the host keeps to itself, on 127.0.0.1"""
    with socket.create_server((LOCALHOST, 0)) as service:
        return is_called(ground, service, inet(service.getsockname()[1]))


def call_the_nameless(ground: Ground) -> bool:
    """call a service of the host on a socket that lies in no directory (unix(7), abstract)"""
    name = f"\0chapter-12-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(name)
        service.listen()
        return is_called(ground, service, socket.AF_UNIX.to_bytes(2, "little") + name.encode())


def see_whom_it_talks_with(ground: Ground) -> bool:
    """read with whom the programs of the host are connected"""
    with socket.create_server((LOCALHOST, 0)) as service:
        port = service.getsockname()[1]
        with socket.create_connection((LOCALHOST, port)):
            return f":{port:04X}" in ground.run("cat /proc/net/tcp")


def take_its_place(ground: Ground) -> bool:
    """take a port of the host's, so that its users come to us"""
    with socket.create_server((LOCALHOST, 0)) as service:
        port = service.getsockname()[1]  # nobody's, as soon as we have let go of it
    taker = Program()
    address, buffer = taker.data(inet(port)), taker.data(b"ready")
    taker.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    # Descriptor 3: the three standard ones are open, and no other.
    taker.call("bind", 3, address, 16)
    taker.call("listen", 3, 8)
    taker.call("write", 1, buffer, 5)
    taker.call("read", 0, buffer, 1)
    taker.call("exit_group", 0)
    taker.write(ground.rootfs / "bin" / "taker")
    ground.told += ["$ taker"]
    with subprocess.Popen(
        ground.stage.command(ground.rootfs, "taker"),
        cwd=CLONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        if program.stdout.read(5) != b"ready":
            raise RuntimeError("the attack could not be made: the taker did not start")
        try:
            socket.create_connection((LOCALHOST, port), patience.seconds(10)).close()
            return True
        except ConnectionRefusedError:
            return False
        finally:
            program.communicate()  # closes its input, which ends it


def is_called(ground: Ground, service: socket.socket, address: bytes) -> bool:
    """Whether a program in the container gets through to a service that listens."""
    caller = Program()
    place = caller.data(address)
    caller.call("socket", service.family, socket.SOCK_STREAM, 0)
    caller.call("connect", LAST, place, len(address))
    caller.call("exit_group", 0)
    caller.write(ground.rootfs / "bin" / "caller")
    ground.run("caller")
    service.setblocking(False)
    try:
        service.accept()[0].close()
        return True
    except BlockingIOError:
        return False


def inet(port: int) -> bytes:
    """The `struct sockaddr_in` of a port on 127.0.0.1; ip(7)."""
    family = socket.AF_INET.to_bytes(2, "little")
    return family + port.to_bytes(2, "big") + socket.inet_aton(LOCALHOST) + bytes(8)


ATTACKS = (call_the_loopback, call_the_nameless, see_whom_it_talks_with, take_its_place)

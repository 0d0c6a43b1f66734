"""The attack of chapter 12: no file, no process, no power. There is a socket, and one calls.

Eleven chapters are about what one machine has in it. The network is what connects machines, and the
host's is still the container's: its addresses, its ports, its loopback, which programs take for the
one place where only friends can be, and the sockets whose names lie in no file system.
"""

from __future__ import annotations

import os
import socket

from chapters import patience
from chapters.ch10_seccomp.attack import LAST, NUMBERS, Program
from chapters.ground import Ground

# <asm/unistd.h>: x86-64, aarch64
NUMBERS |= {"read": (0, 63), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201)}
LOCALHOST = "127.0.0.1"


def call_the_loopback(ground: Ground) -> bool:
    """call a service that the host keeps to itself, on 127.0.0.1"""
    with socket.create_server((LOCALHOST, 0)) as service:
        return is_called(ground, service, inet(*service.getsockname()))


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
    listener(inet(LOCALHOST, port)).write(ground.rootfs / "bin" / "taker")
    with ground.running("taker"):
        try:
            socket.create_connection((LOCALHOST, port), patience.seconds(10)).close()
            return True
        except ConnectionRefusedError:
            return False


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


def listener(address: bytes) -> Program:
    """A program that listens, says so, and lives until its input ends."""
    program = Program()
    place = program.data(address)
    program.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    # Descriptor 3: the three standard ones are open, and no other.
    program.call("bind", 3, place, len(address))
    program.call("listen", 3, 8)
    wait(program)
    return program


def wait(program: Program) -> None:
    """What a program of `Ground.running` does at its end."""
    word = program.data(b"ready")
    program.call("write", 1, word, 5)
    program.call("read", 0, word, 1)
    program.call("exit_group", 0)


def inet(address: str, port: int) -> bytes:
    """The `struct sockaddr_in` of a port; ip(7)."""
    family = socket.AF_INET.to_bytes(2, "little")
    return family + port.to_bytes(2, "big") + socket.inet_aton(address) + bytes(8)


ATTACKS = (call_the_loopback, call_the_nameless, see_whom_it_talks_with, take_its_place)

"""Where a container's name server listens: 127.0.0.11, port 53, in the container's own network.

But a container may be a name server itself, and its 0.0.0.0:53 would collide with ours. So ours is
another port, any that is free, and a rule in the container's network leads there what is sent to
127.0.0.11:53 (docker does the same with iptables). Without nft it is port 53 itself.
"""

from __future__ import annotations

import _socket

from ..kernel import loopback
from .names import RESOLVER

CHAPTER = 13

PORT = 53
BACKLOG = 16


def open_sockets(port: int = 0) -> tuple[_socket.socket, _socket.socket]:
    """The two sockets, UDP and TCP, on one port of 127.0.0.11, in the caller's network namespace;
    OSError when the port is taken. port: 0 for any.

    `lo` is brought up first. In a namespace that has no address yet, bind(2) takes every address
    for a broadcast one, and what is sent from the socket later comes from 127.0.0.1.
    """
    loopback.bring_up()
    datagrams = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        for socket in (listener, datagrams):
            socket.bind((RESOLVER, port))
            port = socket.getsockname()[1]
        listener.listen(BACKLOG)
    except BaseException:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener


def redirect(port: int) -> str:
    """The rules, for `nft -f -` in the container's network, that lead port 53 to another; applied
    twice they are there once."""
    return (
        "table ip minicontainer\n"
        "flush table ip minicontainer\n"
        "table ip minicontainer {\n"
        "  chain names {\n"
        "    type nat hook output priority -100\n"
        f"    ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport {PORT}"
        f" dnat to {RESOLVER}:{port}\n"
        "  }\n"
        "}\n"
    )

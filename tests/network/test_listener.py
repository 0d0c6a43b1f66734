"""The sockets at 127.0.0.11, in the network of the test run, which is nobody else's."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from chapters import patience
from minicontainer.network import listener

pytestmark = pytest.mark.root
PLACE = (listener.RESOLVER, listener.PORT)


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a listener whose two sockets say back what they hear, once each."""
    datagrams, streams = listener.open_sockets()
    try:
        assert datagrams.getsockname() == streams.getsockname()
        yield datagrams.getsockname()[1]
    finally:
        datagrams.close()
        streams.close()


def test_both_are_on_one_port_and_nobody_gets_it_from_outside(port: int) -> None:
    assert port != listener.PORT
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    socket.create_connection((listener.RESOLVER, port)).close()


def test_a_port_that_is_taken_is_told(port: int) -> None:
    with pytest.raises(OSError) as taken:
        listener.open_sockets(port)
    assert taken.value.errno == errno.EADDRINUSE


def test_answers_come_from_its_address_though_lo_was_down() -> None:
    """The container's own first process brings `lo` up too, at a moment that nobody knows."""
    script = (
        "import socket; from minicontainer.network import listener\n"
        "server, _ = listener.open_sockets(53)\n"
        "client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "client.connect((listener.RESOLVER, 53)); client.send(b'question')\n"
        "server.sendto(*server.recvfrom(100))\n"
        f"client.settimeout({patience.seconds(20)}); assert client.recv(100) == b'question'\n"
    )
    subprocess.run(["unshare", "--net", "/usr/bin/python3", "-c", script], check=True)


@pytest.mark.tools("nft")
def test_port_53_leads_to_it_and_stays_free_for_a_name_server_of_the_containers() -> None:
    datagrams, streams = listener.open_sockets()
    rules = listener.redirect(datagrams.getsockname()[1])
    wait = patience.seconds(20)
    try:
        for _ in range(2):
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
        assert listed.count(b"dnat") == 1
        with (
            socket.create_server(("0.0.0.0", listener.PORT)) as other,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other_datagrams,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker,
        ):
            other_datagrams.bind(("0.0.0.0", listener.PORT))
            asker.settimeout(wait)
            asker.connect(PLACE)  # so that an answer from another port would not arrive
            asker.send(b"question")
            heard, sender = datagrams.recvfrom(100)
            datagrams.sendto(heard, sender)
            assert asker.recv(100) == b"question"
            with socket.create_connection(PLACE, wait):
                streams.settimeout(wait)
                os.close(streams._accept()[0])  # type: ignore[attr-defined]
            socket.create_connection(("127.0.0.1", listener.PORT), wait).close()
            other.settimeout(wait)
            other.accept()[0].close()
    finally:
        datagrams.close()
        streams.close()
        subprocess.run(["nft", "delete table ip minicontainer"], check=True)

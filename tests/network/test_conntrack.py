"""Flows are forgotten: those to one address, and no others."""

from __future__ import annotations

import socket

import pytest

from minicontainer.network import conntrack, nft
from tests.support.netns import Namespace

pytestmark = [pytest.mark.root, pytest.mark.tools("nft", "ip"), pytest.mark.vm]

# Where two ports lead: at first 10.9.0.2 (and its IPv6 twin) and .4, later both .3.
RULES = """
table inet test
delete table inet test
table inet test {{
  chain local {{
    type nat hook output priority -100
    ip daddr 10.9.0.1 udp dport 5001 dnat ip to 10.9.0.{0}
    ip6 daddr fd09::1 udp dport 5001 dnat ip6 to fd09::{0}
    ip daddr 10.9.0.1 udp dport 5002 dnat ip to 10.9.0.{1}
  }}
}}
"""


@pytest.mark.parametrize(
    ("here", "first", "second"),
    [("10.9.0.1", "10.9.0.2", "10.9.0.3"), ("fd09::1", "fd09::2", "fd09::3")],
)
def test_a_client_that_goes_on_sending_is_led_elsewhere(here: str, first: str, second: str) -> None:
    datagram = socket.SOCK_DGRAM
    with Namespace() as host:
        host.ip("link set lo up")
        for number in range(1, 5):
            host.ip(f"addr add 10.9.0.{number} dev lo\naddr add fd09::{number} dev lo nodad")
        host.call(lambda: nft.apply(RULES.format(2, 4)))
        with (
            host.listen(first, 5001, datagram) as before,
            host.listen(second, 5001, datagram) as after,
            host.listen("10.9.0.4", 5002, datagram) as other,
            host.connect(here, 5001, datagram) as client,
            host.connect("10.9.0.1", 5002, datagram) as stranger,
        ):
            client.send(b"one")
            stranger.send(b"x")
            assert before.recv(10) == b"one"
            host.call(lambda: nft.apply(RULES.format(3, 3)))
            # The kernel remembers, or there would be nothing to do.
            client.send(b"two")
            assert before.recv(10) == b"two"
            assert host.call(lambda: conntrack.forget(first)) == 1
            assert host.call(lambda: conntrack.forget(first)) == 0
            client.send(b"three")
            assert after.recv(10) == b"three"
            stranger.send(b"y")
            # And of the others it goes on to remember.
            assert [other.recv(10) for _ in range(2)] == [b"x", b"y"]

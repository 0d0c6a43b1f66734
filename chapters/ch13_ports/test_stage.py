"""Chapter 13: its port 5000 is one of the host's; the way out has a name; and that is all."""

from __future__ import annotations

import errno
import json
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chapters import patience
from chapters.ch12_network.test_stage import addresses, network
from chapters.conftest import Container
from tests.support.netns import Namespace
from tests.support.network import Outside

pytestmark = pytest.mark.tools("ip", "nft", "nsenter")

# The first container's port 5000 is the host's 5002, the second's 5003.
FIRST, SECOND = 5002, 5003
HOST = {4: Outside.host4, 6: Outside.host6}
BEYOND = {4: Outside.address4, 6: Outside.address6}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def seen_by(service: socket.socket, caller: Namespace, address: str, port: int) -> str:
    """Call a service; the address of the caller as the service sees it."""
    with caller.connect(address, port):
        accepted, peer = service.accept()
        accepted.close()
        return str(peer[0])


@pytest.fixture
def beyond(outside: Outside) -> Iterator[Namespace]:
    """A machine beyond the host's uplink, to open sockets on."""
    with Namespace(outside.path) as found:
        yield found


@VERSIONS
def test_it_is_reached_from_outside(stage: Container, beyond: Namespace, version: int) -> None:
    with stage.start() as container, network(container) as inner:
        own = addresses(container)[version == 6]
        with inner.listen(own, 5000) as service:
            # And it sees who calls, not the host.
            assert seen_by(service, beyond, HOST[version], FIRST) == BEYOND[version]


@VERSIONS
def test_it_is_reached_from_the_host(stage: Container, outside: Outside, version: int) -> None:
    with stage.start() as container, network(container) as inner:
        own = addresses(container)[version == 6]
        with inner.listen(own, 5000), socket.create_connection((HOST[version], FIRST), 10):
            pass


def test_two_of_one_image_on_one_port(stage: Container, beyond: Namespace) -> None:
    with stage.start() as one, stage.start() as other:
        with (
            network(one) as here,
            network(other) as there,
            here.listen("0.0.0.0", 5000) as first,
            there.listen("0.0.0.0", 5000) as second,
        ):
            seen_by(first, beyond, HOST[4], FIRST)
            seen_by(second, beyond, HOST[4], SECOND)
            # A neighbour, and oneself, by the host's port.
            seen_by(second, here, HOST[4], SECOND)
            seen_by(first, here, HOST[4], FIRST)
        one.end()
        with network(other) as there, there.listen("0.0.0.0", 5000) as second:
            seen_by(second, beyond, HOST[4], SECOND)
            with pytest.raises(ConnectionRefusedError):
                beyond.connect(HOST[4], FIRST)


@VERSIONS
def test_it_reaches_beyond_with_the_hosts_address(
    stage: Container, beyond: Namespace, version: int
) -> None:
    with (
        stage.start() as container,
        network(container) as inner,
        beyond.listen(BEYOND[version], 80) as service,
    ):
        assert seen_by(service, inner, BEYOND[version], 80) == HOST[version]


@VERSIONS
def test_nothing_else_of_it_is_reached(
    stage: Container, outside: Outside, beyond: Namespace, version: int
) -> None:
    """A neighbour of the host who knows the way: 5000 and 6000 at the container's own address."""
    with stage.start() as container, network(container) as inner:
        own = addresses(container)[version == 6]
        outside.run("ip", f"-{version}", "route", "add", "default", "via", HOST[version])
        try:
            with (
                inner.listen(own, 5000),
                inner.listen(own, 6000),
                beyond.open(family(version)) as one,
                beyond.open(family(version)) as other,
            ):
                for caller, port in ((one, 5000), (other, 6000)):
                    caller.setblocking(False)
                    assert caller.connect_ex((own, port)) == errno.EINPROGRESS
                # Neither an answer nor a refusal.
                assert not select.select([], [one, other], [], patience.seconds(1))[1]
        finally:
            outside.run("ip", f"-{version}", "route", "del", "default")


def family(version: int) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def test_the_hosts_own_forwarding_is_as_before(stage: Container, outside: Outside) -> None:
    switches = [
        Path("/proc/sys/net", name) for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    ]
    before = [switch.read_text() for switch in switches]
    for switch in switches:
        switch.write_text("0")  # a machine with docker has it on
    with stage.start():
        assert [switch.read_text() for switch in switches] == ["1\n", "1\n"]
    assert [switch.read_text() for switch in switches] == ["0\n", "0\n"]
    for switch, value in zip(switches, before, strict=True):
        switch.write_text(value)
    rules = json.loads(subprocess.check_output(["nft", "--json", "list", "tables"]))["nftables"]
    assert [rule["table"]["name"] for rule in rules if "table" in rule] == []


def test_it_knows_names(stage: Container) -> None:
    with stage.start() as container:
        hosts = container.path("/etc/hosts").read_text().splitlines()
        for address in addresses(container):
            assert f"{address}\tcontainer" in hosts
        assert hosts[0] == "127.0.0.1\tlocalhost"
        servers = [
            line.split()[1]
            for line in container.path("/etc/resolv.conf").read_text().splitlines()
            if line.startswith("nameserver")
        ]
        # Nobody is behind its own loopback, but for a resolver that the engine puts there.
        assert all(not each.startswith("127.") or each == "127.0.0.11" for each in servers)

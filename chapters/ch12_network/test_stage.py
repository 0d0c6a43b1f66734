"""Chapter 12: an adapter of its own, and a cable to a bridge; neighbours at the same bridge."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chapters.conftest import Container, Running
from tests.support.netns import Namespace

pytestmark = pytest.mark.tools("ip", "nsenter")


def inside(container: Running, *words: str) -> Any:
    """What `ip -json …` says in the container's network."""
    command = ["nsenter", f"--net=/proc/{container.pid}/ns/net", "ip", "-json", *words]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def addresses(container: Running) -> list[str]:
    """Its addresses on eth0 that are for more than the cable: IPv4, IPv6."""
    (link,) = inside(container, "address", "show", "eth0")
    return [a["local"] for a in link["addr_info"] if a["scope"] == "global"]


def cable(container: Running) -> dict[str, Any]:
    """The host's end of its cable, as `ip` shows it."""
    (link,) = inside(container, "link", "show", "eth0")
    shown = json.loads(subprocess.check_output(["ip", "-json", "-details", "link", "show"]))
    (found,) = [each for each in shown if each["ifindex"] == link["link_index"]]
    return dict(found)


def network(container: Running) -> Namespace:
    """Its network, to open sockets in."""
    return Namespace(f"/proc/{container.pid}/ns/net")


def test_it_has_a_network_of_its_own(stage: Container) -> None:
    with stage.start() as container:
        own = os.readlink(f"/proc/{container.pid}/ns/net")
        assert own != os.readlink("/proc/self/ns/net")
        links = inside(container, "link", "show")
        assert [link["ifname"] for link in links] == ["lo", "eth0"]
        assert [link["flags"].count("UP") for link in links] == [1, 1]
    assert sorted(stage.output("ls /sys/class/net").split()) == ["eth0", "lo"]


def test_its_adapter_has_addresses_and_a_way_out(stage: Container) -> None:
    with stage.start() as container:
        four, six = addresses(container)
        (link,) = inside(container, "link", "show", "eth0")
        assert link["address"] == "02:42:" + ":".join(f"{int(n):02x}" for n in four.split("."))
        bridge = cable(container)["master"]
        (host,) = json.loads(subprocess.check_output(["ip", "-json", "address", "show", bridge]))
        gateways = [a["local"] for a in host["addr_info"] if a["scope"] == "global"]
        for family, gateway, own in zip(("-4", "-6"), gateways, (four, six), strict=True):
            (route,) = inside(container, family, "route", "show", "default")
            assert (route["gateway"], route["dev"]) == (gateway, "eth0")
            assert gateway != own


def test_its_cable_leads_to_a_bridge(stage: Container) -> None:
    with stage.start() as container:
        end = cable(container)
        assert end["linkinfo"]["info_kind"] == "veth"
        assert end["linkinfo"]["info_slave_kind"] == "bridge"
        assert "UP" in end["flags"]


@pytest.mark.parametrize("version", [4, 6])
def test_it_reaches_the_host_and_the_host_it(stage: Container, version: int) -> None:
    with stage.start() as container, network(container) as inner:
        own = addresses(container)[version == 6]
        (route,) = inside(container, f"-{version}", "route", "show", "default")
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with (
            socket.create_server((route["gateway"], 0), family=family) as service,
            inner.connect(route["gateway"], service.getsockname()[1]),
        ):
            accepted, peer = service.accept()
            accepted.close()
            assert peer[0] == own
        with inner.listen(own, 5000), socket.create_connection((own, 5000), 10):
            pass


def test_its_loopback_is_its_own(stage: Container) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service, stage.start() as container:
        port = service.getsockname()[1]
        with network(container) as inner:
            with pytest.raises(ConnectionRefusedError):
                inner.connect("127.0.0.1", port)
            with inner.listen("127.0.0.1", port), inner.connect("127.0.0.1", port):
                pass


def test_two_are_neighbours(stage: Container) -> None:
    with stage.start() as one, stage.start() as other:
        assert not set(addresses(one)) & set(addresses(other))
        assert cable(one)["master"] == cable(other)["master"]
        with (
            network(one) as here,
            network(other) as there,
            # The same port, at the same time.
            here.listen("::", 5000),
            there.listen("::", 5000) as service,
        ):
            for address in addresses(other):
                with here.connect(address, 5000):
                    service.accept()[0].close()


def test_who_stays_is_not_cut_off(stage: Container) -> None:
    with stage.start() as one:
        with stage.start() as other:
            gone = cable(other)["ifname"]
        assert not Path("/sys/class/net", gone).exists()
        assert Path("/sys/class/net", cable(one)["ifname"], "master").exists()
        with stage.start() as third:
            # What is free again may be given again.
            assert not set(addresses(one)) & set(addresses(third))


def test_it_takes_no_cable_away_but_its_own(stage: Container) -> None:
    """Where somebody has pulled it out, its number and its name are the next one's."""
    with stage.start() as one:
        subprocess.run(
            ["nsenter", f"--net=/proc/{one.pid}/ns/net", "ip", "link", "delete", "eth0"], check=True
        )
        with stage.start() as other:
            one.end()
            assert "UP" in cable(other)["flags"]
            with (
                network(other) as there,
                there.listen(addresses(other)[0], 5000) as service,
                socket.create_connection(service.getsockname(), 10),
            ):
                pass


def test_a_name_without_a_file_is_its_own(stage: Container) -> None:
    """unix(7), "Abstract sockets": they belong to the network namespace."""
    name = f"\0chapter-12-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as service, stage.start() as container:
        service.bind(name)
        service.listen()
        with (
            network(container) as inner,
            inner.open(socket.AF_UNIX) as caller,
            pytest.raises(ConnectionRefusedError),
        ):
            caller.connect(name)

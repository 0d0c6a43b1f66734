"""How a container's ports are said and shown, without a container."""

from __future__ import annotations

from typing import Any

import pytest

from minicontainer.engine import publishing
from minicontainer.errors import EngineError


def port(host: int, inner: int, proto: str = "tcp", ip: str = "") -> dict[str, Any]:
    return {
        "proto": proto, "hostIp": ip, "hostPort": host, "port": inner,
        "address4": "10.88.0.2", "address6": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ports", "exposed", "shown"),
    [
        ([], [], ""),
        ([], ["80/tcp", "53/udp"], "53/udp, 80/tcp"),
        ([port(5001, 5000)], ["5000/tcp"], "0.0.0.0:5001->5000/tcp, [::]:5001->5000/tcp"),
        ([port(5001, 5000, ip="127.0.0.1")], [], "127.0.0.1:5001->5000/tcp"),
        ([port(80, 80, ip="::1")], [], "[::1]:80->80/tcp"),
        (
            [port(80, 80), port(81, 81)],
            ["90/tcp"],
            "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp, 90/tcp",
        ),
        ([port(80, 80, ip="1.2.3.4"), port(82, 82, ip="1.2.3.4")], [],
         "1.2.3.4:80->80/tcp, 1.2.3.4:82->82/tcp"),
        ([port(53, 53, "udp", "1.2.3.4"), port(53, 53, ip="1.2.3.4")], [],
         "1.2.3.4:53->53/tcp, 1.2.3.4:53->53/udp"),
        ([port(7000, 80, ip="1.2.3.4")], ["22/tcp", "23/tcp"],
         "22-23/tcp, 1.2.3.4:7000->80/tcp"),
    ],
)  # fmt: skip
def test_the_summary_of_ps(ports: list[dict[str, Any]], exposed: list[str], shown: str) -> None:
    assert publishing.summary(publishing.by_port(ports, exposed)) == shown


def test_the_fields_of_inspect_and_the_lines_of_port() -> None:
    found = publishing.by_port([port(5001, 5000), port(5, 53, "udp", "::1")], ["5000/tcp", "9/tcp"])
    assert found == {
        "9/tcp": None,
        "53/udp": [{"HostIp": "::1", "HostPort": "5"}],
        "5000/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "5001"},
            {"HostIp": "::", "HostPort": "5001"},
        ],
    }
    assert publishing.lines(found) == [
        "53/udp -> [::1]:5", "5000/tcp -> 0.0.0.0:5001", "5000/tcp -> [::]:5001",
    ]  # fmt: skip


def test_what_is_exposed() -> None:
    config = {"ExposedPorts": {"8000/tcp": {}, "53/udp": {}}}
    assert publishing.exposed(config, ["9-10"], ["80/tcp"]) == [
        "9/tcp", "10/tcp", "53/udp", "80/tcp", "8000/tcp",
    ]  # fmt: skip
    assert publishing.exposed({}, [], []) == []


def test_another_containers_network_has_its_own_ports() -> None:
    with pytest.raises(EngineError, match="conflicting options: port publishing"):
        publishing.check("container:other", True)
    publishing.check("container:other", False)

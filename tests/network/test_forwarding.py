"""Forwarding is switched on once, and what was before is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.network import forwarding
from tests.support.netns import Namespace

pytestmark = [pytest.mark.root, pytest.mark.vm]

IPV4, IPV6 = "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as host:
        yield host


def read(host: Namespace, path: str) -> str:
    return host.call(lambda: Path(path).read_text().strip())


def enable(host: Namespace, state: Path) -> list[str]:
    return host.call(lambda: forwarding.enable(str(state)))


def test_it_is_switched_on_and_remembered(host: Namespace, tmp_path: Path) -> None:
    assert enable(host, tmp_path / "state") == ["ipv4", "ipv6"]
    assert (read(host, IPV4), read(host, IPV6)) == ("1", "1")
    assert enable(host, tmp_path / "state") == ["ipv4", "ipv6"]


def test_who_forwards_already_goes_on_as_before(host: Namespace, tmp_path: Path) -> None:
    host.write(IPV4, "1")
    assert enable(host, tmp_path / "state") == ["ipv6"]


def test_it_is_switched_off_again_where_it_was_off(host: Namespace, tmp_path: Path) -> None:
    host.write(IPV6, "1")
    enable(host, tmp_path / "state")
    for _ in range(2):
        host.call(lambda: forwarding.restore(str(tmp_path / "state")))
        assert (read(host, IPV4), read(host, IPV6)) == ("0", "1")
    assert not (tmp_path / "state").exists()


def test_the_way_out_that_a_router_advertises_is_kept(host: Namespace, tmp_path: Path) -> None:
    host.ip("link add up0 type veth peer name up1")
    assert read(host, "/proc/sys/net/ipv6/conf/up0/accept_ra") == "1"
    host.write("/proc/sys/net/ipv6/conf/up1/accept_ra", "2")
    for _ in range(2):
        enable(host, tmp_path / "state")
        assert accepted(host) == {"all": "2", "default": "2", "lo": "2", "up0": "2", "up1": "2"}
    host.ip("link add late type veth peer name late1")
    host.call(lambda: forwarding.restore(str(tmp_path / "state")))
    assert accepted(host) == {
        "all": "1", "default": "1", "lo": "1", "up0": "1", "up1": "2", "late": "2", "late1": "2"
    }  # fmt: skip


def accepted(host: Namespace) -> dict[str, str]:
    """Of each adapter, whether it heeds routers that advertise themselves."""
    return host.call(
        lambda: {
            path.parent.name: path.read_text().strip()
            for path in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra")
        }
    )

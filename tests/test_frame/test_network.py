"""The network that the tests run in is not the machine's, and has a neighbour when it is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import leaks, network
from tests.support.network import Outside

pytestmark = pytest.mark.root


def test_the_run_has_a_network_of_its_own() -> None:
    parent = os.stat(f"/proc/{os.getppid()}/ns/net")
    assert os.stat("/proc/self/ns/net").st_ino != parent.st_ino
    assert {("network link", "lo"), ("network address", "127.0.0.1/32")} <= network.state()


def test_sys_shows_the_network_of_the_run_and_keeps_what_was_mounted_below() -> None:
    listed = subprocess.run(
        ["ip", "-br", "link"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert sorted(os.listdir("/sys/class/net")) == sorted(line.split()[0] for line in listed)
    assert all(os.path.ismount(path) for path in leaks.CGROUP_ROOTS)


def test_outside_and_the_host_reach_each_other(outside: Outside) -> None:
    links = outside.run("ip", "-br", "link", "show", "up").splitlines()
    assert [line.split()[0].partition("@")[0] for line in links] == ["lo", "eth0"]
    for host, other in ((outside.host4, "-4"), (outside.host6, "-6")):
        outside.run("busybox", "ping", other, "-c", "1", "-w", "10", host)
    for address in (outside.address4, outside.address6):
        subprocess.run(["busybox", "ping", "-c", "1", "-w", "10", address], check=True)
    assert not outside.run("ip", "route", "show", "default")


def test_the_uplink_goes_with_it() -> None:
    before = network.state()
    with Outside() as outside:
        assert Path(f"/sys/class/net/{outside.LINK}").exists()
        assert ("network address", "198.51.100.1/32") in network.state()
    assert network.state() == before


@pytest.mark.tools("nft")
def test_a_rule_in_a_table_that_was_there_is_named() -> None:
    subprocess.run(["nft", "add table inet mctest"], check=True)
    try:
        before = leaks.Snapshot()
        subprocess.run(["nft", "add chain inet mctest own"], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leaks, "GRACE", 0)
            left = before.leaks()
        assert left == ["firewall rule left: table inet mctest: chain own"]
    finally:
        subprocess.run(["nft", "delete table inet mctest"], check=True)

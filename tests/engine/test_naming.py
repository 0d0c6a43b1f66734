"""The files about names that a container has, as its options say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minicontainer.network import names
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox")]

FILES = "cat /etc/hosts; echo; cat /etc/resolv.conf"
OPTIONS = [
    *("--dns", "192.0.2.1", "--dns", "2001:db8::1", "--dns-search", "a.org", "--dns-search", "b"),
    *("--dns-option", "ndots:2", "--add-host", "db:192.0.2.9", "--add-host", "six=[2001:db8::9]"),
]


def files(engine: Engine, *options: str, network: str = "none") -> list[list[str]]:
    """The words of /etc/hosts and of /etc/resolv.conf of a container."""
    options = ("--network", network, *options)
    printed = engine.output("run", "--rm", *options, "starter", "sh", "-c", FILES)
    return [part.split() for part in printed.split("\n\n")]


@pytest.fixture(autouse=True)
def _store(starter: str) -> None:
    """Every test has the starter image."""


def test_what_is_asked_for_is_in_the_files(engine: Engine) -> None:
    hosts, resolv = files(engine, *OPTIONS)
    assert hosts == [*names.LOCAL.split(), "192.0.2.9", "db", "2001:db8::9", "six"]
    printed = " ".join(resolv)
    assert printed.startswith("nameserver 192.0.2.1 nameserver 2001:db8::1")
    assert printed.endswith("search a.org b options ndots:2")
    assert printed.count("nameserver") == 2


def test_on_the_hosts_network_it_is_added_to_the_hosts(engine: Engine) -> None:
    options = [*OPTIONS, "--add-host", "me:host-gateway"]
    hosts, resolv = files(engine, *options, network="host")
    own = Path("/etc/hosts").read_text().split()
    assert hosts == [*own, "192.0.2.9", "db", "2001:db8::9", "six", "127.0.0.1", "me"]
    assert names.servers("\n".join(" ".join(resolv[n : n + 2]) for n in (0, 2))) == OPTIONS[1:4:2]
    _, plain = files(engine, network="host")
    assert plain == Path("/etc/resolv.conf").read_text().split()


def test_it_is_remembered_as_docker_does(engine: Engine) -> None:
    engine.run("run", "--name", "one", *OPTIONS, "starter", "true")
    engine.run("run", "--name", "two", "starter", "true")
    one, two = (json.loads(engine.output("inspect", n))[0]["HostConfig"] for n in ("one", "two"))
    fields = ("Dns", "DnsSearch", "DnsOptions", "ExtraHosts")
    assert [one[field] for field in fields] == [
        ["192.0.2.1", "2001:db8::1"],
        ["a.org", "b"],
        ["ndots:2"],
        ["db:192.0.2.9", "six:2001:db8::9"],
    ]
    assert [two[field] for field in fields] == [[], [], [], None]


def test_what_cannot_be_is_refused_before_anything_is_made(engine: Engine) -> None:
    for option, value, sentence in (
        ("--dns", "dns.example", "IP address is not correctly formatted: dns.example"),
        ("--dns-search", "a..b", "a..b is not a valid domain"),
        ("--dns-option", "a b", "invalid DNS option"),
        ("--add-host", "db", 'bad format for add-host: "db"'),
    ):
        done = engine.run("run", option, value, "starter", "true", check=False)
        assert done.returncode == 125
        assert sentence in done.stderr
    assert engine.output("ps", "--all", "--quiet") == ""


def test_the_host_is_not_to_be_had_without_a_network(engine: Engine) -> None:
    options = ["--rm", "--network", "none", "--add-host", "me:host-gateway"]
    done = engine.run("run", *options, "starter", "true", check=False)
    assert done.returncode == 125
    assert "unable to derive the IP value for host-gateway" in done.stderr

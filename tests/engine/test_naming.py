"""What containers know by name, as programs in them find it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.network import names
from tests.support.engine import ROOT, Engine
from tests.support.network import Outside

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox")]

FILES = "cat /etc/hosts; echo; cat /etc/resolv.conf"
OPTIONS = [
    *("--dns", "192.0.2.1", "--dns", "2001:db8::1", "--dns-search", "a.org", "--dns-search", "b"),
    *("--dns-option", "ndots:2", "--add-host", "db:192.0.2.9", "--add-host", "six=[2001:db8::9]"),
]


def files(engine: Engine, *options: str) -> list[list[str]]:
    """The words of /etc/hosts and of /etc/resolv.conf of a container."""
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
    hosts, resolv = files(engine, "--network", "host", *options)
    own = Path("/etc/hosts").read_text().split()
    assert hosts == [*own, "192.0.2.9", "db", "2001:db8::9", "six", "127.0.0.1", "me"]
    assert names.servers("\n".join(" ".join(resolv[n : n + 2]) for n in (0, 2))) == OPTIONS[1:4:2]
    _, plain = files(engine, "--network", "host")
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
    done = engine.run("run", "--rm", "--add-host", "me:host-gateway", "starter", check=False)
    assert done.returncode == 125
    assert "unable to derive the IP value for host-gateway" in done.stderr


# ------------------------------------------------------------------------- on networks with names

WEB = "mkdir /w; echo from $(hostname) >/w/index.html; exec httpd -f -p 80 -h /w"


def start(engine: Engine, name: str, *options: str, command: str = WEB) -> str:
    """A web server that says who it is; its id."""
    return engine.output(
        "run", "--detach", "--name", name, *options, "starter", "sh", "-c", command
    )


def ask(engine: Engine, script: str, *options: str) -> str:
    """What a script in a container on network `shop` prints."""
    return engine.output(
        "run", "--rm", "--network", "shop", *options, "starter", "sh", "-c", script
    )


def exec_in(engine: Engine, name: str, script: str) -> str:
    return engine.run("exec", name, "sh", "-c", script, check=False).stdout


@pytest.fixture
def shop(engine: Engine) -> None:
    engine.run("network", "create", "shop")


@pytest.mark.usefixtures("shop")
def test_neighbours_find_each_other_by_each_name(engine: Engine) -> None:
    id = start(engine, "Web", "--network", "shop", "--network-alias", "www", "--hostname", "box")
    script = "for n in web WWW box web.shop $0; do wget -qO- http://$n/; done; cat /etc/resolv.conf"
    printed = ask(engine, script.replace("$0", id[:12])).splitlines()
    assert printed[:5] == ["from box"] * 5
    assert printed[5] == "nameserver 127.0.0.11"
    assert printed[-1].startswith("options ")
    assert "ndots:0" in printed[-1]
    address = json.loads(engine.output("inspect", "Web"))[0]["NetworkSettings"]["Networks"]["shop"][
        "IPAddress"
    ]
    printed = ask(engine, f"ping -c 1 web; nslookup -type=a web; nslookup {address}")
    assert f"64 bytes from {address}" in printed
    assert printed.count(f"Address: {address}") == 1
    assert "name = Web.shop" in printed


@pytest.mark.usefixtures("shop")
def test_a_container_finds_itself(engine: Engine) -> None:
    printed = ask(engine, "hostname -i; grep box /etc/hosts", "--hostname", "box.example.org")
    address, hosts = printed.split("\n", 1)
    assert f"{address.split()[0]}\tbox.example.org box" in hosts


@pytest.mark.usefixtures("shop")
def test_a_shared_alias_is_all_of_them_in_turn(engine: Engine) -> None:
    for name in ("one", "two"):
        start(engine, name, "--network", "shop", "--network-alias", "web", "--hostname", name)
    printed = ask(engine, "for i in 1 2 3 4; do wget -qO- http://web/; done; nslookup -type=a web")
    lines = printed.splitlines()
    assert sorted(set(lines[:4])) == ["from one", "from two"]
    assert sum(line.startswith("Address: ") for line in lines[4:]) == 2


@pytest.mark.usefixtures("shop")
def test_who_ends_is_gone_at_once_and_who_comes_is_there(engine: Engine) -> None:
    start(engine, "asker", "--network", "shop", command="sleep 1000")
    assert "can't find web" in exec_in(engine, "asker", "nslookup -type=a web")
    start(engine, "web", "--network", "shop")
    assert exec_in(engine, "asker", "wget -qO- http://web/").startswith("from ")
    engine.run("kill", "web")
    engine.run("wait", "web")
    assert "can't find web" in exec_in(engine, "asker", "nslookup -type=a web")


@pytest.mark.usefixtures("shop")
def test_another_network_is_another_world(engine: Engine) -> None:
    engine.run("network", "create", "stock")
    start(engine, "web", "--network", "stock")
    start(engine, "plain")
    for name in ("web", "web.stock", "plain"):
        assert f"can't find {name}" in exec_in_asker(engine, name)


def exec_in_asker(engine: Engine, name: str) -> str:
    return ask(engine, f"nslookup -type=a {name} || true")


def test_the_default_network_has_no_names(engine: Engine) -> None:
    start(engine, "web")
    printed = engine.output("run", "--rm", "starter", "cat", "/etc/resolv.conf")
    assert "127.0.0.11" not in printed
    script = "nslookup -type=a web 127.0.0.11 2>&1 || true"
    assert "Address: 10" not in engine.output("run", "--rm", "starter", "sh", "-c", script)


@pytest.mark.usefixtures("shop")
def test_connecting_a_running_container_brings_it_the_names(engine: Engine) -> None:
    """Also one that began on the default network, without a resolver in its file."""
    start(engine, "web", "--network", "shop", "--hostname", "box")
    start(engine, "asker", command="sleep 1000")
    assert exec_in(engine, "asker", "wget -qO- http://web/") == ""
    engine.run("network", "connect", "--alias", "me", "shop", "asker")
    assert exec_in(engine, "asker", "wget -qO- http://web/") == "from box\n"
    assert exec_in(engine, "web", "nslookup -type=a me").count("Address: ") == 1
    hosts = exec_in(engine, "asker", "grep $(hostname) /etc/hosts").splitlines()
    assert len({line.split()[0] for line in hosts if "." in line.split()[0]}) == 2
    engine.run("network", "disconnect", "shop", "asker")
    assert exec_in(engine, "asker", "wget -qO- http://web/") == ""
    assert "can't find me" in exec_in(engine, "web", "nslookup -type=a me")


@pytest.mark.usefixtures("shop")
@pytest.mark.tools("nft")
def test_a_container_can_be_a_name_server_itself(engine: Engine) -> None:
    """Its 0.0.0.0:53 does not collide with what listens for it at 127.0.0.11."""
    start(engine, "web", "--network", "shop")
    script = (
        "echo 'here 192.0.2.7' >/dns; dnsd -c /dns -d >/dev/null 2>&1 & "
        "until nslookup -type=a here 127.0.0.1 | grep 192.0.2.7; do :; done; "
        "nslookup -type=a web | grep -c ^Address.*10"
    )
    assert ask(engine, script).splitlines()[-1] == "1"


@pytest.mark.usefixtures("shop")
def test_host_gateway_is_the_hosts_address_on_the_network(engine: Engine) -> None:
    printed = ask(
        engine, "ip route; cat /etc/hosts", "--add-host", "host.docker.internal:host-gateway"
    )
    (gateway,) = [
        line.split()[2] for line in printed.splitlines() if line.startswith("default via")
    ]
    assert f"{gateway}\thost.docker.internal" in printed


@pytest.mark.usefixtures("shop")
def test_the_rest_is_asked_from_the_hosts_network(engine: Engine, outside: Outside) -> None:
    """Of the server that --dns says: here one beyond the uplink, over both UDP and TCP."""
    server = subprocess.Popen(
        outside.command(sys.executable, ROOT / "tests" / "network" / "world.py", outside.address4),
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout
        server.stdout.readline()
        script = "nslookup -type=a example.org; nslookup -type=a web"
        start(engine, "web", "--network", "shop")
        printed = ask(engine, script, "--dns", outside.address4)
        assert "192.0.2.80" in printed
        inner = engine.run("network", "create", "--internal", "inner")
        assert inner.returncode == 0
        printed = engine.output(
            *("run", "--rm", "--network", "inner", "--dns", outside.address4, "starter"),
            *("sh", "-c", "nslookup -type=a example.org || true"),
        )
        assert "can't find example.org" in printed
    finally:
        server.kill()
        server.communicate()

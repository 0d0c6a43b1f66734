"""Containers on one network find each other by name, and nobody else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.engine import ROOT, Engine
from tests.support.network import Outside

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox")]

WEB = "mkdir /w; echo from $(hostname) >/w/index.html; httpd -p 80 -h /w; echo up; exec sleep 1000"


def start(engine: Engine, name: str, *options: str, command: str = WEB) -> str:
    """A web server that says who it is, once it listens; its id."""
    id = engine.output("run", "--detach", "--name", name, *options, "starter", "sh", "-c", command)
    if command == WEB:
        log = engine.start("logs", "--follow", name)
        assert log.stdout is not None
        assert log.stdout.readline() == "up\n"
        log.terminate()
        log.communicate()
    return id


def ask(engine: Engine, script: str, *options: str) -> str:
    """What a script in a container on network `shop` prints."""
    return engine.output(
        "run", "--rm", "--network", "shop", *options, "starter", "sh", "-c", script
    )


def exec_in(engine: Engine, name: str, script: str) -> str:
    return engine.run("exec", name, "sh", "-c", script, check=False).stdout


@pytest.fixture(autouse=True)
def _store(starter: str) -> None:
    """Every test has the starter image."""


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
    printed = ask(engine, f"ping -4 -c 1 web; nslookup -type=a web; nslookup {address}")
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
    # getaddrinfo(3) sorts what it gets, so the order is seen in the answers themselves.
    printed = ask(engine, "for i in 1 2 3 4; do nslookup -type=a web; done; wget -qO- http://web/")
    lines = printed.splitlines()
    found = [line.split()[1] for line in lines if line.startswith("Address: ")]
    assert len(found) == 8
    assert found[:2] == found[4:6] == found[3:1:-1] == found[7:5:-1]
    assert found[0] != found[1]
    assert lines[-1] in ("from one", "from two")


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
    start(engine, "asker", "--network", "bridge", command="sleep 1000")
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
    script = "mkdir /w; echo here >/w/index.html; httpd -p 53 -h /w; wget -qO- 127.0.0.1:53; "
    printed = ask(engine, script + "nslookup -type=a web")
    assert printed.startswith("here\n")
    assert printed.count("Address: ") == 1


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

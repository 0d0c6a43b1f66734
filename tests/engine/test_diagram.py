"""`network inspect --diagram` of real containers: what `ip` and `nft` know is in it, and what
somebody has taken away is said to be missing, where it is missing."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from typing import Any

import pytest

from minicontainer.cli import network as command
from minicontainer.cli.options import Values
from minicontainer.engine import networks, survey
from minicontainer.engine.home import Home
from minicontainer.network import nft
from minicontainer.network.picture import CLOSED, RELAY, RULE, Adapter, Door, Network, Picture
from tests.support.engine import Engine
from tests.support.network import Outside

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox", "ip", "nft", "nsenter")]


@pytest.fixture
def scene(engine: Engine, starter: str, outside: Outside) -> Engine:
    """Two containers on the default network, one of them also on `shop`, which has a third."""
    engine.run("network", "create", "--subnet", "10.1.0.0/24", "shop")
    for name, *options in (
        ("one", "--network", "bridge", "-p", "5001:5000"),
        ("two", "--network", "bridge", "-p", "5002:5000"),
        ("web", "--network", "shop", "-p", "127.0.0.1:8080:80", "-p", "198.51.100.1:53:53/udp"),
    ):
        engine.run("run", "--detach", "--name", name, *options, starter, "sleep", "1000")
    engine.run("network", "connect", "shop", "one")
    return engine


def look(engine: Engine) -> Picture:
    """The picture's facts."""
    home = Home(str(engine.root), str(engine.run_root))
    return survey.survey(home, networks.all_of(home))


def of(picture: Picture, name: str) -> Network:
    return next(network for network in picture.networks if network.name == name)


def doors(picture: Picture) -> list[Door]:
    return [d for network in picture.networks for cable in network.cables for d in cable.doors]


def wrong(picture: Picture) -> list[str]:
    """All that the picture says is not as it should be, with where it says so."""
    found = [f"host: {each}" for each in picture.wrong]
    for network in picture.networks:
        found += [f"{network.name}: {each}" for each in network.wrong]
        for cable in network.cables:
            found += [f"{network.name}, {cable.container}: {each}" for each in cable.wrong]
            found += [
                f"{network.name}, {cable.container}, {door.place}: {door.wrong}"
                for door in cable.doors
                if door.wrong
            ]
    return found


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.output("inspect", name))[0]
    return found


def pid_of(engine: Engine, name: str) -> int:
    return int(inspect(engine, name)["State"]["Pid"])


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def ip(*words: str, prefix: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*prefix, "ip", "-j", "-d", "address", *words))
    return found


def addresses(link: dict[str, Any]) -> list[str]:
    """Those of a link of `ip -j`, without the link-local ones."""
    return [
        f"{each['local']}/{each['prefixlen']}"
        for each in link["addr_info"]
        if each["scope"] != "link"
    ]


def tables() -> dict[str, str]:
    """The names of our tables by family."""
    return {
        line.split()[1]: line.split()[2]
        for line in run("nft", "list", "tables").splitlines()
        if "minicontainer" in line
    }


def bridge_of(engine: Engine, name: str) -> str:
    (found,) = json.loads(engine.output("network", "inspect", name))
    return str(found["Options"]["com.docker.network.bridge.name"])


def link_of(engine: Engine, name: str) -> str:
    """The host's end of a container's first cable."""
    return f"mc{inspect(engine, name)['Id'][:10]}"


# --------------------------------------------------------------------------- what is in the picture


def test_everything_that_ip_and_nft_know_is_in_it(scene: Engine) -> None:
    picture = look(scene)
    assert wrong(picture) == []
    host = {link["ifname"]: link for link in ip()}
    drawn = {adapter.name: adapter.addresses for adapter in picture.adapters}
    for network in picture.networks:
        bridge = host[network.bridge]
        assert bridge["linkinfo"]["info_kind"] == "bridge"
        assert list(network.addresses) == addresses(bridge)
        ports = {name for name, link in host.items() if link.get("master") == network.bridge}
        assert {cable.link for cable in network.cables} == ports
        assert network.says == ("out by up0, masquerade",)
        for cable in network.cables:
            prefix = ("nsenter", f"--net=/proc/{pid_of(scene, cable.container)}/ns/net")
            (inner,) = ip("show", "dev", cable.interface, prefix=prefix)
            assert inner["link_index"] == host[cable.link]["ifindex"]
            assert host[cable.link]["link_index"] == inner["ifindex"]
            assert list(cable.addresses) == addresses(inner)
            by = json.loads(run(*prefix, "ip", "-j", "route", "show", "default"))[0]["dev"]
            assert cable.out == (network.bridge if by == cable.interface else "")
            del host[cable.link]
        del host[network.bridge]
    assert {name: list(found) for name, found in drawn.items()} == {
        name: addresses(link) for name, link in host.items()
    }
    gateways = next(each.gateways for each in picture.adapters if each.name == "up0")
    routes = [*json.loads(run("ip", "-j", "route")), *json.loads(run("ip", "-j", "-6", "route"))]
    assert list(gateways) == [each["gateway"] for each in routes if each["dst"] == "default"]
    assert {adapter.name for adapter in picture.adapters if adapter.gateways} == {"up0"}


def test_every_published_port_is_in_it_with_its_way(scene: Engine) -> None:
    assert sorted(doors(look(scene))) == [
        Door("*:5001", "5000/tcp", RULE),
        Door("*:5002", "5000/tcp", RULE),
        Door("127.0.0.1:8080", "80/tcp", RELAY),
        Door("198.51.100.1:53", "53/udp", RULE),
    ]
    listed = json.loads(run("nft", "-j", "list", "table", "inet", tables()["inet"]))["nftables"]
    translated = {
        element[0]["concat"][-1]
        for entry in listed
        for element in entry.get("map", {}).get("elem", [])
    }
    assert translated == {5001, 5002, 53}


def test_as_the_command_shows_it(scene: Engine) -> None:
    drawn = scene.output("network", "inspect", "--diagram")
    link = link_of(scene, "one")
    assert re.search(rf"╟─ {link} ─+┼──┤ eth0  172\.17\.0\.2/16 +│$", drawn, re.MULTILINE)
    assert re.search(rf"╟─ {link}1 ─+┼──┤ eth1  10\.1\.0\.3/24 +│$", drawn, re.MULTILINE)
    assert re.search(r" \*:5001 ─┼─▶│ 5000/tcp +│$", drawn, re.MULTILINE)
    assert "│ up0 by 198.51.100.2\n" in drawn
    assert len({len(line) for line in drawn.splitlines() if line.endswith(("─┐", "─┘"))}) == 2
    only = scene.output("network", "inspect", "--diagram", "shop")
    assert "╔ shop ═" in only
    assert "╔ bridge ═" not in only
    assert "up0" in only


def test_the_svg_is_the_same_picture(scene: Engine) -> None:
    drawn = xml.fromstring(scene.output("network", "inspect", "--diagram=svg"))
    said = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"one", "two", "web", "bridge", "shop", "*:5001", link_of(scene, "two")} <= set(said)


def test_who_shares_a_network_is_named(scene: Engine, starter: str) -> None:
    scene.run("run", "-d", "--name", "aside", "--network", "container:web", starter, "sleep", "99")
    assert [c.container for c in of(look(scene), "shop").cables] == ["web + aside", "one"]


def test_an_internal_network_and_one_that_nobody_has_used(engine: Engine, starter: str) -> None:
    engine.run("network", "create", "--internal", "vault")
    assert of(look(engine), "vault").says == ("not made yet",)
    engine.run("run", "-d", "--name", "box", "--network", "vault", starter, "sleep", "1000")
    found = look(engine)
    assert wrong(found) == []
    assert of(found, "vault").says == ("internal: no way out",)
    assert of(found, "vault").cables[0].out == ""
    run("nft", "flush", "set", "inet", tables()["inet"], "internal")
    assert wrong(look(engine)) == ["vault: internal, but no rule keeps it"]


# -------------------------------------------------------------------- where kernel and state differ


def test_flushed_rules(scene: Engine) -> None:
    names = tables()
    run("nft", "flush", "ruleset")
    picture = look(scene)
    assert wrong(picture) == [
        f"host: there is no table inet {names['inet']}",
        f"host: there is no table bridge {names['bridge']}",
        "bridge: no masquerade",
        "bridge, one: may send with any address",
        "bridge, one, *:5001: no rule",
        "bridge, two: may send with any address",
        "bridge, two, *:5002: no rule",
        "shop: no masquerade",
        "shop, web: may send with any address",
        "shop, web, 198.51.100.1:53: no rule",
        "shop, one: may send with any address",
    ]
    assert {door.way for door in doors(picture)} == {RELAY}
    drawn = scene.output("network", "inspect", "--diagram")
    assert re.search(r"\*:5001 ╌┼╌▶│ 5000/tcp  ! no rule", drawn)


def test_one_rule_or_element_that_is_gone(scene: Engine) -> None:
    table = tables()["inet"]
    run("nft", "delete", "element", "inet", table, "any4", "{ tcp . 5001 }")
    assert wrong(look(scene)) == ["bridge, one, 0.0.0.0:5001: no rule"]
    run("nft", "flush", "chain", "inet", table, "incoming")
    assert "bridge, two, *:5002: no rule" in wrong(look(scene))
    run("nft", "flush", "chain", "inet", table, "leaving")
    run("nft", "flush", "chain", "inet", table, "publish")
    run("nft", "flush", "chain", "inet", table, "arriving")
    assert wrong(look(scene)) == [
        "host: no rule keeps neighbours from this host's loopback",
        "bridge: no masquerade",
        "bridge, one, *:5001: no rule",
        "bridge, two, *:5002: no rule",
        "shop: no masquerade",
        "shop, web, 198.51.100.1:53: no rule",
    ]


def test_an_element_that_leads_nowhere_and_one_that_nobody_asked_for(scene: Engine) -> None:
    elements = "{ tcp . 5008 : 172.17.0.3 . 80, tcp . 5009 : 172.17.0.99 . 80 }"
    run("nft", "add", "element", "inet", tables()["inet"], "any4", elements)
    assert wrong(look(scene)) == [
        "host: 0.0.0.0:5009/tcp leads to nobody: 172.17.0.99:80",
        "bridge, two, 0.0.0.0:5008: nobody has published it",
    ]


def test_a_cable_that_was_deleted(scene: Engine) -> None:
    link = link_of(scene, "one")
    run("ip", "link", "delete", link)
    picture = look(scene)
    assert wrong(picture) == [f"bridge, one: the cable {link} is gone"]
    assert of(picture, "bridge").cables[0].doors == (Door("*:5001", "5000/tcp", RULE),)
    drawn = scene.output("network", "inspect", "--diagram")
    assert f"│ ! the cable {link} is gone" in drawn


def test_a_bridge_that_is_down_bare_or_gone(scene: Engine) -> None:
    bridge = bridge_of(scene, "shop")
    run("ip", "address", "delete", "10.1.0.1/24", "dev", bridge)
    assert wrong(look(scene)) == ["shop: 10.1.0.1 is gone"]
    run("ip", "address", "add", "10.1.0.1/24", "dev", bridge)
    run("ip", "link", "set", bridge, "down")
    assert "shop: the bridge is down" in wrong(look(scene))
    run("ip", "link", "delete", bridge)
    assert wrong(look(scene)) == ["shop: the bridge is gone"]


def test_ends_that_are_unplugged_down_or_bare(scene: Engine) -> None:
    link, pid = link_of(scene, "two"), pid_of(scene, "two")
    inner = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
    run("ip", "link", "set", link, "nomaster")
    run(*inner, "address", "delete", "172.17.0.3/16", "dev", "eth0")
    assert wrong(look(scene)) == [
        "bridge, two: not plugged into the bridge",
        "bridge, two: 172.17.0.3 is gone",
        "bridge, two: no route out by 172.17.0.1",
    ]
    run(*inner, "link", "set", "eth0", "down")
    assert "bridge, two: eth0 is down" in wrong(look(scene))
    run(*inner, "link", "set", "eth0", "name", "eth7")
    assert of(look(scene), "bridge").cables[1].interface == "eth7"


def test_a_stranger_at_the_bridge(scene: Engine) -> None:
    run("ip", "link", "add", "strange0", "type", "veth", "peer", "name", "strange1")
    try:
        run("ip", "link", "set", "strange0", "master", bridge_of(scene, "shop"), "up")
        picture = look(scene)
        assert wrong(picture) == ["shop, unknown: it is no container's"]
        assert of(picture, "shop").cables[-1].link == "strange0"
        assert "strange0" not in [adapter.name for adapter in picture.adapters]
    finally:
        run("ip", "link", "delete", "strange0")


def test_a_port_that_is_not_held_any_more(scene: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "_listening", lambda: {("0.0.0.0", "tcp", 5001)})
    run("nft", "flush", "ruleset")
    found = {door.place: (door.way, door.wrong) for door in doors(look(scene))}
    assert found["0.0.0.0:5001"] == (RELAY, "no rule")
    assert found["[::]:5001"] == (CLOSED, "nobody listens, no rule")


def test_a_host_that_does_not_forward(scene: Engine) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    try:
        assert wrong(look(scene)) == ["host: this host does not forward IPv4"]
    finally:
        run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


def test_without_nft_nothing_is_said_of_rules(
    scene: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft, "_PLACES", "")
    monkeypatch.setenv("PATH", "")
    picture = look(scene)
    assert wrong(picture) == ["host: the firewall is not known: there is no program nft"]
    assert {door.way for door in doors(picture)} == {RELAY}
    assert of(picture, "shop").says == ("out by up0",)


# ------------------------------------------------------------------------------- the command itself


def test_a_host_without_networks(engine: Engine) -> None:
    drawn = engine.output("network", "inspect", "--diagram")
    assert "this host" in drawn
    assert "127.0.0.1/8" in drawn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--diagram=png"], "a diagram is text or svg, not 'png'"),
        (["--diagram", "--format", "x"], "a diagram has no --format; for a picture: --diagram=svg"),
        (["--diagram", "nowhere"], "network nowhere not found"),
        ([], "'minicontainer network inspect' requires at least 1 argument"),
    ],
)
def test_what_cannot_be(engine: Engine, words: list[str], said: str) -> None:
    done = engine.run("network", "inspect", *words, check=False)
    assert done.returncode in (1, 125)
    assert done.stderr.splitlines()[0] == f"minicontainer: {said}"


@pytest.mark.parametrize(("encoding", "corner"), [("utf-8", "┌"), ("iso-8859-1", "+")])
def test_a_terminal_without_box_drawing_gets_ascii(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, encoding: str, corner: str
) -> None:
    monkeypatch.setattr(survey, "survey", lambda *_: Picture((Adapter("lo"),)))
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding, write_through=True))
    values = Values()
    values.given["diagram"] = "text"
    home = Home(str(engine.root), str(engine.run_root))
    home.make()
    command.draw(home, values)
    assert printed.getvalue().decode(encoding).startswith(corner)

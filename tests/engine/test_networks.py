"""Networks of real containers: made, shared, shown, removed, and nothing left of them.

What the engine says is held against what `ip` and `nft` say of the kernel.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chapters import patience
from tests.engine.test_killed import left, moments
from tests.support import subids
from tests.support.engine import Engine
from tests.support.network import Outside

pytestmark = [
    pytest.mark.root,
    pytest.mark.tools("busybox", "ip", "nft", "nsenter"),
]

SUBNET = ("--subnet", "10.1.0.0/24")
MTU = "com.docker.network.driver.mtu"
HAS_IPV6 = Path("/proc/sys/net/ipv6").exists()


@pytest.fixture(autouse=True)
def _store(starter: str) -> None:
    """Every test has the starter image."""


def start(engine: Engine, name: str, *options: str, network: str = "shop") -> dict[str, Any]:
    """A container that only waits; what inspect says of it."""
    words = ["run", "--detach", "--name", name, "--network", network, *options]
    engine.run(*words, "starter", "sleep", "1000")
    return inspect(engine, name)


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.output("inspect", name))[0]
    return found


def endpoint(engine: Engine, name: str, network: str = "shop") -> dict[str, Any]:
    found: dict[str, Any] = inspect(engine, name)["NetworkSettings"]["Networks"][network]
    return found


def ask(engine: Engine, script: str, *options: str, network: str = "shop") -> str:
    """What a script in a container prints."""
    words = ("run", "--rm", "--network", network, *options, "starter", "sh", "-c", script)
    return engine.output(*words)


def fails(engine: Engine, *words: str) -> str:
    """The one line that a command fails with, and at most a hint."""
    done = engine.run(*words, check=False)
    said, *hints = done.stderr.splitlines()
    assert done.returncode in (1, 125), said
    assert len(hints) <= 1
    assert "internal error" not in said
    return said.removeprefix("minicontainer: ")


def reaches(engine: Engine, name: str, address: str) -> bool:
    words = ("exec", name, "ping", "-c", "1", "-W", "1", address)
    return engine.run(*words, check=False).returncode == 0


def inside(engine: Engine, name: str, *words: str) -> Any:
    """What `ip -j` says in a container's network."""
    pid = inspect(engine, name)["State"]["Pid"]
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-j", *words]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def links() -> list[str]:
    """The adapters of this host that are ours."""
    return [name for name in os.listdir("/sys/class/net") if name.startswith("mc")]


def ruleset() -> str:
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return done.stdout


def names_of(engine: Engine) -> list[str]:
    return engine.output("network", "ls", "--format", "{{.Name}}").split()


def traces(engine: Engine) -> list[str]:
    """What is left of containers on the networks of this host; any command cleans up first."""
    found = left(engine) + [name for name in links() if not name.startswith("mc-")]
    return found + [line for line in ruleset().splitlines() if '"mc' in line and '"mc-' not in line]


# ------------------------------------------------------------------------------ made and removed


def test_as_it_was_asked_for(engine: Engine) -> None:
    id = engine.output(
        *("network", "create", *SUBNET, "--gateway", "10.1.0.254", "--internal", "--label", "a=b"),
        *("--label", "c", "--opt", f"{MTU}=1400", "shop"),
    )
    shown = json.loads(engine.output("network", "inspect", id[:12]))[0]
    assert (shown["Id"], shown["Name"], shown["Driver"]) == (id, "shop", "bridge")
    assert shown["Internal"]
    assert shown["Labels"] == {"a": "b", "c": ""}
    assert shown["IPAM"]["Config"][0] == {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.254"}
    here = start(engine, "web")["NetworkSettings"]
    assert here["IPAddress"] == "10.1.0.1"
    assert here["Gateway"] == ""
    assert inside(engine, "web", "link", "show", "eth0")[0]["mtu"] == 1400
    bridge = shown["Options"]["com.docker.network.bridge.name"]
    done = subprocess.run(["ip", "-j", "address", "show", bridge], capture_output=True, check=True)
    (link,) = json.loads(done.stdout)
    assert link["mtu"] == 1400
    assert "10.1.0.254" in [each["local"] for each in link["addr_info"]]
    containers = json.loads(engine.output("network", "inspect", "shop"))[0]["Containers"]
    assert [(each["Name"], each["IPv4Address"]) for each in containers.values()] == [
        ("web", "10.1.0.1/24")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shop"], "network with name shop already exists"),
        (["host"], "network with name host already exists"),
        (["a/b"], "invalid network name 'a/b': only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["--subnet", "10.1.0.128/25", "x"],
         "the subnet 10.1.0.128/25 overlaps with a network or route of this host"),
        (["--subnet", "198.51.0.0/16", "x"],
         "the subnet 198.51.0.0/16 overlaps with a network or route of this host"),
        (["--subnet", "10.2.0.0", "x"], "invalid subnet '10.2.0.0': use ADDRESS/LENGTH"),
        (["--subnet", "10.2.0.0/33", "x"], "invalid subnet '10.2.0.0/33': use ADDRESS/LENGTH"),
        (["--subnet", "10.2.0.1/24", "x"],
         "invalid subnet '10.2.0.1/24': it begins at 10.2.0.0/24"),
        (["--subnet", "10.2.0.0/31", "--gateway", "10.2.0.1", "x"],
         "the subnet 10.2.0.0/31 has no room for containers"),
        (["--subnet", "127.0.0.0/24", "x"],
         "the subnet 127.0.0.0/24 has addresses that are not for networks"),
        (["--subnet", "0.0.0.0/0", "x"],
         "the subnet 0.0.0.0/0 has addresses that are not for networks"),
        (["--subnet", "10.2.0.0/24", "--subnet", "10.3.0.0/24", "x"],
         "a network has one subnet of IPv4 and one of IPv6"),
        (["--subnet", "10.2.0.0/24", "--gateway", "10.3.0.1", "x"],
         "no matching subnet for gateway 10.3.0.1"),
        (["--subnet", "10.2.0.0/24", "--gateway", "10.2.0.255", "x"],
         "no matching subnet for gateway 10.2.0.255"),
        (["--subnet", "10.2.0.0/24", "--gateway", "10.2.0.1", "--gateway", "10.2.0.2", "x"],
         "a network has one gateway of IPv4 and one of IPv6"),
        (["--gateway", "here", "x"], "invalid address 'here'"),
        (["--driver", "overlay", "x"], "network driver 'overlay' is not known"),
        (["--opt", "mtu=1400", "x"], "unknown network option 'mtu=1400'"),
        (["--opt", f"{MTU}=\u00b2", "x"], "invalid MTU '\u00b2': a number of bytes"),
        (["default"], "network with name default already exists"),
        (["--opt", f"{MTU}=67", "x"], "invalid MTU 67: from 68 to 65535 bytes"),
        (["--opt", f"{MTU}=1000", "--subnet", "fd00:1::/64", "x"],
         "invalid MTU 1000: IPv6 wants 1280 bytes or more"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("outside")
def test_what_cannot_be_leaves_nothing(engine: Engine, words: list[str], said: str) -> None:
    engine.run("network", "create", *SUBNET, "shop")
    files = sorted(os.listdir(engine.root / "networks"))
    assert fails(engine, "network", "create", *words) == said
    assert sorted(os.listdir(engine.root / "networks")) == files
    assert links() == []


def test_a_small_mtu_is_without_ipv6(engine: Engine) -> None:
    engine.run("network", "create", "--opt", f"{MTU}=1000", "shop")
    found = start(engine, "web")["NetworkSettings"]
    assert found["GlobalIPv6Address"] == ""
    assert inside(engine, "web", "link", "show", "eth0")[0]["mtu"] == 1000


def test_who_is_on_a_network_keeps_it(engine: Engine) -> None:
    engine.run("network", "create", "shop")
    engine.run("network", "create", "stock")
    start(engine, "web")
    assert fails(engine, "network", "rm", "shop") == "network shop has active endpoints: web"
    assert engine.output("network", "prune", "--force") == "stock"
    assert names_of(engine) == ["shop", "none", "host"]
    assert reaches(engine, "web", endpoint(engine, "web")["Gateway"])
    engine.run("rm", "--force", "web")
    assert engine.output("network", "rm", "shop") == "shop"
    assert links() == []
    assert fails(engine, "network", "inspect", "shop") == "network shop not found"
    engine.run("network", "rm", "--force", "shop")  # prints it, and is no error


def test_the_default_network_comes_and_goes(engine: Engine) -> None:
    switches = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"]
    switches = [path for path in switches if os.path.exists(path)]

    def forwards() -> list[str]:
        return [Path(path).read_text().strip() for path in switches]

    before = forwards()
    assert "1" not in before
    ask(engine, "true", network="bridge")
    assert forwards() == ["1"] * len(switches)
    assert len(links()) == 1
    id = json.loads(engine.output("network", "inspect", "bridge"))[0]["Id"]
    for word in ("bridge", id, "host"):
        assert fails(engine, "network", "rm", word).endswith("and cannot be removed")
    assert engine.output("network", "prune", "--force") == "bridge"
    assert (links(), ruleset(), forwards()) == ([], "", before)
    assert ask(engine, "echo back", network="bridge") == "back"


def test_forwarding_stays_on_for_those_who_came_later(engine: Engine) -> None:
    """And with it the rule that keeps the host from being everybody's router."""
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    assert switch.read_text() == "0\n"
    engine.run("network", "create", "shop")
    ask(engine, "true")
    subprocess.run(["ip", "link", "add", "docker0", "type", "bridge"], check=True)
    try:
        engine.run("network", "rm", "shop")
        assert switch.read_text() == "1\n"
        assert ruleset().count(' meta iifkind != "bridge" meta oifkind != "bridge" drop') == 2
        assert len(ruleset().splitlines()) == 7  # and nothing else
    finally:
        subprocess.run(["ip", "link", "delete", "docker0"], check=True)
    engine.run("network", "create", "shop")
    engine.run("network", "rm", "shop")
    assert (switch.read_text(), ruleset()) == ("0\n", "")


def test_what_somebody_took_away_comes_back_with_the_next_container(
    engine: Engine, outside: Outside
) -> None:
    engine.run("network", "create", "shop")
    start(engine, "web")
    for damage in (
        "nft flush ruleset inet",
        "nft flush ruleset bridge",
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
    ):
        subprocess.run(["sh", "-c", damage], check=True)
        ask(engine, "true")
        assert reaches(engine, "web", outside.address4), damage
        assert [line.split()[1] for line in ruleset().splitlines() if line.startswith("table")] == [
            "inet", "bridge",
        ]  # fmt: skip


# ------------------------------------------------------------------------- addresses and adapters


def test_an_address_of_ones_own(engine: Engine) -> None:
    engine.run("network", "create", *SUBNET, "shop")
    assert start(engine, "web", "--ip", "10.1.0.7")["NetworkSettings"]["IPAddress"] == "10.1.0.7"
    assert inside(engine, "web", "-4", "address", "show", "eth0")[0]["addr_info"][0]["local"] == (
        "10.1.0.7"
    )
    for address, said in (
        ("10.1.0.7", "address 10.1.0.7 is already in use on network shop"),
        ("10.1.0.1", "address 10.1.0.1 is already in use on network shop"),
        ("10.1.0.0", "it is not one for containers of the network shop (10.1.0.0/24)"),
        ("10.1.0.255", "it is not one for containers of the network shop (10.1.0.0/24)"),
        ("10.2.0.7", "it is not one for containers of the network shop (10.1.0.0/24)"),
        ("fd00::1", "invalid IPv4 address: fd00::1"),
        ("10.1.0.7.", "invalid address '10.1.0.7.'"),
    ):
        words = ("run", "--rm", "--network", "shop", "--ip", address, "starter", "true")
        assert fails(engine, *words).endswith(said)
    assert fails(engine, "run", "--network", "bridge", "--ip", "10.1.0.8", "starter", "true") == (
        "user specified IP address is supported on user defined networks only"
    )
    assert engine.output("ps", "-a", "--format", "{{.Names}}") == "web"
    engine.run("rm", "--force", "web")
    assert ask(engine, "hostname -i", "--ip", "10.1.0.7").split()[0] == "10.1.0.7"


def test_an_ipv6_address_of_ones_own(engine: Engine) -> None:
    engine.run("network", "create", *SUBNET, "--subnet", "fd00:1::/64", "shop")
    web = start(engine, "web", "--ip6", "fd00:1::0:77")["NetworkSettings"]["Networks"]["shop"]
    assert web["GlobalIPv6Address"] == "fd00:1::77"
    shown = inside(engine, "web", "-6", "address", "show", "eth0", "scope", "global")
    assert shown[0]["addr_info"][0]["local"] == "fd00:1::77"
    for address, said in (
        ("fd00:1::77", "address fd00:1::77 is already in use on network shop"),
        ("fd00:1::1", "address fd00:1::1 is already in use on network shop"),
        ("fd00:1::", "it is not one for containers of the network shop (fd00:1::/64)"),
        ("fd00:2::7", "it is not one for containers of the network shop (fd00:1::/64)"),
        ("10.1.0.7", "invalid IPv6 address: 10.1.0.7"),
    ):
        words = ("run", "--rm", "--network", "shop", "--ip6", address, "starter", "true")
        assert fails(engine, *words).endswith(said)
    assert fails(engine, "run", "--ip6", "fd00::8", "starter", "true") == (
        "user specified IP address is supported on user defined networks only"
    )
    engine.run("network", "create", "--ipv6=false", "plain")
    assert fails(engine, "network", "connect", "--ip6", "fd00:1::9", "plain", "web") == (
        "invalid address fd00:1::9: network plain has no IPv6"
    )
    engine.run("network", "create", "--subnet", "fd00:2::/64", "stock")
    engine.run("network", "connect", "--ip6", "fd00:2::9", "stock", "web")
    assert endpoint(engine, "web", "stock")["GlobalIPv6Address"] == "fd00:2::9"


def test_a_network_that_is_full(engine: Engine) -> None:
    engine.run("network", "create", "--subnet", "10.1.0.0/30", "shop")
    start(engine, "web")
    said = fails(engine, "run", "--rm", "--network", "shop", "starter", "true")
    assert said.startswith("no available IPv4 addresses")
    engine.run("rm", "--force", "web")
    ask(engine, "true")


def test_a_hardware_address_of_ones_own(engine: Engine) -> None:
    engine.run("network", "create", "shop")
    found = start(engine, "web", "--mac-address", "02-AB-00-00-00-01")["NetworkSettings"]
    assert found["MacAddress"] == "02:ab:00:00:00:01"
    assert inside(engine, "web", "link", "show", "eth0")[0]["address"] == "02:ab:00:00:00:01"
    assert reaches(engine, "web", found["Gateway"])  # the firewall knows it too
    for word in ("01:00:00:00:00:01", "00:00:00:00:00:00", "02:ab", "02:ab:00:00:00:0g"):
        said = fails(engine, "run", "--network", "shop", "--mac-address", word, "starter", "true")
        assert said == f"invalid MAC address '{word}': six octets, and not a group's"


def test_inspect_says_what_the_kernel_has(engine: Engine) -> None:
    engine.run("network", "create", "shop")
    found = start(engine, "web")["NetworkSettings"]
    assert {key: found["Networks"]["shop"][key] for key in ("IPAddress", "MacAddress")} == {
        key: found[key] for key in ("IPAddress", "MacAddress")
    }
    (link,) = inside(engine, "web", "address", "show", "eth0")
    addresses = {(each["local"], each["prefixlen"]) for each in link["addr_info"]
                 if each["scope"] == "global"}  # fmt: skip
    told = {(found["IPAddress"], found["IPPrefixLen"])}
    gateways = {found["Gateway"]}
    if HAS_IPV6:
        told.add((found["GlobalIPv6Address"], found["GlobalIPv6PrefixLen"]))
        gateways.add(found["IPv6Gateway"])
    assert addresses == told
    assert link["address"] == found["MacAddress"]
    routes = [*inside(engine, "web", "route"), *inside(engine, "web", "-6", "route")]
    assert {route["gateway"] for route in routes if route["dst"] == "default"} == gateways
    engine.run("kill", "web")
    engine.run("wait", "web")
    assert inspect(engine, "web")["NetworkSettings"]["IPAddress"] == ""


@pytest.mark.parametrize("userns", ["host", "remap"])
def test_exec_is_in_the_same_network(
    engine: Engine, outside: Outside, tmp_path: Path, userns: str
) -> None:
    """Of a container with a user namespace too, whose network belongs to that."""
    with subids.given(tmp_path, "minicontainer:700000:65536\n"):
        options = ["--userns", "remap"] if userns == "remap" else []
        found = start(engine, "web", *options, network="bridge")["NetworkSettings"]
        assert found["IPAddress"] in engine.output("exec", "web", "ip", "address")
        assert reaches(engine, "web", outside.address4)
        owner = engine.output("exec", "web", "cat", "/proc/self/uid_map").split()[1]
        assert owner == ("700000" if userns == "remap" else "0")
        engine.run("network", "create", "shop")
        engine.run("network", "connect", "shop", "web")
        assert reaches(engine, "web", endpoint(engine, "web")["Gateway"])
        engine.run("rm", "--force", "web")


# ----------------------------------------------------------------------- shared, and none at all


def test_in_anothers_network(engine: Engine) -> None:
    engine.run("network", "create", "shop")
    web = start(engine, "web", "--hostname", "box")
    start(engine, "beside", network="container:web")
    for name in ("beside", "web"):  # and who joins the one who has joined
        script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts"
        printed = ask(engine, script, network=f"container:{name}")
        assert printed == engine.output("exec", "web", "sh", "-c", script), name
        assert f"{web['NetworkSettings']['IPAddress']}\tbox" in printed
    for option, what in (
        (("--hostname", "x"), "hostname"),
        (("--dns", "192.0.2.1"), "dns"),
        (("--add-host", "a:192.0.2.1"), "custom host-to-IP mapping"),
        (("--mac-address", "02:00:00:00:00:01"), "mac-address"),
        (("--ip", "10.1.0.2"), "ip"),
        (("--ip6", "fd00::2"), "ip6"),
    ):
        joining = ("run", "--network", "container:web", *option, "starter", "true")
        assert fails(engine, *joining) == f"conflicting options: {what} and the network mode"
    joining = ("run", "--network", "container:web", "-p", "80:80", "starter", "true")
    assert fails(engine, *joining) == (
        "conflicting options: port publishing and the container type network mode"
    )
    engine.run("kill", "web")
    engine.run("wait", "web")
    joined = ("run", "--network", "container:web", "starter", "true")
    assert fails(engine, *joined) == f"container {web['Id']} is not running"
    engine.run("rm", "web")
    joined = ("run", "--network", "container:beside", "starter", "true")
    assert fails(engine, *joined) == "the container whose network beside has is gone"
    joined = ("run", "--network", "container:nobody", "starter", "true")
    assert fails(engine, *joined) == "no such container: nobody"


def test_without_a_network_of_ours(engine: Engine) -> None:
    assert ask(engine, "ls /sys/class/net", network="none") == "lo"
    ours = os.readlink("/proc/self/ns/net")
    assert ask(engine, "readlink /proc/self/ns/net", network="host") == ours
    assert (links(), ruleset()) == ([], "")
    start(engine, "plain", network="none")
    engine.run("network", "create", "shop")
    assert fails(engine, "network", "connect", "shop", "plain") == (
        "container plain cannot be connected: it has --network none"
    )
    assert fails(engine, "run", "--network", "nowhere", "starter", "true") == (
        "network nowhere not found"
    )


# ------------------------------------------------------------------------- who reaches whom


def test_the_two_that_are_no_networks(engine: Engine) -> None:
    start(engine, "web", network="bridge")
    for name, driver in (("none", "null"), ("host", "host")):
        (found,) = json.loads(engine.output("network", "inspect", name))
        assert (found["Name"], found["Driver"], found["Scope"]) == (name, driver, "local")
        for words in (["connect", name, "web"], ["disconnect", name, "web"],
                      ["inspect", "--diagram", name]):  # fmt: skip
            assert fails(engine, "network", *words) == (
                f"network {name} has no bridge: nothing is connected to it, or drawn"
            )


def test_a_second_adapter(engine: Engine, outside: Outside) -> None:
    engine.run("network", "create", "shop")
    engine.run("network", "create", *SUBNET, "stock")
    start(engine, "other", network="stock")
    start(engine, "web")
    far = endpoint(engine, "other", "stock")["IPAddress"]
    default = [each for each in inside(engine, "web", "route") if each["dst"] == "default"]
    assert not reaches(engine, "web", far)
    engine.run("network", "connect", "--ip", "10.1.0.9", "stock", "web")
    assert inside(engine, "web", "-4", "address", "show", "eth1")[0]["addr_info"][0]["local"] == (
        "10.1.0.9"
    )
    assert [each for each in inside(engine, "web", "route") if each["dst"] == "default"] == default
    assert reaches(engine, "web", far)
    assert reaches(engine, "other", "10.1.0.9")
    assert reaches(engine, "web", outside.address4)
    assert fails(engine, "network", "connect", "stock", "web") == (
        "endpoint with name web already exists in network stock"
    )
    assert fails(engine, "network", "rm", "stock").startswith("network stock has active endpoints")
    engine.run("network", "disconnect", "stock", "web")
    assert not reaches(engine, "web", far)
    assert list(inspect(engine, "web")["NetworkSettings"]["Networks"]) == ["shop"]
    assert fails(engine, "network", "disconnect", "stock", "web") == (
        "container web is not connected to network stock"
    )
    assert "10.1.0.9" not in ruleset()
    said = fails(engine, "network", "connect", "--ip", "10.1.0.255", "stock", "web")
    assert said.startswith("invalid address 10.1.0.255")
    assert [each["ifname"] for each in inside(engine, "web", "link")] == ["lo", "eth0"]


def defaults(engine: Engine, name: str) -> list[str]:
    """By which adapters a container's default routes lead: of IPv4, of IPv6."""
    routes = inside(engine, name, "-4", "route") + inside(engine, name, "-6", "route")
    return [route["dev"] for route in routes if route["dst"] == "default"]


def test_several_networks_in_one_run(engine: Engine, outside: Outside) -> None:
    for name, options in (("shop", ()), ("stock", SUBNET), ("vault", ("--internal",))):
        engine.run("network", "create", *options, name)
    start(engine, "other", network="stock")
    more = ["--network", "shop", "--network", "stock", "-p", "5001:80", "--ip", "10.9.0.9"]
    said = fails(engine, "run", "--rm", *more, "--network", "vault", "starter", "true")
    assert said.startswith("invalid address 10.9.0.9"), said
    start(engine, "web", "--network", "shop", "--network", "stock", "-p", "5001:80",
          network="vault")  # fmt: skip
    networks = inspect(engine, "web")["NetworkSettings"]["Networks"]
    assert list(networks) == ["vault", "shop", "stock"]
    for number, name in enumerate(networks):
        (link,) = inside(engine, "web", "-4", "address", "show", f"eth{number}")
        assert link["addr_info"][0]["local"] == networks[name]["IPAddress"]
    # The first that leads out does.
    assert defaults(engine, "web") == ["eth1", "eth1"]
    assert reaches(engine, "web", outside.address4)
    assert reaches(engine, "web", endpoint(engine, "other", "stock")["IPAddress"])
    # When it goes, the next one does; one that leads nowhere never.
    engine.run("network", "disconnect", "shop", "web")
    assert defaults(engine, "web") == ["eth2", "eth2"]
    assert reaches(engine, "web", outside.address4)
    engine.run("network", "disconnect", "stock", "web")
    assert defaults(engine, "web") == []
    engine.run("rm", "-f", "web", "other")
    assert traces(engine) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shop", "shop"], "network 'shop' is specified multiple times"),
        (["shop", "none"], "conflicting options: none and another --network"),
        (["host", "shop"], "conflicting options: host and another --network"),
        (["shop", "nosuch"], "network nosuch not found"),
    ],
)
def test_several_that_cannot_be(engine: Engine, words: list[str], said: str) -> None:
    engine.run("network", "create", "shop")
    options = [word for name in words for word in ("--network", name)]
    assert fails(engine, "run", "--rm", *options, "starter", "true") == said
    assert traces(engine) == []


def test_an_internal_network_is_alone(engine: Engine, outside: Outside) -> None:
    engine.run("network", "create", "--internal", "shop")
    engine.run("network", "create", "stock")
    start(engine, "web")
    start(engine, "near")
    start(engine, "other", network="stock")
    # A route of one's own does not help either.
    gateway = json.loads(engine.output("network", "inspect", "shop"))[0]["IPAM"]["Config"][0]
    pid = inspect(engine, "web")["State"]["Pid"]
    route = ["ip", "route", "add", "default", "via", gateway["Gateway"]]
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", *route], check=True)
    assert reaches(engine, "web", endpoint(engine, "near")["IPAddress"])
    assert not reaches(engine, "web", outside.address4)
    assert not reaches(engine, "web", endpoint(engine, "other", "stock")["IPAddress"])
    assert not reaches(engine, "other", endpoint(engine, "web")["IPAddress"])
    # One more network leads it out.
    engine.run("network", "connect", "stock", "near")
    assert reaches(engine, "near", outside.address4)


def test_two_networks_do_not_know_each_other(engine: Engine, outside: Outside) -> None:
    for network, name in (("shop", "web"), ("stock", "other")):
        engine.run("network", "create", network)
        start(engine, name, network=network)
    for name, far in (
        ("web", endpoint(engine, "other", "stock")),
        ("other", endpoint(engine, "web")),
    ):
        assert reaches(engine, name, outside.address4)
        assert not reaches(engine, name, far["IPAddress"])
        if far["GlobalIPv6Address"]:
            assert not reaches(engine, name, far["GlobalIPv6Address"])


def test_a_port_leads_to_nobody_else(engine: Engine) -> None:
    """Whoever gets the address of a container that has left the network gets none of its ports."""
    engine.run("network", "create", *SUBNET, "shop")
    start(engine, "web", "-p", "5001:80")
    engine.run("network", "disconnect", "shop", "web")
    assert start(engine, "other")["NetworkSettings"]["IPAddress"] == "10.1.0.2"
    assert engine.output("port", "web") == ""
    assert not [line for line in ruleset() if "5001" in line]
    with socket.create_connection(("127.0.0.1", 5001), patience.seconds(10)) as client:
        assert client.recv(1) == b""


# ---------------------------------------------------------------------------------------- killed


def test_a_supervisor_is_killed(engine: Engine) -> None:
    engine.run("network", "create", *SUBNET, "shop")
    id = start(engine, "web", "-p", "5001:80")["Id"]
    state = json.loads((engine.run_root / id / "state.json").read_text())
    assert (engine.run_root / id / "network.json").exists()
    os.kill(state["engine"], signal.SIGKILL)
    engine.run("ps")
    assert not (engine.run_root / id).exists()
    assert f"mc{id[:10]}" not in [*links(), *ruleset().split('"')]
    assert "5001" not in ruleset()
    assert ask(engine, "hostname -i").split()[0] == "10.1.0.2"


def kill_at(engine: Engine, moment: tuple[str, int], *words: str) -> bool:
    """Whether a command was killed at that moment; it alone, without what it has started."""
    name, when = moment
    inject = f"--inject={name}:signal=KILL:when={when}"
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", inject, *engine.command(*words)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=patience.seconds(60), check=False,
    )  # fmt: skip
    return done.returncode != 0


@pytest.mark.tools("strace")
def test_a_start_is_killed_at_any_moment(engine: Engine, tmp_path: Path) -> None:
    words = ["run", "--rm", "--network", "bridge", "-p", "5001:80", "starter", "true"]
    engine.run("network", "prune", "--force")
    for fresh in (False, True):
        killed = 0
        for moment in moments(engine, tmp_path, 16, *words):
            if fresh:  # the bridge and the tables are what it makes
                engine.run("network", "prune", "--force")
            killed += kill_at(engine, moment, *words)
            assert traces(engine) == [], moment
            assert "5001" not in ruleset(), moment
            # Whatever it had begun is whole for the next.
            printed = ask(engine, "ip route; ping -c 1 $(ip route | awk '/^default/ {print $3}')",
                          network="bridge")  # fmt: skip
            assert "1 packets received" in printed, moment
        assert killed > 4


@pytest.mark.tools("strace")
def test_a_disconnection_is_killed(engine: Engine) -> None:
    """The address is nobody else's before the cable and the rules are gone; and it can be asked
    for again."""
    engine.run("network", "create", "shop")
    web = start(engine, "web", "-p", "5001:80")["NetworkSettings"]["IPAddress"]
    words = ["network", "disconnect", "shop", "web"]
    assert kill_at(engine, ("memfd_create", 1), *words)  # it begins to change the firewall
    other = start(engine, "other")["NetworkSettings"]["IPAddress"]
    assert other != web
    engine.run(*words)
    assert inspect(engine, "web")["NetworkSettings"]["IPAddress"] == ""
    assert web not in ruleset()
    assert "5001" not in ruleset()
    assert ask(engine, "hostname -i") == web


def test_a_half_made_bridge_is_made_anew(engine: Engine) -> None:
    """Its maker was killed before it had addresses."""
    id = engine.output("network", "create", "shop")
    subprocess.run(["ip", "link", "add", f"mc-{id[:12]}", "type", "bridge"], check=True)
    gateway = start(engine, "web")["NetworkSettings"]["Gateway"]
    assert reaches(engine, "web", gateway)


def test_an_nft_that_outlives_its_engine(engine: Engine, tmp_path: Path) -> None:
    """Who cleans up waits for it, or its change would come afterwards and stay."""
    engine.run("network", "create", "shop")
    ask(engine, "true")
    program, gate, reached = (tmp_path / name for name in ("nft", "gate", "reached"))
    os.mkfifo(gate)
    os.mkfifo(reached)
    real = subprocess.run(["which", "nft"], capture_output=True, text=True, check=True).stdout
    # Each waits until it may go on, and only the one of this host is held up.
    program.write_text(
        f"#!/bin/sh\n[ $(readlink /proc/self/ns/net) = '{os.readlink('/proc/self/ns/net')}' ] && "
        f'echo >{reached} && read go <{gate}\nexec {real.strip()} "$@"\n'
    )
    program.chmod(0o755)
    slow = Engine(tmp_path / "engine")
    slow.environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    run = slow.start("run", "--rm", "--network", "shop", "starter", "true")
    reached.read_text()
    run.kill()
    run.communicate()
    cleaning = engine.start("ps")
    with pytest.raises(subprocess.TimeoutExpired):
        cleaning.wait(1)  # it would have taken a tenth of that
    gate.write_text("\n")
    cleaning.communicate(timeout=patience.seconds(30))
    assert traces(engine) == []


def test_a_firewall_that_refuses_at_the_end(engine: Engine, tmp_path: Path) -> None:
    """It is said, and of the container only rules are left, until they are written anew."""
    engine.run("network", "create", *SUBNET, "shop")
    start(engine, "web", "--rm")
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\necho 'Error: not today' >&2\nexit 1\n")
    program.chmod(0o755)
    state = json.loads((engine.run_root / inspect(engine, "web")["Id"] / "state.json").read_text())
    os.kill(state["engine"], signal.SIGKILL)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = engine.run("ps", check=False, environment=path)
    assert done.stderr == "minicontainer: cannot change the firewall: nft: not today\n"
    assert left(engine) == []
    assert ask(engine, "hostname -i").split()[0] == "10.1.0.2"
    engine.run("network", "create", "stock")
    assert traces(engine) == []


def test_somebody_flushes_the_rules(engine: Engine, outside: Outside) -> None:
    engine.run("network", "create", "shop")
    start(engine, "web")
    before = ruleset()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    start(engine, "other")
    assert reaches(engine, "other", outside.address4)
    assert reaches(engine, "web", outside.address4)
    engine.run("rm", "--force", "other")
    assert ruleset() == before
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    engine.run("rm", "--force", "web")
    assert traces(engine) == []


def test_a_start_that_fails_leaves_nothing(engine: Engine) -> None:
    engine.run("network", "create", *SUBNET, "shop")
    for options in ([], ["--detach"]):
        words = (
            "run",
            "--rm",
            "--network",
            "shop",
            *options,
            "-p",
            "5001:80",
            "starter",
            "nothing",
        )
        done = engine.run(*words, check=False)
        assert done.returncode == 127
        assert traces(engine) == []
        assert "5001" not in ruleset()
    assert ask(engine, "hostname -i").split()[0] == "10.1.0.2"


def test_without_nft(engine: Engine) -> None:
    """What works without rules does, with a word about the rest; what they promise is refused."""

    def without(*words: str) -> subprocess.CompletedProcess[str]:
        hide = 'mount --bind /dev/null "$(command -v nft)" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", hide, "sh", *engine.command(*words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    script = "mkdir /w; echo here >/w/index.html; httpd -p 80 -h /w; exec sleep 1000"
    words = ("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "starter", "sh", "-c", script)
    done = without(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("minicontainer: warning: there is no nft (apt install nftables):")
    assert len(done.stderr.splitlines()) == 1
    place = engine.output("port", "web", "80")
    retry = ["--retry", "9", "--retry-delay", "1", "--retry-all-errors"]
    assert subprocess.check_output(["curl", "-s", *retry, f"http://{place}/"]) == b"here\n"
    done = without("network", "create", "--internal", "shop")
    assert done.returncode == 1
    assert done.stderr.startswith("minicontainer: an internal network wants the program nft")
    engine.run("network", "create", "--internal", "shop")
    done = without("run", "--rm", "--network", "shop", "starter", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("minicontainer: an internal network wants the program nft")
    engine.run("rm", "-f", "web")
    # Its supervisor never saw nft, so what others wrote for it goes with the next change.
    engine.run("network", "prune", "-f")
    assert traces(engine) == []


def test_a_port_of_one_that_is_on_the_callers_network_too(engine: Engine) -> None:
    """Its answer must come back the way that the question took, and not by the other adapter."""
    for name in ("shop", "stock"):
        engine.run("network", "create", name)
    serve = "mkdir /w; echo here >/w/index.html; httpd -p 80 -h /w; exec sleep 1000"
    networks = ["--network", "shop", "--network", "stock"]
    engine.run("run", "-d", "--name", "web", *networks, "-p", "5001:80", "starter",
               "sh", "-c", serve)  # fmt: skip
    gateway = endpoint(engine, "web", "shop")["Gateway"]
    call = f"wget -qO- http://{gateway}:5001/ || wget -qO- http://{gateway}:5001/"
    assert ask(engine, call, network="stock") == "here"


def test_a_way_out_of_its_own_is_left_alone(engine: Engine) -> None:
    for name in ("shop", "stock"):
        engine.run("network", "create", name)
    start(engine, "web", "--network", "stock")
    gateway = endpoint(engine, "web", "stock")["Gateway"]
    pid = inspect(engine, "web")["State"]["Pid"]
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    route = ["ip", "route", "replace", "default", "via", gateway, "dev", "eth1"]
    subprocess.run([*enter, *route], check=True)
    engine.run("network", "disconnect", "shop", "web")
    assert defaults(engine, "web") == ["eth1", "eth1"]
    engine.run("network", "connect", "shop", "web")
    assert defaults(engine, "web") == ["eth1", "eth1"]


@pytest.mark.parametrize(
    "setting", ["all.disable_ipv6=1", "default.disable_ipv6=1", "eth0.disable_ipv6=1"]
)
def test_settings_of_its_network(engine: Engine, setting: str) -> None:
    """They are made when there is an adapter, and its addresses."""
    name, _, value = setting.partition("=")
    words = ("run", "--rm", "--sysctl", f"net.ipv6.conf.{name}={value}", "starter")
    path = f"/proc/sys/net/ipv6/conf/{name.replace('.', '/')}"
    assert engine.output(*words, "cat", path) == value


def test_a_name_that_is_no_text(engine: Engine) -> None:
    """The names of a container's adapters are its own choice."""
    engine.run("network", "create", "shop")
    start(engine, "web")
    pid = inspect(engine, "web")["State"]["Pid"]
    for name in (b"x\xff", b"x\x1b[31m"):
        old = os.listdir(f"/proc/{pid}/root/sys/class/net")
        (link,) = (each for each in old if each != "lo")
        enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        subprocess.run([*enter, "ip", "link", "set", os.fsencode(link), "down"], check=True)
        subprocess.run(
            [*enter, "ip", "link", "set", os.fsencode(link), "name", name, "up"], check=True
        )
        for kind in ("text", "svg"):
            picture = engine.output("network", "inspect", f"--diagram={kind}", "shop")
            assert "\x1b" not in picture and "x\\x" in picture

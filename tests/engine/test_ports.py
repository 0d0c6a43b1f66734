"""Published ports of real containers, asked from this host, from a neighbour, and from each other.

The service is busybox's httpd with one page, which says who asks and who answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from chapters import patience
from tests.support.engine import Engine
from tests.support.netns import Namespace
from tests.support.network import Outside

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox", "nft", "curl")]

SERVE = r"""
mkdir -p /tmp/cgi-bin
printf '#!/bin/sh\necho; echo $REMOTE_ADDR asks $(hostname)\n' > /tmp/cgi-bin/who
chmod +x /tmp/cgi-bin/who
httpd -p ${1:-5000} -h /tmp && echo ready && exec sleep 1000
"""


@pytest.fixture(autouse=True)
def _store(starter: str) -> None:
    """Every test has the starter image."""


@pytest.fixture
def stack(engine: Engine) -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def serve(
    stack: contextlib.ExitStack, engine: Engine, name: str, *options: str, port: int = 5000
) -> subprocess.Popen[str]:
    """A container that serves; it is removed at the test's end."""
    words = ["run", "--rm", "--name", name, "--hostname", name, *options]
    started = engine.start(*words, "starter", "sh", "-c", SERVE, "sh", str(port))

    def end() -> None:
        engine.run("rm", "--force", name, check=False)
        started.communicate(timeout=patience.seconds(30))

    stack.callback(end)
    assert started.stdout is not None
    if started.stdout.readline() != "ready\n":
        raise AssertionError(started.communicate()[1])
    return started


def curl(address: str, port: int, *options: str) -> list[str]:
    """The command line that asks for the page."""
    host = f"[{address}]" if ":" in address else address
    limit = ["--max-time", str(patience.seconds(10))]
    return ["curl", "-sg", *limit, *options, f"http://{host}:{port}/cgi-bin/who"]


def ask(address: str, port: int) -> str:
    """What the page says to this host."""
    done = subprocess.run(curl(address, port), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"curl {address}:{port}: exit {done.returncode}"
    return done.stdout.strip()


def refused(address: str, port: int) -> bool:
    done = subprocess.run(curl(address, port), capture_output=True, check=False)
    return done.returncode == 7


def inspect(engine: Engine, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(engine.output("inspect", name))[0]
    return found


def address_of(engine: Engine, name: str) -> str:
    networks = inspect(engine, name)["NetworkSettings"]["Networks"]  # type: ignore[index]
    return str(networks["bridge"]["IPAddress"])


def test_two_instances_of_one_image(stack: contextlib.ExitStack, engine: Engine) -> None:
    serve(stack, engine, "one", "-p", "5001:5000")
    serve(stack, engine, "two", "-p", "5002:5000")
    for address in ("127.0.0.1", "::1", "localhost"):
        assert ask(address, 5001).endswith("asks one")
        assert ask(address, 5002).endswith("asks two")


def test_a_neighbour_is_seen_as_who_it_is(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    serve(stack, engine, "web", "-p", "5001:5000")
    said = outside.run(*curl(outside.host4, 5001)).strip()
    assert said.replace("::ffff:", "").replace("[", "").replace("]", "") == (
        f"{outside.address4} asks web"
    )
    if inspect(engine, "web")["NetworkSettings"]["Networks"]["bridge"]["GlobalIPv6Address"]:  # type: ignore[index]
        assert outside.address6 in outside.run(*curl(outside.host6, 5001))


def test_only_for_this_host(stack: contextlib.ExitStack, engine: Engine, outside: Outside) -> None:
    serve(stack, engine, "web", "-p", "127.0.0.1:5001:5000")
    assert ask("127.0.0.1", 5001).endswith("asks web")
    assert refused(outside.host4, 5001)
    assert refused("::1", 5001)
    assert outside.run(*curl(outside.host4, 5001, "-w", "%{exitcode}"), check=False) == "7"
    # Not even one who knows the way to the container.
    inner = address_of(engine, "web")
    outside.run("ip", "route", "add", inner, "via", outside.host4)
    quick = ("-w", "%{exitcode}", "--connect-timeout", "1")
    assert outside.run(*curl(inner, 5000, *quick), check=False) == "28"


def test_from_another_container_and_from_itself(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    serve(stack, engine, "web", "-p", "5001:5000")
    url = f"http://{outside.host4}:5001/cgi-bin/who"
    assert engine.output("exec", "web", "wget", "-qO-", url).endswith("asks web")
    command = ["--rm", "--network", "bridge", "starter", "wget", "-qO-", url]
    assert engine.output("run", *command).endswith("asks web")


def test_a_port_that_is_taken(stack: contextlib.ExitStack, engine: Engine) -> None:
    serve(stack, engine, "one", "-p", "5001:5000")
    done = engine.run("run", "--name", "two", "-p", "5001:5000", "starter", "true", check=False)
    assert done.returncode == 125
    assert done.stderr == (
        "minicontainer: Bind for 0.0.0.0:5001 failed: port is already allocated\n"
    )
    assert engine.output("ps", "--format", "{{.Names}}") == "one"
    assert ask("127.0.0.1", 5001).endswith("asks one")
    # Nothing is held by who failed.
    engine.run("run", "--rm", "-p", "5002:5000", "starter", "true")


def test_any_free_port(stack: contextlib.ExitStack, engine: Engine) -> None:
    serve(stack, engine, "web", "-P", "--expose", "5000", "--expose", "53/udp", "-p", "8080")
    lines = engine.output("port", "web").splitlines()
    ports = {line.split()[0]: int(line.rpartition(":")[2]) for line in lines}
    assert sorted(ports) == ["5000/tcp", "53/udp", "8080/tcp"]
    assert ask("127.0.0.1", ports["5000/tcp"]).endswith("asks web")
    assert engine.output("port", "web", "5000") == (
        f"0.0.0.0:{ports['5000/tcp']}\n[::]:{ports['5000/tcp']}"
    )
    for word, said in (
        ("9", "no public port '9' published for web"),
        ("x", "invalid port (x)"),
    ):
        done = engine.run("port", "web", word, check=False)
        assert (done.returncode, done.stderr) == (1, f"minicontainer: {said}\n")


def test_how_ports_are_shown(stack: contextlib.ExitStack, engine: Engine) -> None:
    serve(stack, engine, "web", "-p", "5001:5000", "-p", "127.0.0.1:53:53/udp", "--expose", "9")
    shown = "9/tcp, 127.0.0.1:53->53/udp, 0.0.0.0:5001->5000/tcp, [::]:5001->5000/tcp"
    assert engine.output("ps", "--format", "{{.Ports}}") == shown
    found = inspect(engine, "web")
    assert found["NetworkSettings"]["Ports"] == {  # type: ignore[index]
        "9/tcp": None,
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "5000/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "5001"},
            {"HostIp": "::", "HostPort": "5001"},
        ],
    }
    assert found["HostConfig"]["PortBindings"] == {  # type: ignore[index]
        "5000/tcp": [{"HostIp": "", "HostPort": "5001"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
    }
    assert list(found["Config"]["ExposedPorts"]) == ["9/tcp", "53/udp", "5000/tcp"]  # type: ignore[index]


def service_in(stack: contextlib.ExitStack, engine: Engine, name: str) -> socket.socket:
    """A UDP socket on port 5000 in a container's network."""
    pid = inspect(engine, name)["State"]["Pid"]  # type: ignore[index]
    inside = stack.enter_context(Namespace(f"/proc/{pid}/ns/net"))
    return stack.enter_context(inside.listen("0.0.0.0", 5000, socket.SOCK_DGRAM))


def exchange(
    stack: contextlib.ExitStack, engine: Engine, name: str, outside: Outside, address: str
) -> str:
    """Ask a container by a datagram to port 5001 of an address, or of the host from "outside", and
    have it answer; who asks, as it sees it."""
    service = service_in(stack, engine, name)
    if address == "outside":
        far = stack.enter_context(Namespace(outside.path))
        asking = far.connect(outside.host4, 5001, socket.SOCK_DGRAM)
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        asking = socket.socket(family, socket.SOCK_DGRAM)
        asking.settimeout(patience.seconds(10))
        asking.connect((address, 5001))
    with asking:
        asking.send(b"question")
        data, peer = service.recvfrom(100)
        service.sendto(data[::-1], peer)
        assert asking.recv(100) == b"noitseuq"
    return str(peer[0])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "outside"])
def test_datagrams(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside, address: str
) -> None:
    serve(stack, engine, "web", "-p", "5001:5000/udp")
    peer = exchange(stack, engine, "web", outside, address)
    assert (peer == outside.address4) == (address == "outside")


def test_a_client_that_goes_on_sending_reaches_the_next_container(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    """And not whoever has the address of the one before: the kernel remembers flows."""
    datagram = socket.SOCK_DGRAM
    far = stack.enter_context(Namespace(outside.path))
    with contextlib.ExitStack() as life:
        serve(life, engine, "one", "-p", "5001:5000/udp")
        first = service_in(life, engine, "one")
        asking = stack.enter_context(far.connect(outside.host4, 5001, datagram))
        asking.send(b"to one")
        assert first.recv(100) == b"to one"
        before = address_of(engine, "one")
    engine.run("run", "-d", "--name", "between", "--network", "bridge", "starter", "sleep", "1000")
    assert address_of(engine, "between") == before
    serve(stack, engine, "two", "-p", "5001:5000/udp")
    second = service_in(stack, engine, "two")
    asking.send(b"to two")
    assert second.recvfrom(100)[0] == b"to two"


def test_a_container_that_leaves_its_network_takes_its_ports_along(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    serve(stack, engine, "web", "-p", "5001:5000")
    engine.run("network", "disconnect", "bridge", "web")
    assert engine.output("port", "web") == ""
    # Whoever has its address next is not meant.
    serve(stack, engine, "next", "--network", "bridge")
    done = subprocess.run(curl("127.0.0.1", 5001), capture_output=True, check=False)
    assert (done.returncode, done.stdout) in ((52, b""), (56, b""))
    outside_code = outside.run(*curl(outside.host4, 5001, "-w", "%{exitcode}"), check=False)
    assert outside_code in ("52", "56")
    # Nobody else may have the port meanwhile, and with a network it is there again.
    for network in ("bridge", "shop"):
        engine.run("network", "create", "shop", check=False)
        engine.run("network", "connect", network, "web")
        assert engine.output("port", "web").splitlines()[0] == "5000/tcp -> 0.0.0.0:5001"
        assert ask("127.0.0.1", 5001).endswith("asks web")
        assert outside.run(*curl(outside.host4, 5001)).strip().endswith("asks web")
        engine.run("network", "disconnect", network, "web")


def test_ports_move_to_a_network_that_leads_out(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    engine.run("network", "create", "--internal", "vault")
    engine.run("network", "create", "shop")
    engine.run("network", "create", "stock")
    networks = [word for name in ("vault", "shop", "stock") for word in ("--network", name)]
    serve(stack, engine, "web", *networks, "-p", "5001:5000")
    for gone in ("", "shop"):
        if gone:
            engine.run("network", "disconnect", gone, "web")
        assert ask("127.0.0.1", 5001).endswith("asks web")
        assert outside.run(*curl(outside.host4, 5001)).strip().endswith("asks web")
    engine.run("network", "disconnect", "stock", "web")
    assert engine.output("port", "web") == ""  # from the vault nothing leads out


def test_on_internal_networks_alone_no_port_is_held(
    stack: contextlib.ExitStack, engine: Engine
) -> None:
    engine.run("network", "create", "--internal", "vault")
    words = ["run", "-d", "--name", "web", "--network", "vault", "-p", "5001:5000"]
    done = engine.run(*words, "starter", "sleep", "1000")
    assert done.stderr == (
        "minicontainer: published ports are discarded when using internal networks alone\n"
    )
    assert refused("127.0.0.1", 5001)
    serve(stack, engine, "other", "-p", "5001:5000")


def test_the_end_leaves_nothing(stack: contextlib.ExitStack, engine: Engine) -> None:
    with contextlib.ExitStack() as life:
        serve(life, engine, "web", "-p", "5001:5000", "-p", "5001:5000/udp")
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    assert "5001" not in listed.stdout
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6, kind) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections
            free.bind(("::", 5001))
    serve(stack, engine, "web", "-p", "5001:5000")
    assert ask("127.0.0.1", 5001).endswith("asks web")


def test_a_killed_engine_leaves_nothing(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    first = serve(stack, engine, "one", "-p", "5001:5000")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    serve(stack, engine, "two", "-p", "5001:5000")
    assert ask("127.0.0.1", 5001).endswith("asks two")
    assert ask(outside.host4, 5001).endswith("asks two")


def test_somebody_flushes_all_rules(
    stack: contextlib.ExitStack, engine: Engine, outside: Outside
) -> None:
    """What was published is served all the same; the next container brings the rules back."""
    serve(stack, engine, "one", "-p", "5001:5000")
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert outside.run(*curl(outside.host4, 5001)).strip().endswith("asks one")
    serve(stack, engine, "two", "-p", "5002:5000")
    for port, name in ((5001, "one"), (5002, "two")):
        said = outside.run(*curl(outside.host4, port)).strip()
        assert outside.address4 in said
        assert said.endswith(f"asks {name}")


def test_where_there_is_nothing_to_publish(engine: Engine) -> None:
    done = engine.run("run", "--rm", "--network", "host", "-p", "5001:5000", "starter", "true")
    assert done.stderr == (
        "minicontainer: published ports are discarded when using host network mode\n"
    )
    assert engine.run("run", "--rm", "--network", "none", "-p", "5001:80", "starter").stderr == ""


def test_more_idle_clients_than_a_shell_may_have_files(engine: Engine) -> None:
    """The usual soft limit of open files is 1024. The supervisor has its own; not so who it
    supervises."""
    words = ("run", "-d", "--name", "web", "-p", "5001:5000", "starter", "sh", "-c", SERVE)
    command = ["prlimit", "--nofile=256:", *engine.command(*words)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    engine.run("exec", "web", "sh", "-c", "until wget -qO- localhost:5000/cgi-bin/who; do :; done")
    with contextlib.ExitStack() as idle:
        for _ in range(50):
            idle.enter_context(socket.create_connection(("127.0.0.1", 5001)))
        assert "asks" in ask("127.0.0.1", 5001)
    limits = engine.output("exec", "web", "grep", "open files", "/proc/1/limits")
    assert limits.split()[3] == "256"


def test_beside_much_output(stack: contextlib.ExitStack, engine: Engine) -> None:
    """The relay and the log have one loop, and neither stops the other."""
    started = engine.start(
        "run", "--rm", "--name", "loud", "-p", "127.0.0.1:5001:5000", "starter",
        "sh", "-c", SERVE.replace("exec sleep 1000", "yes"),
    )  # fmt: skip
    stack.callback(started.wait, patience.seconds(30))
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    reading = subprocess.Popen(["cat"], stdin=started.stdout, stdout=subprocess.DEVNULL)
    stack.callback(reading.wait, patience.seconds(30))
    started.stdout.close()
    stack.callback(lambda: engine.run("rm", "--force", "loud", check=False))
    for _ in range(5):
        assert "asks" in ask("127.0.0.1", 5001)

"""Networks of an ordinary user's containers: real programs, real clients, no root in between."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chapters import patience
from minicontainer.engine import networks, rootless_network
from minicontainer.errors import EngineError
from minicontainer.network import usermode
from tests.engine.test_ports import ask, curl, exchange, inspect, serve
from tests.support import ordinary
from tests.support.netns import Namespace
from tests.support.network import Outside
from tests.support.ordinary import Ordinary

pytestmark = [
    pytest.mark.root,
    pytest.mark.tools("busybox", "setpriv", "newuidmap", "pasta", "slirp4netns", "curl"),
    pytest.mark.needs("user-namespaces", "tun"),
]
each_program = pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
PUBLISHED = ("-p", "5001:5000")


@pytest.fixture
def tun(tmp_path: Path) -> Iterator[Path]:
    """A /dev/net/tun that is open to all, as udev makes it; some machines have no udev."""
    node = tmp_path / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    node.chmod(0o666)
    subprocess.run(["mount", "--bind", node, usermode.TUN], check=True)
    yield node
    subprocess.run(["umount", usermode.TUN], check=True)


@pytest.fixture
def user(tmp_path: Path, tun: Path) -> Iterator[Ordinary]:
    with ordinary.user(tmp_path) as engine:
        engine.run("image", "starter")
        yield engine


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def local_resolver(tmp_path: Path) -> Iterator[None]:
    """The host's name server is on its loopback."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    file.chmod(0o644)
    subprocess.run(["mount", "--bind", file, "/etc/resolv.conf"], check=True)
    yield
    subprocess.run(["umount", "/etc/resolv.conf"], check=True)


def program_of(user: Ordinary) -> tuple[str, int]:
    """The program of the only living container, and its number."""
    (path,) = user.run_root.glob("*/network.json")
    found = json.loads(path.read_text())["program"]
    first = found["pid"]
    (pid,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return found["name"], int(pid)


@pytest.mark.vm
@each_program
def test_two_instances_of_one_image(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside, program: str
) -> None:
    network = ("--network", program)
    serve(stack, user, "one", *network, *PUBLISHED)
    serve(stack, user, "two", *network, "-p", "5002:5000")
    for address in ("127.0.0.1", "::1", outside.host4):
        assert ask(address, 5001).endswith("asks one")
        assert ask(address, 5002).endswith("asks two")
    assert outside.run(*curl(outside.host4, 5001)).strip().endswith("asks one")
    assert outside.run(*curl(outside.host6, 5002)).strip().endswith("asks two")


@each_program
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "outside"])
def test_datagrams(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside, program: str, address: str
) -> None:
    serve(stack, user, "web", "--network", program, "-p", "5001:5000/udp")
    exchange(stack, user, "web", outside, address)


@pytest.mark.parametrize(("program", "version"), [("pasta", 4), ("pasta", 6), ("slirp4netns", 4)])
def test_the_way_out(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside, program: str, version: int
) -> None:
    far = stack.enter_context(Namespace(outside.path))
    address = outside.address4 if version == 4 else outside.address6
    server = stack.enter_context(far.listen(address, 7000))
    url = f"http://{address if version == 4 else f'[{address}]'}:7000/"
    words = ["--network", program, "starter", "wget", "-qO-", url]
    started = user.start("run", "--rm", *words)
    stack.callback(started.communicate)
    client, peer = server.accept()
    with client:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
        assert started.communicate(timeout=patience.seconds(30)) == ("hello\n", "")
    # Nothing of the container's is seen out there: the host's program speaks for it.
    assert peer[0] == (outside.host4 if version == 4 else outside.host6)


@pytest.mark.vm
@pytest.mark.usefixtures("local_resolver")
@each_program
def test_the_hosts_loopback_is_not_reached(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside, program: str
) -> None:
    """Neither by what these programs call the host by default, nor by where their resolver is."""
    services = []
    for address in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        service = socket.create_server((address, 7000), family=family)
        services.append(stack.enter_context(service))
        with socket.create_connection((address, 7000)):
            service.accept()[0].close()
        service.settimeout(0)
    tries = "; ".join(
        f"echo knock | nc -w 1 {address} 7000"
        for address in ("127.0.0.1", "::1", usermode.GATEWAY4, usermode.GATEWAY6, "10.0.2.3",
                        outside.host4, outside.host6, "169.254.1.2")
    )  # fmt: skip
    user.run("run", "--rm", "--network", program, "starter", "sh", "-c", tries, check=False)
    for service in services:
        with pytest.raises(BlockingIOError):
            service.accept()


def test_a_port_that_is_taken(user: Ordinary, outside: Outside) -> None:
    with socket.create_server(("127.0.0.1", 5001)):
        done = user.run("run", "--rm", *PUBLISHED, "starter", "true", check=False)
        assert (done.returncode, done.stderr) == (
            125, "minicontainer: Bind for 0.0.0.0:5001 failed: port is already allocated\n",
        )  # fmt: skip
        assert user.output("ps", "--all", "--quiet") == ""
    done = user.run("run", "--rm", "-p", "80:80", "starter", "true", check=False)
    assert "ip_unprivileged_port_start" in done.stderr


def test_how_ports_are_shown(stack: contextlib.ExitStack, user: Ordinary, outside: Outside) -> None:
    ranges = ("-p", "127.0.0.1:6001-6002:6001-6002", "-P", "--expose", "5000")
    serve(stack, user, "web", "--network", "bridge", *ranges)
    lines = user.output("port", "web").splitlines()
    number = int(lines[0].rpartition(":")[2])
    assert lines == [
        f"5000/tcp -> 0.0.0.0:{number}", f"5000/tcp -> [::]:{number}",
        "6001/tcp -> 127.0.0.1:6001", "6002/tcp -> 127.0.0.1:6002",
    ]  # fmt: skip
    assert ask("127.0.0.1", number).endswith("asks web")
    found: Any = inspect(user, "web")
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    settings = found["NetworkSettings"]
    assert settings["Networks"]["bridge"]["IPAddress"] == "10.0.2.100" == settings["IPAddress"]
    assert settings["Ports"]["6002/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "6002"}]
    assert outside.run(*curl(outside.host4, 6001, "-w", "%{exitcode}"), check=False) == "7"


@each_program
def test_a_killed_engine_leaves_nothing(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside, program: str
) -> None:
    network = ("--network", program)
    started = serve(stack, user, "one", *network, *PUBLISHED)
    pidfd = os.pidfd_open(program_of(user)[1])
    try:
        os.kill(started.pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(patience.seconds(10) * 1000)
    finally:
        os.close(pidfd)
    # Its port is free again, and the next command clears away what it has left.
    serve(stack, user, "two", *network, *PUBLISHED)
    assert ask("127.0.0.1", 5001).endswith("asks two")
    assert user.output("ps", "--format", "{{.Names}}") == "two"


@each_program
def test_the_end_leaves_nothing(user: Ordinary, outside: Outside, program: str) -> None:
    user.run(
        "run", "-d", "--name", "box", "--network", program, *PUBLISHED, "starter", "sleep", "9999"
    )
    pidfd = os.pidfd_open(program_of(user)[1])
    try:
        user.run("rm", "--force", "box")
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(0)
    finally:
        os.close(pidfd)
    assert [path.name for path in user.run_root.iterdir()] == []


def answer(server: socket.socket) -> None:
    """One question of DNS after the other: the address is 192.0.2.7. An empty one is the last."""
    while (asked := server.recvfrom(512))[0]:
        question, peer = asked
        head = question[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
        found = bytes.fromhex("c00c 0001 0001 0000003c 0004 c0000207")
        server.sendto(head + question[12:] + found, peer)


@each_program
@pytest.mark.usefixtures("outside", "local_resolver")
def test_names(stack: contextlib.ExitStack, user: Ordinary, program: str) -> None:
    """Also where the host's name server is on its loopback, which is nobody inside."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    thread = threading.Thread(target=answer, args=(server,))
    thread.start()

    def end() -> None:
        server.sendto(b"", server.getsockname())
        thread.join()
        server.close()

    stack.callback(end)
    script = "cat /etc/resolv.conf; grep -c box /etc/hosts; nslookup -type=a example.org"
    words = ["--hostname", "box", "--network", program, "starter", "sh", "-c", script]
    done = user.run("run", "--rm", *words, check=False)
    assert done.stdout.startswith("nameserver 127.0.0.11\n")
    assert "Address: 192.0.2.7" in done.stdout
    # Given servers are asked without a way round.
    words = ["--dns", "192.0.2.9", "--network", program, "starter", "cat", "/etc/resolv.conf"]
    assert user.output("run", "--rm", *words) == "nameserver 192.0.2.9"


def test_the_network_of_another(
    stack: contextlib.ExitStack, user: Ordinary, outside: Outside
) -> None:
    serve(stack, user, "web", *PUBLISHED)
    words = ["--network", "container:web", "starter", "wget", "-qO-"]
    said = user.output("run", "--rm", *words, "http://127.0.0.1:5000/cgi-bin/who")
    assert said.endswith("asks web")


def test_which_program(stack: contextlib.ExitStack, user: Ordinary) -> None:
    """pasta, if the host has a way out, without which it may not start at all. Nobody has to ask
    for it."""
    with contextlib.ExitStack() as life:
        serve(life, user, "one", *PUBLISHED)
        assert program_of(user)[0] == "slirp4netns"
        assert ask("127.0.0.1", 5001).endswith("asks one")
    with Outside(), contextlib.ExitStack() as life:
        serve(life, user, "one")
        assert program_of(user)[0] == "pasta"


def poor_path(user: Ordinary) -> dict[str, str]:
    """An environment with a PATH that has hardly anything."""
    place = user.home.parent / "bin"
    place.mkdir()
    place.chmod(0o755)
    for name in ("setpriv", "newuidmap", "newgidmap"):
        (place / name).symlink_to(shutil.which(name) or "")
    return {"PATH": str(place)}


@pytest.mark.parametrize("options", [("--network", "bridge"), PUBLISHED])
def test_without_a_program(user: Ordinary, options: tuple[str, ...]) -> None:
    environment = poor_path(user)
    words = ["run", "--rm", *options, "starter", "true"]
    done = user.run(*words, check=False, environment=environment)
    assert (done.returncode, done.stderr) == (
        125,
        "minicontainer: a network without root wants pasta or slirp4netns, which this machine has "
        "not\nhint: install pasta: apt install passt\n",
    )
    assert user.output("ps", "--all", "--quiet") == ""


def test_what_else_can_be_in_the_way(user: Ordinary, tun: Path) -> None:
    tun.chmod(0o600)
    done = user.run("run", "--rm", "--network", "bridge", "starter", "true", check=False)
    assert (done.returncode, "chmod 666 /dev/net/tun" in done.stderr) == (125, True)
    # Who has not asked for a network gets none, and is told.
    done = user.run("run", "--rm", "starter", "ls", "/sys/class/net")
    assert "eth0" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("minicontainer: warning: the container has no network: ")
    assert user.output("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--network", "shop", "starter"], "the network 'shop' wants the host's root"),
        (["run", "--network", "pasta", "--ip", "10.0.2.7", "starter"], "--ip wants the host's"),
        (["run", "-p", "1:1/sctp", "starter"], "a published port of SCTP wants the host's root"),
        (["network", "create", "shop"], "a network of one's own wants the host's root"),
    ],
)
def test_what_is_refused(user: Ordinary, words: list[str], said: str) -> None:
    done = user.run(*words, check=False)
    assert done.returncode in (1, 125)
    assert said in done.stderr
    assert "hint: " in done.stderr or "--ip" in words or "1:1/sctp" in words


def test_a_program_that_fails(user: Ordinary) -> None:
    """As an old pasta does where the host has no way out."""
    environment = poor_path(user)
    pasta = user.home.parent / "bin" / "pasta"
    pasta.write_text("#!/bin/sh\necho 'External interface not usable' >&2; exit 1\n")
    pasta.chmod(0o755)
    words = ["run", "--rm", "--network", "pasta", "starter", "true"]
    done = user.run(*words, check=False, environment=environment)
    assert (done.returncode, done.stderr) == (
        125,
        "minicontainer: cannot connect the container: pasta: External interface not usable\n"
        "hint: pasta wants a host that has a way out; slirp4netns does not\n",
    )
    assert user.output("ps", "--all", "--quiet") == ""


def test_the_default(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(usermode, "find", lambda _: ("slirp4netns", "/usr/bin/slirp4netns"))
    assert rootless_network.default() == networks.DEFAULT
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(usermode, "find", lambda _: ("pasta", "/usr/bin/pasta"))
    assert rootless_network.default() == "none"
    assert "no way out" in capsys.readouterr().err

    def missing(_: str) -> tuple[str, str]:
        raise EngineError("no program", hint="install it")

    monkeypatch.setattr(usermode, "find", missing)
    assert rootless_network.default() == "none"
    assert capsys.readouterr().err == (
        "minicontainer: warning: the container has no network: no program; install it\n"
    )


def test_what_can_be_read_once(user: Ordinary, outside: Outside) -> None:
    """The command begins anew behind its namespace, and must not have read anything before."""
    once = user.home / "environment"
    os.mkfifo(once)
    once.chmod(0o644)
    writer = threading.Thread(target=once.write_text, args=("NAME=value\n",))
    writer.start()
    words = ("run", "--rm", "--network", "bridge", "--env-file", once, "starter", "env")
    assert "NAME=value" in user.output(*words).splitlines()
    writer.join()

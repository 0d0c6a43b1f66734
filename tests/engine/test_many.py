"""Much of everything: ten thousand requests, a hundred containers, and engines killed among them.

What holds for one may not hold for many: a queue overflows, a lock is missing, a descriptor stays.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chapters import patience
from tests.engine.test_networks import HAS_IPV6, SUBNET, links, ruleset, traces
from tests.support.engine import Engine
from tests.support.network import Outside

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox", "ip", "nft")]

REQUESTS = 10_000
CLIENTS = 100  # at a time
CONTAINERS = 100
ENGINES = 16  # commands at a time

# A server that is quick, and real: the registry's, which answers / with an empty page.
SERVE = r"""
printf '{version: 0.1, log: {accesslog: {disabled: true}, level: error},
storage: {inmemory: {}}, http: {addr: ":5000"}}' >/tmp/settings
exec docker-registry serve /tmp/settings
"""

# Each says who it is.
PAGE = "mkdir /w; hostname >/w/index.html; exec httpd -f -p 80 -h /w"


@pytest.fixture
def service(engine: Engine, starter: str) -> dict[str, Any]:
    """state.json of a container that serves on port 5001."""
    engine.run("image", "starter", "--add", "docker-registry", "server")
    id = engine.output("run", "-d", "-p", "5001:5000", "server", "sh", "-c", SERVE)
    engine.run("exec", id, "sh", "-c", "until wget -qO- http://127.0.0.1:5000/; do :; done")
    return live(engine, id)


@pytest.fixture
def crowd(engine: Engine, starter: str) -> list[str]:
    """The ids of a hundred containers on one network, web0 with port 6000 and so on."""
    engine.run("network", "create", *SUBNET, "shop")

    def start(number: int) -> str:
        options = ("--name", f"web{number}", "--network", "shop", "-p", f"{6000 + number}:80")
        return engine.output("run", "-d", *options, starter, "sh", "-c", PAGE)

    with ThreadPoolExecutor(ENGINES) as pool:
        return list(pool.map(start, range(CONTAINERS)))


def live(engine: Engine, id: str, file: str = "state.json") -> dict[str, Any]:
    """What a living container says of itself."""
    found: dict[str, Any] = json.loads((engine.run_root / id / file).read_text())
    return found


def addresses(engine: Engine, ids: list[str], field: str = "address4") -> list[str]:
    """The addresses of living containers."""
    return [live(engine, id, "network.json")["endpoints"][0][field] for id in ids]


# ------------------------------------------------------------------------------------- requests


def counts(ab: subprocess.Popen[str]) -> dict[str, str]:
    """How many requests ab says were "complete", "failed", or had another answer than 200."""
    printed, errors = ab.communicate(timeout=patience.seconds(120))
    found = dict(re.findall(r"^(Complete|Failed|Non-2xx)\b.*?:\s+(\d+)", printed, re.MULTILINE))
    assert found, printed + errors
    return found


@pytest.mark.tools("ab", "docker-registry")
@pytest.mark.parametrize("way", ["loopback", "this host", "outside"])
def test_no_request_is_lost(
    engine: Engine, outside: Outside, service: dict[str, Any], way: str
) -> None:
    """Each by a connection of its own: through the relay, by translation, and for a neighbour.

    Meanwhile others change the firewall: by an element, and by writing all of it anew.
    """
    address = "127.0.0.1" if way == "loopback" else outside.host4
    command = ["ab", "-q", "-n", str(REQUESTS), "-c", str(CLIENTS), f"http://{address}:5001/"]
    if way == "outside":
        command = outside.command(*command)
    descriptors = f"/proc/{service['engine']}/fd"
    before = len(os.listdir(descriptors))
    output = subprocess.PIPE
    with subprocess.Popen(command, stdout=output, stderr=output, text=True) as ab:
        for network in ("bridge", "stock", "bridge"):
            if network == "stock":
                engine.run("network", "create", network)
            engine.run("run", "--rm", "--network", network, "-p", "5002:80", "starter", "true")
        engine.run("network", "rm", "stock")
        assert counts(ab) == {"Complete": str(REQUESTS), "Failed": "0"}
    # The relay keeps a few empty pipes for the next who come, and nothing of those who came.
    assert len(os.listdir(descriptors)) < before + CLIENTS


# ----------------------------------------------------------------------------------- containers


def ask_all(engine: Engine, asking: str, ids: list[str]) -> list[str]:
    """Who answers at each container's address, asked from within another."""
    script = "for each; do until wget -qO- http://$each/; do :; done; done"
    words = ("exec", asking, "sh", "-c", script, "sh", *addresses(engine, ids))
    return engine.output(*words).splitlines()


def ask_port(number: int) -> str:
    """Who answers at a published port of this host."""
    url = f"http://127.0.0.1:{number}/"
    with urllib.request.urlopen(url, timeout=patience.seconds(30)) as page:
        return str(page.read().decode().strip())


def test_a_hundred_at_once(engine: Engine, crowd: list[str]) -> None:
    """Each has what no other has; killed supervisors take only their own along."""
    names = [id[:12] for id in crowd]
    assert sorted(addresses(engine, crowd), key=by_number) == [
        f"10.1.0.{number}" for number in range(2, 2 + CONTAINERS)
    ]
    assert len(set(addresses(engine, crowd, "address6"))) == (CONTAINERS if HAS_IPV6 else 1)
    assert ask_all(engine, crowd[0], crowd) == names
    assert [ask_port(6000 + number) for number in range(CONTAINERS)] == names

    dead, alive = crowd[::3], [id for id in crowd if id not in crowd[::3]]
    freed = sorted(addresses(engine, dead), key=by_number)
    for id in dead:
        os.kill(live(engine, id)["engine"], signal.SIGKILL)
    with ThreadPoolExecutor(ENGINES) as pool:  # each begins by cleaning up, beside the others
        list(pool.map(lambda _: engine.run("ps"), range(ENGINES)))
    assert left_of(dead) == []
    assert sorted(engine.output("ps", "-q", "--no-trunc").split()) == sorted(alive)
    assert ask_all(engine, alive[-1], alive) == [id[:12] for id in alive]
    again = engine.output(
        *("run", "-d", "--network", "shop", "-p", "6000:80", "starter", "sh", "-c", PAGE)
    )
    assert addresses(engine, [again]) == freed[:1]
    assert ask_all(engine, alive[0], [again]) == [again[:12]] == [ask_port(6000)]

    everyone = [*crowd, again]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda at: engine.run("rm", "-f", *everyone[at::4]), range(4)))
    assert traces(engine) == []
    engine.run("run", "--rm", "-p", "6000-6099:1-100", "starter", "true")


def by_number(address: str) -> int:
    return int(address.rpartition(".")[2])


def left_of(ids: list[str]) -> list[str]:
    """The adapters and the lines of rules that are of these containers."""
    names = {f"mc{id[:10]}" for id in ids}
    return [*names.intersection(links()), *names.intersection(re.findall(r"\w+", ruleset()))]


def test_engines_are_killed_while_they_start(engine: Engine, starter: str) -> None:
    """Wherever they are at that moment, also in the middle of waiting for each other."""
    engine.run("network", "create", *SUBNET, "shop")
    words = ("run", "--rm", "-i", "--network", "shop", "-p", "80", starter)
    for moment in range(0, ENGINES, 6):
        started = [
            engine.start(*words, "sh", "-c", "hostname -i; read end", stdin=subprocess.PIPE)
            for _ in range(ENGINES)
        ]
        waiting = {each.stdout for each in started}
        while ENGINES - len(waiting) < moment:  # the moment is when so many are there
            waiting -= set(select.select(waiting, [], [])[0])
        killed, living = started[::2], started[1::2]
        for each in killed:
            each.kill()
        try:
            found = [each.stdout.readline() for each in living if each.stdout]
        finally:
            ended = [each.communicate("\n", patience.seconds(60)) for each in started]
        assert [errors for _, errors in ended[1::2] if errors] == []
        assert len({line.split()[0] for line in found}) == len(living)
        assert traces(engine) == []
        assert "tcp ." not in ruleset()
    again = engine.output("run", "--rm", "--network", "shop", starter, "hostname", "-i")
    assert again.split()[0] == "10.1.0.2"

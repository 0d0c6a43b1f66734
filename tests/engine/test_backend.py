"""Which library speaks to the kernel about networks: MINICONTAINER_NETLINK."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from chapters import patience
from minicontainer.engine import networks
from minicontainer.errors import EngineError
from minicontainer.network import links, links_pyroute2
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox", "ip", "nft")]

SETTING = "MINICONTAINER_NETLINK"


@pytest.mark.parametrize(
    ("value", "backend"),
    [
        (None, links.Links),
        ("", links.Links),
        ("stdlib", links.Links),
        ("pyroute2", links_pyroute2.Links),
    ],
)
def test_the_setting_names_the_backend(
    monkeypatch: pytest.MonkeyPatch, value: str | None, backend: type
) -> None:
    if value is None:
        monkeypatch.delenv(SETTING, raising=False)
    else:
        monkeypatch.setenv(SETTING, value)
    made = networks.open_links()
    made.close()
    assert type(made) is backend


@pytest.mark.parametrize("value", ["PYROUTE2", "scapy", " "])
def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SETTING, value)
    with pytest.raises(EngineError) as caught:
        networks.open_links()
    assert repr(value) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("how", ["--tty=false", "--detach"], ids=["attached", "detached"])
def test_a_start_with_an_unknown_backend_leaves_nothing(
    engine: Engine, starter: str, how: str
) -> None:
    """Where it is detached the supervisor asks, which has an environment of its own."""
    engine.run("network", "create", "--subnet", "10.1.0.0/24", "shop")
    done = engine.run(
        *("run", how, "--name", "box", "--network", "shop", starter, "true"),
        environment={SETTING: "scapy"},
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (125, 1)
    assert done.stderr.startswith("minicontainer: invalid MINICONTAINER_NETLINK 'scapy'")
    engine.run("rm", "box")


def by_pyroute2(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command by this test's Python, which has pyroute2, as the launcher starts it."""
    return subprocess.run(
        [sys.executable, "-IS", *engine.command(*arguments)],
        env={**engine.environment, SETTING: "pyroute2"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        timeout=patience.seconds(60),
    )  # fmt: skip


def test_a_container_lives_by_pyroute2_and_ends_by_ours(engine: Engine, starter: str) -> None:
    by_pyroute2(engine, "network", "create", "shop")
    by_pyroute2(engine, "network", "create", "club")
    by_pyroute2(engine, "run", "-d", "--name", "box", "--network", "shop", starter, "sleep", "1000")
    by_pyroute2(engine, "network", "connect", "club", "box")
    found = json.loads(engine.output("inspect", "box"))[0]["NetworkSettings"]["Networks"]
    shown = engine.output("exec", "box", "ip", "-o", "-4", "addr")
    for network in ("shop", "club"):
        assert f" {found[network]['IPAddress']}/" in shown
    gateway = found["shop"]["Gateway"]
    assert f"default via {gateway} " in engine.output("exec", "box", "ip", "route")
    engine.run("exec", "box", "ping", "-c", "1", "-W", "10", gateway)
    engine.run("network", "disconnect", "club", "box")
    by_pyroute2(engine, "rm", "-f", "box")
    by_pyroute2(engine, "network", "rm", "shop", "club")


def test_the_setting_is_seen_in_the_explanation(engine: Engine, starter: str) -> None:
    done = by_pyroute2(engine, "run", "--rm", "--explain", "--network", "bridge", starter, "true")
    assert 'IPRoute.link("add", ' in done.stderr
    assert "RTM_NEWLINK" not in done.stderr
    engine.run("network", "prune", "-f")

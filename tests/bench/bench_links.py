"""What the two backends of links cost: their import, and a bridge with one cable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from minicontainer.network import bridge
from tests.bench import measure
from tests.bench.conftest import Report
from tests.network.backends import BACKENDS, opened
from tests.network.test_bridge import FOUR, SIX, endpoint
from tests.support.engine import ROOT
from tests.support.netns import Namespace

pytestmark = pytest.mark.root


def test_import(report: Report) -> None:
    """In an interpreter of its own each time; the last row is that interpreter alone."""

    def run(program: str) -> None:
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        subprocess.run([sys.executable, "-IS", "-c", path + program], check=True)

    site = "import site; site.main(); "
    work = {
        "stdlib": partial(run, "import minicontainer.network.links"),
        "pyroute2": partial(run, site + "import minicontainer.network.links_pyroute2, pyroute2"),
        "neither": partial(run, "pass"),
    }
    report.add("import of a backend, with the interpreter", measure.interleave(work, 20))


def test_cable(report: Report) -> None:
    """Two sockets, a bridge with two addresses, and a cable with addresses and routes inside."""
    with Namespace() as host, Namespace() as container:

        def lay(name: str) -> None:
            network = {"bridge": "br0", "mtu": 0, "subnets": (FOUR, SIX)}
            backend = BACKENDS[name]
            with (
                open(f"/proc/{container.pid}/ns/net") as file,
                opened(host, backend) as links,
                opened(container, backend) as inner,
            ):
                bridge.create(links, network)
                bridge.plug(links, inner, file.fileno(), endpoint())

        def clear() -> None:
            with opened(host, BACKENDS["stdlib"]) as links:
                links.delete("mc0")
                links.delete("br0")

        work: dict[str, Callable[[], None]] = {name: partial(lay, name) for name in BACKENDS}
        times = host.call(lambda: measure.interleave(work, 40, dict.fromkeys(work, clear)))
    report.add("a bridge and a cable, both sockets opened anew", times)

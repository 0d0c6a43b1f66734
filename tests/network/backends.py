"""Both backends of links, and what ip(8) shows of a network namespace, for tests."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.network import links, links_pyroute2
from tests.support.netns import Namespace

if TYPE_CHECKING:
    from minicontainer.network.links import Backend

BACKENDS: dict[str, Callable[[], Backend]] = {
    "stdlib": links.Links,
    "pyroute2": links_pyroute2.Links,
}
# As a fixture's params: the VM, whose kernel is what is of interest there, runs the engine's own.
EACH = ["stdlib", pytest.param("pyroute2", marks=pytest.mark.host)]


@contextlib.contextmanager
def opened(space: Namespace, backend: Callable[[], Backend]) -> Iterator[Backend]:
    """The links of a namespace, for this thread, which stays outside."""
    pidfd = os.pidfd_open(space.pid)
    try:
        found = links.inside(pidfd, backend)
    finally:
        os.close(pidfd)
    try:
        yield found
    finally:
        found.close()


def shown(space: Namespace, *words: str) -> list[dict[str, Any]]:
    """What ip(8) shows."""
    found: list[dict[str, Any]] = json.loads(space.run("ip", "-json", "-details", *words) or "[]")
    return [each for each in found if each]


def link(space: Namespace, name: str) -> dict[str, Any]:
    (found,) = [each for each in shown(space, "link") if each["ifname"] == name]
    return found


def names(space: Namespace) -> set[str]:
    return {each["ifname"] for each in shown(space, "link")}

"""What this machine lacks for the book, why that matters, and what to do about it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

from chapters import patience, stages

VM = "take the book's Linux VM: ./dev vm up"
# What the lessons look with: {program: Debian's package}.
PROGRAMS = {
    "busybox": "busybox-static",
    "curl": "curl",
    "findmnt": "util-linux",
    "ip": "iproute2",
    "lsns": "util-linux",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ps": "procps",
    "strace": "strace",
    "unshare": "util-linux",
}
# What to do where a feature of tests/support/machine.py is missing.
REMEDIES = {
    "new-mount-api": f"boot a newer kernel, or {VM}",
    "overlay": f"modprobe overlay, or {VM}",
    "cgroup-v2": f"boot with systemd.unified_cgroup_hierarchy=1, or {VM}",
    "user-namespaces": "sysctl kernel.unprivileged_userns_clone=1 (Debian), or on Ubuntu 24.04 "
    "kernel.apparmor_restrict_unprivileged_userns=0",
}


# What chapters 12 and 13 ask of the kernel, in a network that ends with this program.
NETWORK = """
import os, sys
from chapters.ch13_ports.container import NETWORK
from minicontainer.network import bridge, firewall, links, nft
host = links.Links()
try:
    bridge.create(host, NETWORK)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    host.add_veth("near", NETWORK["bridge"], "far", own, "02:00:00:00:00:01", 1500)
except OSError:
    sys.exit(12)
try:
    nft.apply(firewall.ruleset("probe", [NETWORK], [], [], guard=["ipv4"]))
except Exception:
    sys.exit(13)
"""


class Finding:
    """One thing that was looked at.

    what: in words; missing: None when it is there, else what to do; chapters: the numbers of those
    that need it, none for all.
    """

    without = "later"

    def __init__(self, what: str, missing: str | None, chapters: list[int] | None = None) -> None:
        self.what = what
        self.missing = missing
        self.chapters = chapters or []

    @property
    def is_urgent(self) -> bool:
        """Is it missing, and does a chapter that is written need it?"""
        written = {chapter["number"] for chapter in stages.ready()}
        needed = not self.chapters or not written.isdisjoint(self.chapters)
        return self.missing is not None and needed


class Note(Finding):
    """What is no reason to mend anything, but good to know."""

    without = "note"
    is_urgent = False


def examine() -> Iterator[Finding]:
    """Look at everything, the most basic first: after a missing Linux nothing else matters."""
    if sys.platform != "linux":
        what = f"Linux (this is {platform.system()}): a container is a Linux process"
        yield Finding(what, VM)
        return
    older = f"boot Linux 5.12 or newer, or {VM}"
    yield Finding(f"Linux {platform.release()}", None if _kernel() >= (5, 12) else older)
    yield Finding(f"Python {platform.python_version()}", None)
    yield Finding("root", None if os.geteuid() == 0 else "begin with: sudo -s")
    yield _programs()
    yield _namespaces()
    yield from _features()
    if os.geteuid() == 0:
        yield from _network()
        yield from _in_the_way()


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


def _programs() -> Finding:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if not absent:
        return Finding(f"programs to look with: {' '.join(PROGRAMS)}", None)
    packages = sorted({PROGRAMS[name] for name in absent})
    return Finding(
        f"programs to look with: {' '.join(absent)}", f"apt-get install {' '.join(packages)}"
    )


def _namespaces() -> Finding:
    """Try it: in another container, root may have no right to."""
    kinds = ["--mount", "--uts", "--ipc", "--pid", "--net", "--cgroup"]
    command = ["unshare", *kinds, "--fork", "true"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return Finding("namespaces of its own", "apt-get install util-linux", [3, 4, 5, 12])
    missing = None
    if done.returncode:
        missing = "sudo -s" if os.geteuid() else f"leave the container that this runs in, or {VM}"
    return Finding("namespaces of its own", missing, [3, 4, 5, 12])


def _features() -> Iterator[Finding]:
    """What the manifest says that the chapters require, by the probes of the tests."""
    from tests.support import machine

    wanted: dict[str, list[int]] = {}
    for chapter in stages.chapters():
        for feature in chapter.get("requires", ()):
            wanted.setdefault(feature, []).append(chapter["number"])
    for feature, numbers in wanted.items():
        sentence = machine.FEATURES[feature][1]
        missing = REMEDIES.get(feature, VM) if machine.missing(feature) else None
        yield Finding(sentence, missing, numbers)


def _network() -> Iterator[Finding]:
    """Try it."""
    command = ["unshare", "--net", sys.executable, "-c", NETWORK]
    code = subprocess.run(command, capture_output=True, cwd=stages.CLONE, check=False).returncode
    no_bridge = f"modprobe bridge veth, or {VM}" if code not in (0, 13) else None
    yield Finding("a bridge, and a cable to it", no_bridge, [12])
    no_firewall = f"apt-get install nftables, modprobe nf_tables, or {VM}" if code else None
    yield Finding("a firewall that translates addresses, and looks into bridges", no_firewall, [13])


def _in_the_way() -> Iterator[Note]:
    """What this host has that the networks of the stages would meet."""
    from chapters.ch12_network.container import NETWORK as twelve
    from chapters.ch13_ports.container import NETWORK as thirteen
    from minicontainer.network import addresses, links

    host = links.Links()
    routes = [(addresses.parse_subnet(route.to), route.link) for route in host.routes()]
    host.close()
    for number, network in ((12, twelve), (13, thirteen)):
        own = [addresses.parse_subnet(each["Subnet"]) for each in network["subnets"]]
        for to, link in routes:
            if to.length and link != network["bridge"] and any(map(to.overlaps, own)):
                what = f"this host's way to {to}, by {link}, is cut off while the stage runs"
                yield Note(what, f"do not run it where you need that way; or {VM}", [number])
    try:
        done = subprocess.run(["nft", "--json", "list", "chains"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return
    chains = [each.get("chain", {}) for each in json.loads(done.stdout)["nftables"]]
    if any((each.get("hook"), each.get("policy")) == ("forward", "drop") for each in chains):
        what = "this host's firewall drops what it forwards, as docker sets it up: a container"
        what += " reaches nothing beyond the host, and nobody beyond it a container"
        yield Note(what, f'docs/networks.md, "The firewall", has rules to add; or {VM}', [13])


def report(findings: Iterator[Finding], show: Callable[[str], None] = print) -> int:
    """Show each finding as it comes; 0 when every chapter that is written can be read here."""
    urgent = 0
    for finding in findings:
        needed = _span(finding.chapters)
        if finding.missing is None:
            show(f"ok     {finding.what}{needed}")
            continue
        urgent += finding.is_urgent
        show(f"{'lacks' if finding.is_urgent else finding.without:6} {finding.what}{needed}")
        show(f"       to do: {finding.missing}")
    if patience.slowness() > 4:
        show(
            f"note   this machine is some {patience.slowness():.0f} times slower than an ordinary "
            "one, as emulated ones are: figures that you measure here mean little"
        )
    ready = stages.ready()
    if urgent:
        show(f"{urgent} to mend.")
        return 1
    show(f"All is well: chapters {ready[0]['number']:02} to {ready[-1]['number']:02} run here.")
    return 0


def _span(numbers: list[int]) -> str:
    if not numbers:
        return ""
    first, last = min(numbers), max(numbers)
    return f" (chapter {first:02})" if first == last else f" (chapters {first:02} to {last:02})"

"""The network of a test run: a namespace of its own, so that no test can touch the machine's.

Bridges, rules, ports and forwarding of the tests are in it; so are the registries and browsers
that they start, which serve and look at its 127.0.0.1. `Outside` is a second one beyond an
uplink, for what a neighbour on the network sees.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import ipaddress
import os
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from chapters import patience

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_MOVE, MNT_DETACH = 1 << 12, 1 << 14, 1 << 13, 2

# What an engine may switch for the whole host.
SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/route_localnet")


def isolate() -> None:
    """Give the whole test run a network namespace of its own, with `lo` up, and its /sys.

    Called where / is private: a mount below a shared one cannot be moved.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET) for the test run")
    with socket.socket() as any_socket:
        # SIOCSIFFLAGS, IFF_UP: netdevice(7)
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))
    _renew_sys(libc)


def _renew_sys(libc: ctypes.CDLL) -> None:
    """A sysfs shows the network of who mounted it. What is mounted below moves to the new one."""
    with open("/proc/self/mountinfo") as table:
        rows = [line.split(" ", 5)[:5] for line in table]
    (number,) = [row[0] for row in rows if row[4] == "/sys"][-1:]
    below = [row[4] for row in rows if row[1] == number]

    def mount(source: str, target: str, kind: str | None, how: int) -> None:
        kind_bytes = kind.encode() if kind else None
        if libc.mount(source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(how), None):
            raise OSError(ctypes.get_errno(), f"mount {source} at {target} for the test run")

    new = tempfile.mkdtemp()
    mount("sysfs", new, "sysfs", 0)
    for path in below:
        mount(path, new + path.removeprefix("/sys"), None, MS_BIND | MS_REC)
    libc.umount2(b"/sys", MNT_DETACH)
    mount(new, "/sys", None, MS_MOVE)
    os.rmdir(new)


# ------------------------------------------------------------------------------ for the leak check


def state() -> set[tuple[str, str]]:
    """What the network has at this moment, as (kind, which). It reads /proc and asks no program,
    for it is taken before and after every test; only a ruleset that has changed is listed."""
    found = {("network link", name) for name in _names("/sys/class/net")}
    found |= {("network address", address) for address in _addresses()}
    found |= {("route", route) for route in _routes()}
    found |= {("firewall rule", line) for line in _ruleset(_ruleset_generation())}
    for name in SYSCTLS:
        found.add(("network setting", f"{name.replace('/', '.')} = {_read(f'sys/net/{name}')}"))
    return found


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(name: str) -> str:
    try:
        return Path("/proc", name).read_text().strip()
    except OSError:
        return ""  # a kernel without IPv6


def _addresses() -> set[str]:
    found, last = set(), ""
    for line in _read("self/net/fib_trie").splitlines():
        word = line.split()
        if word[0] == "|--":
            last = word[1]
        elif word[1:3] == ["host", "LOCAL"]:
            found.add(last + word[0])
    for line in _read("self/net/if_inet6").splitlines():
        digits, _, length, _, _, link = line.split()
        found.add(f"{_ipv6(digits)}/{int(length, 16)} on {link}")
    return found


def _routes() -> set[str]:
    found = set()
    for line in _read("self/net/route").splitlines()[1:]:
        link, to, gateway, _, _, _, _, mask = line.split()[:8]
        found.add(f"{_ipv4(to)}/{int(mask, 16).bit_count()} by {_ipv4(gateway)} on {link}")
    for line in _read("self/net/ipv6_route").splitlines():
        to, length, _, _, gateway, *_, link = line.split()
        if to != "0" * 32 or gateway != "0" * 32:  # the unreachable default comes and goes
            found.add(f"{_ipv6(to)}/{int(length, 16)} by {_ipv6(gateway)} on {link}")
    return found


def _ipv4(digits: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(digits, 16)))


def _ipv6(digits: str) -> str:
    return str(ipaddress.IPv6Address(bytes.fromhex(digits)))


@functools.lru_cache(maxsize=4)
def _ruleset(generation: bytes) -> frozenset[str]:
    """The lines of `nft list ruleset`, each with what it is in; empty where there is no nft."""
    try:
        listed = subprocess.run(
            ["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return frozenset()
    found, within = set(), [""]
    for line in map(str.strip, listed.splitlines()):
        if line == "}":
            within.pop()
        elif line:
            found.add(f"{within[-1]}{line.removesuffix(' {')}")
            if line.endswith("{"):
                within.append(f"{within[-1]}{line.removesuffix(' {')}: ")
    return frozenset(found)


def _ruleset_generation() -> bytes:
    """The number that the kernel gives to each state of this namespace's rules (NFT_MSG_GETGEN)."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
            # struct nlmsghdr (NLM_F_REQUEST) and struct nfgenmsg, <linux/netfilter/nfnetlink.h>
            netfilter.send(struct.pack("=IHHII4x", 20, 10 << 8 | 16, 1, 0, 0))
            return netfilter.recv(4096)[20:28]
    except OSError:
        return b""


# ---------------------------------------------------------------------------------- a second host


class Outside:
    """A host beyond the uplink `up0`: 198.51.100.2 and 2001:db8::2. Ours are .1 and ::1, and our
    default routes lead to it; it has none back, as the Internet has none to a container's address.

    run("nc", …) runs a program there; command(…) is its command line, for Popen. `ip` does both
    sides' setting up, so that what is wrong here is not the engine's own netlink.
    """

    LINK = "up0"
    address4, address6 = "198.51.100.2", "2001:db8::2"
    host4, host6 = "198.51.100.1", "2001:db8::1"

    def __enter__(self) -> Outside:
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == b"\n"
        self.namespace = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        holder.communicate()
        self.path = f"/proc/{os.getpid()}/fd/{self.namespace}"
        _ip(f"link add {self.LINK} type veth peer name eth0 netns {self.path}")
        for link, to, own4, own6 in (
            (self.LINK, (), self.host4, self.host6),
            ("eth0", self.command(), self.address4, self.address6),
        ):
            _ip(f"address add {own4}/24 dev {link}", *to)
            _ip(f"address add {own6}/64 dev {link} nodad", *to)
            _ip(f"link set {link} up", *to)
        _ip(f"route add default via {self.address4}")
        _ip(f"-6 route add default via {self.address6}")
        return self

    def __exit__(self, *_: object) -> None:
        _ip(f"link delete {self.LINK}")
        os.close(self.namespace)

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs these words in the other network."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, words)]

    def run(self, *words: str | Path, check: bool = True, **options: Any) -> str:
        """Run a program there to its end; what it prints on both outputs."""
        options = {"stdin": subprocess.DEVNULL, "timeout": patience.seconds(30), **options}
        done = subprocess.run(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, **options,
        )  # fmt: skip
        assert not (check and done.returncode), f"{words}: exit {done.returncode}\n{done.stdout}"
        return str(done.stdout)


def _ip(words: str, *prefix: str) -> None:
    subprocess.run([*prefix, "ip", *words.split()], check=True)

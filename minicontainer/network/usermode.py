"""User-mode networking: an adapter from an engine that has no power over the host's network.

Whoever is root in a user namespace may do everything to the networks that were made in it, and
nothing to the host's: no cable can lead out. But an adapter need not be a cable. A *tap* is one
whose other end is a file: a program reads there the packets that the container sends, and writes
those that it gets. So an ordinary program can be the whole rest of the network. It speaks TCP and
UDP with the container, and asks for each connection a socket of the host, as any program may.

Two such programs are known here: pasta (of passt) and slirp4netns. Both are told to make of no
address the host's loopback, which is for the host's own programs; and to publish nothing. That is
the relay's, from sockets that are held before the container starts (the pasta of Debian 12 says
nothing when it gets a port for one version of IP alone, and loses UDP that comes by the loopback).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import fcntl
import os
import select
import time

from ..errors import EngineError
from ..kernel import flags, mounts, process, syscalls
from .links import Links, inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHAPTER = 13

# And their packages. The better one first; but many a pasta does not start on a host that has no
# way out, and slirp4netns does not care.
PROGRAMS = {"pasta": "passt", "slirp4netns": "slirp4netns"}
ADAPTER = "eth0"
# Slirp's and slirp4netns': what inside stands for the container and for the way out.
ADDRESS4, PREFIX4, GATEWAY4 = "10.0.2.100", 24, "10.0.2.2"
ADDRESS6, PREFIX6, GATEWAY6 = "fd00::100", 64, "fd00::2"
_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
# Nothing is sent over a wire, so nothing says how long a packet may be: the longest is cheapest.
MTU = 65520
TUN = "/dev/net/tun"
# Where the namespace is shown to the program, in a mount namespace of the program's own. Podman's
# place for it: the only one that the AppArmor profile of Debian's passt lets it read.
_STAGE = next(place for place in ("/run/user", "/tmp") if os.path.isdir(place))
_SHOWN = f"{_STAGE}/0/netns/container"
# <linux/rtnetlink.h>: tell of changes of links and routes.
_CHANGES = 0x1 | 0x40 | 0x400
_SECONDS = 30.0


def versions() -> list[int]:
    """The versions of IP by which this host has a way out: 4, 6."""
    links = Links()
    try:
        routes = {route.to for route in links.routes()}
    finally:
        links.close()
    return [version for version, to in _DEFAULT.items() if to in routes]


def find(wanted: str) -> tuple[str, str]:
    """The program to use, as (name, path); EngineError where it is missing, or cannot work. wanted:
    its name, or any other word for the better one."""
    names = [wanted] if wanted in PROGRAMS else list(PROGRAMS)
    found = [(name, path) for name in names if (path := _search(name))]
    if not found:
        raise EngineError(
            f"a network without root wants {' or '.join(names)}, which this machine has not",
            hint=f"install {names[0]}: apt install {PROGRAMS[names[0]]}",
        )
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise EngineError(
            f"a network without root wants {TUN}, which is not there or not open to you",
            hint=f"an administrator opens it to all, as it is on most machines: chmod 666 {TUN}",
        )
    return found[0] if len(found) == 1 or versions() else found[-1]


def _search(name: str) -> str:
    places = [place for place in os.environ.get("PATH", os.defpath).split(":") if place]
    return next((f"{p}/{name}" for p in places if os.access(f"{p}/{name}", os.X_OK)), "")


def command(name: str, versions: Sequence[int]) -> list[str]:
    """The command line that connects the network namespace that is shown to the program."""
    if name == "slirp4netns":
        return [
            name, "--configure", f"--mtu={MTU}", "--disable-host-loopback", "--disable-dns",
            "--enable-sandbox", "--enable-seccomp", "--netns-type=path", _SHOWN, ADAPTER,
        ]  # fmt: skip
    words = [name, "--foreground", "--quiet", "--config-net", "--ns-ifname", ADAPTER]
    words += ["--no-map-gw", "--no-netns-quit"]
    for ports in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        words += [ports, "none"]  # or it would publish all of the host's to the container
    if 4 in versions:
        words += ["--address", ADDRESS4, "--netmask", str(PREFIX4), "--gateway", GATEWAY4]
    if 6 in versions:
        words += ["--address", ADDRESS6, "--gateway", GATEWAY6]
    if len(versions) == 1:
        words.append(f"--ipv{versions[0]}-only")
    return [*words, "--netns", _SHOWN]


def start(name: str, path: str, namespace: int, versions: Sequence[int]) -> process.Process:
    """Start the program, for the network behind a descriptor; the process to end it with, which
    ends with us at the latest. EngineError when it cannot be."""
    if 6 in versions:
        inside(namespace, _trust_addresses)
    errors = os.memfd_create("errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    parent = os.pidfd_open(os.getpid())
    try:
        child = process.spawn(
            lambda: _live(path, command(name, versions), parent, namespace, errors),
            flags.CLONE_NEWNS | flags.CLONE_NEWPID,
        )
        try:
            child.wait_exec(path)
            _wait(child, name, namespace, _DEFAULT[versions[-1]], errors)
        except BaseException:
            child.end()
            child.close()
            raise
        # What it may say from now on, for days, would fill our memory.
        fcntl.fcntl(errors, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(parent)
        os.close(errors)
    return child


def _trust_addresses() -> None:
    """Let a new adapter use its addresses at once: nobody else is there who could have them."""
    with open("/proc/sys/net/ipv6/conf/default/accept_dad", "w") as file:
        file.write("0")


def _live(path: str, words: list[str], parent: int, namespace: int, errors: int) -> None:
    """In the child, the first process of a PID namespace: it ends with us, and with it whoever is
    in there. The program itself would lose the wish to end with us where it comes behind an
    AppArmor profile (prctl(2), PR_SET_PDEATHSIG)."""
    syscalls.prctl(flags.PR_SET_PDEATHSIG, _signal.SIGKILL)
    if process.wait_ready(parent, 0):
        return  # it was too late for that
    os.setsid()  # the user's Ctrl-C is the container's
    if program := os.fork():
        syscalls.close_range(0)
        os.waitpid(program, 0)
    else:
        _become(path, words, namespace, errors)


def _become(path: str, words: list[str], namespace: int, errors: int) -> None:
    """The program drops the power to look at the namespace of another process, but not to open a
    file; and where the file is mounted nobody but the program sees."""
    mounts.make_private()  # or it would be seen where mounts are shared, and stay
    syscalls.mount("tmpfs", _STAGE, "tmpfs", 0, "mode=755")
    os.makedirs(os.path.dirname(_SHOWN))
    os.mknod(_SHOWN)
    syscalls.mount(f"/proc/self/fd/{namespace}", _SHOWN, None, flags.MS_BIND)
    null = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((null, null, errors)):
        os.dup2(descriptor, number)
    syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
    os.chdir("/")
    os.execve(path, words, {"LC_ALL": "C"})


def _wait(child: process.Process, name: str, namespace: int, wanted: str, errors: int) -> None:
    """Wait until the container has its way out, a route, which the program makes last."""
    limit = time.monotonic() + _SECONDS
    events, links = inside(namespace, lambda: (_listen(), Links()))
    try:
        while not any(route.to == wanted for route in links.routes()):
            poll = select.poll()
            for descriptor in (events.fileno(), child.pidfd):
                poll.register(descriptor, select.POLLIN)
            ready = {each for each, _ in poll.poll(max(0, limit - time.monotonic()) * 1000)}
            if child.pidfd in ready or not ready:
                raise _failed(name, os.pread(errors, 65536, 0).decode(errors="replace"))
            events.recv(65536)
    finally:
        links.close()
        events.close()


def _listen() -> _socket.socket:
    events = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 0)
    events.bind((0, _CHANGES))
    return events


def _failed(name: str, text: str) -> EngineError:
    reason = ([line for line in text.splitlines() if line and "syslog" not in line] or [""])[-1]
    hint = "pasta wants a host that has a way out; slirp4netns does not"
    return EngineError(
        f"cannot connect the container: {name}: {reason or 'it says nothing'}",
        hint=hint if "nterface" in reason else None,  # External interface not usable
    )

"""The features that a machine may lack, each with a probe and the sentence of its skip.

A test says `@pytest.mark.needs("cgroup-v2")`. Where the feature is missing the test is skipped,
with the sentence; on CI this is the only skip that is not a failure (tests/support/plugin.py).
"""

from __future__ import annotations

import ctypes.util
import functools
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from minicontainer.engine import apparmor as profiles
from minicontainer.kernel import apparmor


def _has_filesystem(name: str) -> bool:
    with open("/proc/filesystems") as table:
        return any(line.split()[-1] == name for line in table)


def _cgroup_v2_controllers() -> set[str]:
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        try:
            with open(f"{root}/cgroup.controllers") as file:
                return set(file.read().split())
        except OSError:
            continue
    return set()


def _may_unshare_user() -> bool:
    return not subprocess.run(
        ["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False
    ).returncode


def _capability(number: int) -> bool:
    with open("/proc/self/status") as status:
        mask = next(line for line in status if line.startswith("CapBnd"))
    return bool(int(mask.split()[1], 16) >> number & 1)


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        return False
    return True


def _kernel(*version: int) -> bool:
    numbers = platform.release().split("-")[0].split(".")
    return tuple(int(n) for n in numbers[:2]) >= version


def docker() -> tuple[str, str]:
    """Docker's daemon and client: installed, or unpacked by ./dev test. (Another client may come
    first on PATH.)"""
    unpacked = f"{Path(__file__).resolve().parents[2]}/build/docker/usr/sbin/dockerd"
    daemon = shutil.which("dockerd") or unpacked
    return daemon, f"{os.path.dirname(os.path.dirname(daemon))}/bin/docker"


# name: (probe, what is missing when it says no)
FEATURES: dict[str, tuple[Callable[[], bool], str]] = {
    "overlay": (lambda: _has_filesystem("overlay"), "the kernel's overlay file system"),
    "new-mount-api": (lambda: _kernel(5, 2), "fsopen(2) and its kin (Linux 5.2)"),
    "overlay-lowerdir-append": (lambda: _kernel(6, 5), "overlay's lowerdir+ (Linux 6.5)"),
    "cgroup-v2": (
        lambda: {"memory", "pids", "cpu"} <= _cgroup_v2_controllers(),
        "a cgroup v2 tree with the memory, pids and cpu controllers",
    ),
    "cgroup-v1": (
        lambda: os.path.isdir("/sys/fs/cgroup/memory"),
        "a cgroup v1 hierarchy with the memory controller",
    ),
    "br-netfilter": (
        lambda: os.path.isdir("/proc/sys/net/bridge"),
        "br_netfilter, which shows bridged packets to the IP firewall (modprobe br_netfilter)",
    ),
    "sctp": (_has_sctp, "SCTP (the module sctp)"),
    "systemd": (lambda: os.path.isdir("/run/systemd/system"), "systemd as its first process"),
    "spare-disk": (lambda: os.path.exists("/dev/vdb"), "a disk to spare, /dev/vdb"),
    "tun": (lambda: os.path.exists("/dev/net/tun"), "/dev/net/tun (modprobe tun)"),
    "user-namespaces": (_may_unshare_user, "the permission to make user namespaces"),
    "sys-resource": (lambda: _capability(24), "CAP_SYS_RESOURCE in the bounding set"),
    "kvm": (lambda: os.path.exists("/dev/kvm"), "/dev/kvm"),
    "zstd": (
        lambda: sys.version_info >= (3, 14) or _importable("zstandard"),
        "a zstd decoder (Python 3.14, or the zstd extra)",
    ),
    "kernel-headers": (
        lambda: any(
            os.path.exists(f"{path}/asm/unistd_64.h")
            for path in ("/usr/include/x86_64-linux-gnu", "/usr/x86_64-linux-gnu/include")
        ),
        "the kernel's headers for x86-64 (linux-libc-dev)",
    ),
    "arm-headers": (
        lambda: all(
            os.path.exists(f"/usr/{name}/include/asm/unistd.h")
            for name in ("aarch64-linux-gnu", "arm-linux-gnueabihf")
        ),
        "the kernel's headers for both ARMs (linux-libc-dev-arm64-cross, -armhf-cross)",
    ),
    "libseccomp": (
        lambda: bool(ctypes.util.find_library("seccomp")),
        "libseccomp, which runc and crun make their filters with",
    ),
    "docker": (
        lambda: all(map(os.path.exists, docker())),
        "docker's daemon and client (docker.io)",
    ),
    "apparmor": (
        lambda: apparmor.is_enabled() and any(map(os.path.exists, profiles.PARSERS)),
        "AppArmor, and apparmor_parser to load profiles with",
    ),
    "ia32": (
        lambda: os.path.exists("/proc/sys/abi/vsyscall32"),
        "programs of 32 bits (CONFIG_IA32_EMULATION)",
    ),
    "x86-64": (lambda: platform.machine() == "x86_64", "an x86-64 processor"),
    "arm64": (lambda: platform.machine() == "aarch64", "an arm64 processor"),
    "book-vm": (
        lambda: os.uname().nodename == "minicontainer" and os.path.isdir("/vagrant/vagrant"),
        "being the book's own VM (./dev vm test)",
    ),
    "chromium": (
        lambda: any(os.path.exists(p) for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser")),
        "a chromium that is no snap",
    ),
}


def _importable(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


@functools.cache
def missing(feature: str) -> str | None:
    """The sentence of what is missing, or None where the machine has the feature."""
    probe, sentence = FEATURES[feature]
    return None if probe() else sentence

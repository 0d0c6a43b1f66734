"""What the programs of user-mode networking are told; what they do then: test_rootless_network."""

from __future__ import annotations

import _thread
import itertools
import os
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import users
from minicontainer.network import links, usermode
from tests.support.netns import Namespace


def pairs(words: list[str]) -> dict[str, str]:
    return dict(itertools.pairwise(words))


@pytest.mark.parametrize("versions", [[4], [6], [4, 6]])
def test_pasta_publishes_nothing_by_itself(versions: list[int]) -> None:
    """By default it would publish all that anybody listens on, inside and outside."""
    words = usermode.command("pasta", versions)
    told = pairs(words)
    for name in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert told[name] == "none"
    assert "--no-map-gw" in words
    # It copies the host's address where it is given none of a version that the host has.
    assert (usermode.ADDRESS4 in words) == (4 in versions) == ("--ipv6-only" not in words)
    assert (usermode.ADDRESS6 in words) == (6 in versions) == ("--ipv4-only" not in words)


def test_slirp4netns_is_shut_in() -> None:
    words = usermode.command("slirp4netns", [4])
    for word in ("--disable-host-loopback", "--disable-dns", "--enable-sandbox"):
        assert word in words
    assert words[-1] == usermode.ADAPTER


def test_which_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f":/nowhere:{tmp_path}")
    monkeypatch.setattr(usermode, "TUN", str(tmp_path / "tun"))
    out: list[int] = []
    monkeypatch.setattr(usermode, "versions", lambda: out)
    with pytest.raises(EngineError, match="pasta or slirp4netns") as told:
        usermode.find("bridge")
    assert told.value.hint == "install pasta: apt install passt"
    slirp, pasta = tmp_path / "slirp4netns", tmp_path / "pasta"
    slirp.touch(0o755)
    with pytest.raises(EngineError, match="not there or not open"):
        usermode.find("bridge")
    (tmp_path / "tun").touch()
    assert usermode.find("bridge") == ("slirp4netns", str(slirp))
    with pytest.raises(EngineError, match="wants pasta, which") as told:
        usermode.find("pasta")
    assert "apt install passt" in str(told.value.hint)
    pasta.touch(0o755)
    assert usermode.find("bridge")[0] == "slirp4netns"
    out.append(4)
    assert usermode.find("bridge") == ("pasta", str(pasta))
    assert usermode.find("slirp4netns")[0] == "slirp4netns"


@pytest.mark.root
def test_who_cannot_come_back_sends_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "is_mapped", lambda: True)
    here = os.readlink("/proc/self/ns/net")

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    with Namespace() as other:
        pidfd = os.pidfd_open(other.pid)
        there = links.inside(pidfd, lambda: os.readlink("/proc/thread-self/ns/net"))
        assert there == os.readlink(f"/proc/{other.pid}/ns/net") != here
        assert os.readlink("/proc/self/ns/net") == here
        assert len(os.listdir("/proc/self/task")) == 1
        with pytest.raises(ZeroDivisionError):
            links.inside(pidfd, lambda: 1 // 0)
        monkeypatch.setattr(_thread, "start_new_thread", refuse)
        with pytest.raises(BlockingIOError, match="thread"):
            links.inside(pidfd, os.getpid)
        os.close(pidfd)

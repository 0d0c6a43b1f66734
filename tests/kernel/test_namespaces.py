"""Namespaces: their names, their identity, joining them; and the keys that none of them holds."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import pytest

from minicontainer.kernel import flags, namespaces, process, syscalls
from tests.support.inside import inside

pytestmark = pytest.mark.root


def test_kinds_are_the_specifications() -> None:
    assert namespaces.bits(["mount", "uts"]) == flags.CLONE_NEWNS | flags.CLONE_NEWUTS
    with pytest.raises(KeyError):
        namespaces.bits(["magic"])


@pytest.mark.parametrize("kind", ["uts", "ipc", "network", "mount", "pid", "cgroup"])
def test_a_new_namespace_has_another_identity(kind: str) -> None:
    seen = inside(lambda: namespaces.identity("self", kind), namespaces.KINDS[kind])
    assert seen != namespaces.identity("self", kind)
    assert seen == inside(lambda: seen, 0)
    assert inside(lambda: namespaces.identity("self", kind)) == namespaces.identity("self", kind)


def test_a_name_of_ones_own() -> None:
    before = socket.gethostname()

    def child() -> str:
        namespaces.set_hostname("box")
        syscalls.setdomainname("test.example")
        return os.uname().nodename

    assert inside(child, flags.CLONE_NEWUTS) == "box"
    assert socket.gethostname() == before


def test_joining_by_pidfd_and_by_file() -> None:
    read, write = os.pipe()
    ready, told = os.pipe()

    def wait() -> None:
        os.close(write)
        namespaces.set_hostname("joined")
        os.write(told, b"+")
        os.read(read, 1)

    holder = process.spawn(wait, flags.CLONE_NEWUTS | flags.CLONE_NEWIPC)
    try:
        os.read(ready, 1)

        def by_pidfd() -> list[object]:
            namespaces.join(holder.pidfd, flags.CLONE_NEWUTS | flags.CLONE_NEWIPC)
            return [os.uname().nodename, namespaces.identity("self", "ipc")]

        def by_file() -> list[object]:
            namespaces.join_file(f"/proc/{holder.pid}/ns/uts", "uts")
            return [os.uname().nodename, namespaces.identity("self", "ipc")]

        ipc = namespaces.identity(holder.pid, "ipc")
        assert inside(by_pidfd) == ["joined", ipc]
        assert inside(by_file) == ["joined", namespaces.identity("self", "ipc")]
    finally:
        for descriptor in (read, write, ready, told):
            os.close(descriptor)
        assert holder.wait() == 0
        holder.close()


@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="this machine lacks kernel keys")
def test_the_callers_keys_are_left_behind() -> None:
    keyctl = ctypes.CDLL(None, use_errno=True).syscall
    session = ctypes.c_int(-3)

    def keyring() -> int:
        return int(keyctl(flags.NR_keyctl, flags.KEYCTL_GET_KEYRING_ID, session, 0))

    def child() -> list[int]:
        before = keyring()
        namespaces.leave_session_keyring()
        return [before, keyring()]

    before, after = inside(child)
    assert before != after
    assert after > 0

"""A terminal whose inner end lives on a devpts of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import flags, mounts, terminal
from tests.support.inside import inside

pytestmark = pytest.mark.root


def test_the_two_ends_are_connected_and_not_on_the_hosts_devpts() -> None:
    host = set(os.listdir("/dev/pts"))
    devpts = terminal.create_devpts()
    outer, inner = terminal.open_pair(devpts)
    try:
        os.write(inner, b"from inside\n")
        assert os.read(outer, 100) == b"from inside\r\n"
        assert os.fstat(inner).st_dev != os.stat("/dev/pts").st_dev
        assert set(os.listdir("/dev/pts")) == host
    finally:
        for descriptor in (outer, inner, devpts):
            os.close(descriptor)


def test_a_false_ptmx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ptmx").write_text("no terminal")
    directory = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(EngineError, match="ptmx"):
            terminal.open_pair(directory)
    finally:
        os.close(directory)


def test_the_inner_end_becomes_the_controlling_terminal() -> None:
    def child() -> str:
        devpts = terminal.create_devpts()
        _outer, inner = terminal.open_pair(devpts)
        os.setsid()
        terminal.take(inner)
        return str(os.tcgetpgrp(inner) == os.getpgrp())

    assert inside(child, flags.CLONE_NEWNS) == "True"


def test_window_size_is_copied() -> None:
    source, source_inner = pty.openpty()
    target, target_inner = pty.openpty()
    try:
        fcntl.ioctl(source_inner, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        terminal.copy_size(source_inner, target)
        size = fcntl.ioctl(target_inner, termios.TIOCGWINSZ, b"\0" * 8)
        assert struct.unpack("HHHH", size)[:2] == (33, 99)
    finally:
        for descriptor in (source, source_inner, target, target_inner):
            os.close(descriptor)


def test_raw_mode_is_left_on_every_exit() -> None:
    outer, inner = pty.openpty()
    try:
        before = termios.tcgetattr(inner)
        with pytest.raises(RuntimeError), terminal.Raw(inner):
            assert not termios.tcgetattr(inner)[3] & termios.ECHO
            raise RuntimeError
        assert termios.tcgetattr(inner) == before
    finally:
        os.close(outer)
        os.close(inner)


def test_devpts_is_seen_when_it_is_attached(rootfs: Path) -> None:
    def child() -> list[str]:
        mounts.make_private()
        root = mounts.attach_root(mounts.clone(str(rootfs), []), str(rootfs))
        devpts = terminal.create_devpts()
        _outer, inner = terminal.open_pair(devpts)
        mounts.attach_below(root, devpts, "/dev/pts")
        mounts.pivot_root(root)
        return [os.ttyname(inner), *sorted(os.listdir("/dev/pts"))]

    assert inside(child, flags.CLONE_NEWNS) == ["/dev/pts/0", "0", "ptmx"]

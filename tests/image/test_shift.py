"""A layer's copy with other owners: all the same but for them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from minicontainer.image import shift
from minicontainer.image.store import Store

pytestmark = pytest.mark.root
ROWS = [(0, 100000, 1000), (1000, 300000, 1000)]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def described(path: Path) -> dict[str, Any]:
    """What a layer is made of, but for the inode numbers."""
    found: dict[str, Any] = {}
    for entry in [path, *sorted(path.rglob("*"))]:
        status = entry.lstat()
        attributes = {
            name: os.getxattr(entry, name, follow_symlinks=False)
            for name in os.listxattr(entry, follow_symlinks=False)
        }
        found[str(entry.relative_to(path))] = (
            stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
            status.st_rdev, status.st_nlink, attributes,
            entry.read_bytes() if stat.S_ISREG(status.st_mode) else None,
            os.readlink(entry) if stat.S_ISLNK(status.st_mode) else None,
        )  # fmt: skip
    return found


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    store = Store(str(tmp_path / "store"))
    store.create()
    layer = Path(store.layers) / ("a" * 64)
    (layer / "sub" / "deep").mkdir(parents=True)
    (layer / "sub" / "file").write_bytes(b"content" * 100000)
    os.setxattr(layer / "sub" / "file", "user.note", b"x")
    (layer / "program").write_text("#!/bin/sh\n")
    os.chown(layer / "program", 5, 1007)
    (layer / "program").chmod(0o6755)
    os.setxattr(layer / "program", "security.capability", CAPABILITY)
    os.link(layer / "program", layer / "sub" / "deep" / "same")
    (layer / "link").symlink_to("/etc/shadow")
    os.chown(layer / "link", 1, 1, follow_symlinks=False)
    os.mkfifo(layer / "fifo", 0o640)
    os.mknod(layer / "gone", stat.S_IFCHR, 0)
    os.setxattr(layer / "sub" / "deep", "trusted.overlay.opaque", b"y")
    (layer / "stranger").touch()
    os.chown(layer / "stranger", 5000, 0)
    (layer / "sub").chmod(0o1777)
    os.utime(layer, ns=(5, 7))
    return layer


def test_it_is_the_layer_with_other_owners(layer: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    before = described(layer)
    with store.adding():
        copy = Path(shift.shifted(store, str(layer), ROWS, ROWS))
        again = shift.shifted(store, str(layer), ROWS, ROWS)
        other = shift.shifted(store, str(layer), ROWS, ROWS[:1])
    assert described(layer) == before
    assert again == str(copy) != other
    after = described(copy)
    moved = {0: 100000, 1: 100001, 5: 100005, 1007: 300007, 5000: 65534}
    for name, (mode, uid, gid, *rest) in before.items():
        owner = (uid, gid) if name == "gone" else (moved[uid], moved[gid])
        assert after[name] == (mode, *owner, *rest), name
    assert not os.listdir(store.unfinished)
    store.collect()
    assert not copy.exists()
    assert not layer.exists()

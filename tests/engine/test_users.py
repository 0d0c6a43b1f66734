"""USER in the image's own files, which a stranger wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minicontainer.engine import users
from minicontainer.engine.users import User
from minicontainer.errors import EngineError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment: with: colons

broken
app:x:1000:1001:app:/home/app:/bin/sh
odd:x:notanumber:5::/odd:/bin/sh
nohome:x:7:7:::
1234:x:55:56::/digits:
app:x:9:9::/second:/bin/sh
"""
GROUP = """\
root:x:0:root
wheel:x:10:root,app
users:x:100:someone,app
app:x:1001:
bad:x:-1:app
empty
"""

Resolve = Callable[..., User]


@pytest.fixture
def resolve(tmp_path: Path) -> Iterator[Resolve]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield lambda text, groups=None: users.resolve(root, text, groups)
    os.close(root)


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [0, 10], "/root"),
        ("root", 0, 0, [0, 10], "/root"),
        ("0", 0, 0, [0, 10], "/root"),
        ("app", 1000, 1001, [1001, 10, 100], "/home/app"),
        ("1000", 1000, 1001, [1001, 10, 100], "/home/app"),
        ("app:users", 1000, 100, [100], "/home/app"),
        ("app:77", 1000, 77, [77], "/home/app"),
        ("4321", 4321, 0, [0], "/"),
        ("4321:8765", 4321, 8765, [8765], "/"),
        ("4321:wheel", 4321, 10, [10], "/"),
        ("nohome", 7, 7, [7], "/"),
        # A number is always an id, never a name (CVE-2022-36109's neighbourhood; moby's rule).
        ("1234", 1234, 0, [0], "/"),
    ],
)
def test_resolve(
    resolve: Resolve, text: str, uid: int, gid: int, groups: list[int], home: str
) -> None:
    found = resolve(text)
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


def test_added_groups(resolve: Resolve) -> None:
    assert resolve("4321", ["wheel", "77", "77"]).groups == [0, 10, 77]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("odd", "unable to find user odd: no matching entries in passwd file"),
        ("app:nope", "unable to find group nope: no matching entries in group file"),
        ("2147483648", "must be in range"),
        ("0:4294967295", "must be in range"),
        ("-1", "unable to find user -1"),
        ("\u0661", "unable to find user"),  # a digit, but not of ASCII
    ],
)
def test_errors(resolve: Resolve, text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        resolve(text)
    assert caught.value.exit_code == 125


def hostile_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def hostile_fifo(path: Path) -> None:
    os.mkfifo(path)


def hostile_directory(path: Path) -> None:
    path.mkdir()


def hostile_loop(path: Path) -> None:
    path.symlink_to(path.name)


def hostile_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xfe:x:1\n" + b"a" * 100_000 + b"\n\0\0:::::::\n")


@pytest.mark.parametrize(
    "make", [hostile_link, hostile_fifo, hostile_directory, hostile_loop, hostile_bytes, None]
)
def test_hostile_files_are_no_files(tmp_path: Path, make: Callable[[Path], None] | None) -> None:
    (tmp_path / "etc").mkdir()
    if make is not None:
        make(tmp_path / "etc/passwd")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert users.resolve(root, "").uid == 0
        # The link must not lead to the host's file, where `daemon` is.
        with pytest.raises(EngineError, match="unable to find user daemon"):
            users.resolve(root, "daemon")
    finally:
        os.close(root)


def test_an_endless_file_is_read_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_LIMIT", 1000)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("x\n" * 1000 + "late:x:1:1::/:\n")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert len(users.read_text(root, "/etc/passwd")) == 1000
    finally:
        os.close(root)

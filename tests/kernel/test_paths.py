"""Paths inside somebody else's tree never lead out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.kernel import paths, syscalls


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("inside")
    (tmp_path / "passwd").write_text("outside")
    descriptor = os.open(root, os.O_PATH)
    yield root, descriptor
    os.close(descriptor)


def read(descriptor: int, path: str) -> str:
    with open(paths.open_in_root(descriptor, path, os.O_RDONLY)) as file:
        return file.read()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../../etc/passwd", "/../../etc/passwd", "../etc/passwd"]
)
def test_links_and_dots_stop_at_the_root(tree: tuple[Path, int], target: str) -> None:
    root, descriptor = tree
    (root / "etc" / "link").symlink_to(target)
    assert read(descriptor, "/etc/link") == "inside"
    assert read(descriptor, target) == "inside"


def test_a_magic_link_of_proc_is_not_followed(tree: tuple[Path, int]) -> None:
    _, descriptor = tree
    host = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError, match="openat2"):
            paths.open_in_root(host, f"/proc/self/fd/{descriptor}/etc/passwd")
    finally:
        os.close(host)


def test_directories_are_made_inside_also_through_a_link(tree: tuple[Path, int]) -> None:
    root, descriptor = tree
    (root / "there").symlink_to("/etc")
    os.close(paths.make_directories(descriptor, "/there/a/b", 0o750))
    assert (root / "etc" / "a" / "b").is_dir()
    assert (root / "etc" / "a").stat().st_mode & 0o777 == 0o750
    assert not Path("/etc/a").exists()
    os.close(paths.make_directories(descriptor, "/there/a/b"))


@pytest.mark.parametrize("make", [paths.make_directories, paths.make_file])
def test_a_file_in_the_way_is_an_error(tree: tuple[Path, int], make: object) -> None:
    _, descriptor = tree
    assert callable(make)
    with pytest.raises(OSError, match="Not a directory"):
        make(descriptor, "/etc/passwd/below")


def test_a_link_to_nowhere_is_not_written_through(tree: tuple[Path, int], tmp_path: Path) -> None:
    root, descriptor = tree
    (root / "gone").symlink_to("/nowhere/at/all")
    with pytest.raises(OSError, match="File exists"):
        paths.make_directories(descriptor, "/gone/below")
    assert not (root / "nowhere").exists()


def test_a_file_is_made_once_and_kept(tree: tuple[Path, int]) -> None:
    root, descriptor = tree
    os.close(paths.make_file(descriptor, "/new/place/file", 0o600))
    assert (root / "new/place/file").stat().st_mode & 0o777 == 0o600
    os.close(paths.make_file(descriptor, "/etc/passwd"))
    assert (root / "etc/passwd").read_text() == "inside"


def test_directory_or_not(tree: tuple[Path, int]) -> None:
    _, descriptor = tree
    assert paths.is_directory(descriptor)
    file = paths.open_in_root(descriptor, "/etc/passwd")
    assert not paths.is_directory(file)
    os.close(file)


def test_a_file_is_made_where_a_link_to_nowhere_points(tree: tuple[Path, int]) -> None:
    """/etc/resolv.conf of systemd's distributions, before anything runs."""
    root, descriptor = tree
    (root / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    os.close(paths.make_file(descriptor, "/etc/resolv.conf"))
    assert (root / "run/systemd/resolve/stub-resolv.conf").is_file()
    (root / "etc" / "out").symlink_to("/../../../outside")
    os.close(paths.make_file(descriptor, "/etc/out"))
    assert (root / "outside").is_file()
    (root / "etc" / "ring").symlink_to("/etc/ring")
    with pytest.raises(OSError, match=r"(?i)too many levels"):
        paths.make_file(descriptor, "/etc/ring")


def test_a_walk_is_tried_again_while_others_rename(
    tree: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, descriptor = tree
    answers = [errno.EAGAIN, errno.EAGAIN]
    plain = syscalls._openat2

    def busy(*arguments: object) -> int:
        if answers:
            raise syscalls.SyscallError(answers.pop(), "openat2()", None)
        return plain(*arguments)

    monkeypatch.setattr(syscalls, "_openat2", busy)
    os.close(paths.open_in_root(descriptor, "/etc/passwd"))
    assert answers == []

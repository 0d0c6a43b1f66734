"""Files that survive a kill: replaced in one step, locked by the living, removed by descriptor."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer import files

ROOT = str(Path(__file__).parents[1])


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    files.write_atomic(str(path), "one", mode=0o600, durable=durable)
    with open(path) as held:
        files.write_atomic(str(path), b"two", mode=0o640, durable=durable)
        assert held.read() == "one"
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(str(tmp_path / "file"), "new")
    assert os.listdir(tmp_path) == ["file"]


HOLD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minicontainer import files\n"
    "lock = files.Lock(sys.argv[2]).acquire(); print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_is_held_until_its_holder_dies(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, ROOT, path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError):
        files.Lock(path, block=False).acquire()
    holder.kill()
    holder.wait()
    with files.Lock(path, block=False):
        pass
    holder.stdin.close()
    holder.stdout.close()


def test_shared_locks_go_together(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = files.Lock(path, shared=True).acquire()
    with files.Lock(path, shared=True, block=False), pytest.raises(BlockingIOError):
        files.Lock(path, block=False).acquire()
    first.release()
    with files.Lock(path, block=False):
        pass


def test_a_lock_on_a_removed_file_is_no_lock(tmp_path: Path) -> None:
    """Whoever tears down removes the file; the next holder must lock the file that is there."""
    path = tmp_path / "lock"
    first = files.Lock(str(path)).acquire()
    path.unlink()
    second = files.Lock(str(path), block=False).acquire()
    assert path.exists()
    first.release()
    second.release()
    second.release()


def test_release_frees_it_although_a_child_has_a_copy(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = files.Lock(path).acquire()
    copy = os.dup(lock.descriptor)
    lock.release()
    with files.Lock(path, block=False):
        pass
    os.close(copy)


def test_a_tree_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").touch()
    (tree / "a" / "link").symlink_to(outside)
    (tree / "a" / "dangling").symlink_to("/nowhere")
    os.mkfifo(tree / "fifo")
    files.remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").is_dir()
    files.remove_tree(str(tree))
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        files.remove_tree(str(tmp_path / "link"))
    assert (outside / "kept").is_dir()


def test_a_tree_of_any_depth_is_removed_with_few_descriptors(tmp_path: Path) -> None:
    """A container can nest directories without end; each level must not cost a descriptor."""
    top = tmp_path / "deep"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, hard), hard))
    try:
        files.remove_tree(str(top))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(tmp_path) == []

"""Overlay: layers below, writes above, by both interfaces of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.kernel import overlay

pytestmark = [pytest.mark.root, pytest.mark.needs("overlay")]


def layers(tmp_path: Path, count: int) -> list[str]:
    """Layers, topmost first: each has its own file, and all have `same` with their number."""
    made = []
    for number in range(count):
        layer = tmp_path / f"layer-with-a-name-as-long-as-a-digest-{number:064}"
        layer.mkdir()
        (layer / f"file{number}").write_text(str(number))
        (layer / "same").write_text(str(number))
        made.append(str(layer))
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    return made


def read(mount: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=mount)) as file:
        return file.read()


@pytest.mark.parametrize("by_path", [False, True], ids=["fsconfig", "mount"])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_all_layers_are_seen_and_the_topmost_wins(
    tmp_path: Path, count: int, by_path: bool
) -> None:
    lower = layers(tmp_path, count)
    mount = overlay.mount(lower, f"{tmp_path}/upper", f"{tmp_path}/work", by_path=by_path)
    try:
        assert read(mount, "same") == "0"
        assert read(mount, f"file{count - 1}") == str(count - 1)
        assert len(os.listdir(mount_path(mount))) == count + 1
    finally:
        os.close(mount)


def mount_path(mount: int) -> str:
    return f"/proc/self/fd/{mount}"


@pytest.mark.parametrize("by_path", [False, True], ids=["fsconfig", "mount"])
def test_a_write_stays_above(tmp_path: Path, by_path: bool) -> None:
    lower = layers(tmp_path, 2)
    mount = overlay.mount(
        lower, f"{tmp_path}/upper", f"{tmp_path}/work", volatile=True, by_path=by_path
    )
    try:
        with open(os.open("same", os.O_WRONLY | os.O_TRUNC, dir_fd=mount), "w") as file:
            file.write("mine")
        os.unlink("file1", dir_fd=mount)
        assert read(mount, "same") == "mine"
    finally:
        os.close(mount)
    assert Path(lower[0], "same").read_text() == "0"
    assert Path(lower[1], "file1").exists()
    assert (tmp_path / "upper" / "same").read_text() == "mine"
    whiteout = (tmp_path / "upper" / "file1").stat()
    assert whiteout.st_rdev == 0
    assert whiteout.st_mode & 0o170000 == 0o020000


@pytest.mark.parametrize("by_path", [False, True], ids=["fsconfig", "mount"])
def test_a_missing_layer_is_an_error_that_names_the_call(tmp_path: Path, by_path: bool) -> None:
    layers(tmp_path, 1)
    with pytest.raises(Exception, match=r"(?i)no such file") as caught:
        overlay.mount(["/no/such"], f"{tmp_path}/upper", f"{tmp_path}/work", by_path=by_path)
    assert "/no/such" in str(caught.value)

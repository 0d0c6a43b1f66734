"""One layer in overlay form: what each kind of entry becomes, and what overlayfs then shows."""

from __future__ import annotations

import gzip
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import layer
from minicontainer.image import unpack as worker
from tests.image import hostile
from tests.image.hostile import (
    archive,
    directory,
    entry,
    hardlink,
    pax,
    symlink,
    unpack,
)  # fmt: skip

pytestmark = pytest.mark.root


def tree(root: Path) -> dict[str, str]:
    """Each path below a root, and in a word what it is."""
    found = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(folder, name)
            status = path.lstat()
            mode = status.st_mode
            if stat.S_ISLNK(mode):
                text = f"-> {os.readlink(path)}"
            elif stat.S_ISDIR(mode):
                text = "opaque" if layer.is_opaque(str(path)) else "directory"
            elif stat.S_ISREG(mode):
                text = path.read_text()
            elif stat.S_ISCHR(mode) and status.st_rdev == 0:
                text = "whiteout"
            else:
                text = (
                    f"{stat.filemode(mode)} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                )
            found[str(path.relative_to(root))] = text
    return found


def show(tmp_path: Path, *layers: Path) -> dict[str, str]:
    """What overlayfs shows of layers, top first."""
    empty = tmp_path / "empty"
    point = tmp_path / "merged"
    empty.mkdir(exist_ok=True)
    point.mkdir(exist_ok=True)
    lower = ":".join(str(path) for path in (*layers, empty))
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", point],
        check=True,
        # The new interface takes an option of 255 characters at most.
        env={**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"},
    )
    try:
        return tree(point)
    finally:
        subprocess.run(["umount", point], check=True)


# ------------------------------------------------------------------------------------- the entries


def test_files_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    unpack(
        archive(
            directory(b"bin", mode=0o1777, uid=5, gid=6, mtime=7),
            pax({b"mtime": b"1600000000.000000123", b"SCHILY.xattr.user.note": b"hello"}),
            entry(b"bin/su", content=b"su", mode=0o4755, uid=1000, gid=1000),
            pax({b"SCHILY.xattr.security.capability": capability}),
            entry(b"bin/ping", content=b"ping", mode=0o755, uid=7),
            entry(b"bin/secret", content=b"", mode=0o000),
        ),
        tmp_path / "layer",
    )
    bin = tmp_path / "layer" / "bin"
    su = (bin / "su").stat()
    assert (su.st_mode, su.st_uid, su.st_gid) == (stat.S_IFREG | 0o4755, 1000, 1000)
    assert su.st_mtime_ns == 1_600_000_000_000_000_123
    assert os.getxattr(bin / "su", "user.note") == b"hello"
    assert os.getxattr(bin / "ping", "security.capability") == capability
    assert (bin / "ping").stat().st_uid == 7
    assert stat.S_IMODE((bin / "secret").stat().st_mode) == 0
    status = bin.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 5, 6)
    assert status.st_mtime_ns == 7 * 10**9


def test_every_kind_of_entry(tmp_path: Path) -> None:
    unpack(
        archive(
            directory(b"./"),
            directory(b"./dev/"),
            entry(b"./dev/null", b"3", device=(1, 3), mode=0o666),
            entry(b"./dev/sda", b"4", device=(8, 0), mode=0o660, gid=6),
            entry(b"./fifo", b"6", mode=0o1600, uid=8, mtime=9),
            entry(b"./old", b"7", b"contiguous"),
            entry(b"./link", b"2", link=b"/no/where", uid=8, mtime=9),
            entry(b"./file", content=b"file"),
            hardlink(b"./dev/hard", b"./file"),
        ),
        tmp_path / "layer",
    )
    assert tree(tmp_path / "layer") == {
        "dev": "directory",
        "dev/null": "crw-rw-rw- 1:3",
        "dev/sda": "brw-rw---- 8:0",
        "fifo": "prw------T 0:0",
        "old": "contiguous",
        "link": "-> /no/where",
        "file": "file",
        "dev/hard": "file",
    }
    assert (tmp_path / "layer/dev/hard").stat().st_nlink == 2
    assert (tmp_path / "layer/dev/sda").stat().st_gid == 6
    for name in ("fifo", "link"):
        status = (tmp_path / "layer" / name).lstat()
        assert (status.st_uid, status.st_mtime) == (8, 9)


def test_a_time_that_no_file_system_has_is_1970(tmp_path: Path) -> None:
    late = pax({b"mtime": b"9" * 18})
    unpack(
        archive(late, directory(b"d"), late, entry(b"d/f"), late, symlink(b"d/l", b"f")),
        tmp_path / "layer",
    )
    for name in ("d", "d/f", "d/l"):
        assert (tmp_path / "layer" / name).lstat().st_mtime_ns == 0


def test_odd_names(tmp_path: Path) -> None:
    names = [
        b"new\nline",
        b"\xff\xfe",
        "é☃".encode(),
        b"a" * 255,
        b"-rf",
        b"back\\slash",
        b"sp ace",
    ]
    unpack(
        archive(*(pax({b"path": name}) + entry(b"x", content=name) for name in names)),
        tmp_path / "layer",
    )
    assert sorted(os.listdir(os.fsencode(tmp_path / "layer"))) == sorted(names)


def test_attributes_that_are_not_an_archives_to_set(tmp_path: Path) -> None:
    given = {
        b"trusted.overlay.opaque": b"y",
        b"trusted.overlay.redirect": b"/etc",
        b"user.overlay.opaque": b"y",
        b"security.selinux": b"system_u:object_r:root_t:s0",
        b"security.SMACK64": b"_",
        b"user.kept": b"1",
    }
    records = {b"SCHILY.xattr." + key: value for key, value in given.items()}
    unpack(
        archive(
            pax(records), directory(b"d"), pax(records), entry(b"d/f"), pax(records),
            directory(b"."), pax(records), symlink(b"link", b"x"),
        ),
        tmp_path / "layer",
    )  # fmt: skip
    kept = {
        "user.kept",
        "trusted.overlay.overlay.opaque",
        "trusted.overlay.overlay.redirect",
    }
    for name in (".", "d", "d/f"):
        assert set(os.listxattr(tmp_path / "layer" / name)) == kept
    # The kernel gives links no user.* attributes.
    link = set(os.listxattr(tmp_path / "layer/link", follow_symlinks=False))
    assert link == kept - {"user.kept"}


def test_a_set_group_id_directory_gives_its_group_to_nobody(tmp_path: Path) -> None:
    unpack(
        archive(directory(b"d", mode=0o2775, gid=50), entry(b"d/f"), directory(b"d/e")),
        tmp_path / "layer",
    )
    assert (tmp_path / "layer/d").stat().st_mode & 0o7777 == 0o2775
    assert (tmp_path / "layer/d/f").stat().st_gid == 0
    assert (tmp_path / "layer/d/e").stat().st_gid == 0


def test_a_store_in_a_set_group_id_directory(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    os.chown(store, 0, 50)
    store.chmod(0o2755)
    unpack(archive(entry(b"f"), directory(b"d"), symlink(b"l", b"f")), store / "layer")
    for name in (".", "f", "d", "l"):
        status = (store / "layer" / name).lstat()
        assert (status.st_gid, status.st_mode & stat.S_ISGID) == (0, 0), name


def test_the_root_entry_sets_mode_and_owner(tmp_path: Path) -> None:
    result = unpack(archive(directory(b"./", mode=0o555, uid=3, gid=4)), tmp_path / "layer")
    status = (tmp_path / "layer").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o555, 3, 4)
    assert result.implicit == []
    unpack(archive(entry(b"f")), tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ([entry(b"a", content=b"1")], [entry(b"a", content=b"2")], {"a": "2"}),
        ([symlink(b"a", b"/etc")], [entry(b"a", content=b"2")], {"a": "2"}),
        ([directory(b"a"), entry(b"a/b")], [entry(b"a", content=b"2")], {"a": "2"}),
        ([directory(b"a"), entry(b"a/b")], [directory(b"a")], {"a": "directory", "a/b": ""}),
        ([entry(b"a")], [directory(b"a"), entry(b"a/b")], {"a": "directory", "a/b": ""}),
        ([symlink(b"a", b"c")], [directory(b"a"), entry(b"a/b")], {"a": "directory", "a/b": ""}),
        ([directory(b"a"), entry(b"a/b")], [symlink(b"a", b"c")], {"a": "-> c"}),
        (
            [directory(b"a"), entry(b"a/b"), symlink(b"a", b"c")],
            [entry(b"a/d")],
            {"a": "-> c", "c": "directory", "c/d": ""},
        ),
        (
            [directory(b"c"), symlink(b"a", b"c"), entry(b"a/1")],
            [directory(b"a"), entry(b"a/2")],
            {"a": "directory", "a/2": "", "c": "directory", "c/1": ""},
        ),
        (
            [directory(b"x"), directory(b"d"), symlink(b"d/l", b"/x"), entry(b"d/l/1")],
            [symlink(b"d", b"e"), entry(b"d/l/2")],
            {
                "x": "directory",
                "x/1": "",
                "d": "-> e",
                "e": "directory",
                "e/l": "directory",
                "e/l/2": "",
            },
        ),
        (
            [directory(b"c"), symlink(b"a", b"c"), entry(b"a/1"), entry(b"a")],
            [entry(b"c/2"), directory(b"a"), entry(b"a/3")],
            {"c": "directory", "c/1": "", "c/2": "", "a": "directory", "a/3": ""},
        ),
        ([entry(b"x"), hardlink(b"a", b"x")], [hardlink(b"a", b"x")], {"a": "", "x": ""}),
        ([entry(b"a")], [hardlink(b"a", b"a")], {"a": ""}),
        (
            [entry(b"x", content=b"1"), directory(b"a"), entry(b"a/b")],
            [hardlink(b"a", b"x")],
            {"a": "1", "x": "1"},
        ),
    ],
)
def test_of_two_entries_the_later_wins(
    tmp_path: Path, first: list[bytes], second: list[bytes], left: dict[str, str]
) -> None:
    unpack(archive(*first, *second), tmp_path / "layer")
    assert tree(tmp_path / "layer") == left


def test_a_replaced_directory_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    """Neither its mode, nor its whiteouts, nor that it was opaque."""
    result = unpack(
        archive(
            directory(b"a", mode=0o700, uid=9),
            entry(b"a/.wh.gone"),
            entry(b"a/.wh..wh..opq"),
            entry(b"a/implicit/f"),
            entry(b"a"),
            directory(b"a"),
        ),
        tmp_path / "layer",
    )
    assert tree(tmp_path / "layer") == {"a": "directory"}
    assert (tmp_path / "layer/a").stat().st_uid == 0
    assert result.implicit == ["."]


# --------------------------------------------------------------------------------------- whiteouts


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A layer to remove things from."""
    unpack(
        archive(
            directory(b"."), directory(b"d"), entry(b"d/x", content=b"lower"),
            entry(b"d/y", content=b"lower"), directory(b"d/e"), entry(b"d/e/z", content=b"lower"),
            entry(b"f", content=b"lower"),
        ),
        tmp_path / "base",
    )  # fmt: skip
    return tmp_path / "base"


EVERYTHING = {
    "d": "directory", "d/x": "lower", "d/y": "lower", "d/e": "directory", "d/e/z": "lower",
    "f": "lower",
}  # fmt: skip


def without(*gone: str) -> dict[str, str]:
    return {
        path: what
        for path, what in EVERYTHING.items()
        if not any(path == name or path.startswith(name + "/") for name in gone)
    }


@pytest.mark.parametrize(
    ("parts", "form", "shown"),
    [
        pytest.param([entry(b".wh.f")], {"f": "whiteout"}, without("f"), id="file"),
        pytest.param([entry(b".wh.d")], {"d": "whiteout"}, without("d"), id="directory"),
        pytest.param(
            [directory(b"d"), entry(b"d/.wh.x")],
            {"d": "directory", "d/x": "whiteout"},
            without("d/x"),
            id="below",
        ),
        pytest.param(
            [directory(b"d"), entry(b"d/.wh..wh..opq"), entry(b"d/new", content=b"n")],
            {"d": "opaque", "d/new": "n"},
            without("d") | {"d": "directory", "d/new": "n"},
            id="opaque",
        ),
        pytest.param(
            [entry(b"d/new", content=b"n"), entry(b"d/.wh..wh..opq")],
            {"d": "opaque", "d/new": "n"},
            without("d") | {"d": "directory", "d/new": "n"},
            id="opaque, told last",
        ),
        pytest.param(
            [directory(b"d"), entry(b"d/.wh.x"), entry(b"d/e/.wh.z"), entry(b"d/.wh..wh..opq")],
            {"d": "opaque", "d/e": "directory"},
            without("d") | {"d": "directory", "d/e": "directory"},
            id="whiteouts in an opaque directory are dropped",
        ),
        pytest.param(
            [entry(b".wh.f"), entry(b"f", content=b"new")],
            {"f": "new"},
            EVERYTHING | {"f": "new"},
            id="of what this layer adds, first",
        ),
        pytest.param(
            [entry(b"f", content=b"new"), entry(b".wh.f")],
            {"f": "new"},
            EVERYTHING | {"f": "new"},
            id="of what this layer adds, last",
        ),
        pytest.param(
            [entry(b".wh.d"), directory(b"d"), entry(b"d/new", content=b"n")],
            {"d": "opaque", "d/new": "n"},
            without("d") | {"d": "directory", "d/new": "n"},
            id="of a directory that this layer makes again",
        ),
        pytest.param(
            [entry(b"d/new", content=b"n"), entry(b".wh.d")],
            {"d": "opaque", "d/new": "n"},
            without("d") | {"d": "directory", "d/new": "n"},
            id="a file below a removed parent",
        ),
        pytest.param(
            [entry(b".wh..wh.plnk/7.1"), directory(b".wh..wh.plnk"), entry(b".wh..wh.aufs")],
            {},
            EVERYTHING,
            id="what AUFS noted for itself",
        ),
        pytest.param(
            [entry(b"f", b"3", device=(0, 0))],
            {"f": "whiteout"},
            without("f"),
            id="a 0:0 device is what overlayfs takes it for",
        ),
        pytest.param(
            [directory(b"x"), symlink(b"link", b"d"), entry(b"link/.wh.y")],
            {"x": "directory", "link": "-> d", "d": "directory", "d/y": "whiteout"},
            without("d/y") | {"x": "directory", "link": "-> d"},
            id="through a link",
        ),
    ],
)
def test_whiteouts(
    tmp_path: Path, base: Path, parts: list[bytes], form: dict[str, str], shown: dict[str, str]
) -> None:
    unpack(archive(directory(b"."), *parts), tmp_path / "top")
    assert tree(tmp_path / "top") == form
    assert show(tmp_path, tmp_path / "top", base) == shown


def test_an_opaque_root_is_told_to_who_stacks(tmp_path: Path) -> None:
    """The kernel does not look for the attribute on the root of a layer."""
    unpack(archive(entry(b".wh..wh..opq"), entry(b"new")), tmp_path / "top")
    unpack(archive(entry(b"new")), tmp_path / "plain")
    assert layer.is_opaque(str(tmp_path / "top"))
    assert not layer.is_opaque(str(tmp_path / "plain"))


# ------------------------------------------------------------------------- the layers below, if any


@pytest.fixture
def system(tmp_path: Path) -> list[Path]:
    """Two layers of a usual system, top first: sticky /tmp, /bin a link."""
    unpack(
        archive(
            directory(b".", mode=0o555),
            pax({b"SCHILY.xattr.user.a": b"1"}),
            directory(b"tmp", mode=0o1777, mtime=5),
            directory(b"usr"),
            directory(b"usr/bin"),
            symlink(b"bin", b"usr/bin"),
            symlink(b"abs", b"/usr/../usr/bin"),
            directory(b"gone", mode=0o700),
            directory(b"hidden"),
            directory(b"hidden/deep", mode=0o700),
            directory(b"home", mode=0o700),
            entry(b"file"),
        ),
        tmp_path / "system0",
    )
    unpack(
        archive(
            directory(b".", mode=0o555),
            entry(b".wh.gone"),
            directory(b"hidden"),
            entry(b"hidden/.wh..wh..opq"),
            directory(b"home", mode=0o750, uid=8),
        ),
        tmp_path / "system1",
    )
    return [tmp_path / "system1", tmp_path / "system0"]


@pytest.mark.parametrize(
    ("name", "implicit", "dependent"),
    [
        (b"new/dir/f", ["new", "new/dir"], False),
        (b"usr/bin/f", ["usr", "usr/bin"], False),
        (b"tmp/f", ["tmp"], True),
        (b"bin/f", ["bin"], True),
        (b"home/f", ["home"], True),
        (b"gone/f", ["gone"], False),
        (b"hidden/deep/f", ["hidden", "hidden/deep"], False),
        (b"file/f", ["file"], True),
    ],
)
def test_which_layers_depend_on_those_below(
    tmp_path: Path, system: list[Path], name: bytes, implicit: list[str], dependent: bool
) -> None:
    result = unpack(archive(directory(b"."), entry(name)), tmp_path / "top")
    assert result.implicit == implicit
    lower = [str(path) for path in system]
    assert layer.depends_on_lower(result.implicit, lower) is dependent
    assert layer.depends_on_lower(result.implicit, []) is False


def test_the_root_counts_as_implicit(tmp_path: Path, system: list[Path]) -> None:
    result = unpack(archive(entry(b"f")), tmp_path / "top")
    assert result.implicit == ["."]
    assert layer.depends_on_lower(["."], [str(path) for path in system])


def test_a_file_ends_what_overlayfs_merges(tmp_path: Path) -> None:
    """A directory above a file above a directory: the lowest does not show."""
    for name, part in (
        ("2", directory(b"d")),
        ("1", entry(b"d")),
        ("0", directory(b"d") + directory(b"d/sub", mode=0o700)),
    ):
        unpack(archive(directory(b"."), part), tmp_path / name)
    top, file, lowest = (str(tmp_path / name) for name in "210")
    assert not layer.depends_on_lower(["d", "d/sub"], [top, file, lowest])
    assert layer.depends_on_lower(["d", "d/sub"], [top, lowest])


def test_with_the_layers_below_implicit_directories_are_as_they_were(
    tmp_path: Path, system: list[Path]
) -> None:
    result = unpack(
        archive(
            entry(b"tmp/f"), entry(b"bin/sh"), entry(b"abs/ls"), entry(b"home/me"),
            entry(b"gone/f"), entry(b"hidden/deep/f"), entry(b"new/f"), entry(b"bin/.wh.cp"),
        ),
        tmp_path / "top",
        system,
    )  # fmt: skip
    top = tmp_path / "top"
    assert tree(top) == {
        "tmp": "directory", "tmp/f": "",
        "usr": "directory", "usr/bin": "directory", "usr/bin/sh": "", "usr/bin/ls": "",
        "usr/bin/cp": "whiteout",
        "home": "directory", "home/me": "",
        "gone": "directory", "gone/f": "",
        "hidden": "directory", "hidden/deep": "directory", "hidden/deep/f": "",
        "new": "directory", "new/f": "",
    }  # fmt: skip
    assert (top / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (top / "tmp").stat().st_mtime == 5
    assert os.getxattr(top / "tmp", "user.a") == b"1"
    assert ((top / "home").stat().st_mode & 0o7777, (top / "home").stat().st_uid) == (0o750, 8)
    assert top.stat().st_mode & 0o7777 == 0o555
    # What a layer below removed lends nothing.
    assert (top / "gone").stat().st_mode & 0o7777 == 0o755
    assert (top / "hidden/deep").stat().st_mode & 0o7777 == 0o755
    assert result.implicit == ["gone", "hidden/deep", "new"]
    shown = show(tmp_path, top, *system)
    assert shown["bin"] == "-> usr/bin"
    assert shown["usr/bin/sh"] == ""


def test_an_entry_of_its_own_wins_over_the_layers_below(tmp_path: Path, system: list[Path]) -> None:
    unpack(
        archive(entry(b"bin/a"), directory(b"bin"), entry(b"bin/b"), directory(b"tmp", mode=0o700)),
        tmp_path / "top",
        system,
    )
    found = tree(tmp_path / "top")
    assert found["bin"] == "directory"
    assert found["bin/b"] == ""
    assert found["usr/bin/a"] == ""
    assert (tmp_path / "top/tmp").stat().st_mode & 0o7777 == 0o700


def test_links_below_hold_for_hard_links_and_until_they_are_replaced(
    tmp_path: Path, system: list[Path]
) -> None:
    unpack(
        archive(
            entry(b"bin/a", content=b"a"), directory(b"x"), hardlink(b"bin/b", b"bin/a"),
            entry(b"bin/.wh.c"),
        ),
        tmp_path / "top",
        system,
    )  # fmt: skip
    assert tree(tmp_path / "top") == {
        "x": "directory", "usr": "directory", "usr/bin": "directory",
        "usr/bin/a": "a", "usr/bin/b": "a", "usr/bin/c": "whiteout",
    }  # fmt: skip
    with pytest.raises(EngineError, match="'bin' is not a directory"):
        unpack(archive(entry(b"bin/a"), entry(b"bin"), entry(b"bin/b")), tmp_path / "no", system)


def test_a_removed_link_below_is_not_followed(tmp_path: Path, system: list[Path]) -> None:
    unpack(archive(entry(b".wh.bin"), entry(b"bin/x")), tmp_path / "top", system)
    assert tree(tmp_path / "top") == {"bin": "opaque", "bin/x": ""}


def test_a_removed_directory_below_lends_nothing(tmp_path: Path, system: list[Path]) -> None:
    parts = archive(directory(b"."), entry(b".wh.tmp"), entry(b"tmp/f"))
    first = unpack(parts, tmp_path / "first")
    assert first.implicit == []
    unpack(parts, tmp_path / "second", system)
    for name in ("first", "second"):
        assert tree(tmp_path / name) == {"tmp": "opaque", "tmp/f": ""}
        assert (tmp_path / name / "tmp").stat().st_mode & 0o7777 == 0o755


# ----------------------------------------------------------------------------------- verify, commit


def blob(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "blob"
    path.write_bytes(content)
    return str(path)


TAR = "application/vnd.oci.image.layer.v1.tar"


def test_the_diff_id_covers_the_last_byte(tmp_path: Path) -> None:
    content = archive(entry(b"f"))
    layer.unpack(
        blob(tmp_path, content + b"after"), TAR, hostile.digest(content + b"after"),
        str(tmp_path / "right"),
    )  # fmt: skip
    with pytest.raises(EngineError, match=f"not {hostile.digest(content)}"):
        layer.unpack(
            blob(tmp_path, content + b"after"), TAR, hostile.digest(content),
            str(tmp_path / "wrong"),
        )  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["blob", "right"]


@pytest.mark.parametrize(
    "kind",
    [
        TAR + "+gzip",
        TAR + "+zstd",
        TAR,
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/octet-stream",
    ],
)
def test_the_bytes_decide_not_the_media_type(tmp_path: Path, kind: str) -> None:
    content = archive(entry(b"f", content=b"x"))
    for number, packed in enumerate((content, gzip.compress(content))):
        target = tmp_path / str(number)
        layer.unpack(blob(tmp_path, packed), kind, hostile.digest(content), str(target))
        assert tree(target) == {"f": "x"}


@pytest.mark.parametrize("kind", ["application/vnd.in-toto+json", TAR + "+gzip+encrypted"])
def test_refuses_what_is_no_layer(tmp_path: Path, kind: str) -> None:
    content = archive(entry(b"f"))
    with pytest.raises(EngineError, match="cannot unpack layer"):
        layer.unpack(blob(tmp_path, content), kind, hostile.digest(content), str(tmp_path / "x"))


def test_zstd(tmp_path: Path) -> None:
    if sys.version_info < (3, 14):
        zstandard = pytest.importorskip("zstandard")
        content = archive(entry(b"f", content=b"x" * 2_000_000))
        packed = zstandard.ZstdCompressor().compress(content)
        layer.unpack(blob(tmp_path, packed), TAR, hostile.digest(content), str(tmp_path / "z"))
        assert (tmp_path / "z/f").stat().st_size == 2_000_000


def test_a_descriptor_will_do_and_keeps_its_place_out_of_it(tmp_path: Path) -> None:
    content = archive(entry(b"f"))
    with open(blob(tmp_path, content), "rb") as file:
        file.seek(100)
        layer.unpack(file.fileno(), TAR, hostile.digest(content), str(tmp_path / "x"))
        assert not file.closed
    assert tree(tmp_path / "x") == {"f": ""}


@pytest.mark.parametrize("compress", [False, True])
def test_a_large_layer_takes_the_way_with_the_thread(tmp_path: Path, compress: bool) -> None:
    parts = [
        entry(b"%d" % number, content=os.urandom(10_000 * (number % 13))) for number in range(100)
    ]
    told: list[tuple[int, int]] = []
    content = archive(*parts)
    packed = gzip.compress(content, 1) if compress else content
    result = layer.unpack(
        blob(tmp_path, packed), TAR, hostile.digest(content), str(tmp_path / "x"),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (result.entries, result.size) == (100, len(content))
    for number in range(100):
        assert (tmp_path / f"x/{number}").stat().st_size == 10_000 * (number % 13)
    assert told[-1] == (len(packed), len(packed))
    assert len(told) > 3
    assert told == sorted(told)


def test_an_empty_layer(tmp_path: Path) -> None:
    result = unpack(bytes(1024), tmp_path / "layer", compress=True)
    assert (result.entries, result.implicit) == (0, ["."])
    assert tree(tmp_path / "layer") == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-4],
        lambda packed: packed[:5000] + b"\0" * 20 + packed[5020:],
    ],
)
def test_a_damaged_blob_leaves_nothing(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    content = archive(entry(b"f", content=os.urandom(500_000)), entry(b"g", content=b"x"))
    with pytest.raises(EngineError, match=r"cannot unpack layer [0-9a-f]{12}: "):
        layer.unpack(
            blob(tmp_path, damage(gzip.compress(content))), TAR, hostile.digest(content),
            str(tmp_path / "layer"),
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["blob"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    try:
        content = archive(entry(b"big", content=bytes(1 << 20)))
        with pytest.raises(EngineError, match="entry 'big': No space left on device"):
            layer.unpack(blob(tmp_path, content), TAR, hostile.digest(content), str(disk / "layer"))
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_who_comes_second_leaves_the_first_in_place(tmp_path: Path) -> None:
    unpack(archive(entry(b"f", content=b"1")), tmp_path / "layer")
    inode = (tmp_path / "layer").stat().st_ino
    unpack(archive(entry(b"f", content=b"1")), tmp_path / "layer")
    assert (tmp_path / "layer").stat().st_ino == inode
    assert sorted(os.listdir(tmp_path)) == ["layer", "layer.blob"]


def test_several_threads_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            unpack(
                archive(*(entry(b"%d" % n, content=b"%d" % number) for n in range(300))),
                tmp_path / str(number),
                compress=True,
            )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for number in range(6):
        assert set(tree(tmp_path / str(number)).values()) == {str(number)}
        assert len(os.listdir(tmp_path / str(number))) == 300


# --------------------------------------------------------------------------------------- the worker

# More than a pipe holds: once it is written, the worker has read from it and made the first file.
BEGUN = entry(b"first", content=bytes(200_000)) + hostile.header(b"second", size=1 << 20)

PARENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from minicontainer.image import unpack
output, report = os.pipe()
print(unpack.spawn_worker(
    {"kind": "none", "directory": sys.argv[2], "lower": [], "parent": os.getpid(),
     "progress": False, "size": 0}, int(sys.argv[3]), report), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stalled(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A parent, and its worker in the middle of an archive that does not go on."""
    (tmp_path / "layer").mkdir()
    source = Path(layer.__file__).parents[2]
    read, write = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, source, tmp_path / "layer", str(read)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[read],
    )  # fmt: skip
    os.close(read)
    assert parent.stdout is not None and parent.stdin is not None
    pid = int(parent.stdout.readline())
    pidfd = os.pidfd_open(pid)
    with open(write, "wb", closefd=False) as pipe:
        pipe.write(BEGUN)
    yield parent, pid
    parent.kill()
    parent.wait()
    os.close(write)
    select.select([pidfd], [], [])
    os.close(pidfd)
    parent.stdin.close()
    parent.stdout.close()


def test_the_worker_sees_nothing_but_its_directory(
    tmp_path: Path, stalled: tuple[subprocess.Popen[str], int]
) -> None:
    """Its root is the layer, and no other mount is in its namespace."""
    _, pid = stalled
    process = Path(f"/proc/{pid}")
    assert os.path.samefile(process / "root", tmp_path / "layer")
    assert os.path.samefile(process / "cwd", tmp_path / "layer")
    mounts = (process / "mountinfo").read_text().splitlines()
    assert len(mounts) == 1
    assert mounts[0].split()[4] == "/"
    assert os.readlink(process / "ns/mnt") != os.readlink("/proc/self/ns/mnt")


def test_the_worker_leaves_ctrl_c_to_its_parent(
    stalled: tuple[subprocess.Popen[str], int],
) -> None:
    status = Path(f"/proc/{stalled[1]}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert blocked == 1 << (signal.SIGINT - 1)


def test_the_worker_dies_with_its_parent(stalled: tuple[subprocess.Popen[str], int]) -> None:
    parent, pid = stalled
    pidfd = os.pidfd_open(pid)
    try:
        parent.kill()
        assert select.select([pidfd], [], [], 10)[0], "the worker outlives its parent"
    finally:
        os.close(pidfd)


def test_a_killed_worker_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    start = worker.spawn_worker

    def start_and_kill(request: dict[str, object], blob: int, report: int) -> int:
        pid = start(request, blob, report)
        with open(write, "wb", closefd=False) as pipe:
            pipe.write(BEGUN)
        os.kill(pid, signal.SIGKILL)
        return pid

    monkeypatch.setattr(worker, "spawn_worker", start_and_kill)
    (tmp_path / "layer").mkdir()
    try:
        with pytest.raises(EngineError, match="killed by signal 9"):
            worker.run(read, "none", str(tmp_path / "layer"))
        assert set(os.listdir(tmp_path / "layer")) <= {"first", "second"}
    finally:
        os.close(read)
        os.close(write)


def test_a_puller_that_gives_up_ends_its_worker(tmp_path: Path) -> None:
    """What the progress display raises (Ctrl-C, for one) ends the work, and nothing is left."""

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    endless = blob(tmp_path, archive(entry(b"f")))
    os.truncate(endless, 1 << 40)
    with pytest.raises(KeyboardInterrupt):
        layer.unpack(endless, TAR, "sha256:", str(tmp_path / "x"), progress=give_up)
    assert os.listdir(tmp_path) == ["blob"]

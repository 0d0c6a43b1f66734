"""Archives that reach outside: refused, or kept inside, by each of two means alone.

Every attack runs twice: the engine's own way (a worker whose root is the directory), and through
placement by descriptors with no change of root. One more test runs a careless placement inside the
changed root. So neither of the two walls leans on the other.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import placement, tar, unpack
from tests.image import hostile
from tests.image.hostile import (
    archive,
    directory,
    entry,
    hardlink,
    pax,
    symlink,
)  # fmt: skip

pytestmark = pytest.mark.root


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that no archive may touch: checked to the last byte and inode when done."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("secret")
    (place / "directory").mkdir(mode=0o700)
    (tmp_path / "sibling").write_text("sibling")
    os.link(place / "secret", place / "second-name")
    before = facts(tmp_path)
    yield place
    assert facts(tmp_path) == before, "THE HOST WAS CHANGED: THIS IS AN ESCAPE"


def facts(top: Path) -> dict[str, object]:
    """All there is to know about the files that are the host's."""
    found: dict[str, object] = {}
    for path in (top / "sibling", top / "outside", *sorted((top / "outside").rglob("*"))):
        status = path.lstat()
        found[str(path)] = (
            status.st_ino, status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns,
            path.read_text() if path.is_file() else sorted(os.listdir(path)),
            os.listxattr(path),
        )  # fmt: skip
    return found


def by_worker(content: bytes, target: Path) -> None:
    hostile.unpack(content, target)


def by_descriptors(content: bytes, target: Path) -> None:
    """In this very process, whose root is the host's: placement.py alone."""
    target.mkdir()
    before = os.umask(0)
    here = os.getcwd()
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        unpack.extract(tar.Reader(iter([content])), placement.Placement(root))
    except BaseException:
        # unpack() throws all away then; here what was made must not be mistaken for a success.
        shutil.rmtree(target)
        raise
    finally:
        os.umask(before)
        os.close(root)
        assert os.getcwd() == here


@pytest.fixture(params=[by_worker, by_descriptors])
def place(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    return request.param


UP = b"../" * 30


def attacks(outside: bytes) -> dict[str, tuple[list[bytes], str | dict[str, str]]]:
    """Name: (parts of the archive, a refusal, or what must be inside)."""
    secret = outside + b"/secret"
    deep = outside.lstrip(b"/").decode()
    return {
        "dots": ([entry(b"../sibling", content=b"x")], "leads out"),
        "many dots": ([entry(UP + secret, content=b"x")], "leads out"),
        "dots after a name": ([entry(b"a/../../sibling", content=b"x")], "leads out"),
        "dots in a PAX path": (
            [pax({b"path": b"../sibling"}), entry(b"harmless", content=b"x")], "leads out",
        ),
        "dots in a GNU name": (
            [entry(b"././@LongLink", b"L", b"../sibling\0"), entry(b"harmless")], "leads out",
        ),
        "dots in a prefix": ([entry(b"sibling", prefix=b"..", content=b"x")], "leads out"),
        "dots in a directory": ([directory(b"../outside", mode=0o777, uid=7)], "leads out"),
        "dots within": ([entry(b"a/../b", content=b"x")], {"b": "x"}),
        "absolute": ([entry(secret, content=b"x")], {deep + "/secret": "x"}),
        "absolute, two slashes": ([entry(b"/" + secret, content=b"x")], {deep + "/secret": "x"}),
        "through a link": (
            [symlink(b"a", outside), entry(b"a/secret", content=b"x")],
            {"a": f"-> {os.fsdecode(outside)}", deep + "/secret": "x"},
        ),
        "through a relative link": (
            [symlink(b"a", UP + outside), entry(b"a/secret", content=b"x")],
            {deep + "/secret": "x"},
        ),
        "through a link to the parent": (
            [symlink(b"a", b".."), entry(b"a/sibling", content=b"x")],
            {"a": "-> ..", "sibling": "x"},
        ),
        "through a link to the root": (
            [symlink(b"a", b"/"), entry(b"a/a/a/a/x", content=b"x")], {"x": "x"},
        ),
        "through an absolute link in a directory": (
            [directory(b"d"), symlink(b"d/a", outside), entry(b"d/a/secret", content=b"x")],
            {deep + "/secret": "x"},
        ),
        "through two links": (
            [directory(b"d"), symlink(b"d/up", b".."), symlink(b"a", b"d/up/.."),
             entry(b"a/sibling", content=b"x")],
            {"sibling": "x"},
        ),
        "through a link and dots": (
            # By the text alone, a/../sibling is sibling (docker's rule).
            [symlink(b"a", outside), entry(b"a/../sibling", content=b"x")], {"sibling": "x"},
        ),
        "a directory through a link": (
            [symlink(b"a", outside), directory(b"a/directory", mode=0o777, uid=7)],
            {deep + "/directory": "directory"},
        ),
        "a directory over a link": (
            [symlink(b"a", outside), directory(b"a", mode=0o777, uid=7), entry(b"a/secret")],
            {"a": "directory", "a/secret": ""},
        ),
        "a file over a link": (
            [symlink(b"a", secret), entry(b"a", content=b"x")], {"a": "x"},
        ),
        "a device over a link": (
            [symlink(b"a", secret), entry(b"a", b"3", device=(1, 3))], {"a": "device"},
        ),
        "a link that turns up under an open directory": (
            [directory(b"a"), entry(b"a/1"), symlink(b"a", outside),
             entry(b"a/secret", content=b"x")],
            {deep + "/secret": "x"},
        ),
        "a link that turns up above an open directory": (
            [directory(b"a"), directory(b"a/b"), entry(b"a/b/1"), symlink(b"a", b"/.."),
             entry(b"a/b/secret", content=b"x")],
            {"b/secret": "x"},
        ),
        "a link that changes its target": (
            [directory(b"in"), symlink(b"a", b"in"), entry(b"a/1"), symlink(b"a", outside),
             entry(b"a/secret", content=b"x")],
            {"in/1": "", deep + "/secret": "x"},
        ),
        "attributes through a link": (
            [pax({b"SCHILY.xattr.trusted.x": b"1", b"SCHILY.xattr.user.x": b"1"}),
             symlink(b"a", secret)],
            {"a": f"-> {os.fsdecode(secret)}"},
        ),
        "an owner through a link": (
            [entry(b"a", b"2", link=secret, mode=0o6777, uid=7, gid=7, mtime=1)],
            {"a": f"-> {os.fsdecode(secret)}"},
        ),
        "links in a circle": (
            [symlink(b"a", b"b"), symlink(b"b", b"a"), entry(b"a/x")], "too many symbolic links",
        ),
        "a link to itself": ([symlink(b"a", b"a/a/a"), entry(b"a/x")], "too many symbolic links"),
        "links that double": (
            [symlink(b"l0", b"."), *(
                symlink(b"l%d" % (n + 1), b"l%d/l%d" % (n, n)) for n in range(30)
            ), entry(b"l30/x")],
            "too many symbolic links",
        ),
        "a hard link outside": ([hardlink(b"a", secret)], "does not hold"),
        "a hard link by dots": ([hardlink(b"a", UP + secret)], "leads out"),
        "a hard link through a link": (
            [symlink(b"d", outside), hardlink(b"a", b"d/secret"), entry(b"a", content=b"x")],
            "does not hold",
        ),
        "a hard link to a link": (
            [symlink(b"l", secret), hardlink(b"a", b"l"), entry(b"a/x")],
            {"a": f"-> {os.fsdecode(secret)}", deep + "/secret/x": ""},
        ),
        "a hard link to a link, then written": (
            [symlink(b"l", secret), hardlink(b"a", b"l"), entry(b"a", content=b"x")], {"a": "x"},
        ),
        "a hard link to a directory": ([directory(b"d"), hardlink(b"a", b"d")], "is a directory"),
        "a hard link to the root": ([hardlink(b"a", b"/")], "to the root"),
        "a hard link to what it replaces": (
            [directory(b"d"), entry(b"d/f"), hardlink(b"d", b"d/f")], "does not hold",
        ),
        "the root as a link": ([symlink(b".", outside), entry(b"secret")], "must be a directory"),
        "the root as a file": ([entry(b"./", content=b"x")], "must be a directory"),
        "no name": ([entry(b"", content=b"x")], "must be a directory"),
        "a whiteout of the parent": ([entry(b"d/.wh...")], "without a name"),
        "a whiteout of itself": ([entry(b"d/.wh..")], "without a name"),
        "a whiteout of nothing": ([entry(b".wh.")], "without a name"),
        "a whiteout outside": ([entry(b"../.wh.sibling")], "leads out"),
        "a whiteout through a link": (
            [symlink(b"a", outside), entry(b"a/.wh.secret")], {deep + "/secret": "device"},
        ),
        "opaque through a link": (
            [symlink(b"a", outside), entry(b"a/.wh..wh..opq")], {deep: "directory"},
        ),
        "a whiteout with files": ([entry(b".wh.a/b")], "cannot hold files"),
        "a file in a file": ([entry(b"a"), entry(b"a/b")], "'a' is not a directory"),
        "a file in a device": (
            [entry(b"a", b"4", device=(8, 0)), entry(b"a/b")], "'a' is not a directory",
        ),
        "a link without a target": ([symlink(b"a", b"")], "to nothing"),
        "a device of impossible numbers": (
            [entry(b"a", b"3", device=(0o777777, 0o777777))], "no device has",
        ),
        "a name of 300 bytes": (
            [pax({b"path": b"a" * 300}), entry(b"x")], "File name too long",
        ),
        "a path of 5000 bytes": ([pax({b"path": b"ab/" * 1700}), entry(b"x")], "path is too long"),
        "a path of 300 names": ([pax({b"path": b"a/" * 300}), entry(b"x")], "path is too long"),
        "a path of a million bytes": (
            [pax({b"path": b"a/" * 500_000}), entry(b"x")], "path is too long",
        ),
        "a path that grows by links": (
            [pax({b"path": b"a/" * 200}), directory(b"x"),
             pax({b"linkpath": b"a/" * 200}), symlink(b"l", b""),
             pax({b"path": b"l/" + b"b/" * 100}), directory(b"x")],
            "path is too long",
        ),
        "an attribute of 100 kB": (
            [pax({b"SCHILY.xattr.user.a": b"x" * 100_000}), entry(b"a")], "Argument list too long",
        ),
        "an attribute of no class": (
            [pax({b"SCHILY.xattr.nonsense": b"x"}), entry(b"a")], "not supported",
        ),
        "a size beyond the archive": ([hostile.header(b"a", size=1 << 40)], "cut short"),
        "a hole beyond any file system": (
            [pax({b"GNU.sparse.size": b"%d" % (1 << 62), b"GNU.sparse.map": b"0,1"}),
             entry(b"a", content=b"x")],
            "File too large",
        ),
    }  # fmt: skip


NAMES = list(attacks(b"/x"))


@pytest.mark.parametrize("name", NAMES)
def test_attack(name: str, place, tmp_path: Path, outside: Path) -> None:  # type: ignore[no-untyped-def]
    parts, expected = attacks(os.fsencode(outside))[name]
    target = tmp_path / "layer"
    if isinstance(expected, str):
        with pytest.raises(EngineError, match=expected) as caught:
            place(archive(*parts), target)
        assert "\n" not in caught.value.message
        assert not target.exists()
        assert not [left for left in os.listdir(tmp_path) if left.endswith(".partial")]
        return
    place(archive(*parts), target)
    for path, what in expected.items():
        status = (target / path).lstat()
        if what == "directory":
            assert stat.S_ISDIR(status.st_mode)
        elif what == "device":
            assert stat.S_ISCHR(status.st_mode)
        elif what.startswith("-> "):
            assert os.readlink(target / path) == what[3:]
        else:
            assert stat.S_ISREG(status.st_mode)
            assert (target / path).read_text() == what


def test_the_change_of_root_holds_alone(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A placement that joins paths, as a bug of ours might: the worker's root still contains it."""
    naive = tmp_path / "naive"
    shutil.copytree(Path(placement.__file__).parents[1], naive / "minicontainer")
    source = naive / "minicontainer/image/placement.py"
    text = source.read_text()
    for good, bad in (
        ("class Placement:", "class Careful:"),
        ("def clean(", "def careful("),
    ):
        assert good in text
        text = text.replace(good, bad)
    source.write_text(text + NAIVE)
    monkeypatch.setattr(unpack, "__file__", str(naive / "minicontainer/image/unpack.py"))
    target = tmp_path / "layer"
    secret = os.fsencode(outside) + b"/secret"
    (tmp_path / "blob").write_bytes(
        archive(
            entry(UP + b"sibling", content=b"x"),
            entry(UP + secret, content=b"x"),
            symlink(b"link", os.fsencode(outside)),
            entry(b"link/new", content=b"x"),
        )
    )
    target.mkdir()
    with open(tmp_path / "blob", "rb") as blob:
        unpack.run(blob.fileno(), "none", str(target))
    assert (target / "sibling").read_text() == "x"
    inside = target / str(outside).lstrip("/")
    assert (inside / "secret").read_text() == "x"
    assert (inside / "new").read_text() == "x"


NAIVE = """

class Placement:
    def __init__(self, root, lower=None):
        self.content = 0

    def place(self, entry, reader):
        path = b"/" + entry.name
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, path)
            return
        real = os.path.realpath(path)
        os.makedirs(os.path.dirname(real), exist_ok=True)
        with open(path, "wb") as file:
            reader.copy(file.fileno())

    def finish(self):
        return []

    def close(self):
        pass
"""


def test_a_bug_of_ours_is_an_error_that_tells_where(tmp_path: Path) -> None:
    """The worker has no files of the host left to make a traceback from."""
    package = tmp_path / "package"
    shutil.copytree(Path(placement.__file__).parents[1], package / "minicontainer")
    source = package / "minicontainer/image/placement.py"
    text = source.read_text()
    bug = "    for part in name.split(b'/'):\n        1 / 0\n"
    assert "def clean(name: bytes) -> bytes:\n" in text
    source.write_text(text + "\n\ndef clean(name):\n" + bug)
    (tmp_path / "layer").mkdir()
    (tmp_path / "blob").write_bytes(archive(entry(b"a")))
    with pytest.MonkeyPatch.context() as patch, open(tmp_path / "blob", "rb") as blob:
        patch.setattr(unpack, "__file__", str(source))
        with pytest.raises(EngineError, match="internal error: ZeroDivisionError") as caught:
            unpack.run(blob.fileno(), "none", str(tmp_path / "layer"))
    assert "placement.py" in caught.value.__notes__[0]
    assert "in clean" in caught.value.__notes__[0]


def test_an_archive_of_many_directories_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of ours that a stranger can make long is not read without end."""
    monkeypatch.setattr(unpack, "MAX_REPORT", 1000)
    with pytest.raises(EngineError, match="too many directories"):
        hostile.unpack(archive(*(entry(b"%d/f" % n) for n in range(300))), tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


def test_the_worker_has_a_bound_on_memory(tmp_path: Path) -> None:
    """More names of directories than it may hold; the memory is the worker's, not the machine's."""
    package = tmp_path / "package"
    shutil.copytree(Path(placement.__file__).parents[1], package / "minicontainer")
    source = package / "minicontainer/image/unpack.py"
    source.write_text(source.read_text().replace("MEMORY = 1 << 30", "MEMORY = 40 << 20"))
    content = archive(
        *(pax({b"path": b"%d/" % n + b"x" * 200}) + directory(b"d") for n in range(60_000))
    )
    (tmp_path / "blob").write_bytes(content)
    (tmp_path / "layer").mkdir()
    with pytest.MonkeyPatch.context() as patch, open(tmp_path / "blob", "rb") as blob:
        patch.setattr(unpack, "__file__", str(source))
        with pytest.raises(EngineError, match="more than 40 MiB of memory"):
            unpack.run(blob.fileno(), "none", str(tmp_path / "layer"))

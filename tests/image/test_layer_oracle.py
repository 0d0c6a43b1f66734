"""Our layers, mounted by overlayfs, against the tree that umoci makes of the same image."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from minicontainer.image import layer
from tests.image import generate, hostile
from tests.image.hostile import archive, directory, entry, hardlink, pax, symlink

pytestmark = [pytest.mark.root, pytest.mark.tools("umoci")]

Facts = dict[str, tuple[object, ...]]


def facts(root: Path) -> Facts:
    """All that a tree is made of, by path: type and mode, owner, size, time, link or content,
    attributes, and which paths are hard links of each other."""
    found: Facts = {}
    inodes: dict[int, list[str]] = {}
    paths = [root, *(Path(folder, name) for folder, dirs, files in os.walk(root)
                     for name in dirs + files)]  # fmt: skip
    for path in paths:
        status = path.lstat()
        name = str(path.relative_to(root))
        body = ""
        if stat.S_ISLNK(status.st_mode):
            body = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            body = hashlib.sha256(path.read_bytes()).hexdigest()
            inodes.setdefault(status.st_ino, []).append(name)
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (
            stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_rdev,
            status.st_mtime_ns, body, attributes,
        )  # fmt: skip
    for number, names in enumerate(sorted(sorted(group) for group in inodes.values())):
        for name in names:
            found[name] += (number,)
    return found


def ours(tmp_path: Path, layout: Path) -> list[Path]:
    """Unpack an image as the store does; its layers, top first."""
    index = json.loads((layout / "index.json").read_text())
    manifest = read(layout, index["manifests"][0]["digest"])
    config = read(layout, manifest["config"]["digest"])
    stack: list[Path] = []
    for number, (descriptor, diff_id) in enumerate(
        zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ):
        blob = str(layout / "blobs/sha256" / descriptor["digest"][7:])
        target = tmp_path / f"layer{number}"
        result = layer.unpack(blob, descriptor["mediaType"], diff_id, str(target))
        below = [str(path) for path in stack]
        if layer.depends_on_lower(result.implicit, below):
            target = tmp_path / f"layer{number}-stacked"
            layer.unpack(blob, descriptor["mediaType"], diff_id, str(target), below)
        stack.insert(0, target)
    return stack


def read(layout: Path, digest: str) -> dict[str, object]:
    value: dict[str, object] = json.loads((layout / "blobs/sha256" / digest[7:]).read_text())
    return value


class Merged:
    """Layers, top first, mounted by overlayfs below a directory."""

    def __init__(self, tmp_path: Path, layers: list[Path]) -> None:
        (tmp_path / "empty").mkdir()
        self.point = tmp_path / "merged"
        self.point.mkdir()
        self.lower = ":".join(str(path) for path in [*layers, tmp_path / "empty"])

    def __enter__(self) -> Path:
        options = f"ro,lowerdir={self.lower}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.point], check=True)
        return self.point

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.point], check=True)


def umoci(tmp_path: Path, layout: Path, tag: str = "latest") -> Path:
    bundle = tmp_path / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:{tag}", bundle], check=True, capture_output=True
    )
    return bundle / "rootfs"


def write_layout(directory: Path, archives: list[bytes]) -> None:
    """An image of given layers, uncompressed."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers = [generate._write_layer(blobs, iter([content])) for content in archives]
    generate.write_image(directory, layers)


def compare(tmp_path: Path, layout: Path, *, ignore: tuple[str, ...] = ()) -> Facts:
    expected = facts(umoci(tmp_path, layout))
    with Merged(tmp_path, ours(tmp_path, layout)) as point:
        found = facts(point)
    for name in ignore:
        expected.pop(name, None)
        found.pop(name, None)
    assert sorted(found) == sorted(expected)
    assert {n: (found[n], expected[n]) for n in found if found[n] != expected[n]} == {}
    return found


def test_a_generated_image(tmp_path: Path) -> None:
    """Three layers, 900 files: links, owners, setuid, whiteouts, an opaque directory."""
    generate.image(tmp_path / "image", files=900, size=3_000_000)
    # No entry describes the root: its time is the time of unpacking at umoci's.
    found = compare(tmp_path, tmp_path / "image", ignore=(".",))
    assert len(found) > 850
    assert found["tmp"][0] == "drwxrwxrwt"
    assert "usr/share/layer0/2" not in found
    assert "usr/share/layer0/1/25.bin" not in found
    assert any(len(row) > 7 for row in found.values())


def test_an_image_of_edges(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    write_layout(
        tmp_path / "image",
        [
            archive(
                directory(b"./", mode=0o755),
                directory(b"./bin", mtime=11),
                pax({b"mtime": b"1600000000.123456789", b"SCHILY.xattr.user.a": b"1"}),
                entry(b"./bin/su", content=b"su", mode=0o4755, uid=3, gid=4),
                pax({b"SCHILY.xattr.security.capability": capability}),
                entry(b"./bin/ping", content=b"p", mode=0o755),
                hardlink(b"./bin/ping6", b"./bin/ping"),
                directory(b"./tmp", mode=0o1777, mtime=12),
                directory(b"./old", mtime=13),
                entry(b"./old/a", content=b"a"),
                directory(b"./old/b", mtime=13),
                entry(b"./old/b/c", content=b"c"),
                directory(b"./gone", mtime=14),
                entry(b"./gone/x", content=b"x"),
                pax({b"path": b"long/" + b"name" * 50}),
                entry(b"long", content=b"long"),
                symlink(b"link", b"/bin/su"),
                entry(b"fifo", b"6", mode=0o600),
                entry(b"null", b"3", device=(1, 3), mode=0o666),
                directory(b"long", mtime=15),
            ),
            archive(
                directory(b"./", mode=0o755, mtime=20),
                entry(b".wh.gone"),
                directory(b"old", mtime=21, mode=0o750),
                entry(b"old/.wh.a"),
                entry(b"old/new", content=b"new"),
                entry(b"bin", b"5", mode=0o755, mtime=22),
                symlink(b"bin/su", b"ping"),
            ),
            archive(
                directory(b"./", mode=0o711, uid=9, mtime=30),
                entry(b"tmp/f", content=b"in sticky tmp"),
                directory(b"old", mtime=31),
                entry(b"old/.wh..wh..opq"),
                directory(b"gone", mtime=32),
                entry(b"gone/y", content=b"y"),
            ),
        ],
    )
    found = compare(tmp_path, tmp_path / "image")
    assert found["tmp"][0] == "drwxrwxrwt"
    assert found["gone/y"][0] == "-rw-r--r--"
    assert "gone/x" not in found
    assert "old/new" not in found


@pytest.mark.tools("skopeo", "tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_the_machines_own_files(tmp_path: Path, form: str) -> None:
    """A piece of this very system, packed by GNU tar, converted by skopeo to docker's formats."""
    wanted = [
        "etc/alternatives", "etc/ssl/certs", "usr/share/zoneinfo/Europe", "usr/bin/env",
        "usr/bin/passwd", "usr/bin/perl", "bin", os.path.dirname(json.__file__)[1:],
    ]  # fmt: skip
    packed = subprocess.run(
        ["tar", "-C", "/", f"--format={form}", "--sort=name", "--numeric-owner", "-cf", "-",
         *(["--xattrs"] if form == "pax" else []), "--exclude=*.pyc", "--exclude=__pycache__",
         *(path for path in wanted if os.path.lexists(f"/{path}"))],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed)) as listing:
        members = {member.name for member in listing}
    implicit = {str(parent) for name in members for parent in Path(name).parents} - members
    write_layout(tmp_path / "image", [packed, archive(entry(b"bin/new", content=b"new"))])
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--format", "v2s2",
         f"oci:{tmp_path}/image:latest", f"docker-archive:{tmp_path}/docker.tar:image:latest"],
        check=True, capture_output=True,
    )  # fmt: skip
    expected = facts(umoci(tmp_path, tmp_path / "image"))
    stack: list[Path] = []
    with tarfile.open(tmp_path / "docker.tar") as docker:

        def member(name: str) -> bytes:
            file = docker.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        diff_ids = json.loads(member(manifest["Config"]))["rootfs"]["diff_ids"]
        for number, (name, diff_id) in enumerate(zip(manifest["Layers"], diff_ids, strict=True)):
            content = member(name)
            assert hostile.digest(content) == diff_id
            target = tmp_path / str(number)
            result = hostile.unpack(content, target)
            if layer.depends_on_lower(result.implicit, [str(path) for path in stack]):
                target = tmp_path / f"{number}-stacked"
                hostile.unpack(content, target, stack)
            stack.insert(0, target)
    with Merged(tmp_path, stack) as point:
        found = facts(point)
    for rows in (found, expected):
        # Directories that no archive describes have the time of unpacking at umoci's.
        for name in implicit:
            row = rows[name]
            rows[name] = (*row[:4], 0, *row[5:])
    assert sorted(found) == sorted(expected)
    assert {n: (found[n], expected[n]) for n in found if found[n] != expected[n]} == {}
    assert found["usr/bin/passwd"][0] == "-rwsr-xr-x"
    if os.path.islink("/bin"):
        assert found["bin"][0] == "lrwxrwxrwx"
        assert "usr/bin/new" in found, "written through the layer below's link"


@pytest.mark.tools("tar")
def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    packed = subprocess.run(
        ["tar", "-C", tmp_path, "-S", "-cf", "-", "holes"], check=True, capture_output=True
    ).stdout
    hostile.unpack(packed, tmp_path / "layer")
    status = (tmp_path / "layer/holes").stat()
    assert (status.st_size, status.st_blocks < 100) == ((10 << 20) + 3, True)

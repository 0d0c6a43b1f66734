"""The starter image: from this machine's programs, the same each time, and it runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import elf, starter
from minicontainer.image.platform import Platform
from minicontainer.image.store import Store

pytestmark = pytest.mark.root

SAY = "import ctypes, hashlib, json, sqlite3, ssl, sys, zlib; print(sys.prefix, 6 * 7)"


def inside(directory: Path, *command: str) -> str:
    """What a command prints with that directory as its root."""
    done = subprocess.run(
        ["chroot", directory, *command],
        capture_output=True, text=True, env={"PATH": starter.PATH}, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def tree(directory: Path) -> dict[str, tuple[int, int, object]]:
    """Mode, owner and content (or target) of everything below."""
    found: dict[str, tuple[int, int, object]] = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = status.st_mode, status.st_uid, content
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/data")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A directory to write a root file system to."""
    return tmp_path / "plain"


@pytest.mark.tools("busybox")
def test_the_image_is_busybox_and_what_a_program_expects(store: Store) -> None:
    image = starter.build(store)
    assert image.names == ["docker.io/library/starter:latest"]
    assert image.config()["config"] == {"Env": [f"PATH={starter.PATH}"], "Cmd": ["/bin/sh"]}
    assert Platform.from_json(image.config()) == Platform.host()
    (directory,) = map(Path, store.stack(image))
    assert os.readlink(directory / "bin") == "usr/bin"
    assert os.readlink(directory / "usr/bin/ls") == "busybox"
    assert inside(directory, "sh", "-c", "echo $((6*7)); id app; pwd") == (
        "42\nuid=1000(app) gid=1000(app) groups=1000(app),100(users)\n/\n"
    )
    for path, mode, owner in (
        ("tmp", 0o1777, 0), ("var/tmp", 0o1777, 0), ("root", 0o700, 0), ("home/app", 0o755, 1000),
        ("usr/bin/busybox", 0o755, 0), ("etc/passwd", 0o644, 0), ("proc", 0o755, 0),
    ):  # fmt: skip
        status = (directory / path).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (mode, owner), path


def test_the_same_machine_makes_the_same_image(tmp_path: Path) -> None:
    made = [
        starter.build(Store(f"{tmp_path}/{n}"), busybox=False, programs=["true"]).manifest.digest
        for n in range(2)
    ]
    assert made[0] == made[1]


def test_source_date_epoch_is_the_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    image = starter.build(store)
    assert image.created == "2023-11-14T22:13:20Z"
    assert Path(store.stack(image)[0], "etc/passwd").stat().st_mtime == 1_700_000_000


def test_without_busybox_the_tools_bring_their_libraries(plain: Path) -> None:
    starter.write_rootfs(str(plain), busybox=False)
    assert not (plain / "usr/bin/busybox").exists()
    said = inside(plain, "sh", "-c", "ls -d /tmp; echo a b | sed s/b/c/; grep -c root /etc/passwd")
    assert said == "/tmp\na c\n1\n"
    for tool in ("cat", "env", "hostname", "id", "mount", "ps", "sleep", "stat"):
        if shutil.which(tool, path="/usr/bin:/bin"):
            said = inside(plain, tool, "--help")
            assert "error while loading" not in said and "o such file" not in said, said


def test_python_comes_with_its_library(store: Store, plain: Path) -> None:
    if not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("needs the program /usr/bin/python3: ./dev test installs it")
    starter.write_rootfs(str(plain), python=True)
    assert inside(plain, "python3", "-c", SAY) == "/usr 42\n"
    image = starter.build(store, "starter:python", python=True)
    base = starter.build(store)
    assert len(image.layers()) == 2
    # The base is shared with the image without Python.
    assert store.stack(image)[1:] == store.stack(base)


def test_the_directory_is_what_the_image_holds(store: Store, plain: Path) -> None:
    """`--rootfs` and the image are two ways to the same files."""
    starter.write_rootfs(str(plain))
    (layer,) = store.stack(starter.build(store))
    assert tree(plain) == tree(Path(layer))


def test_more_programs_can_be_asked_for(plain: Path) -> None:
    starter.write_rootfs(str(plain), programs=["/usr/bin/env", "tar"])
    assert not (plain / "usr/bin/env").is_symlink()
    assert "GNU tar" in inside(plain, "tar", "--version")


def test_a_program_that_is_not_here_is_named(store: Store) -> None:
    with pytest.raises(EngineError, match="cannot put nonesuch into the image"):
        starter.build(store, programs=["nonesuch"])
    store.collect()
    assert os.listdir(store.blobs.directory) == []


def test_a_directory_in_use_is_not_written_to(plain: Path) -> None:
    plain.mkdir()
    (plain / "mine").touch()
    with pytest.raises(EngineError, match="it is not empty"):
        starter.write_rootfs(str(plain))
    assert os.listdir(plain) == ["mine"]


# The reader of ELF files, with the loader as its judge


def loaders_answer(program: str) -> set[str]:
    """The libraries that the dynamic loader finds, by their real files."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [word for line in listed.splitlines() for word in line.split() if word[0] == "/"]
    return {os.path.realpath(path) for path in paths}


@pytest.mark.tools("ldd")
@pytest.mark.parametrize("name", ["sh", "ls", "mount", "openssl", "tar", "git", "python3"])
def test_a_programs_libraries_are_those_that_the_loader_finds(name: str) -> None:
    program = os.path.realpath(str(shutil.which(name, path="/usr/bin:/bin")))
    found = {os.path.realpath(path) for path in elf.libraries([program]).values()}
    assert found == loaders_answer(program)


@pytest.mark.tools("busybox")
def test_a_static_program_needs_nothing() -> None:
    program = elf.Program(str(shutil.which("busybox")))
    assert (program.needed, program.interpreter) == ([], "")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"#!/x"])
def test_what_is_no_program_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "program"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="it is no 64-bit ELF program"):
        elf.Program(str(path))

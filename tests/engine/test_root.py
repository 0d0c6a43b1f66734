"""The root of a container: what of it the image decides, and what it cannot."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from minicontainer.image.store import Store
from tests.image import small
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.tools("busybox")]


def entry(name: str, kind: bytes, mode: int, **fields: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.mode = mode
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.fixture
def base() -> dict[str, bytes | tarfile.TarInfo]:
    """The files of a layer that can run busybox's shell."""
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    return {"bin": entry("bin", tarfile.DIRTYPE, 0o755), "bin/busybox": busybox}


def test_the_mode_and_owner_of_the_root_are_the_images(
    engine: Engine, base: dict[str, bytes | tarfile.TarInfo]
) -> None:
    root = entry("./", tarfile.DIRTYPE, 0o751, uid=5, gid=6)
    layer = small.tar({"./": root, **base, "bin/sh": small.link("bin/sh", "busybox")})
    small.add(Store(str(engine.root)), "odd:latest", [layer], unpack=True)
    # An archive of `small` has its files at mode 0644: the loader of busybox is itself.
    done = engine.run("run", "--rm", "odd", "/bin/sh", check=False)
    assert done.returncode == 126
    (engine.root / "layers" / small.digest(layer)[7:] / "bin" / "busybox").chmod(0o755)
    assert engine.output("run", "--rm", "odd", "/bin/busybox", "stat", "-c", "%a %u %g", "/") == (
        "751 5 6"
    )


def test_a_device_file_that_the_image_brings_is_dead(
    engine: Engine, base: dict[str, bytes | tarfile.TarInfo]
) -> None:
    """One with the number of /dev/zero stands for one with the number of the host's disk."""
    device = entry("zero", tarfile.CHRTYPE, 0o666, devmajor=1, devminor=5)
    layer = small.tar({**base, "zero": device})
    small.add(Store(str(engine.root)), "device:latest", [layer], unpack=True)
    unpacked = engine.root / "layers" / small.digest(layer)[7:]
    (unpacked / "bin" / "busybox").chmod(0o755)
    assert (unpacked / "zero").is_char_device()
    words = ["run", "--rm", "device", "/bin/busybox", "head", "-c", "1"]
    done = engine.run(*words, "/zero", check=False)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert engine.run(*words, "/dev/zero").stdout == "\0"


def test_an_image_without_any_layer(engine: Engine) -> None:
    small.add(Store(str(engine.root)), "nothing:latest", [], unpack=True)
    done = engine.run("run", "--rm", "nothing", "/bin/sh", check=False)
    assert done.returncode == 127
    assert 'exec "/bin/sh": no such file or directory' in done.stderr

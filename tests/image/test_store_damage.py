"""Whatever happens to a writer, a kill at any moment or a full disk, the store stays good."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer import jsonio
from minicontainer.errors import EngineError
from minicontainer.image import manifest as kinds
from minicontainer.image.store import Store
from tests.image import small

pytestmark = pytest.mark.root

LAYERS = [small.tar({"one": b"1" * 100_000}), small.tar({"two": b"2"})]

# Every call of os that changes what is on the disk.
CHANGES = ("write", "rename", "unlink", "rmdir", "mkdir", "fsync")


def fill(store: Store) -> None:
    small.add(store, "web", LAYERS, unpack=True)


def replace(store: Store) -> None:
    small.add(store, "web", [LAYERS[0]], unpack=True)


def remove(store: Store) -> None:
    if store.images():
        store.remove("web")


def files(store: Store) -> set[str]:
    """All files and directories of the store, locks left out, relative to its root."""
    root = Path(store.root)
    return {
        str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith(".lock")
    }


def check(store: Store) -> None:
    """Each name leads to whole content, and each file is what its name says."""
    for image in store.images():
        image.config()
        for layer, _ in image.layers():
            store.read_blob(layer.digest)
        if store.is_unpacked(image):
            for directory in store.stack(image):
                files = {"one": 100_000, "two": 1}
                (name,) = os.listdir(directory)
                assert os.stat(f"{directory}/{name}").st_size == files[name]
    if os.path.isdir(store.blobs.directory):
        for name in os.listdir(store.blobs.directory):
            assert store.read_blob(f"sha256:{name}")


class Killed:
    """Runs an act in a child that is killed before its nth change of the disk."""

    def __init__(self, act: Callable[[Store], None], store: Store) -> None:
        self.act = act
        self.store = store

    def at(self, moment: int) -> bool:
        """Whether the child was killed; False when it ended before that many changes."""
        child = os.fork()
        if not child:
            try:
                self._arm(moment)
                self.act(self.store)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert status == 0
        return False

    @staticmethod
    def _arm(moment: int) -> None:
        left = moment

        def armed(call: Callable[..., Any]) -> Callable[..., Any]:
            def killer(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return killer

        for name in CHANGES:
            setattr(os, name, armed(getattr(os, name)))


@pytest.mark.parametrize(
    ("before", "act"),
    [(None, fill), (fill, replace), (fill, remove)],
    ids=["add", "replace", "remove"],
)
def test_a_writer_may_be_killed_at_any_moment(
    tmp_path: Path, before: Callable[[Store], None] | None, act: Callable[[Store], None]
) -> None:
    ideal = Store(f"{tmp_path}/ideal")
    if before:
        before(ideal)
    act(ideal)
    ideal.collect()
    template = Store(f"{tmp_path}/template")
    if before:
        before(template)
    else:
        os.mkdir(template.root)
    moment = 0
    killed = True
    while killed:
        store = Store(f"{tmp_path}/{moment}")
        subprocess.run(["cp", "-a", template.root, store.root], check=True)
        killed = Killed(act, store).at(moment)
        check(store)
        # The next one ends the work, and nothing of the killed one is left.
        act(store)
        store.collect()
        check(store)
        assert files(store) == files(ideal), f"killed before change {moment}"
        subprocess.run(["rm", "-r", store.root], check=True)
        moment += 1
    assert moment > 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Store]]:
    """Makes a store on a file system of so many KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def make(kibibytes: int) -> Store:
        unmount()
        options = f"size={kibibytes}k,nr_inodes=200"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
        return Store(f"{disk}/data")

    def unmount() -> None:
        if disk.is_mount():
            subprocess.run(["umount", disk], check=True)

    yield make
    unmount()


def test_a_full_disk_is_a_clear_error_and_the_store_stays_good(
    small_disk: Callable[[int], Store],
) -> None:
    """On disks of all sizes from nothing to enough: each step of the work meets the full one."""
    failed = 0
    for kibibytes in range(4, 360, 4):
        store = small_disk(kibibytes)
        try:
            fill(store)
        except EngineError as error:
            failed += 1
            assert "no space left on device" in error.message.lower(), error.message
            assert "\n" not in error.message
            # The unpacking process tells its errors in words alone.
            assert error.hint or error.message.startswith("cannot unpack layer")
            check(store)
            assert not store.images()
        else:
            check(store)
            assert store.is_unpacked(store.resolve("web"))
            break
    assert failed > 10
    assert store.images()


def test_after_a_full_disk_there_is_room_again(small_disk: Callable[[int], Store]) -> None:
    store = small_disk(400)
    small.add(store, "little", [LAYERS[1]], unpack=True)
    with pytest.raises(EngineError, match="no space left"):
        small.add(store, "big", [small.tar({"big": os.urandom(1 << 20)})])
    assert os.listdir(store.unfinished) == []
    check(store)
    small.add(store, "web", LAYERS, unpack=True)
    store.remove("web")
    small.add(store, "web", LAYERS, unpack=True)
    check(store)


def test_a_layer_that_needs_its_stack_is_unpacked_for_it(tmp_path: Path) -> None:
    """`tmp/x` without an entry for `tmp` must not take the sticky bit off the image's /tmp."""
    import tarfile

    store = Store(f"{tmp_path}/data")
    sticky = tarfile.TarInfo("tmp")
    sticky.type, sticky.mode = tarfile.DIRTYPE, 0o1777
    base, top = small.tar({"tmp": sticky}), small.tar({"tmp/x": b"x"})
    small.add(store, "alone", [top], unpack=True)
    image = small.add(store, "web", [base, top], unpack=True)
    upper, lower = store.stack(image)
    assert os.path.basename(lower) == small.digest(base)[7:]
    assert os.path.basename(upper) == small.digest(
        f"{small.digest(base)} {small.digest(top)}".encode()
    )[7:]  # fmt: skip
    assert os.stat(f"{upper}/tmp").st_mode & 0o7777 == 0o1777
    (alone,) = store.stack(store.resolve("alone"))
    assert os.stat(f"{alone}/tmp").st_mode & 0o7777 == 0o755
    store.remove("web")
    assert sorted(os.listdir(store.layers)) == [
        f"{small.digest(top)[7:]}{end}" for end in ("", ".json")
    ]


def test_a_stack_ends_at_a_layer_that_hides_all_below(tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/data")
    layers = [LAYERS[0], small.tar({".wh..wh..opq": b"", "new": b""}), LAYERS[1]]
    image = small.add(store, "web", layers, unpack=True)
    assert [os.path.basename(path) for path in store.stack(image)] == [
        small.digest(layers[2])[7:],
        small.digest(layers[1])[7:],
    ]
    assert store.sizes(image) == [1, 0, 100_000]
    assert [row["Size"] for row in store.history(image)] == [1, 0, 100_000]


def test_a_layer_is_unpacked_once_for_all_its_images(tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/data")
    small.add(store, "base", [LAYERS[0]], unpack=True)
    told: list[tuple[str, str]] = []
    with store.adding():
        image = store.image_of(small.put(store, LAYERS))
        store.unpack(image, lambda layer, state: told.append((layer.digest, state)))
    assert told == [
        (small.digest(LAYERS[0]), "exists"),
        (small.digest(LAYERS[1]), "unpacking"),
        (small.digest(LAYERS[1]), "unpacked"),
    ]


@pytest.mark.parametrize("damage", ["hostile", "diff id"])
def test_a_bad_layer_leaves_no_stack(tmp_path: Path, damage: str) -> None:
    store = Store(f"{tmp_path}/data")
    bad = small.tar({"../x": b""}) if damage == "hostile" else LAYERS[1]
    diff_ids = [small.digest(bad if damage == "hostile" else LAYERS[0])]
    with store.adding():
        value = {
            "schemaVersion": 2,
            "config": store.add_blob(
                kinds.OCI_CONFIG,
                small.config([], rootfs={"type": "layers", "diff_ids": diff_ids}),
            ).to_json(),
            "layers": [store.add_blob(kinds.OCI_LAYER, bad).to_json()],
        }
        manifest = store.add_blob(kinds.OCI_MANIFEST, jsonio.dumps(value).encode())
        image = store.image_of(manifest)
        with pytest.raises(EngineError, match="cannot unpack layer"):
            store.unpack(image)
        assert not store.is_unpacked(image)
        with pytest.raises(EngineError, match="is not unpacked"):
            store.stack(image)
        assert os.listdir(store.layers) == []
    store.collect()
    assert files(store) == {
        "images", "images/blobs", "images/blobs/sha256", "images/index.json", "images/oci-layout",
        "layers", "stacks", "tmp", "tmp/images",
    }  # fmt: skip

"""rmi by docker's rules, and the garbage that goes with an image."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image.manifest import OCI_LAYER
from minicontainer.image.reference import Reference
from minicontainer.image.store import Image, ImageNotFound, Store
from tests.image import small

ONE = small.tar({"one": b"1"})
TWO = small.tar({"two": b"2"})
DIGEST = "sha256:" + "d" * 64
CONTAINER = "c" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/data")


def blobs(store: Store) -> set[str]:
    return set(os.listdir(store.blobs.directory))


def tag(store: Store, image: Image, name: str) -> None:
    store.tag(image, Reference.parse(name))


def used(image: Image, running: bool) -> list[tuple[str, str, bool]]:
    return [("f" * 64, "sha256:" + "0" * 64, True), (CONTAINER, image.id, running)]


def test_the_last_name_takes_the_image_with_it(store: Store) -> None:
    made = small.add(store, "web:1", [ONE])
    assert store.remove("web:1") == [
        "Untagged: web:1",
        f"Deleted: {made.id}",
        f"Deleted: {small.digest(ONE)}",
    ]
    assert store.images() == []
    assert blobs(store) == set()


def test_layers_are_told_by_chain_id_top_first(store: Store) -> None:
    made = small.add(store, "web", [ONE, TWO])
    chain = small.digest(f"{small.digest(ONE)} {small.digest(TWO)}".encode())
    assert store.remove("web") == [
        "Untagged: web:latest",
        f"Deleted: {made.id}",
        f"Deleted: {chain}",
        f"Deleted: {small.digest(ONE)}",
    ]


def test_a_shared_layer_stays(store: Store) -> None:
    small.add(store, "base", [ONE])
    made = small.add(store, "web", [ONE, TWO])
    lines = store.remove("web")
    assert lines[:2] == ["Untagged: web:latest", f"Deleted: {made.id}"]
    assert len(lines) == 3
    assert store.has_blob(small.digest(ONE))
    assert not store.has_blob(small.digest(TWO))
    assert store.resolve("base").config()


def test_one_of_several_names_is_only_untagged(store: Store) -> None:
    made = small.add(store, "web:1", [ONE])
    tag(store, made, "web:2")
    assert store.remove("web:1") == ["Untagged: web:1"]
    assert store.resolve(made.id).names == ["docker.io/library/web:2"]


def test_the_digest_goes_with_the_last_tag_of_its_repository(store: Store) -> None:
    made = small.add(store, "web:1", [ONE], repo_digest=DIGEST)
    tag(store, made, "web:2")
    tag(store, made, "other")
    assert store.remove("web:1") == ["Untagged: web:1"]
    assert store.resolve(made.id).repo_digests == [f"docker.io/library/web@{DIGEST}"]
    assert store.remove("web:2") == ["Untagged: web:2", f"Untagged: web@{DIGEST}"]
    left = store.resolve(made.id)
    assert (left.names, left.repo_digests) == (["docker.io/library/other:latest"], [])
    assert len(store.remove("other")) == 3


def test_a_digest_alone_can_be_removed(store: Store) -> None:
    made = small.add(store, "web:1", [ONE], repo_digest=DIGEST)
    assert store.remove(f"web@{DIGEST}") == [f"Untagged: web@{DIGEST}"]
    assert store.resolve("web:1").repo_digests == []
    tag(store, made, "web:1")
    assert len(store.remove("web:1")) == 3


def test_an_image_without_a_name_goes_by_its_id(store: Store) -> None:
    made = small.add(store, None, [ONE])
    assert store.remove(made.short_id)[0] == f"Deleted: {made.id}"


def test_an_id_stands_for_one_name_and_its_digest(store: Store) -> None:
    made = small.add(store, "web:1", [ONE], repo_digest=DIGEST)
    assert store.remove(made.id)[:3] == [
        "Untagged: web:1",
        f"Untagged: web@{DIGEST}",
        f"Deleted: {made.id}",
    ]


def test_an_id_with_several_names_needs_force(store: Store) -> None:
    made = small.add(store, "web:1", [ONE])
    tag(store, made, "r.io/web:1")
    with pytest.raises(EngineError) as caught:
        store.remove(made.short_id)
    assert caught.value.message == (
        f"conflict: unable to delete {made.short_id} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    assert caught.value.exit_code == 1
    lines = store.remove(made.short_id, force=True)
    assert lines[:3] == ["Untagged: web:1", "Untagged: r.io/web:1", f"Deleted: {made.id}"]


def test_a_name_that_a_container_uses_is_refused(store: Store) -> None:
    made = small.add(store, "web:1", [ONE])
    with pytest.raises(EngineError) as caught:
        store.remove("web:1", containers=lambda: used(made, False))
    assert caught.value.message == (
        'conflict: unable to remove repository reference "web:1" (must force) - '
        f"container {CONTAINER[:12]} is using its referenced image {made.short_id}"
    )
    assert store.resolve("web:1").id == made.id


def test_another_name_may_go_while_a_container_uses_the_image(store: Store) -> None:
    made = small.add(store, "web:1", [ONE])
    tag(store, made, "web:2")
    assert store.remove("web:2", containers=lambda: used(made, True)) == ["Untagged: web:2"]


@pytest.mark.parametrize(
    ("running", "force", "reason"),
    [
        (False, False, "(must be forced) - image is being used by stopped container cccccccccccc"),
        (True, False, "(cannot be forced) - image is being used by running container cccccccccccc"),
        (True, True, "(cannot be forced) - image is being used by running container cccccccccccc"),
    ],
)
def test_an_id_that_a_container_uses_is_refused(
    store: Store, running: bool, force: bool, reason: str
) -> None:
    made = small.add(store, "web:1", [ONE])
    with pytest.raises(EngineError) as caught:
        store.remove(made.short_id, force=force, containers=lambda: used(made, running))
    assert caught.value.message == f"conflict: unable to delete {made.short_id} {reason}"
    assert store.resolve("web:1").id == made.id


@pytest.mark.parametrize("by_id", [True, False])
def test_force_leaves_the_layers_that_a_container_needs(store: Store, by_id: bool) -> None:
    made = small.add(store, "web:1", [ONE])
    text = made.short_id if by_id else "web:1"
    lines = store.remove(text, force=True, containers=lambda: used(made, False))
    assert lines == ["Untagged: web:1"]
    assert store.resolve(made.id).names == []
    assert store.has_blob(small.digest(ONE))
    assert store.remove(made.id)[0] == f"Deleted: {made.id}"
    assert blobs(store) == set()


def test_what_is_not_there_cannot_be_removed(store: Store) -> None:
    with pytest.raises(ImageNotFound, match="no such image: web"):
        store.remove("web")


# Garbage


def test_nothing_is_collected_while_somebody_adds(store: Store) -> None:
    """A pull finds a blob, another process removes the image that had it: the blob must stay."""
    small.add(store, "web", [ONE])
    with store.adding():
        assert store.has_blob(small.digest(ONE))
        assert store.remove("web")[0] == "Untagged: web:latest"
        assert store.has_blob(small.digest(ONE))
        assert store.collect() == []
        descriptor = small.put(store, [ONE])
        store.tag(descriptor, Reference.parse("again"))
    assert store.collect() == []
    assert store.resolve("again").config()
    store.remove("again")
    assert blobs(store) == set()


def test_a_blob_without_an_image_is_collected(store: Store) -> None:
    small.add(store, "web", [ONE])
    with store.adding():
        orphan = store.add_blob(OCI_LAYER, TWO)
    assert store.collect() == [orphan.digest]
    assert len(blobs(store)) == 3


def test_nothing_is_collected_when_an_image_cannot_be_read(store: Store) -> None:
    """What it needs is unknown: perhaps just the blobs that look unused."""
    made = small.add(store, "web", [ONE])
    os.unlink(store.blob_path(made.manifest.digest))
    before = blobs(store)
    with pytest.raises(EngineError, match="cannot read blob"):
        store.collect()
    assert blobs(store) == before


def test_what_killed_writers_left_is_swept_by_the_next(store: Store) -> None:
    store.create()
    Path(store.unfinished, "4711-0").write_bytes(b"half a blob")
    Path(store.unfinished, "abc.partial/usr").mkdir(parents=True)
    with store.adding():
        assert os.listdir(store.unfinished) == []
        Path(store.unfinished, "4712-0").touch()
        with store.adding():  # another pull, while the first one works
            assert os.listdir(store.unfinished) == ["4712-0"]


def test_a_start_holds_off_the_removal_of_its_image(store: Store) -> None:
    """Between resolve() and the container's record nobody may remove the image."""
    small.add(store, "web", [ONE])
    go, done = os.pipe(), os.pipe()
    # Forked before the lock is taken: a copy of the lock's descriptor would hold it as well.
    child = os.fork()
    if not child:
        code = 1
        try:
            os.read(go[0], 1)
            os.write(done[1], b"asked")
            store.remove("web")
            os.write(done[1], b"removed")
            code = 0
        finally:
            os._exit(code)
    with store.using():
        os.write(go[1], b"x")
        assert os.read(done[0], 100) == b"asked"
        _wait_for_lock(child)
        assert store.resolve("web").names
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(done[0], 100) == b"removed"
    assert store.images() == []
    for end in (*go, *done):
        os.close(end)


def _wait_for_lock(process: int) -> None:
    """Until the process waits in flock(2): proc_locks(5) marks those who wait with an arrow."""
    while not re.search(rf"-> FLOCK .* {process} ", Path("/proc/locks").read_text()):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise AssertionError("it did not wait for the lock")

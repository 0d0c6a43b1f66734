"""The store: names, blobs, look-ups, and other tools that read and write the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import manifest as kinds
from minicontainer.image.digest import ContentMismatch, Descriptor
from minicontainer.image.reference import Reference, ReferenceError
from minicontainer.image.store import Image, ImageNotFound, Store
from tests.image import small
from tests.support.engine import ROOT

ONE = small.tar({"one": b"1"})
TWO = small.tar({"two": b"2"})
DIGEST = "sha256:" + "d" * 64
OTHER = "sha256:" + "e" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/data")


def names(image: Image) -> list[str]:
    return [Reference.parse(name).familiar() for name in image.names]


def blobs(store: Store) -> set[str]:
    return set(os.listdir(store.blobs.directory))


# Names


def test_an_empty_store_has_no_images_and_makes_no_files(store: Store) -> None:
    assert store.images() == []
    with pytest.raises(ImageNotFound, match="no such image: alpine"):
        store.resolve("alpine")
    assert not os.path.exists(store.root)


def test_an_image_is_found_by_each_of_its_names(store: Store) -> None:
    made = small.add(store, "alpine:3", [ONE], repo_digest=DIGEST)
    texts = [
        "alpine:3", "docker.io/library/alpine:3", f"alpine@{DIGEST}", f"alpine:9@{DIGEST}",
        f"alpine@{made.manifest.digest}", made.id, made.id[7:], made.id[7:9], made.id[:12],
    ]  # fmt: skip
    for text in texts:
        assert store.resolve(text).id == made.id, text


@pytest.mark.parametrize("text", ["alpine", "alpine:4", "bob/alpine:3", "r.io/alpine:3", "0" * 64,
                                  f"alpine@{OTHER}", f"web@{DIGEST}", "sha256:zz"])  # fmt: skip
def test_other_names_are_not_found(store: Store, text: str) -> None:
    small.add(store, "alpine:3", [ONE], repo_digest=DIGEST)
    with pytest.raises(ImageNotFound, match="no such image") as caught:
        store.resolve(text)
    assert caught.value.exit_code == 125


def test_what_cannot_be_a_name_says_so(store: Store) -> None:
    with pytest.raises(ReferenceError, match="must be lower case"):
        store.resolve("Alpine")


def test_the_beginning_of_an_id_must_fit_one_image(store: Store) -> None:
    ids = {}
    number = 0
    while True:  # until two ids begin alike
        image = small.add(store, f"n:{number}", [ONE], author=str(number))
        number += 1
        if image.id[7] in ids:
            break
        ids[image.id[7]] = image
    with pytest.raises(EngineError, match="several images have an id that begins with"):
        store.resolve(image.id[7])


def test_a_name_beats_the_beginning_of_an_id(store: Store) -> None:
    first = small.add(store, "web", [ONE])
    second = small.add(store, first.id[7:12], [TWO])
    assert store.resolve(first.id[7:12]).id == second.id


def test_an_image_can_have_several_names(store: Store) -> None:
    made = small.add(store, "web:1", [ONE], repo_digest=DIGEST)
    store.tag(made, Reference.parse("web:latest"))
    tagged = store.tag(made, Reference.parse("localhost:5000/web:1"))
    assert names(tagged) == ["web:1", "web:latest", "localhost:5000/web:1"]
    assert tagged.repo_digests == [f"docker.io/library/web@{DIGEST}"]
    assert len(store.images()) == 1
    store.tag(made, Reference.parse("web:latest"))  # twice is once
    assert len(store.entries()) == 3


def test_a_name_that_moves_leaves_the_old_image_by_its_digest(store: Store) -> None:
    old = small.add(store, "web", [ONE], repo_digest=DIGEST)
    new = small.add(store, "web", [TWO], repo_digest=OTHER)
    assert store.resolve("web").id == new.id
    left = store.resolve(f"web@{DIGEST}")
    assert (left.id, left.names) == (old.id, [])
    assert left.repo_digests == [f"docker.io/library/web@{DIGEST}"]


def test_a_name_that_moves_leaves_the_old_image_nameless(store: Store) -> None:
    old = small.add(store, "web", [ONE])
    small.add(store, "web", [TWO])
    left = store.resolve(old.id)
    assert (left.names, left.repo_digests) == ([], [])
    store.tag(left, Reference.parse("old"))
    assert len(store.entries()) == 2  # the nameless entry is not needed any more


def test_untag_keeps_the_image(store: Store) -> None:
    made = small.add(store, "web", [ONE])
    store.untag(Reference.parse("web"))
    assert store.resolve(made.id).names == []
    with pytest.raises(ImageNotFound):
        store.untag(Reference.parse("web"))


def test_an_image_that_went_meanwhile_cannot_be_tagged(store: Store) -> None:
    made = small.add(store, "web", [ONE])
    store.remove("web")
    with pytest.raises(ImageNotFound):
        store.tag(made, Reference.parse("again"))
    assert store.images() == []


def test_a_pull_by_digest_has_no_tag(store: Store) -> None:
    made = small.add(store, f"web:1@{DIGEST}", [ONE])
    assert made.names == []
    assert made.repo_digests == [f"docker.io/library/web@{DIGEST}"]
    assert store.resolve(f"web@{DIGEST}").id == made.id
    with pytest.raises(ImageNotFound):
        store.resolve("web:1")


def test_images_come_newest_first(store: Store) -> None:
    for day in ("2026-01-02", "2026-01-03", "2026-01-01"):
        small.add(store, f"day:{day}", [ONE], created=f"{day}T00:00:00Z")
    assert [image.created[:10] for image in store.images()] == [
        "2026-01-03",
        "2026-01-02",
        "2026-01-01",
    ]


def test_names_of_many_writers_are_all_kept(store: Store) -> None:
    made = small.add(store, "web:0", [ONE])
    children = []
    for number in range(1, 9):
        child = os.fork()
        if not child:
            code = 1
            try:
                for part in "abc":
                    store.tag(made, Reference.parse(f"web:{number}{part}"))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(store.resolve("web:0").names) == 25


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"manifests":[5]}', '{"manifests":[{"digest":"../../x","size":1}]}']
)
def test_a_damaged_index_is_a_clear_error(store: Store, text: str) -> None:
    store.create()
    Path(store.index_path).write_text(text)
    with pytest.raises(EngineError, match=r"image index .*index.json is damaged"):
        store.images()


# Blobs


def test_a_blob_appears_whole_or_not_at_all(store: Store) -> None:
    store.create()
    with store.write_blob(Descriptor("x", small.digest(b"abc"), 3)) as writer:
        writer.write(b"ab")
        assert blobs(store) == set()
        writer.write(b"c")
    assert store.read_blob(small.digest(b"abc")) == b"abc"
    assert store.has_blob(small.digest(b"abc"), 3)
    assert not store.has_blob(small.digest(b"abc"), 4)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(b"ab", "cut short"), (b"abcd", "longer"), (b"abd", "another content")],
)
def test_a_blob_that_lies_leaves_nothing(store: Store, sent: bytes, reason: str) -> None:
    store.create()
    with (
        pytest.raises(ContentMismatch, match=reason),
        store.write_blob(Descriptor("x", small.digest(b"abc"), 3)) as writer,
    ):
        writer.write(sent)
    assert blobs(store) == set()
    assert os.listdir(store.unfinished) == []


def test_a_writer_that_fails_leaves_nothing(store: Store) -> None:
    store.create()
    with pytest.raises(KeyboardInterrupt), store.new_blob("x") as writer:
        writer.write(b"abc")
        raise KeyboardInterrupt
    assert blobs(store) == set()
    assert os.listdir(store.unfinished) == []


def test_a_changed_blob_is_noticed(store: Store) -> None:
    made = small.add(store, "web", [ONE])
    path = Path(store.blob_path(made.id))
    path.write_bytes(path.read_bytes().replace(b"/bin/sh", b"/bin/xx"))
    with pytest.raises(ContentMismatch, match="in the store is damaged") as caught:
        store.resolve("web").config()
    assert str(path) in str(caught.value.hint)


def test_a_missing_blob_is_a_clear_error(store: Store) -> None:
    made = small.add(store, "web", [ONE])
    os.unlink(store.blob_path(made.id))
    with pytest.raises(EngineError, match=f"cannot read blob {made.id}: no such file"):
        store.resolve("web").config()


def test_a_manifest_of_100_mb_is_refused_without_reading_it(store: Store) -> None:
    store.create()
    name = small.digest(b"huge")
    with open(store.blob_path(name), "wb") as file:
        file.truncate(100 << 20)
    # An address space that the whole blob does not fit into: reading it would be a MemoryError.
    code = (
        "import resource, sys; from minicontainer.image.store import Store\n"
        "from minicontainer.errors import EngineError\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (50 << 20, 50 << 20))\n"
        "try: Store(sys.argv[1]).read_blob(sys.argv[2])\n"
        "except EngineError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.root, name],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout == f"blob {name} has more than 4 MiB\n"


# Start path


def test_a_look_up_imports_nothing_slow(store: Store) -> None:
    """resolve(), config() and stack() are on the way of every start."""
    made = small.add(store, "web", [ONE])
    Path(f"{store.stacks}/{made.id[7:]}.json").write_text('{"layers":["ab","cd"],"sizes":[1,2]}')
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "from minicontainer.image.store import Store\n"
        "store = Store(sys.argv[2])\n"
        "with store.using():\n"
        "    image = store.resolve('web')\n"
        "print(image.config()['config']['Cmd'], store.stack(image))\n"
        "print(*sorted(m for m in set(sys.modules) - before if 'minicontainer' not in m))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", code, str(ROOT), store.root],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, modules = done.stdout.splitlines()
    assert told == f"['/bin/sh'] ['{store.layers}/ab', '{store.layers}/cd']"
    lean = {"__future__", "_json", "fcntl", "itertools", "_sha256", "_sha2", "errno"}
    assert set(modules.split()) <= lean


# Other tools on the same files


@pytest.mark.tools("skopeo")
@pytest.mark.parametrize("name", ["alpine:3", "localhost:5000/team/web:1.2", f"web@{DIGEST}"])
def test_skopeo_reads_the_store(store: Store, name: str) -> None:
    made = small.add(store, name, [ONE, TWO])
    whole = str(Reference.parse(name))
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.layout}:{whole}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["Digest"] == made.manifest.digest
    assert told["Layers"] == [small.digest(ONE), small.digest(TWO)]


@pytest.mark.root
@pytest.mark.tools("umoci")
def test_umoci_unpacks_from_the_store(store: Store, tmp_path: Path) -> None:
    small.add(store, "alpine:3", [ONE, TWO])
    image = f"{store.layout}:docker.io/library/alpine:3"
    subprocess.run(["umoci", "unpack", "--image", image, tmp_path / "bundle"], check=True)
    assert (tmp_path / "bundle/rootfs/one").read_bytes() == b"1"
    assert (tmp_path / "bundle/rootfs/two").read_bytes() == b"2"


@pytest.mark.tools("skopeo")
def test_skopeo_copies_into_the_store_and_out_of_it(store: Store, tmp_path: Path) -> None:
    mine = small.add(store, "mine:1", [ONE], repo_digest=DIGEST)
    there = f"dir:{tmp_path}/dir"
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
    subprocess.run([*copy, f"oci:{store.layout}:docker.io/library/mine:1", there], check=True)
    subprocess.run([*copy, there, f"oci:{store.layout}:docker.io/library/copy:2"], check=True)
    copied = store.resolve("copy:2")
    assert copied.id == mine.id
    assert [names(image) for image in store.images()] == [["copy:2", "mine:1"]]
    assert store.resolve("mine:1").repo_digests == [f"docker.io/library/mine@{DIGEST}"]
    assert store.remove("copy:2") == ["Untagged: copy:2"]
    assert store.resolve("mine:1").config()


def test_an_index_that_another_tool_put_there_gives_the_hosts_build(store: Store) -> None:
    with store.adding():
        mine = small.put(store, [ONE])
        index = {"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": [mine.to_json()]}
        descriptor = store.add_blob(kinds.OCI_INDEX, json.dumps(index).encode())
    entry = descriptor.to_json() | {"annotations": {"org.opencontainers.image.ref.name": "multi"}}
    store.change_index(lambda entries: [*entries, entry])
    image = store.resolve("multi")
    assert image.manifest.digest == mine.digest
    assert len(image.layers()) == 1
    store.collect()
    assert store.resolve("multi").config()

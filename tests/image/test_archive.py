"""Loading archives: docker's form and OCI's, from files and pipes, and hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import archive
from minicontainer.image import manifest as kinds
from minicontainer.image.archive import load
from minicontainer.image.platform import Platform
from minicontainer.image.reference import Reference
from minicontainer.image.store import Store
from tests.image import small

pytestmark = pytest.mark.root

ONE = small.tar({"one": b"1"})
TWO = small.tar({"two": b"2"})
NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/data")


def load_bytes(store: Store, data: bytes) -> list[str]:
    """Load from a file."""
    path = Path(f"{store.root}.tar")
    path.write_bytes(data)
    with open(path, "rb") as file:
        return load(store, file)


def load_pipe(store: Store, data: bytes) -> list[str]:
    """Load from a pipe, in small pieces."""
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            for at in range(0, len(data), 1000):
                pipe.write(data[at : at + 1000])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with open(reading, "rb") as pipe:
            return load(store, pipe)
    finally:
        feeder.join()


def docker(
    layers: list[bytes], tags: list[str] | None, files: Mapping[str, Any] | None = None
) -> bytes:
    """What `docker save` of docker 20 writes: the manifest last."""
    config = small.config(layers)
    paths = [f"{number:064}/layer.tar" for number in range(len(layers))]
    name = f"{small.digest(config)[7:]}.json"
    content: dict[str, Any] = dict(zip(paths, layers, strict=True))
    content[name] = config
    manifest = [{"Config": name, "RepoTags": tags, "Layers": paths}]
    content["manifest.json"] = json.dumps(manifest).encode()
    return small.tar(content | dict(files or {}))


def oci(
    layers: list[bytes],
    names: list[dict[str, str]],
    files: Mapping[str, Any] | None = None,
    index: bool = False,
) -> bytes:
    """An OCI layout in a tar. index: with an index between, of the host's build and another."""
    content: dict[str, Any] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(media_type: str, data: bytes) -> dict[str, Any]:
        content[f"blobs/sha256/{small.digest(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": small.digest(data), "size": len(data)}

    value: dict[str, Any] = {
        "schemaVersion": 2,
        "config": add(kinds.OCI_CONFIG, small.config(layers)),
        "layers": [add(kinds.OCI_LAYER, layer) for layer in layers],
    }
    item = add(kinds.OCI_MANIFEST, json.dumps(value).encode())
    if index:
        item["platform"] = Platform.host().to_json()
        absent = {"mediaType": kinds.OCI_MANIFEST, "digest": small.digest(b""), "size": 0,
                  "platform": {"os": "linux", "architecture": "s390x"}}  # fmt: skip
        value = {"schemaVersion": 2, "manifests": [absent, item]}
        item = add(kinds.OCI_INDEX, json.dumps(value).encode())
    entries = [item | {"annotations": name} for name in names]
    content["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return small.tar(content | dict(files or {}))


def is_clean(store: Store) -> bool:
    """Nothing is left of a load that failed."""
    return not any(
        os.listdir(directory)
        for directory in (store.blobs.directory, store.layers, store.stacks, store.unfinished)
    )


# Good ones


@pytest.mark.parametrize("way", [load_bytes, load_pipe])
@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_a_docker_archive(store: Store, way: Any, packed: str) -> None:
    data = docker([ONE, TWO], ["web:1", "r.io/web:2"])
    assert way(store, gzip.compress(data) if packed == "gzip" else data) == ["web:1", "r.io/web:2"]
    image = store.resolve("web:1")
    assert image.id == small.digest(small.config([ONE, TWO]))
    assert [os.listdir(directory) for directory in store.stack(image)] == [["two"], ["one"]]
    assert store.entries()[0]["platform"] == Platform.host().to_json()
    # A plain layer is its own diff id, and is stored as it came.
    assert [layer.digest for layer, _ in image.layers()] == [small.digest(ONE), small.digest(TWO)]
    assert os.listdir(store.unfinished) == []


def test_an_archive_packed_with_zstd(store: Store) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress(docker([ONE], ["web:1"]))
    assert load_pipe(store, data) == ["web:1"]


def test_the_same_archive_twice_is_one_image(store: Store) -> None:
    data = docker([ONE], ["web:1"])
    load_bytes(store, data)
    before = store.entries()
    load_bytes(store, data)
    assert store.entries() == before


def test_an_image_without_a_name_is_told_by_its_id(store: Store) -> None:
    (told,) = load_bytes(store, docker([ONE], None))
    assert store.resolve(told).id == told


def test_a_packed_layer_of_a_docker_archive(store: Store) -> None:
    data = docker([ONE], ["web:1"], {f"{0:064}/layer.tar": gzip.compress(ONE)})
    load_bytes(store, data)
    ((layer, diff_id),) = store.resolve("web:1").layers()
    assert layer.media_type == f"{kinds.OCI_LAYER}+gzip"
    assert diff_id == small.digest(ONE)


def test_a_layer_that_is_a_link_to_another_ones(store: Store) -> None:
    """`docker save` before docker 25 wrote a layer that comes twice as a symbolic link."""
    path = f"{1:064}/layer.tar"
    linked = {path: small.link(path, f"../{0:064}/layer.tar")}
    load_pipe(store, docker([ONE, ONE], ["web:1"], linked))
    assert len(store.resolve("web:1").layers()) == 2


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("way", [load_bytes, load_pipe])
def test_an_oci_archive(store: Store, way: Any, index: bool) -> None:
    data = oci([ONE, TWO], [{NAME: "docker.io/library/web:1"}, {NAME: "web:2"}], index=index)
    assert way(store, data) == ["web:1", "web:2"]
    assert len(store.stack(store.resolve("web:2"))) == 2
    assert not store.has_blob(small.digest(b""))


def test_the_name_that_containerd_and_docker_give_is_the_whole_one(store: Store) -> None:
    name = {NAME: "1.2", "io.containerd.image.name": "docker.io/bob/web:1.2"}
    assert load_bytes(store, oci([ONE], [name])) == ["bob/web:1.2"]


def test_blobs_that_are_there_are_not_received_again(store: Store) -> None:
    load_bytes(store, oci([ONE], [{NAME: "web:1"}]))
    before = os.stat(store.blob_path(small.digest(ONE)))
    load_pipe(store, oci([ONE, TWO], [{NAME: "web:2"}]))
    after = os.stat(store.blob_path(small.digest(ONE)))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.tools("skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes(store: Store, tmp_path: Path, form: str) -> None:
    made = small.add(Store(f"{tmp_path}/other"), "web:1", [ONE, TWO])
    path = f"{tmp_path}/web.tar"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet",
         f"oci:{made.store.layout}:docker.io/library/web:1", f"{form}:{path}:web:1"],
        check=True,
    )  # fmt: skip
    with open(path, "rb") as file:
        assert load(store, file) == ["web:1"]
    loaded = store.resolve("web:1")
    assert loaded.config()["rootfs"] == made.config()["rootfs"]
    assert [os.listdir(directory) for directory in store.stack(loaded)] == [["two"], ["one"]]


# Hostile and broken ones


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"../../etc/cron.d/x": b""}, "'../../etc/cron.d/x' leads out of it"),
        ({"/etc/passwd": b""}, "'/etc/passwd' leads out of it"),
        ({"a/../../b": b""}, "'a/../../b' leads out of it"),
        ({"x": small.link("x", "/etc/passwd")}, "'/etc/passwd' leads out of it"),
        ({"a/x": small.link("a/x", "../../b")}, "'../../b' leads out of it"),
        ({"x": small.link("x", "../b", tarfile.LNKTYPE)}, "'../b' leads out of it"),
        ({"x": small.link("x", "", tarfile.CHRTYPE)}, "a device or pipe, 'x'"),
        ({"manifest.json": b"{"}, "malformed manifest.json"),
        ({"manifest.json": b"{}"}, "not a list"),
        ({"manifest.json": b"[5]"}, "an entry is not a JSON object"),
        ({"manifest.json": b'[{"Layers":"x"}]'}, "Layers is not a list"),
        ({"manifest.json": b'[{"RepoTags":[5]}]'}, "RepoTags is not a list"),
        ({"manifest.json": b'[{"Config":7}]'}, "Config is not a string"),
        ({"manifest.json": b'[{"Config":"no.json"}]'}, "lacks 'no.json'"),
        ({"manifest.json": b'[{"Config":"../no.json"}]'}, "leads out of it"),
        ({"manifest.json": b" " * (5 << 20)}, "more than 4 MiB"),
        ({f"{0:064}/layer.tar": TWO}, "is not the layer"),
        ({f"{0:064}/layer.tar": gzip.compress(TWO)}, "cannot unpack layer"),
        ({f"{0:064}/layer.tar": small.link(f"{0:064}/layer.tar", "layer.tar")}, "lacks"),
        ({"blobs/sha256/" + "0" * 64: b"x"}, "has another content"),
        ({f"blobs/sha256/{small.digest(ONE)[7:]}": b"x"}, "has another content"),
    ],
)
def test_a_hostile_docker_archive_is_refused(
    store: Store, files: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EngineError) as caught:
        load_bytes(store, docker([ONE], ["web:1"], files))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert is_clean(store)
    assert store.images() == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"index.json": b"[]"}, "malformed manifest: not a JSON object"),
        ({"index.json": b'{"schemaVersion":2,"manifests":[{}]}'}, "manifest 1 of the index"),
        ({"index.json": b" " * (5 << 20)}, "more than 4 MiB"),
        ({f"blobs/sha256/{small.digest(ONE)[7:]}": TWO}, "has another content"),
        ({f"blobs/sha256/{small.digest(ONE)[7:]}": small.link("x", "y")}, "lacks"),
    ],
)
def test_a_hostile_oci_archive_is_refused(store: Store, files: dict[str, Any], reason: str) -> None:
    if isinstance(entry := next(iter(files.values())), tarfile.TarInfo):
        entry.name = next(iter(files))
    with pytest.raises(EngineError) as caught:
        load_bytes(store, oci([ONE], [{NAME: "web:1"}], files))
    assert reason in caught.value.message
    assert is_clean(store)


def test_a_name_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(EngineError, match="must be lower case"):
        load_bytes(store, docker([ONE], ["WEB:1"]))
    assert is_clean(store)


def test_a_hostile_layer_inside_leaves_nothing(store: Store) -> None:
    bad = small.tar({"../../x": b""})
    with pytest.raises(EngineError, match="cannot unpack layer"):
        load_bytes(store, docker([ONE, bad], ["web:1"]))
    assert is_clean(store)


def test_an_archive_that_fails_leaves_the_images_that_were_there(store: Store) -> None:
    load_bytes(store, docker([ONE], ["web:1"]))
    with pytest.raises(EngineError):
        load_bytes(store, docker([ONE, TWO], ["web:1"], {"../x": b""}))
    assert len(store.stack(store.resolve("web:1"))) == 1
    assert store.has_blob(small.digest(ONE))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b\x08garbage", b"\0" * 10240])
def test_what_is_no_archive_says_so(store: Store, data: bytes) -> None:
    for way in (load_bytes, load_pipe):
        with pytest.raises(EngineError) as caught:
            way(store, data)
        assert "\n" not in caught.value.message
    assert is_clean(store)


def test_a_root_file_system_is_not_an_archive_of_images(store: Store) -> None:
    with pytest.raises(EngineError, match="no archive of images"):
        load_bytes(store, small.tar({"etc/passwd": b"root"}))


@pytest.mark.parametrize("way", [load_bytes, load_pipe])
def test_an_archive_cut_anywhere_is_an_error_and_leaves_nothing(store: Store, way: Any) -> None:
    data = docker([ONE, TWO], ["web:1"])
    for length in range(1, len(data.rstrip(b"\0")), 997):
        with pytest.raises(EngineError):
            way(store, data[:length])
        assert is_clean(store), length


def test_the_number_of_files_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 50)
    with pytest.raises(EngineError, match="more than 50 files"):
        load_bytes(store, docker([ONE], ["web:1"], {f"f{n}": b"" for n in range(100)}))
    assert is_clean(store)


def test_a_bomb_of_a_header_costs_no_memory(store: Store) -> None:
    """A PAX header that claims 100 MB, and has them, packed into 100 kB."""
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = 100 << 20
    packed = io.BytesIO()
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.raises(EngineError, match="extended tar header"):
        load_pipe(store, packed.getvalue())
    assert is_clean(store)


def test_a_pipe_that_ends_early_because_of_us_is_left(store: Store) -> None:
    """A hostile first entry must not make us read the rest of an endless archive."""
    with subprocess.Popen(
        ["sh", "-c", "cat; exec cat /dev/zero"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as endless:
        assert endless.stdin and endless.stdout
        endless.stdin.write(small.tar({"../x": b""}))
        endless.stdin.close()
        with pytest.raises(EngineError, match="leads out of it"):
            load(store, endless.stdout)


def test_the_machines_tar_reads_what_docker_would(tmp_path: Path) -> None:
    """The archives of these tests are archives (GNU tar as the judge)."""
    if not shutil.which("tar"):
        pytest.skip("needs the program tar: ./dev test installs it")
    path = tmp_path / "x.tar"
    path.write_bytes(docker([ONE], ["web:1"]))
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    assert "manifest.json" in listed.stdout


def test_progress_is_told(store: Store) -> None:
    path = Path(f"{store.root}.tar")
    path.write_bytes(docker([ONE], ["web:1"]))
    told: list[str] = []
    with open(path, "rb") as file:
        load(store, file, lambda layer, state: told.append(f"{layer.digest[:9]} {state}"))
    assert told == [f"{small.digest(ONE)[:9]} {state}" for state in ("unpacking", "unpacked")]


def test_a_loaded_name_that_was_another_images_leaves_that_one_nameless(store: Store) -> None:
    old = small.add(store, "web:1", [ONE])
    load_bytes(store, docker([TWO], ["web:1"]))
    assert store.resolve("web:1").id != old.id
    assert store.resolve(old.id).names == []
    store.untag(Reference.parse("web:1"))

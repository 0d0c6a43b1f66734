"""Whole pulls from the registry that lies: what arrives, what is refused, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.image.patience import Patience
from minicontainer.image.pull import pull
from minicontainer.image.reference import Reference
from minicontainer.image.store import Image, ImageNotFound, Store
from tests.image import fake_registry as fake
from tests.image.fake_registry import FakeRegistry, layer_of
from tests.support.engine import ROOT

pytestmark = pytest.mark.root

FAST = Patience(connect=2, stall=0.5, attempts=2, pause=0.005)
NOISE = os.urandom(1_000_000)  # does not compress: a blob of several reads
LAYERS = [layer_of({"etc/motd": b"hello\n", "one": NOISE}), layer_of({"two": b"2"})]


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def get(store: Store, server: FakeRegistry, name: str = "app:1", **options: Any) -> Image:
    options = {"patience": FAST, **options}
    return pull(store, Reference.parse(f"{server.host}/{name}"), **options)


def left(store: Store) -> dict[str, list[str]]:
    """What there is in the store, but for locks."""
    found = {}
    for directory in (store.blobs.directory, store.layers, store.unfinished, store.stacks):
        names = os.listdir(directory) if os.path.isdir(directory) else []
        found[os.path.basename(directory)] = sorted(n for n in names if not n.endswith(".lock"))
    return found


def refused(store: Store, server: FakeRegistry, *words: str, **options: Any) -> EngineError:
    """The pull fails with one line that has these words; no name, no stack, nothing half-made."""
    with pytest.raises(EngineError) as caught:
        get(store, server, **options)
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert store.images() == []
    remains = left(store)
    assert remains["images"] == []
    assert remains["stacks"] == []
    for name in remains["sha256"]:
        content = (Path(store.blobs.directory) / name).read_bytes()
        assert fake.digest_of(content) == f"sha256:{name}"
    return caught.value


# ------------------------------------------------------------------------------------ what arrives


def test_an_image(server: FakeRegistry, store: Store) -> None:
    digest = server.add_image("app:1", LAYERS)
    image = get(store, server)
    assert image.names == [f"{server.host}/app:1"]
    assert image.repo_digests == [f"{server.host}/app@{digest}"]
    assert image.manifest.digest == digest
    top, bottom = map(Path, store.stack(image))
    assert (bottom / "etc/motd").read_bytes() == b"hello\n"
    assert (bottom / "one").read_bytes() == NOISE
    assert (top / "two").read_bytes() == b"2"
    assert store.resolve(f"{server.host}/app:1").id == image.id


def test_by_digest(server: FakeRegistry, store: Store) -> None:
    digest = server.add_image("app:1", LAYERS)
    image = get(store, server, f"app@{digest}")
    assert image.names == []
    assert store.resolve(f"{server.host}/app@{digest}").id == image.id


def test_the_second_pull_asks_for_the_digest_alone(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS)
    first = get(store, server)
    server.requests.clear()
    assert get(store, server).id == first.id
    assert [r.method for r in server.requests if "/v2/app" in r.path] == ["HEAD"]


def test_an_image_that_was_never_unpacked_is_now(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS)
    first = get(store, server)
    for name in os.listdir(store.stacks):
        os.unlink(f"{store.stacks}/{name}")
    assert store.is_unpacked(get(store, server))
    assert store.resolve(first.id).names == first.names


def test_a_tag_that_moved(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS)
    first = get(store, server)
    server.add_image("app:1", LAYERS[:1])
    server.requests.clear()
    second = get(store, server)
    assert second.id != first.id
    assert second.names == [f"{server.host}/app:1"]
    # Only the new config is fetched.
    assert len(server.asked("/blobs/")) == 1


def test_what_was_complete_is_not_fetched_again(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS)
    manifest = json.loads(server.manifests["app/manifests/1"][1])
    last = manifest["layers"][1]["digest"]
    fetched = threading.Event()

    def lie(handler: fake.Handler) -> None:
        fetched.wait(5)
        handler.reply(404)

    server.lie("GET", last, lie, times=1)

    def release() -> None:
        fake.wait_until(lambda: len(left(store)["sha256"]) == 3)
        fetched.set()

    threading.Thread(target=release).start()
    refused(store, server, "not found")
    server.requests.clear()
    get(store, server)
    assert [r.path.rpartition("/")[2] for r in server.asked("/blobs/")] == [last]


def test_the_same_layer_twice(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", [LAYERS[1], LAYERS[0], LAYERS[1]])
    assert len(store.stack(get(store, server))) == 3
    assert len(server.asked("/blobs/")) == 3


def test_no_layers(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", [])
    assert store.stack(get(store, server)) == []


def test_an_empty_layer(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", [layer_of({})])
    assert os.listdir(store.stack(get(store, server))[0]) == []


def test_a_layer_that_needs_the_one_below(server: FakeRegistry, store: Store) -> None:
    """`dir/b` without `dir`: its mode is known to the layer below alone, whichever comes first."""
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("dir")
        entry.type, entry.mode, entry.uid = tarfile.DIRTYPE, 0o1777, 7
        archive.addfile(entry)
    below = stream.getvalue()
    server.add_image("app:1", [below, layer_of({"dir/b": b"b"})])
    top, _ = store.stack(get(store, server))
    status = os.stat(f"{top}/dir")
    assert (status.st_mode & 0o7777, status.st_uid) == (0o1777, 7)


def test_docker_media_types(server: FakeRegistry, store: Store) -> None:
    manifest = server.make_manifest(LAYERS)
    manifest["mediaType"] = fake.DOCKER_MANIFEST
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    server.add_manifest("app:1", manifest, fake.DOCKER_MANIFEST)
    assert get(store, server).manifest.media_type == fake.DOCKER_MANIFEST


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain; charset=utf-8"])
def test_a_registry_that_does_not_know_media_types(
    server: FakeRegistry, store: Store, media_type: str
) -> None:
    server.add_manifest("app:1", server.make_manifest(LAYERS), media_type)
    get(store, server)


# -------------------------------------------------------------------------------------- platforms


def add_index(server: FakeRegistry, **platforms: str) -> str:
    """An index as buildkit pushes it, with an attestation beside each image."""
    entries = []
    for architecture, content in platforms.items():
        manifest = server.make_manifest([layer_of({content: b""})], architecture)
        body = json.dumps(manifest).encode()
        digest = server.add_manifest("app", body)
        platform = {"os": "linux", "architecture": architecture}
        entry = {"mediaType": fake.OCI_MANIFEST, "digest": digest, "size": len(body)}
        entries.append({**entry, "platform": platform})
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digest,
        }
        unknown = {"os": "unknown", "architecture": "unknown"}
        entries.insert(0, {**entry, "platform": unknown, "annotations": annotations})
    index = {"schemaVersion": 2, "mediaType": fake.OCI_INDEX, "manifests": entries}
    return server.add_manifest("app:1", index, fake.OCI_INDEX)


def test_an_index(server: FakeRegistry, store: Store) -> None:
    digest = add_index(server, amd64="intel", arm64="arm")
    for platform, name in (("linux/amd64", "intel"), ("linux/arm64", "arm")):
        image = get(store, server, platform=platform)
        assert os.listdir(store.stack(image)[0]) == [name]
        # The name's digest is the index's, the image's its own.
        assert image.repo_digests == [f"{server.host}/app@{digest}"]
        assert image.manifest.digest != digest
    assert get(store, server, f"app@{digest}").id


def test_a_platform_that_is_not_there(server: FakeRegistry, store: Store) -> None:
    add_index(server, amd64="intel", arm64="arm")
    error = refused(store, server, "for linux/s390x", platform="linux/s390x")
    assert error.hint == "available: linux/amd64, linux/arm64"


def test_a_lone_image_for_another_platform(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS, architecture="s390x")
    error = refused(store, server, "no build of", "app:1 for linux/")
    assert error.hint == "available: linux/s390x"
    assert get(store, server, platform="linux/s390x").names


# ------------------------------------------------------------------------------- what is refused


def changed(server: FakeRegistry, **fields: Any) -> None:
    """The image, but its first layer's descriptor is changed."""
    manifest = server.make_manifest(LAYERS)
    manifest["layers"][0].update(fields)
    server.add_manifest("app:1", manifest)


def first_blob(server: FakeRegistry) -> str:
    server.add_image("app:1", LAYERS)
    manifest = json.loads(server.manifests["app/manifests/1"][1])
    return str(manifest["layers"][0]["digest"])


def test_a_blob_with_another_content(server: FakeRegistry, store: Store) -> None:
    digest = first_blob(server)
    size = len(server.blobs[digest])
    server.lie("GET", digest, fake.content(bytes(size)))
    refused(store, server, "blob", digest, "another content")
    # Asked once: a wrong content does not mend.
    assert len(server.asked(digest)) == 1


def test_a_blob_without_end(server: FakeRegistry, store: Store) -> None:
    def lie(handler: fake.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    digest = first_blob(server)
    server.lie("GET", digest, lie)
    refused(store, server, "longer than")


def test_a_blob_cut_short(server: FakeRegistry, store: Store) -> None:
    server.lie("GET", first_blob(server), fake.broken_off(1000))
    refused(store, server, server.host, "tried 2 times")


def test_a_stalled_blob(server: FakeRegistry, store: Store) -> None:
    server.lie("GET", first_blob(server), fake.stalled_after(1000))
    refused(store, server, "stalls")


def test_html_for_a_blob(server: FakeRegistry, store: Store) -> None:
    server.lie("GET", first_blob(server), fake.html)
    refused(store, server, "offers 36 bytes")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 5}, "which has 5"),
        ({"size": -1}, "size is not a number of bytes"),
        ({"digest": "sha256:../../../etc/passwd"}, "is not sha256:"),
        ({"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}, "is not sha256:"),
        ({"mediaType": "application/vnd.in-toto+json"}, "no file system layer"),
    ],
)
def test_a_descriptor_that_lies(
    server: FakeRegistry, store: Store, fields: dict[str, Any], words: str
) -> None:
    changed(server, **fields)
    refused(store, server, words)


def test_a_diff_id_that_does_not_match(server: FakeRegistry, store: Store) -> None:
    manifest = server.make_manifest(LAYERS)
    config = json.loads(server.blobs[manifest["config"]["digest"]])
    config["rootfs"]["diff_ids"][0] = fake.digest_of(b"another")
    digest = server.add_blob(json.dumps(config).encode())
    manifest["config"] = server.describe(fake.OCI_CONFIG, digest)
    server.add_manifest("app:1", manifest)
    refused(store, server, "cannot unpack layer")


def test_a_config_with_fewer_layers(server: FakeRegistry, store: Store) -> None:
    manifest = server.make_manifest(LAYERS)
    del manifest["layers"][0]
    server.add_manifest("app:1", manifest)
    refused(store, server, "2 diff_ids for 1 layers")


def test_a_chart_instead_of_an_image(server: FakeRegistry, store: Store) -> None:
    manifest = server.make_manifest(LAYERS)
    digest = server.add_blob(b'{"name": "a helm chart"}')
    manifest["config"] = server.describe("application/vnd.cncf.helm.config.v1+json", digest)
    server.add_manifest("app:1", manifest)
    refused(store, server, "rootfs.diff_ids is missing")


def test_a_hostile_layer(server: FakeRegistry, store: Store, tmp_path: Path) -> None:
    server.add_image("app:1", [LAYERS[1], layer_of({"../../../outside": b"!"})])
    with pytest.raises(EngineError, match="cannot unpack layer"):
        get(store, server)
    assert not list(tmp_path.rglob("outside"))
    assert store.images() == []


def test_a_foreign_layer(server: FakeRegistry, store: Store) -> None:
    manifest = server.make_manifest(LAYERS)
    manifest["layers"][0].update(
        mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        urls=["https://elsewhere.example/layer?token=hidden"],
    )
    blob = server.blobs.pop(manifest["layers"][0]["digest"])
    server.add_manifest("app:1", manifest)
    error = refused(store, server, "a layer is not in the registry", "https://elsewhere.example")
    assert "hidden" not in error.message
    # A registry that keeps it all the same is as good as any.
    server.add_blob(blob)
    get(store, server)


def test_schema_1(server: FakeRegistry, store: Store) -> None:
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.add_manifest("app:1", {"schemaVersion": 1, "fsLayers": []}, media_type)
    refused(store, server, "schema 1")


def test_a_child_of_another_size(server: FakeRegistry, store: Store) -> None:
    add_index(server, amd64="intel", arm64="arm")
    media_type, body = server.manifests["app/manifests/1"]
    index = json.loads(body)
    for entry in index["manifests"]:
        entry["size"] += 1
    server.add_manifest("app:1", index, media_type)
    refused(store, server, "cut short")


def test_an_index_in_an_index(server: FakeRegistry, store: Store) -> None:
    digest = add_index(server, amd64="intel", arm64="arm")
    size = len(server.manifests[f"app/manifests/{digest}"][1])
    entry = {"mediaType": fake.OCI_INDEX, "digest": digest, "size": size}
    index = {"schemaVersion": 2, "mediaType": fake.OCI_INDEX, "manifests": [entry]}
    server.add_manifest("app:1", index, fake.OCI_INDEX)
    refused(store, server, "an index where an image manifest must be")


def test_an_unknown_image_leaves_nothing(server: FakeRegistry, store: Store) -> None:
    refused(store, server, f"manifest for {server.host}/app:1 not found: manifest unknown")
    assert left(store)["sha256"] == []


def test_a_full_disk(server: FakeRegistry, tmp_path: Path) -> None:
    server.add_image("app:1", LAYERS)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "none", small], check=True)
    try:
        store = Store(str(small / "store"))
        error = refused(store, server, "no space left on device")
        assert error.hint
        subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
        get(store, server)
    finally:
        subprocess.run(["umount", small], check=True)


# ---------------------------------------------------------------------------- several, and the end


def test_concurrent_pulls_share_the_work(server: FakeRegistry, store: Store) -> None:
    server.add_image("app:1", LAYERS)
    images: list[Image] = []
    threads = [threading.Thread(target=lambda: images.append(get(store, server))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({image.id for image in images}) == 1
    assert len(images) == 4
    assert len(server.asked("/blobs/")) == 3
    assert left(store)["images"] == []


PULL = """
import sys
sys.path.insert(0, sys.argv[1])
from minicontainer.image.patience import Patience
from minicontainer.image.pull import pull
from minicontainer.image.reference import Reference
from minicontainer.image.store import Store
try:
    pull(Store(sys.argv[2]), Reference.parse(sys.argv[3]), patience=Patience(stall=60))
except KeyboardInterrupt:
    sys.exit(130)
"""


def pull_elsewhere(store: Store, server: FakeRegistry) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PULL, ROOT, store.root, f"{server.host}/app:1"],
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
def test_ctrl_c_ends_it_at_once(server: FakeRegistry, store: Store, part: str) -> None:
    """In the greeting, the manifest and a blob, with a registry that says nothing more."""
    server.add_image("app:1", LAYERS)
    server.lie("GET", part, fake.stall if part != "/blobs/" else fake.stalled_after(5000))
    process = pull_elsewhere(store, server)
    fake.wait_until(lambda: bool(server.asked(part)))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, b"")
    assert left(store)["images"] == []
    assert store.images() == []


def test_after_a_kill_the_next_pull_tidies_up(server: FakeRegistry, store: Store) -> None:
    digest = first_blob(server)
    server.lie("GET", digest, fake.stalled_after(500_000), times=1)
    process = pull_elsewhere(store, server)
    fake.wait_until(lambda: bool(server.asked(digest)) and len(left(store)["sha256"]) == 3)
    process.kill()
    process.communicate()
    assert left(store)["images"]
    with pytest.raises(ImageNotFound):
        store.resolve(f"{server.host}/app:1")
    get(store, server)
    assert left(store)["images"] == []

"""inspect and history, as docker shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.image.platform import Platform
from minicontainer.image.reference import Reference
from minicontainer.image.store import Store
from tests.image import small

LAYERS = [small.tar({"one": b"1" * 1000, "more": b"2"}), small.tar({"two": b"2"})]
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/data")


def test_inspect_has_dockers_fields(store: Store) -> None:
    made = small.add(
        store, "web:1", LAYERS, repo_digest=DIGEST, author="me", history=[{"comment": "last"}]
    )
    told = store.inspect(store.tag(made, Reference.parse("r.io/web:2")))
    host = Platform.host().to_json()
    assert told.pop("Variant", None) == host.get("variant")
    assert told == {
        "Id": made.id,
        "RepoTags": ["web:1", "r.io/web:2"],
        "RepoDigests": [f"web@{DIGEST}"],
        "Parent": "",
        "Comment": "last",
        "Created": "2026-01-02T03:04:05Z",
        "DockerVersion": "",
        "Author": "me",
        "Config": {"Cmd": ["/bin/sh"]},
        "Architecture": host["architecture"],
        "Os": "linux",
        "Size": 0,
        "GraphDriver": {"Name": "overlay", "Data": None},
        "RootFS": {"Type": "layers", "Layers": [small.digest(layer) for layer in LAYERS]},
    }


@pytest.mark.root
def test_the_size_is_that_of_the_files(store: Store) -> None:
    image = small.add(store, "web:1", LAYERS, unpack=True)
    told = store.inspect(image)
    assert told["Size"] == store.size(image) == 1002
    top, base = store.stack(image)
    assert told["GraphDriver"]["Data"] == {"UpperDir": top, "LowerDir": base}


@pytest.mark.root
def test_history_is_newest_first_and_only_layers_have_a_size(store: Store) -> None:
    steps = [
        {"created_by": "base", "created": "2026-01-01T00:00:00Z"},
        {"created_by": "ENV A=1", "empty_layer": True, "comment": "no files"},
        {"created_by": "COPY"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    image = small.add(store, "web", LAYERS, unpack=True, history=steps)
    rows = store.history(image)
    assert [(row["Id"], row["CreatedBy"], row["Size"]) for row in rows] == [
        (image.id, "CMD", 0),
        ("<missing>", "COPY", 1),
        ("<missing>", "ENV A=1", 0),
        ("<missing>", "base", 1001),
    ]
    assert rows[2]["Comment"] == "no files"
    assert rows[3]["Created"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("history", [None, [], [{"created_by": "base"}]])
def test_layers_that_the_history_forgets_have_rows(store: Store, history: object) -> None:
    image = small.add(store, "web", LAYERS, history=history)
    assert [row["Id"] for row in store.history(image)] == [image.id, "<missing>"]

"""Manifests and configs are a stranger's JSON: one clear line for whatever is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image import manifest
from minicontainer.image.digest import Descriptor
from tests.image import small

ITEM = {"mediaType": "x", "digest": small.digest(b""), "size": 0}
MANIFEST = {"schemaVersion": 2, "config": ITEM, "layers": [ITEM, ITEM]}
INDEX = {"schemaVersion": 2, "manifests": [ITEM]}
CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=1"], "Cmd": None, "Entrypoint": ["/x"], "User": "1"},
    "rootfs": {"type": "layers", "diff_ids": [small.digest(b"")]},
    "history": [{"created_by": "x"}],
}


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("kind", ["", *manifest.MANIFESTS])
def test_manifests_of_both_families(kind: str) -> None:
    for value in (MANIFEST, MANIFEST | {"mediaType": kind or manifest.OCI_MANIFEST}):
        read = manifest.parse(encode(value), kind)
        assert isinstance(read, manifest.Manifest)
        assert read.config.digest == ITEM["digest"]
        assert len(read.layers) == 2


@pytest.mark.parametrize("kind", ["", *manifest.INDEXES])
def test_indexes_of_both_families(kind: str) -> None:
    read = manifest.parse(encode(INDEX), kind)
    assert isinstance(read, list)
    assert isinstance(read[0], Descriptor)
    with pytest.raises(EngineError, match="an index where an image manifest must be"):
        manifest.parse_manifest(encode(INDEX), kind)


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "", "docker schema 1"),
        (
            MANIFEST,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "docker schema 1",
        ),
        ({}, "", "schemaVersion is not 2"),
        ([], "", "not a JSON object"),
        (MANIFEST | {"mediaType": manifest.OCI_INDEX}, manifest.OCI_MANIFEST, "but came as"),
        # CVE-2021-41190: one digest, two images
        (MANIFEST | INDEX, manifest.OCI_MANIFEST, "with the fields of an index"),
        (MANIFEST | INDEX, manifest.OCI_INDEX, "with the fields of a manifest"),
        (MANIFEST | {"layers": {}}, "", "layers is not a list"),
        (MANIFEST | {"layers": [ITEM, 5]}, "", "malformed layer 2 of the manifest"),
        (MANIFEST | {"config": None}, "", "malformed config descriptor"),
        (MANIFEST | {"mediaType": 5}, "", "mediaType is not a string"),
        (MANIFEST | {"mediaType": "text/html"}, "", "type 'text/html' are not supported"),
    ],
)
def test_a_malformed_manifest_is_one_clear_line(value: object, kind: str, reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        manifest.parse(encode(value), kind)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"a":1} x'])
def test_what_is_not_json_is_one_clear_line(data: bytes) -> None:
    for read in (manifest.parse, manifest.parse_config):
        with pytest.raises(EngineError, match=r"malformed .*: not JSON"):
            read(data)


def test_a_manifest_is_bounded() -> None:
    with pytest.raises(EngineError, match="more than 4 MiB"):
        manifest.parse(b" " * (manifest.LIMIT + 1))


def test_a_config_is_read() -> None:
    assert manifest.parse_config(encode(CONFIG), 1) == CONFIG
    assert manifest.parse_config(encode(CONFIG | {"config": None, "history": None}), 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rootfs": None}, "rootfs.diff_ids is missing"),
        ({"rootfs": {"diff_ids": "x"}}, "rootfs.diff_ids is missing"),
        ({"rootfs": {"diff_ids": ["../x"]}}, "diff id 1"),
        ({"rootfs": {"diff_ids": []}}, "0 diff_ids for 1 layers"),
        ({"os": 5}, "os is not a str"),
        ({"created": []}, "created is not a str"),
        ({"config": []}, "config is not a dict"),
        ({"config": {"Env": "A=1"}}, "config.Env is not a list"),
        ({"config": {"Env": [1]}}, "config.Env is not a list of strings"),
        ({"config": {"Cmd": {"a": 1}}}, "config.Cmd is not a list"),
        ({"config": {"Entrypoint": [None]}}, "config.Entrypoint is not a list of strings"),
        ({"config": {"User": 0}}, "config.User is not a str"),
        ({"config": {"Volumes": []}}, "config.Volumes is not a dict"),
        ({"history": [1]}, "history is not a list of JSON objects"),
    ],
)
def test_a_malformed_config_is_one_clear_line(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        manifest.parse_config(encode(CONFIG | change), 1)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from([*MANIFEST, *INDEX, *ITEM, *CONFIG, "diff_ids", "Env"]), children
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_an_error_of_ours(value: object) -> None:
    for read in (manifest.parse, manifest.parse_config):
        try:
            read(encode(value))
        except EngineError as error:
            assert "\n" not in error.message

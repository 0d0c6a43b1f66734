"""Manifests, indexes and image configs: a stranger's JSON, checked before it is used.

Both families are read: OCI (image-spec manifest.md, image-index.md, config.md) and docker's
schema 2 (distribution, manifest-v2-2.md). Every error is one line that names the field.
"""

from __future__ import annotations

from .. import jsonio
from ..errors import EngineError
from .digest import Descriptor, check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)

# The largest manifest, index or config that is read at all; docker's and containerd's bound.
LIMIT = 4 << 20


class Manifest:
    """An image for one platform: its config and its layers, the lowest first."""

    __slots__ = ("media_type", "config", "layers")

    def __init__(self, media_type: str, config: Descriptor, layers: list[Descriptor]) -> None:
        self.media_type = media_type
        self.config = config
        self.layers = layers


def parse(data: bytes, media_type: str = "") -> Manifest | list[Descriptor]:
    """A manifest, or the descriptors of an index; EngineError when it is neither.

    media_type: what the registry's Content-Type or the descriptor said; "" when unknown. Where
    the document names its own type, the two must agree, and a document with both `manifests` and
    `layers` is refused: two readers must never see two images in one digest (CVE-2021-41190).
    """
    value = _object(data, "manifest")
    own = value.get("mediaType", "")
    if not isinstance(own, str):
        raise EngineError("malformed manifest: mediaType is not a string")
    known = media_type in MANIFESTS + INDEXES
    if value.get("schemaVersion") == 1 or "distribution.manifest.v1" in media_type:
        raise EngineError(
            "the image has a manifest of docker schema 1, which is not supported",
            hint="push it again with a docker of this decade, or copy it with skopeo",
        )
    if value.get("schemaVersion") != 2:
        raise EngineError("malformed manifest: schemaVersion is not 2")
    if known and own and own != media_type:
        raise EngineError(f"malformed manifest: it says {own!r}, but came as {media_type!r}")
    kind = own or (media_type if known else "")
    if not kind:
        kind = OCI_INDEX if "manifests" in value else OCI_MANIFEST
    if kind in INDEXES:
        if "layers" in value or "config" in value:
            raise EngineError("malformed manifest: an index with the fields of a manifest")
        return [
            Descriptor.from_json(item, f"manifest {number} of the index")
            for number, item in enumerate(_list(value, "manifests", "index"), 1)
        ]
    if kind not in MANIFESTS:
        raise EngineError(f"manifests of type {kind[:100]!r} are not supported")
    if "manifests" in value:
        raise EngineError("malformed manifest: a manifest with the fields of an index")
    return Manifest(
        kind,
        Descriptor.from_json(value.get("config"), "config descriptor"),
        [
            Descriptor.from_json(item, f"layer {number} of the manifest")
            for number, item in enumerate(_list(value, "layers", "manifest"), 1)
        ],
    )


def parse_manifest(data: bytes, media_type: str = "") -> Manifest:
    """A manifest for one platform; EngineError when it is an index or malformed."""
    value = parse(data, media_type)
    if not isinstance(value, Manifest):
        raise EngineError("malformed manifest: an index where an image manifest must be")
    return value


def parse_config(data: bytes, layers: int | None = None) -> dict[str, Any]:
    """An image config whose fields have the types that the engine relies on; else EngineError.

    layers: how many the manifest has; rootfs.diff_ids must have as many.
    """
    config = _object(data, "image config")
    root = config.get("rootfs")
    if not isinstance(root, dict) or not isinstance(root.get("diff_ids"), list):
        raise EngineError(
            "malformed image config: rootfs.diff_ids is missing",
            hint="only container images can be run; a registry may hold other things as well",
        )
    for number, item in enumerate(root["diff_ids"], 1):
        check_digest(item, f"diff id {number} of the image config")
    if layers is not None and len(root["diff_ids"]) != layers:
        raise EngineError(
            f"malformed image config: {len(root['diff_ids'])} diff_ids for {layers} layers"
        )
    _check_fields(config, "", {"os": str, "architecture": str, "variant": str, "created": str,
                               "history": list, "config": dict})  # fmt: skip
    _check_fields(
        config.get("config") or {},
        "config.",
        {"Env": list, "Cmd": list, "Entrypoint": list, "User": str, "WorkingDir": str,
         "Labels": dict, "Volumes": dict, "ExposedPorts": dict, "StopSignal": str},
    )  # fmt: skip
    for name in ("Env", "Cmd", "Entrypoint"):
        items = (config.get("config") or {}).get(name) or []
        if not all(isinstance(item, str) for item in items):
            raise EngineError(f"malformed image config: config.{name} is not a list of strings")
    if not all(isinstance(item, dict) for item in config.get("history") or []):
        raise EngineError("malformed image config: history is not a list of JSON objects")
    return config


def _check_fields(value: dict[str, Any], path: str, fields: dict[str, type]) -> None:
    """Each field is of its type, null or not there."""
    for name, kind in fields.items():
        if value.get(name) is not None and not isinstance(value[name], kind):
            raise EngineError(f"malformed image config: {path}{name} is not a {kind.__name__}")


def _object(data: bytes, what: str) -> dict[str, Any]:
    if len(data) > LIMIT:
        raise EngineError(f"the {what} has more than {LIMIT >> 20} MiB")
    try:
        value = jsonio.loads(data)
    except ValueError as error:
        raise EngineError(f"malformed {what}: not JSON ({str(error)[:200]})") from error
    if not isinstance(value, dict):
        raise EngineError(f"malformed {what}: not a JSON object")
    return value


def _list(value: dict[str, Any], name: str, what: str) -> list[Any]:
    items = value.get(name)
    if not isinstance(items, list):
        raise EngineError(f"malformed {what}: {name} is not a list")
    return items

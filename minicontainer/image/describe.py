"""Images as docker's commands show them: inspect and history."""

from __future__ import annotations

from .reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .store import Image

MISSING = "<missing>"


def inspect(image: Image) -> dict[str, Any]:
    """The JSON object of `docker image inspect` (moby, api/types ImageInspect)."""
    config = image.config()
    value = {
        "Id": image.id,
        "RepoTags": [Reference.parse(name).familiar() for name in image.names],
        "RepoDigests": [Reference.parse(name).familiar() for name in image.repo_digests],
        "Parent": "",
        "Comment": _last_comment(config),
        "Created": image.created,
        "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Config": config.get("config") or {},
        "Architecture": config.get("architecture") or "",
        "Variant": config.get("variant") or "",
        "Os": config.get("os") or "",
        "Size": image.store.size(image),
        "GraphDriver": {"Name": "overlay", "Data": _directories(image)},
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
    }
    if not value["Variant"]:
        del value["Variant"]
    return value


def _last_comment(config: dict[str, Any]) -> str:
    history = config.get("history") or [{}]
    return str(history[-1].get("comment") or "")


def _directories(image: Image) -> dict[str, str] | None:
    """Where the layers are, under docker's names; None before unpacking."""
    if not image.store.is_unpacked(image):
        return None
    top, *lower = image.store.stack(image) or [""]
    return {"UpperDir": top, "LowerDir": ":".join(lower)}


def history(image: Image) -> list[dict[str, Any]]:
    """The rows of `docker history`, the newest first: Id, Created (RFC 3339), CreatedBy, Size
    (bytes), Comment. Only the first row has the image's id; the steps below were never images.

    Layers that the history does not mention get a row of their own.
    """
    config = image.config()
    layers = len(config["rootfs"]["diff_ids"])
    sizes = image.store.sizes(image)[::-1] or [0] * layers
    steps = list(config.get("history") or [])
    told = sum(1 for step in steps if not step.get("empty_layer"))
    steps += [{}] * max(0, layers - told)
    rows = []
    position = 0
    for step in steps:
        size = 0
        if not step.get("empty_layer"):
            size = sizes[position] if position < layers else 0
            position += 1
        rows.append(
            {
                "Id": MISSING,
                "Created": str(step.get("created") or ""),
                "CreatedBy": str(step.get("created_by") or ""),
                "Size": size,
                "Comment": str(step.get("comment") or ""),
            }
        )
    rows.reverse()
    if rows:
        rows[0]["Id"] = image.id
    return rows

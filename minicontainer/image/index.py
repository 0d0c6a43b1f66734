"""The names of the images: the entries of index.json, an OCI image index.

One entry for each name (image-spec, image-layout.md and annotations.md): the descriptor of the
image's manifest and these annotations:

    org.opencontainers.image.ref.name   the whole name: docker.io/library/alpine:3.20, or by digest:
                                        docker.io/library/alpine@sha256:…; none: it has no name
    io.minicontainer.repo-digest        the digest by which the registry serves that name
    io.minicontainer.image-id           the digest of the config, so that a look-up reads no more
"""

from __future__ import annotations

from .. import jsonio
from ..errors import EngineError
from ..files import write_atomic
from .digest import Descriptor
from .manifest import OCI_INDEX
from .reference import Reference, ReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = dict[str, Any]

NAME = "org.opencontainers.image.ref.name"
REPO_DIGEST = "io.minicontainer.repo-digest"
IMAGE_ID = "io.minicontainer.image-id"


def read(path: str) -> list[Entry]:
    """The entries of an index.json, none where there is no file; EngineError when damaged."""
    try:
        value = jsonio.read(path)
        entries: list[Entry] = value["manifests"]
        for entry in entries:
            # Other tools write this file too, and their entries are held to the same rules.
            Descriptor.from_json(entry, "entry")
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, EngineError) as error:
        raise EngineError(f"the image index {path} is damaged: {error}") from error
    return entries


def write(path: str, entries: list[Entry]) -> None:
    """Replace index.json in one step; the names survive a power cut."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    write_atomic(path, jsonio.dumps(index), durable=True)


def make_entry(
    manifest: Descriptor, image_id: str, reference: Reference | None, repo_digest: str | None
) -> Entry:
    """The entry that gives an image a name; a digest in the reference beats its tag."""
    annotations = {IMAGE_ID: image_id}
    if reference is not None:
        digest = reference.digest
        annotations[NAME] = str(reference.with_digest(digest) if digest else reference)
        if repo_digest or digest:
            annotations[REPO_DIGEST] = repo_digest or digest or ""
    return {**manifest.to_json(), "annotations": annotations}


def annotation(entry: Entry, key: str) -> str | None:
    """One annotation of an entry, or None."""
    value: str | None = (entry.get("annotations") or {}).get(key)
    return value


def reference_of(entry: Entry) -> Reference | None:
    """The entry's name; None without one, or when another tool wrote what is no name for us."""
    text = annotation(entry, NAME)
    if text is None:
        return None
    try:
        return Reference.parse(text)
    except ReferenceError:
        return None


def is_named(entry: Entry, wanted: Reference) -> bool:
    """Whether the entry has that name. In docker a digest beats the tag beside it."""
    if not wanted.digest and annotation(entry, NAME) == str(wanted):
        return True
    reference = reference_of(entry)
    if reference is None or reference.name != wanted.name:
        return False
    if wanted.digest:
        return wanted.digest in (annotation(entry, REPO_DIGEST), entry["digest"])
    return reference.tag == wanted.tag


def without_tag(entry: Entry) -> Entry:
    """The entry after its tag went: by the registry's digest if it has one, else nameless."""
    annotations = dict(entry.get("annotations") or {})
    reference = reference_of(entry)
    digest = annotations.pop(REPO_DIGEST, None)
    annotations.pop(NAME, None)
    if reference and reference.tag and digest:
        annotations[NAME] = str(reference.with_digest(digest))
        annotations[REPO_DIGEST] = digest
    return {**entry, "annotations": annotations}


def tidy(entries: list[Entry]) -> list[Entry]:
    """Without what is said twice: a nameless entry where the manifest has a named one."""
    named = {entry["digest"] for entry in entries if annotation(entry, NAME)}
    seen = set()
    kept = []
    for entry in entries:
        name = annotation(entry, NAME)
        key = (entry["digest"], name)
        if key not in seen and (name or entry["digest"] not in named):
            seen.add(key)
            kept.append(entry)
    return kept

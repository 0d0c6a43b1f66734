"""rmi: which names go, and when the image goes with them, by docker's rules.

The rules and the sentences are those of moby's daemon/images/image_delete.go.
"""

from __future__ import annotations

from ..errors import EngineError
from . import index
from .reference import Reference
from .unpacking import chain_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .index import Entry
    from .store import Image, Store


def remove(
    store: Store,
    text: str,
    *,
    force: bool = False,
    containers: Callable[[], Iterable[tuple[str, str, bool]]] = lambda: (),
) -> list[str]:
    """Remove a name, and the image with its last one; the lines that docker prints.

    text: a name, an id, or the beginning of one. An id stands for all names of the image, which
    takes force when it has several.
    containers: gives (container id, image id, whether it runs) of every container. It is called
    with the names locked, so that no start slips in between (see Store.using).

    An image that a container uses is not removed: without force that is an error; with force its
    names go, and it stays without one, because the container's root still needs its layers.
    """
    lines: list[str] = []

    def change(entries: list[Entry]) -> list[Entry]:
        image = store.find(entries, text)
        users = [(id, running) for id, used, running in containers() if used == image.id]
        if image.id.startswith(text) or image.id[7:].startswith(text):
            _check_id(image, users, force)
            left = _without_names(store, entries, image, None, lines)
        else:
            reference = Reference.parse(text)
            if users and not force and _is_single(image):
                raise EngineError(
                    f'conflict: unable to remove repository reference "{text}" (must force) - '
                    f"container {users[0][0][:12]} is using its referenced image {image.short_id}",
                    exit_code=1,
                )
            left = _without_names(store, entries, image, reference, lines)
            if any(index.reference_of(e) for e in left if store.id_of(e) == image.id):
                return left
        if users:
            return left
        left = [entry for entry in left if store.id_of(entry) != image.id]
        lines.extend(_deleted(store, left, image))
        return left

    store.change_index(change)
    # Without the lock: a start need not wait for it, and a pull under way puts it off.
    store.collect()
    return lines


def _check_id(image: Image, users: list[tuple[str, bool]], force: bool) -> None:
    """EngineError when the image, given by its id, cannot go (checkImageDeleteConflict)."""
    reason = None
    for id, running in users:
        if running:
            reason = f"(cannot be forced) - image is being used by running container {id[:12]}"
    if reason is None and not force:
        if not _is_single(image):
            reason = "(must be forced) - image is referenced in multiple repositories"
        elif users:
            id = users[0][0]
            reason = f"(must be forced) - image is being used by stopped container {id[:12]}"
    if reason:
        raise EngineError(f"conflict: unable to delete {image.short_id} {reason}", exit_code=1)


def _is_single(image: Image) -> bool:
    """Whether all the names are at most one tag and digests of the same repository."""
    repositories = {Reference.parse(name).name for name in image.names + image.repo_digests}
    return len(image.names) <= 1 and len(repositories) <= 1


def _without_names(
    store: Store, entries: list[Entry], image: Image, wanted: Reference | None, lines: list[str]
) -> list[Entry]:
    """The entries without a name of the image (None: all of them); tells lines what went.

    When the last tag of a repository goes, the digests of that repository go too.
    """
    gone = [name for name in image.names if wanted is None or name == str(wanted)]
    kept_repositories = {Reference.parse(name).name for name in image.names if name not in gone}
    for name in image.repo_digests:
        reference = Reference.parse(name)
        if (
            wanted is None
            or (wanted.digest == reference.digest and wanted.name == reference.name)
            or (
                not wanted.digest
                and reference.name == wanted.name
                and reference.name not in kept_repositories
            )
        ):
            gone.append(name)
    lines.extend(f"Untagged: {Reference.parse(name).familiar()}" for name in gone)
    left = []
    for entry in entries:
        if store.id_of(entry) == image.id:
            entry = _without(entry, gone)
        left.append(entry)
    return index.tidy(left)


def _without(entry: Entry, gone: list[str]) -> Entry:
    """The entry without those of its names, tag and digest, that are gone."""
    reference = index.reference_of(entry)
    if reference is None:
        return entry
    annotations = dict(entry["annotations"])
    digest = annotations.get(index.REPO_DIGEST) or reference.digest
    if digest and str(reference.with_digest(digest)) in gone:
        annotations.pop(index.REPO_DIGEST, None)
        if reference.digest:
            annotations.pop(index.NAME)
    entry = {**entry, "annotations": annotations}
    return index.without_tag(entry) if str(reference) in gone else entry


def _deleted(store: Store, left: list[Entry], image: Image) -> list[str]:
    """What docker prints of an image that goes: its id, and its layers that no other one has."""
    shared: set[str] = set()
    for id in {store.id_of(entry) for entry in left}:
        shared.update(_chain(store.find(left, id)))
    chain = [layer for layer in _chain(image) if layer not in shared]
    return [f"Deleted: {name}" for name in (image.id, *reversed(chain))]


def _chain(image: Image) -> list[str]:
    """The chain ids of the layers, the lowest first."""
    ids: list[str] = []
    for diff_id in image.config()["rootfs"]["diff_ids"]:
        ids.append(chain_id(ids[-1] if ids else "", diff_id))
    return ids

"""The image that a container is to run, brought into the store when it is not ready there."""

from __future__ import annotations

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.progress import Progress
    from ..image.reference import Reference
    from ..image.store import Image, Store
    from .home import Home

    OnPull = Callable[[Reference], Progress]

POLICIES = ("missing", "always", "never")


def is_usable(store: Store, image: Image, platform: str | None) -> bool:
    """Whether an image of the store can be run as it is: unpacked, and for the platform that was
    asked for, if one was."""
    return store.is_unpacked(image) and (platform is None or _suits(image, platform))


def _suits(image: Image, platform: str) -> bool:
    from ..image.platform import Platform

    return Platform.parse(platform) == Platform.from_json(image.config())


def fetch(
    home: Home, name: str, policy: str, platform: str | None, on_pull: OnPull | None = None
) -> None:
    """Bring an image into the store, unpacked. policy: `missing`, `always` or `never`.

    on_pull: called with the name before a pull; gives what shows its progress. EngineError:
    there is no such image and it may not or cannot be pulled.
    """
    if policy not in POLICIES:
        raise EngineError(f"invalid pull option {policy!r}: use always, missing or never")
    if policy != "always" and _find(home.store(), name, policy, platform):
        return
    from ..image.pull import pull
    from ..image.reference import Reference

    reference = Reference.parse(name)
    shown = on_pull(reference) if on_pull is not None else None
    pull(home.store(), reference, platform, progress=shown)


def _find(store: Store, name: str, policy: str, platform: str | None) -> bool:
    from ..image.store import ImageNotFound

    try:
        image = store.resolve(name)
    except ImageNotFound:
        if policy == "never":
            raise
        return False
    if not store.is_unpacked(image):
        # A pull or a load that was killed after its last blob.
        with store.adding():
            store.unpack(image)
    if policy == "never" and platform is not None and not _suits(image, platform):
        built = f"{image.config().get('os')}/{image.config().get('architecture')}"
        raise EngineError(f"image {name} is for {built}, and {platform} was asked for")
    return is_usable(store, image, platform)

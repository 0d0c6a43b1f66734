"""The image that a container is to run, made sure of before anything else is made."""

from __future__ import annotations

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.progress import Progress
    from ..image.reference import Reference
    from ..image.store import Image
    from .create import Settings
    from .home import Home

    OnPull = Callable[[Reference], Progress]

POLICIES = ("missing", "always", "never")


def fetch(home: Home, settings: Settings, on_pull: OnPull | None = None) -> None:
    """See that the image is in the store and unpacked: `--pull missing`, `always` or `never`.

    on_pull: called with the name before a pull; gives what shows its progress. EngineError:
    there is no such image and it may not or cannot be pulled.
    """
    from ..image.store import ImageNotFound

    if settings.pull not in POLICIES:
        raise EngineError(f"invalid pull option {settings.pull!r}: use always, missing or never")
    store = home.store()
    try:
        image = store.resolve(settings.image)
        if settings.pull != "always" and _suits(image, settings):
            if not store.is_unpacked(image):
                with store.adding():
                    store.unpack(image)
            return
    except ImageNotFound:
        if settings.pull == "never":
            raise
    from ..image.pull import pull
    from ..image.reference import Reference

    reference = Reference.parse(settings.image)
    shown = on_pull(reference) if on_pull is not None else None
    pull(store, reference, settings.platform, progress=shown)


def _suits(image: Image, settings: Settings) -> bool:
    """Whether the image is for the platform that was asked for, if one was."""
    if settings.platform is None:
        return True
    from ..image.platform import Platform

    wanted, found = Platform.parse(settings.platform), Platform.from_json(image.config())
    if wanted == found or settings.pull == "missing":
        return wanted == found
    raise EngineError(
        f"image {settings.image} was found but it is for {found}, and {wanted} was asked for"
    )

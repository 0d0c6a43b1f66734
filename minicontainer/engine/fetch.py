"""The image that a container is to run, made sure of before anything else is made."""

from __future__ import annotations

from ..errors import EngineError
from ..image.platform import Platform
from ..image.pull import pull
from ..image.reference import Reference
from ..image.store import ImageNotFound
from .create import is_usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.progress import Progress
    from .create import Settings
    from .home import Home

    OnPull = Callable[[Reference], Progress]

POLICIES = ("missing", "always", "never")


def fetch(home: Home, settings: Settings, on_pull: OnPull | None = None) -> None:
    """Bring an image into the store, unpacked: `--pull missing`, `always` or `never`.

    on_pull: called with the name before a pull; gives what shows its progress. EngineError:
    there is no such image and it may not or cannot be pulled.
    """
    if settings.pull not in POLICIES:
        raise EngineError(f"invalid pull option {settings.pull!r}: use always, missing or never")
    store = home.store()
    if settings.pull != "always":
        try:
            image = store.resolve(settings.image)
            if not store.is_unpacked(image):
                # A pull or a load that was killed after its last blob.
                with store.adding():
                    store.unpack(image)
            if is_usable(store, image, settings):
                return
            if settings.pull == "never":
                raise EngineError(
                    f"image {settings.image} is for {Platform.from_json(image.config())}, "
                    f"and {settings.platform} was asked for"
                )
        except ImageNotFound:
            if settings.pull == "never":
                raise
    reference = Reference.parse(settings.image)
    shown = on_pull(reference) if on_pull is not None else None
    pull(store, reference, settings.platform, progress=shown)

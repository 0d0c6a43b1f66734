"""Where the engine keeps its things: one directory that lasts, one that is empty after a boot."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.store import Store

DATA_ROOT = "/var/lib/minicontainer"
RUN_ROOT = "/run/minicontainer"


class Home:
    """The two roots, and the paths below them.

    root: images, layers, containers, names; given, or MINICONTAINER_ROOT, or /var/lib/….
    run: one directory per living container; given, or MINICONTAINER_RUN_ROOT, or /run/….
    """

    __slots__ = ("root", "run")

    def __init__(self, root: str | None = None, run: str | None = None) -> None:
        root = root or os.environ.get("MINICONTAINER_ROOT") or DATA_ROOT
        run = run or os.environ.get("MINICONTAINER_RUN_ROOT") or RUN_ROOT
        self.root = os.path.abspath(root)
        self.run = os.path.abspath(run)

    def container(self, id: str, name: str = "") -> str:
        """A container's directory, or a file in it."""
        return f"{self.root}/containers/{id}/{name}" if name else f"{self.root}/containers/{id}"

    def live(self, id: str, name: str = "") -> str:
        """The directory that a container has while it lives, or a file in it."""
        return f"{self.run}/{id}/{name}" if name else f"{self.run}/{id}"

    @property
    def names(self) -> str:
        """The directory of symbolic links from names to ids."""
        return f"{self.root}/names"

    def make(self) -> None:
        """Make the directories; nobody but root looks inside, since images hold set-user-ID
        programs, and a user of the host who reaches them could run them *outside*."""
        for path in (self.root, self.run):
            os.makedirs(path, 0o700, exist_ok=True)
        for path in (f"{self.root}/containers", self.names):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                continue

    def store(self) -> Store:
        """The images."""
        from ..image.store import Store

        return Store(self.root)

"""Where the engine keeps its things: one directory that lasts, one that is empty after a boot."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.store import Store

DATA_ROOT = "/var/lib/minicontainer"
RUN_ROOT = "/run/minicontainer"


def data_root() -> str:
    """Where things are kept when nobody says: /var/lib/minicontainer; an ordinary user's in
    ~/.local/share/minicontainer (XDG base directory specification)."""
    if not os.geteuid():
        return DATA_ROOT
    above = os.environ.get("XDG_DATA_HOME", "")
    if not above.startswith("/"):
        above = os.path.expanduser("~/.local/share")
    return f"{above}/minicontainer"


def run_root() -> str:
    """The same for what is empty after a boot: /run/minicontainer, $XDG_RUNTIME_DIR/minicontainer,
    or where a login gave no such directory one below /tmp, which rootless.py looks at hard."""
    if not os.geteuid():
        return RUN_ROOT
    above = os.environ.get("XDG_RUNTIME_DIR", "")
    # After `su` it may be another user's.
    if above.startswith("/") and os.path.isdir(above) and os.stat(above).st_uid == os.geteuid():
        return f"{above}/minicontainer"
    return f"/tmp/minicontainer-{os.geteuid()}/run"


class Home:
    """The two roots, and the paths below them.

    root: images, layers, containers, names; given, or MINICONTAINER_ROOT, or data_root().
    run: one directory per living container; given, or MINICONTAINER_RUN_ROOT, or
    run_root().
    """

    __slots__ = ("root", "run")

    def __init__(self, root: str | None = None, run: str | None = None) -> None:
        root = root or os.environ.get("MINICONTAINER_ROOT") or data_root()
        run = run or os.environ.get("MINICONTAINER_RUN_ROOT") or run_root()
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

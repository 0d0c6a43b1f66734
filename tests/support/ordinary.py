"""An ordinary user made for a test: an account, a home, ranges of further users; none of it in the
machine's own files, which are covered in the test run's own mount namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import ROOT, Engine

UID = 4242
FIRST = 600000


class Ordinary(Engine):
    """The engine as that user calls it, with the roots that an ordinary user gets by default."""

    def __init__(self, home: Path, code: Path) -> None:
        super().__init__(home)
        self.home = home
        self.code = code
        self.root = home / ".local" / "share" / "minicontainer"
        self.run_root = home / "runtime" / "minicontainer"
        kept = {k: v for k, v in self.environment.items() if not k.startswith("MINICONTAINER_")}
        self.environment = {
            **kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "runtime"),
        }  # fmt: skip
        self.environment.pop("XDG_DATA_HOME", None)

    def command(self, *arguments: str | Path) -> list[str]:
        return [*self.become(), str(self.code / "bin" / "minicontainer"), *map(str, arguments)]

    @staticmethod
    def become() -> list[str]:
        """What stands before a command that this user runs."""
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]


@contextlib.contextmanager
def user(directory: Path, *, ranges: bool = True) -> Iterator[Ordinary]:
    """The user and his engine. directory: for the files that cover the machine's.

    ranges: False gives no further users, as on a machine where nobody has set them up.
    """
    # Not below the test run's own directory, which is closed to others.
    top = Path(tempfile.mkdtemp(prefix="minicontainer-test-", dir="/var/tmp"))
    top.chmod(0o755)
    covered: list[str] = []

    def cover(place: str, text: str) -> None:
        file = directory / Path(place).name
        file.write_text(text)
        file.chmod(0o644)
        subprocess.run(["mount", "--bind", file, place], check=True)
        covered.append(place)

    try:
        home, code = top / "home", top / "code"
        for path in (home, home / "runtime"):
            path.mkdir(mode=0o700)
            os.chown(path, UID, UID)
        code.mkdir()
        # The checkout itself may lie where only root walks.
        subprocess.run(["mount", "--bind", ROOT, code], check=True)
        covered.append(str(code))
        account = f"ordinary:x:{UID}:{UID}::{home}:/bin/sh\n"
        cover("/etc/passwd", Path("/etc/passwd").read_text() + account)
        for place in ("/etc/subuid", "/etc/subgid"):
            cover(place, f"ordinary:{FIRST}:65536\n" if ranges else "")
        engine = Ordinary(home, code)
        try:
            yield engine
        finally:
            engine.remove_containers()
    finally:
        for place in reversed(covered):
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(top)

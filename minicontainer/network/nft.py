"""nft(8), started without a shell: one text is one transaction, done wholly or not at all."""

from __future__ import annotations

import os

from .. import jsonio
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 13

_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


class Transaction:
    """A running nft. The kernel keeps one that deletes for 15 to 25 ms, until no processor can
    still be looking at what is gone; a caller that has other work to do does it meanwhile."""

    __slots__ = ("pid", "_errors")

    def __init__(self, pid: int, errors: int) -> None:
        self.pid = pid
        self._errors = errors

    def finish(self) -> None:
        """Wait for its end; EngineError with nft's own words when nothing was changed."""
        _, status = os.waitpid(self.pid, 0)
        try:
            text = os.pread(self._errors, 65536, 0).decode(errors="replace")
        finally:
            os.close(self._errors)
        if status:
            raise EngineError(f"cannot change the firewall: nft: {_reason(text)}")


def is_available() -> bool:
    """Whether this machine has the program."""
    return _find() is not None


def apply(text: str) -> None:
    """Make a change and wait for it; EngineError where nft is missing or refuses it."""
    begin(text).finish()


def begin(text: str) -> Transaction:
    """Start a change that `finish` waits for."""
    program = _find()
    if program is None:
        raise EngineError(
            "cannot change the firewall: there is no program nft",
            hint="install nftables (apt install nftables)",
        )
    # Two files in memory, not two pipes, which could fill up and make each side wait for the
    # other.
    script = os.memfd_create("nft", os.MFD_CLOEXEC)
    errors = os.memfd_create("nft errors", os.MFD_CLOEXEC)
    try:
        with open(script, "w", closefd=False) as file:
            file.write(text)
        os.lseek(script, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            program,
            ["nft", "-f", "-"],
            {"LC_ALL": "C"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, script, 0),
                (os.POSIX_SPAWN_DUP2, errors, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
            ],
            # The user's Ctrl-C is the container's, and must not stop its cleaning up.
            setpgroup=0,
        )
    except BaseException:
        os.close(errors)
        raise
    finally:
        os.close(script)
    return Transaction(pid, errors)


def listed(family: str, table: str) -> list[dict[str, Any]] | None:
    """What the kernel has of a table, as libnftables-json(5) shows it: {"set": …}, {"rule": …}…;
    None when there is no such table. EngineError where nft is missing or may not ask."""
    from subprocess import run

    program = _find()
    if program is None:
        raise EngineError("the firewall is not known: there is no program nft")
    done = run(
        [program, "-j", "list", "table", family, table],
        env={"LC_ALL": "C"}, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        found: list[dict[str, Any]] = jsonio.loads(done.stdout)["nftables"]
        return found
    reason = _reason(done.stderr.decode(errors="replace"))
    if reason.startswith("No such file or directory"):
        return None
    raise EngineError(f"the firewall is not known: nft: {reason}")


def _find() -> str | None:
    places = f"{os.environ.get('PATH', '')}:{_PLACES}".split(":")
    return next((p for place in places if place and os.access(p := f"{place}/nft", os.X_OK)), None)


def _reason(text: str) -> str:
    """The first error of what nft says: "/dev/stdin:1:1-9: Error: …" and lines that show where."""
    for line in text.splitlines():
        if "rror: " in line:
            return line.partition("rror: ")[2]
    return " ".join(text.split()) or "it failed and said nothing"

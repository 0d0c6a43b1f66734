"""The process that stays with a container when nobody waits for it: what `-d` leaves behind.

A fresh interpreter with its few modules, 9 MB, instead of a daemon: it holds the lock of one
container's life, its pidfd and its log, and ends with it. Also for a program with threads, which
cannot clone (see kernel/process).
"""

from __future__ import annotations

import os
import sys

from .. import files, jsonio
from ..errors import EngineError
from ..kernel import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .home import Home
    from .record import Record

# -I -S: no code of a user's or a site's runs here. Then our own package, wherever it lies.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from minicontainer.engine.supervisor_main import main; main(sys.argv[2:])"
)


class Supervisor:
    """A supervisor process: pid, and the pipe on which it says that the container runs."""

    __slots__ = ("pid", "_ready")

    def __init__(self, pid: int, ready: int) -> None:
        self.pid = pid
        self._ready = ready

    def wait_ready(self) -> None:
        """Wait until the container's program runs; raise what stopped it."""
        chunks = []
        while chunk := os.read(self._ready, 65536):
            chunks.append(chunk)
        os.close(self._ready)
        told = b"".join(chunks)
        if told == b"+":
            return
        if not told:
            raise EngineError("the supervisor ended before the container was started")
        fields = jsonio.loads(told)
        error = EngineError(fields["message"], hint=fields["hint"], exit_code=fields["exit_code"])
        for note in fields["notes"]:
            error.add_note(note)
        raise error

    def wait(self) -> int:
        """Wait for the container's end; its exit code, or raise as `wait_ready`."""
        self.wait_ready()
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def spawn(home: Home, record: Record, lock: files.Lock, *, attach: bool) -> Supervisor:
    """Hand a created container over to a supervisor of its own; the lock goes with it.

    attach: it keeps our standard streams; otherwise it has none, and a session of its own.
    """
    cgroups.settle()
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        # The lock is the open file's, not ours: held as long as any process has it open.
        os.set_inheritable(lock.descriptor, True)
        os.set_inheritable(ready_write, True)
        words = [sys.executable, "-I", "-S", "-c", _PROGRAM, package]
        words += [home.root, home.run, record.id, str(lock.descriptor), str(ready_write)]
        words.append("attach" if attach else "detach")
        pid = os.posix_spawn(
            sys.executable,
            words,
            {
                "PATH": os.environ.get("PATH", os.defpath),
                "MINICONTAINER_NETLINK": os.environ.get("MINICONTAINER_NETLINK", ""),
            },
            file_actions=[]
            if attach
            else [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)],
            setsid=not attach,
        )
    except BaseException:
        from .teardown import teardown

        teardown(home, record.id, lock)
        raise
    finally:
        os.close(null)
        os.close(ready_write)
    # Not released, which would unlock it for the supervisor too: only our descriptor goes.
    os.close(lock.descriptor)
    lock.descriptor = -1
    return Supervisor(pid, ready_read)

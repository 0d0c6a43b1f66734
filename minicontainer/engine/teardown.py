"""The one undo: what is left of a container's life goes, however the life ended."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from .. import files, jsonio
from ..kernel import cgroups, process
from . import lifetime, names, networking
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .home import Home
    from .record import Live

KILLED = 137


def teardown(
    home: Home,
    id: str,
    lock: files.Lock,
    *,
    code: int | None = None,
    error: str = "",
    ran: bool = True,
) -> bool:
    """End a container's life: kill what still runs, write down how it ended, let go of the lock.
    Says whether the kernel had killed one of its processes because memory ran out.

    Idempotent, and right after a crash at any line of it or of a start: every step looks at
    what is there. lock: of the container's life, held by the caller.
    code: the exit code; None when nobody saw the end. error: what went wrong.
    ran: whether its program may have begun; False when the start failed before that.
    """
    live = records.load_live(home, id)
    if live is not None:
        kill(live)
    group = find_cgroup(home, id, live)
    starved = group is not None and group.oom_kills() > 0
    lifetime.announce(lock, KILLED if code is None else code)
    record = records.load(home, id)
    # Its engine was killed before the container ran: nobody knows it, so it never was.
    unborn = code is None and live is None
    try:
        try:
            networking.disconnect(home, id)
        finally:  # also where the firewall refuses
            if group is not None:
                group.remove()
            if record is None or record.remove or unborn:
                remove(home, id, record.name if record else names.of(home, id))
            else:
                record.exit_code = KILLED if code is None else code
                record.error = error or ("the engine was killed" if code is None else "")
                record.oom_killed = starved
                ran = ran and live is not None
                record.status = "exited" if ran else "created"
                record.started = live.started if live is not None and ran else ""
                record.finished = records.now() if ran else ""
                record.save(home)
    finally:
        lifetime.drop(home, id, lock)
    return starved


def find_cgroup(home: Home, id: str, live: Live | None) -> Any:
    """The cgroup that a container may have, or None: from its state, or where its engine was
    killed before that was written, from the specification."""
    if live is not None:
        path = live.cgroup
    else:
        try:
            path = jsonio.read(home.container(id, "config.json"))["linux"].get("cgroupsPath")
        except (FileNotFoundError, ValueError, KeyError):
            return None
    return cgroups.choose(path) if path else None


def kill(live: Live) -> None:
    """Kill a container's first process, and see it gone; the kernel kills the others of its PID
    namespace before that (pid_namespaces(7)). A number that somebody else has by now is safe."""
    descriptor = open_process(live)
    if descriptor is None:
        return
    try:
        _signal.pidfd_send_signal(descriptor, _signal.SIGKILL)
        let_go(live)
        process.wait_ready(descriptor, None)
    except ProcessLookupError:
        return
    except PermissionError:
        # Rootless: of one that has ended, nobody can join the user namespace any more.
        if not process.wait_ready(descriptor, 0):
            raise
    finally:
        os.close(descriptor)


def let_go(live: Live | None) -> None:
    """Let a paused container go on, to its end: a process that stands still gets no signal."""
    if live is not None and live.cgroup:
        group = cgroups.choose(live.cgroup)
        if group.is_frozen():
            group.thaw()


def open_process(live: Live) -> int | None:
    """A pidfd of a container's first process, or None when it is gone."""
    return process.open_pid(live.pid, live.start)


def remove(home: Home, id: str, name: str) -> None:
    """Remove a container's files and its name ("": none yet); the caller holds its lock.

    The record goes first: a directory without one is no container, so a removal that is cut
    short has happened already, and only the sweeping is left.
    """
    try:
        os.unlink(home.container(id, "container.json"))
    except FileNotFoundError:
        pass
    if name:
        names.release(home, id, name)
    files.remove_tree(home.container(id))


def reconcile(home: Home) -> None:
    """Tear down what killed engines left. Every command begins with it; with nothing to do it
    costs two system calls."""
    if not os.path.isdir(home.run):
        sweep(home)  # the first command since the machine was started
    for id, lock in lifetime.abandoned(home):
        teardown(home, id, lock)


def sweep(home: Home) -> None:
    """Remove what was being made, or ran with --rm, when the machine went down: its run
    directory, by which `reconcile` finds it, is gone."""
    home.make()
    for id in names.ids(home):
        try:
            # Whoever makes a container holds its lock: others may start some while we look.
            lock = lifetime.claim(home, id, block=False)
        except BlockingIOError:
            continue
        try:
            record = records.load(home, id)
            if record is None or record.remove:
                remove(home, id, record.name if record else names.of(home, id))
        finally:
            lifetime.drop(home, id, lock)

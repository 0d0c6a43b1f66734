"""`exec`: one more process in a running container, with the container's own confinement."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..runtime import join
from . import ending, users
from . import spec as specs
from . import streams as plumbing
from .run import attend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .home import Home
    from .record import Live, Record


def execute(
    home: Home,
    record: Record,
    command: Sequence[str],
    *,
    env: Sequence[str] = (),
    workdir: str | None = None,
    user: str | None = None,
    tty: bool = False,
    interactive: bool = False,
    detach: bool = False,
) -> int:
    """Run a command in a running container; its exit code (0 at once when detached).

    env: NAME=value on top of the container's; user, workdir: instead of the container's. Raises
    EngineError: the container does not run (1), the command cannot be executed (126, 127).
    """
    live = ending.require_running(home, record)
    if ending.state(home, record).status == "paused":
        raise EngineError(
            f"container {record.id} is paused, unpause the container before exec", exit_code=1
        )
    if "CAP_SYS_PTRACE" in record.capabilities:
        # Between its birth in the container's PID namespace and its setns the joining process is
        # root of the host, and being undumpable does not hide it from this capability.
        raise EngineError(
            "exec into a container with CAP_SYS_PTRACE cannot be had yet: its processes could "
            "trace ours while it joins"
        )
    process = compose(home, record, live, command, env=env, workdir=workdir, user=user, tty=tty)
    uid = process["user"]["uid"]
    with _open_streams(live.pid, uid, tty, interactive, detach) as streams:
        joined = join.join(
            live.pid,
            live.start,
            process,
            streams.inner,
            has_terminal=tty and not detach,
            limited=bool(live.cgroup),
        )
        streams.close_inner()
        if detach:
            joined.close()
            return 0
        raw = plumbing.is_user_terminal(tty, interactive)
        return attend(joined, streams, forward=True, raw=raw)


def compose(
    home: Home,
    record: Record,
    live: Live,
    command: Sequence[str],
    *,
    env: Sequence[str],
    workdir: str | None,
    user: str | None,
    tty: bool,
) -> dict[str, Any]:
    """The OCI `process` object: the container's own, with another command."""
    if workdir is not None and not workdir.startswith("/"):
        raise EngineError(
            f"the working directory {workdir!r} is invalid, it needs to be an absolute path"
        )
    root = specs.open_process_root(live.pid)
    try:
        found = users.resolve(root, record.user if user is None else user, record.groups)
    finally:
        os.close(root)
    own: dict[str, Any] = specs.load(home, record.id)["process"]
    return {
        **own,
        "terminal": tty,
        "user": found.to_spec(),
        "args": list(command),
        "env": specs.environment(record, found.home, tty, env),
        "cwd": workdir or own["cwd"],
        "capabilities": specs.capability_sets(record.capabilities, found.uid),
    }


def _open_streams(
    pid: int, uid: int, tty: bool, interactive: bool, detach: bool
) -> plumbing.Streams:
    if detach:
        # We do not stay to read: what a pipe or a terminal without a reader gives is an error.
        return plumbing.open_null()
    if tty:
        pair = join.open_terminal(pid)
        return plumbing.open_terminal(pair, interactive=interactive, attach=True, uid=uid)
    return plumbing.open_pipes(interactive=interactive, attach=True, uid=uid)

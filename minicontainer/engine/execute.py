"""`exec`: one more process in a running container, with the container's own confinement."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..runtime import join
from . import ending, filters, security, userns, users
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
    privileged: bool = False,
    tty: bool = False,
    interactive: bool = False,
    detach: bool = False,
) -> int:
    """Run a command in a running container; its exit code (0 at once when detached).

    env: NAME=value on top of the container's; user, workdir: instead of the container's.
    privileged: with all capabilities that the engine has. Raises EngineError: the container does
    not run (1), the command cannot be executed (126, 127).
    """
    live = ending.require_running(home, record)
    if ending.state(home, record).status == "paused":
        raise EngineError(
            f"container {record.id} is paused, unpause the container before exec", exit_code=1
        )
    spec = specs.load(home, record.id)
    process = compose(
        record, live, command, spec["process"], env=env, workdir=workdir, user=user, tty=tty
    )
    if privileged:
        process["capabilities"] = specs.capability_sets(
            security.choose_capabilities((), (), privileged=True), 0
        )
    uid = userns.outside(record, process["user"]["uid"])
    with _open_streams(live.pid, uid, tty, interactive, detach) as streams:
        joined = join.join(
            live.pid,
            live.start,
            process,
            streams.inner,
            has_terminal=tty and not detach,
            limited=bool(live.cgroup),
            filter=filters.of_container(home, record, spec),
        )
        streams.close_inner()
        if detach:
            joined.close()
            return 0
        raw = plumbing.is_user_terminal(tty, interactive)
        return attend(joined, streams, forward=True, raw=raw)


def compose(
    record: Record,
    live: Live,
    command: Sequence[str],
    own: dict[str, Any],
    *,
    env: Sequence[str],
    workdir: str | None,
    user: str | None,
    tty: bool,
) -> dict[str, Any]:
    """The OCI `process` object: the container's `own`, with another command.

    The capabilities are the container's, also for another user (moby, execSetPlatformOpt): who is
    not root loses them by the exec, and root in a container of another user gets them by it, up to
    the bounding set. With no-new-privileges the exec gives nothing.
    """
    if workdir is not None and not workdir.startswith("/"):
        raise EngineError(
            f"the working directory {workdir!r} is invalid, it needs to be an absolute path"
        )
    root = specs.open_process_root(live.pid)
    try:
        found = users.resolve(root, record.user if user is None else user, record.groups)
    finally:
        os.close(root)
    return {
        **own,
        "terminal": tty,
        "user": found.to_spec(),
        "args": list(command),
        "env": specs.environment(record, found.home, tty, env),
        "cwd": workdir or own["cwd"],
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

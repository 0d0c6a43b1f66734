"""A container's whole life, as one straight line: prepare, spawn, connect, supervise, teardown."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..image.blobs import explain
from ..kernel import mounts, terminal
from ..kernel.process import Process, start_time
from ..kernel.syscalls import SyscallError
from ..runtime.start import start
from ..runtime.supervise import supervise
from . import filters, logs, networking, userns
from . import record as records
from . import spec as specs
from . import streams as plumbing
from .create import Settings, create
from .teardown import reconcile, teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..files import Lock
    from ..runtime.supervise import Service
    from .fetch import OnPull
    from .home import Home
    from .record import Record

# Docker's exit code of a container that ran when the machine went down.
LOST = 255


def run(
    home: Home,
    settings: Settings,
    *,
    forward: bool = True,
    on_created: Callable[[str], None] | None = None,
    on_pull: OnPull | None = None,
) -> int:
    """Run a container in the foreground, joined to our standard streams; its exit code.

    forward: pass signals that we get on to it. on_created: called with its id. on_pull: see
    `fetch`. A program with other threads gets a supervisor process in between: clone3 would copy
    only the calling thread. Raises EngineError when the container could not be started
    (exit_code 125, 126 or 127).
    """
    reconcile(home)
    record, lock = create(home, settings, on_created=on_created, on_pull=on_pull)
    if len(os.listdir("/proc/self/task")) > 1:
        from .supervisor import spawn

        return spawn(home, record, lock, attach=True).wait()
    return live(home, record, lock, attach=True, forward=forward)


def run_detached(
    home: Home,
    settings: Settings,
    *,
    on_created: Callable[[str], None] | None = None,
    on_pull: OnPull | None = None,
) -> str:
    """Run a container in the background; its id, once its program runs. Raises as `run`."""
    from .supervisor import spawn

    reconcile(home)
    record, lock = create(home, settings, on_created=on_created, on_pull=on_pull)
    spawn(home, record, lock, attach=False).wait_ready()
    return record.id


def live(
    home: Home,
    record: Record,
    lock: Lock,
    *,
    attach: bool,
    forward: bool = True,
    on_running: Callable[[], None] | None = None,
) -> int:
    """Take a created container through its life; its exit code.

    lock: of its life; let go at the end. attach: join it to our standard streams.
    on_running: called when the program runs. Raises EngineError when it never did; the
    container is torn down in every case.
    """
    code, failure, ran = None, "", False
    log = None
    try:
        # prepare; with --rm nobody can ask for the log any more
        log = None if record.remove and attach else open_log(home, record)
        with (
            networking.Connection(home, record) as network,
            plumbing.Held(mount_root(home, record)) as root,
        ):
            spec = specs.build(home, record, root.descriptor)
            chosen = filters.prepare(home, record)
            specs.save(home, record.id, spec, chosen.profile if chosen else None)
            owner = userns.outside(record, spec["process"]["user"]["uid"])
            with open_streams(record, attach, owner, log) as streams:
                # spawn; write it down before its first instruction
                def connect(process: Process) -> None:
                    note(home, record, process, spec["linux"].get("cgroupsPath"))
                    network.make(process)

                process = start(
                    spec,
                    home.container(record.id),
                    root.descriptor,
                    streams.inner,
                    connect,
                    devpts=streams.devpts,
                    init=record.init,
                    filter=chosen.filter if chosen else None,
                )
                ran = True
                root.close()
                streams.close_inner()
                if on_running is not None:
                    on_running()
                # supervise
                raw = attach and plumbing.is_user_terminal(record.tty, record.interactive)
                services = network.services
                code = attend(process, streams, forward=forward, raw=raw, services=services)
        return code
    except OSError as error:
        told = in_words(f"run container {record.short_id}", error)
        failure = told.message
        raise told from error
    except EngineError as error:
        code, failure = error.exit_code, error.message
        raise
    finally:
        if log is not None:
            log.close()
        starved = teardown(home, record.id, lock, code=code, error=failure, ran=ran)
        if starved and attach:
            tell_starved(record, code)


def tell_starved(record: Record, code: int | None) -> None:
    """Say that the kernel killed for want of memory: from inside it looks like anybody's kill."""
    limit = record.limits.get("Memory", 0)
    of = f"its limit of {limit / (1 << 20):g} MiB" if limit else "the machine"
    what = "the container" if code == 137 else "a process of the container"
    try:
        os.write(2, f"minicontainer: out of memory: {of} was used up, {what} was killed\n".encode())
    except OSError:
        pass  # nobody is there to read it; `inspect` still tells


def in_words(act: str, error: OSError) -> EngineError:
    """An error of the system as one for the user; a system call of ours names itself."""
    if isinstance(error, SyscallError):
        return EngineError(f"cannot {act}: {error}", hint=error.hint)
    return explain(act, error)


def mount_root(home: Home, record: Record) -> int:
    """The image's layers and the container's own directory as one tree: a detached mount, which
    no path leads to and which goes when its last descriptor does."""
    # An image may have no files at all; overlay wants one layer at least.
    layers = record.layers or [home.container(record.id, "rootfs")]
    try:
        root = userns.mount_layers(home, record, layers)
        if not (record.guarded or record.privileged):
            # An image may bring device files. Without a device filter nothing else keeps one
            # with the number of the host's disk from being the host's disk.
            mounts.forbid_devices(root)
        return root
    except OSError as error:
        raise in_words(f"mount the root of container {record.short_id}", error) from error


def note(home: Home, record: Record, process: Process, cgroup: str | None) -> None:
    """Write down the process of a container, so that a killed engine's container is found.

    The record gets what is true if nobody ever writes it again: the machine went down.
    """
    started = start_time(process.pid)
    live = records.Live(process.pid, started, os.getpid(), records.now(), cgroup or "")
    live.save(home, record.id)
    if not record.remove:
        record.status, record.exit_code = "exited", LOST
        record.error = "the machine went down while the container ran"
        record.started = record.finished = live.started
        record.save(home)


def open_log(home: Home, record: Record) -> logs.Writer:
    """The log of a container, to write."""
    return logs.Writer(home.container(record.id, "log.json"))


def open_streams(
    record: Record, attach: bool, uid: int, log: logs.Writer | None
) -> plumbing.Streams:
    """The streams of a container's own program. uid: its user, as the host knows it."""
    if not record.tty:
        return plumbing.open_pipes(interactive=record.interactive, attach=attach, uid=uid, log=log)
    devpts = terminal.create_devpts(userns.devpts_words(record, terminal.DEVPTS_WORDS))
    return plumbing.open_terminal(
        terminal.open_pair(devpts),
        interactive=record.interactive,
        attach=attach,
        uid=uid,
        log=log,
        devpts=devpts,
    )


def attend(
    process: Process,
    streams: plumbing.Streams,
    *,
    forward: bool,
    raw: bool,
    services: Sequence[Service] = (),
) -> int:
    """Supervise a process to its end, with the user's terminal in raw mode if asked."""
    try:
        how: dict[str, Any] = {
            "forward": forward,
            "on_resize": streams.on_resize,
            "services": services,
        }
        if raw:
            with terminal.Raw(0):
                return supervise(process, streams.pumps, **how)
        return supervise(process, streams.pumps, **how)
    finally:
        streams.pumps = []
        process.close()

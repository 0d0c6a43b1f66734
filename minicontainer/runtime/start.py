"""The start of a container, seen from outside: spawn, let the caller record it, let it go."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..kernel import cgroups, flags, mounts, namespaces, process, seccomp, users
from . import child
from . import spec as specification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def start(
    spec: dict[str, Any],
    bundle: str,
    root_mount: int,
    streams: tuple[int, int, int],
    on_created: Callable[[process.Process], None],
    *,
    devpts: int | None = None,
    init: bool = False,
    filter: seccomp.Filter | None = None,
    fork: bool = False,
) -> process.Process:
    """Start the process of an OCI specification; returns once it *is* its program.

    spec: as `spec.load` returns it. bundle: the directory that relative paths are meant from.
    root_mount: descriptor of the detached root mount (overlay.mount, or open_root for a plain
    directory). streams: the container's standard input, output and error; with a terminal, its
    inner end three times, and devpts the descriptor of the detached devpts that it is on.
    on_created: called when the process exists; what it records is recorded before the first
    instruction of the image, for which the process waits. init: a tiny init as PID 1, the program
    its child. filter: what linux.seccomp comes to, where the caller has it compiled already.

    Raises EngineError: exit_code 127 or 126 when the program cannot be executed, else 125.
    Nothing is left behind then. The cgroup, where the specification asks for one, is the caller's
    to remove at the end (`remove_cgroup`).
    """
    specification.check(spec)
    if filter is None:
        filter = specification.compile_filter(spec, init=init)
    root_path = os.path.join(bundle, spec["root"]["path"])
    maps = specification.user_maps(spec.get("linux", {}))
    sources: dict[int, int] = {}
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    group: Any = None
    try:
        if maps:
            # Root inside is nobody outside: what only root reaches is opened before.
            sources = child.open_sources(spec, bundle)
        # Before the process: there must be no moment outside of the limits.
        group = create_cgroup(spec, bundle)

        def live() -> None:
            # Our copy of the end that the parent writes to: with it open, the pipe of a killed
            # parent would never end, and we would wait for ever.
            os.close(go_write)
            child.run(
                spec, bundle, root_mount, root_path, streams, devpts, go_read, init, group, filter,
                sources,
            )  # fmt: skip

        born_in = group.descriptor if group is not None else None
        container = process.spawn(live, namespaces_at_birth(spec), born_in, fork=fork)
        try:
            if maps:
                users.write_maps(container.pid, *maps)
                os.write(go_write, b"m")
            try:
                on_created(container)
            except OSError:
                if container.has_failed():
                    container.wait_exec()  # what it says is the reason; ours is that it is gone
                raise
            os.write(go_write, b"+")
            os.close(go_read)
            go_read = -1
            container.wait_exec(spec["process"]["args"][0])
        except BaseException:
            container.signal(9)
            container.wait()
            container.close()
            raise
        if group is not None:
            group.close()
            group = None
        return container
    finally:
        if group is not None:
            group.remove()
        for descriptor in (go_read, go_write, *sources.values()):
            if descriptor >= 0:
                os.close(descriptor)


def cgroup_path(spec: dict[str, Any], bundle: str) -> str | None:
    """The cgroup that a specification asks for, by its path or by its limits; None for none."""
    linux = spec.get("linux", {})
    if not linux.get("cgroupsPath") and not linux.get("resources"):
        return None
    path: str = linux.get("cgroupsPath") or os.path.basename(os.path.abspath(bundle))
    return path


def create_cgroup(spec: dict[str, Any], bundle: str) -> Any:
    """The cgroup of a container with its limits, before there is a process; None for none. The
    caller of `start` removes it when the container has ended."""
    path = cgroup_path(spec, bundle)
    return path and cgroups.create(path, spec["linux"].get("resources") or {})


def remove_cgroup(spec: dict[str, Any], bundle: str) -> None:
    """The other end of it; it may be called twice."""
    path = cgroup_path(spec, bundle)
    if path:
        cgroups.choose(path).remove()


def open_root(bundle: str, spec: dict[str, Any]) -> int:
    """The plain root directory of a bundle as a detached mount; its descriptor."""
    try:
        return mounts.clone(os.path.join(bundle, spec["root"]["path"]), ["rbind"])
    except OSError as error:
        raise EngineError(f"cannot open the root of the bundle: {error}") from None


def namespaces_at_birth(spec: dict[str, Any]) -> int:
    """The CLONE_NEW… flags for the namespaces that the container gets new."""
    wanted = spec.get("linux", {}).get("namespaces", [])
    how = namespaces.bits([entry["type"] for entry in wanted if not entry.get("path")])
    if not how & flags.CLONE_NEWNS:
        raise EngineError("a container without a mount namespace of its own is not supported")
    later = flags.CLONE_NEWIPC if how & flags.CLONE_NEWUSER else 0
    return how & ~flags.CLONE_NEWCGROUP & ~later

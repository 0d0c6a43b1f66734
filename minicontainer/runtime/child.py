"""The container's first process, from birth to exec. Read it from top to bottom: the order is
the lesson, and the security.
"""

from __future__ import annotations

import os
import stat

from ..errors import EngineError
from ..kernel import (
    apparmor,
    capabilities,
    devices,
    flags,
    limits,
    loopback,
    mounts,
    namespaces,
    paths,
    process,
    procfs,
    seccomp,
    stubs,
    syscalls,
    terminal,
    users,
)
from . import spec as specification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# File systems that have a chapter of their own.
_BORN_LATER = {
    "proc": procfs.create,
    "sysfs": devices.create_sysfs,
    "devpts": terminal.create_devpts,
}


def run(
    spec: dict[str, Any],
    bundle: str,
    root_mount: int,
    root_path: str,
    streams: tuple[int, int, int],
    devpts: int | None,
    go: int,
    init: bool,
    group: Any,
    filter: seccomp.Filter | None,
    sources: dict[int, int],
) -> None:
    """Build the container around the calling process and become its program.

    Arguments as for `start.start`; go: read end of the pipe on which the parent says that the
    container is recorded; group: its cgroup, or None; sources: see `open_sources`. Returns only by
    raising: the caller reports it and ends.
    """
    linux = spec.get("linux", {})
    wanted = spec["process"]

    if group is not None:
        group.enter()
    has_users = bool(linux.get("uidMappings"))
    if has_users and os.read(go, 1) != b"m":
        raise EngineError("the engine ended before the container had its users")
    syscalls.prctl(flags.PR_SET_DUMPABLE, 0)  # our memory and /proc/self/exe are the host's
    limits.adjust_oom_score(wanted.get("oomScoreAdj"))
    syscalls.through("setsid", os.setsid)
    label = apparmor.open_on_exec(wanted.get("apparmorProfile"))
    join_namespaces(linux)

    # Its own tree.
    mounts.make_private()
    root = mounts.attach_root(root_mount, root_path)
    if has_users:
        users.become_root()  # until here only the host's root could walk to the place
        if {"type": "ipc"} in linux["namespaces"]:
            syscalls.unshare(flags.CLONE_NEWIPC)  # whoever makes it owns its /dev/mqueue
    for number, mount in enumerate(spec.get("mounts", [])):
        mount_one(mount, bundle, root, devpts, sources.get(number))
    make_devices(spec, root)
    if devpts is not None:
        devices.bind_console(root, streams[0])

    # Nothing of this is seen outside. What comes now is: first the engine writes it down, and makes
    # the network, whose adapters have settings too.
    if os.read(go, 1) != b"+":
        raise EngineError("the engine ended before the container was recorded")
    for name, value in (linux.get("sysctl") or {}).items():
        procfs.write_sysctl(root, name, value)
    devices.make_readonly(root, linux.get("readonlyPaths") or [])
    devices.mask(root, linux.get("maskedPaths") or [])
    make_working_directory(root, wanted["cwd"])
    if spec["root"].get("readonly"):
        mounts.make_readonly(root)

    # Its own name, and no way back.
    if spec.get("hostname"):
        namespaces.set_hostname(spec["hostname"])
    if spec.get("domainname"):
        syscalls.setdomainname(spec["domainname"])
    mounts.pivot_root(root)

    if devpts is not None:
        terminal.take(streams[0])
    confine(wanted, streams, stubs.init_stub if init else stubs.exec_stub, filter, label)


def confine(
    wanted: dict[str, Any],
    streams: tuple[int, int, int],
    make_stub: Callable[[int], int],
    filter: seccomp.Filter | None,
    label: int,
) -> None:
    """Become the program of a `process` object, with its user, powers and limits and no more:
    the end of every start, of `run` and of `exec` alike.

    make_stub: makes the last step's program, given the number of the report's descriptor. label:
    of `apparmor.open_on_exec`, opened before /proc was the container's.
    """
    for number, stream in enumerate(streams):
        os.dup2(replace_null(stream), number, inheritable=True)
    namespaces.leave_session_keyring()
    # Before the limits: one on the size of files, or on their number, would stop us.
    report = process.report_descriptor()
    last_step = make_stub(report)
    limits.apply(wanted.get("rlimits") or [])
    enter_directory(wanted["cwd"])
    environment = specification.environment(wanted)

    user = wanted.get("user", {})
    if not environment.get("HOME"):
        environment["HOME"] = users.home(user.get("uid", 0))
    sets = {k: capabilities.mask(v) for k, v in (wanted.get("capabilities") or {}).items()}
    capabilities.drop_bounding(sets.get("bounding", 0))
    users.change(user.get("uid", 0), user.get("gid", 0), user.get("additionalGids", []))
    syscalls.prctl(flags.PR_SET_DUMPABLE, 0)  # a change of user may have set it again
    os.umask(user.get("umask", 0o022))
    program = process.find_program(wanted["args"][0], environment.get("PATH", ""))
    effective, permitted = sets.get("effective", 0), sets.get("permitted", 0)
    inheritable = sets.get("inheritable", 0)
    # Without no_new_privs only CAP_SYS_ADMIN may load a filter: it goes one step later.
    loading = 0
    if filter is not None and not wanted.get("noNewPrivileges"):
        loading = capabilities.mask(["CAP_SYS_ADMIN"])
    capabilities.set_sets(effective | loading, permitted | loading, inheritable)
    # The kernel refuses an ambient capability that is not inheritable; runc drops it as we do.
    capabilities.set_ambient(sets.get("ambient", 0) & permitted & inheritable)
    if wanted.get("noNewPrivileges"):
        capabilities.set_no_new_privileges()
    syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
    os.set_inheritable(report, True)
    # Not the last exec but the one before it, into our own small program, puts the profile on: the
    # profile must let its program be executed (`ix`), as docker's does.
    apparmor.change_on_exec(label, wanted.get("apparmorProfile"))
    # From here on the filter is asked about our own calls too, so there are four more of them:
    # capset, write, execveat, and the stub's (seccomp_compiler.NEEDED).
    if filter is not None:
        seccomp.load(filter)
    if loading:
        capabilities.set_sets(effective, permitted, inheritable)
    # execve(2) by way of a sealed program of a few hundred bytes. Were the last exec ours, an
    # image whose entry point is `#!/proc/self/exe` would run the host's Python inside, and could
    # overwrite it through /proc (CVE-2019-5736).
    process.hand_over()
    syscalls.through("execve", os.execve, last_step, [program, *wanted["args"]], environment)


def replace_null(stream: int) -> int:
    """The stream; the container's own /dev/null where it is the host's.

    Who holds a descriptor of a file may change its owner and mode: `chmod 0 /dev/stdin` by root
    inside would shut /dev/null for the whole host (runc: reOpenDevNull).
    """
    if not _is_null(stream):
        return stream
    how = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    own = os.open("/dev/null", how)
    if not _is_null(own):
        raise EngineError("/dev/null of the container is not the null device (1:3)")
    return own


def _is_null(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def make_working_directory(root: int, path: str) -> None:
    """Make the working directory inside the root when it is missing, as runc and docker do."""
    try:
        os.close(paths.make_directories(root, path))
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EngineError(f"cannot make the working directory {path!r}: {reason}") from error


def enter_directory(path: str) -> None:
    """Change to the working directory, and see that it lies inside the container.

    A descriptor of a host directory that leaked in would make `/proc/self/fd/7` a working
    directory outside of the root (CVE-2024-21626); the kernel then has no path for it.
    """
    try:
        syscalls.through("chdir", os.chdir, path)
        inside = os.getcwd().startswith("/")
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EngineError(f"cannot enter the working directory {path!r}: {reason}") from None
    if not inside:
        raise EngineError(f"the working directory {path!r} lies outside of the container")


def join_namespaces(linux: dict[str, Any]) -> None:
    """Enter the namespaces that the specification names by path; make the rest that clone3
    did not (the cgroup namespace, whose root is the cgroup at the moment of its birth), and
    bring up the loopback of a new network, as runc does."""
    for namespace in linux.get("namespaces", []):
        if namespace.get("path"):
            namespaces.join_file(namespace["path"], namespace["type"])
        elif namespace["type"] == "cgroup":
            syscalls.unshare(flags.CLONE_NEWCGROUP)
        elif namespace["type"] == "network":
            loopback.bring_up()


def open_sources(spec: dict[str, Any], bundle: str) -> dict[int, int]:
    """The sources of all bind mounts as detached mounts, by their place in the list: for a
    container whose root may not reach them. Private, or what is mounted there later would
    show on the host. With `idmap` the owners are shown as the container's own (OCI 1.1)."""
    opened: dict[int, int] = {}
    namespace = -1
    try:
        for number, mount in enumerate(spec.get("mounts", [])):
            if is_bind(mount):
                source = os.path.join(bundle, mount["source"])
                words = mount.get("options") or []
                try:
                    opened[number] = mounts.clone(source, words)
                    if "idmap" in words:
                        if namespace < 0:
                            tables = specification.user_maps(spec["linux"])
                            namespace = users.open_namespace(*(tables or ([], [])))
                        mounts.map_owners(opened[number], namespace)
                except OSError as error:
                    raise mount_error(mount, error) from error
                mounts.set_propagation(opened[number], flags.MS_PRIVATE | flags.MS_REC)
    except BaseException:
        for descriptor in opened.values():
            os.close(descriptor)
        raise
    finally:
        if namespace >= 0:
            os.close(namespace)
    return opened


def is_bind(mount: dict[str, Any]) -> bool:
    """Does an entry of `mounts` show something of the host's?"""
    words = mount.get("options") or []
    return "bind" in words or "rbind" in words or mount.get("type") == "bind"


def mount_error(mount: dict[str, Any], error: OSError) -> EngineError:
    """What went wrong with an entry of `mounts`, in words."""
    reason = str(error) if isinstance(error, syscalls.SyscallError) else error.strerror
    what = f"cannot mount {mount.get('source') or mount.get('type') or 'none'}"
    where = mount["destination"]
    return EngineError(f"{what} at {where}: {reason}", hint=getattr(error, "hint", None))


def mount_one(
    mount: dict[str, Any], bundle: str, root: int, devpts: int | None, source: int | None
) -> None:
    """Make one mount of the specification inside the root (config.md, "Mounts").

    source: what a bind mount shows, where it is opened already.
    """
    words: list[str] = mount.get("options") or []
    kind = mount.get("type") or "none"
    path = mounts.check_absolute(mount["destination"])
    try:
        if source is not None:
            made = os.dup(source)
        elif is_bind(mount):
            made = mounts.clone(os.path.join(bundle, mount["source"]), words)
        elif kind == "devpts" and devpts is not None:
            made = os.dup(devpts)
        elif kind == "cgroup":
            limits.mount_cgroups(root, path, words)
            return
        elif kind in _BORN_LATER:
            made = _BORN_LATER[kind](words)
        else:
            made = mounts.create(kind, words, mount.get("source"))
        try:
            if kind in ("proc", "sysfs"):
                # Their masks are found by path: the real thing must lie where the path says.
                os.close(paths.make_directories(root, path))
                target = syscalls.openat2(
                    root, path.lstrip("/"), os.O_PATH | os.O_DIRECTORY, 0, flags.RESOLVE_NO_SYMLINKS
                )
                mounts.attach(made, target)
            else:
                mounts.attach_below(root, made, path)
            propagation = mounts.Options(words).propagation
            if propagation:
                mounts.set_propagation(made, propagation)
        finally:
            os.close(made)
    except OSError as error:
        raise mount_error(mount, error) from error


def make_devices(spec: dict[str, Any], root: int) -> None:
    """Fill /dev when it is a tmpfs of ours, and add the devices that the specification names."""
    if any(m["destination"] == "/dev" and m.get("type") == "tmpfs" for m in spec.get("mounts", [])):
        devices.populate(root)
    for device in spec.get("linux", {}).get("devices") or []:
        devices.make_at(
            root,
            mounts.check_absolute(device["path"]),
            device["type"],
            (device.get("major", 0), device.get("minor", 0)),
            device.get("fileMode", 0o666),
            (device.get("uid", 0), device.get("gid", 0)),
        )

"""Rootless: an ordinary user's engine, in a user namespace of his where he is root.

Nobody but the user is asked: the kernel lets everybody make a user namespace, and newuidmap(1),
which is set-user-ID root, gives it the further users that /etc/subuid grants. The whole engine
enters it as its first act, and then does what root's engine does: mounts, owners, signals.

There is no process whose only work is to keep the namespace: it lasts while a container or a
command is in it. Every command looks for one that is, and joins it, since over another namespace's
processes it would have no power; where there is none it makes a new one with the same users.
"""

from __future__ import annotations

import os
import stat
import sys
from errno import EACCES, ENOSPC, EPERM, EUSERS

from .. import files, jsonio
from ..errors import EngineError
from ..kernel import flags, process, syscalls, users
from . import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .home import Home

_has_entered = False

_PAGE = "see 'Rootless' in the installation page"


def enter(home: Home, *, makes: bool = True) -> None:
    """Make this process root of the user's namespace, with a mount namespace of its own.

    makes: images or containers, so that a namespace with a single user is worth a word. Nothing
    happens for root. EngineError when the machine does not allow it, with what to do.
    """
    if not os.geteuid():
        return
    here = f"{home.run}.users"
    make_private(os.path.dirname(home.run), strict=False)
    # That there is no run directory yet tells the engine that this is the first command.
    for path in (here, *([home.run] if os.path.lexists(home.run) else [])):
        make_private(path)
    # Held until we can be found: two first commands must not make two namespaces.
    with files.Lock(f"{here}/lock"):
        if not any(join(pidfd) for pidfd in living(home, here)):
            create(makes)
        files.write_atomic(f"{here}/{os.getpid()}", str(process.start_time(os.getpid())))
    try:
        syscalls.unshare(flags.CLONE_NEWNS)
    except OSError as error:
        raise refusal(error) from None
    global _has_entered
    _has_entered = True


def renew(home: Home) -> None:
    """Execute this program anew, where it has entered the namespace by itself: once more it begins
    with its command line, as root and in there.

    Until then the kernel takes it, and what it forks, for a program of the host's, which nobody in
    the namespace may look into: /proc/PID/ns of a container would be closed to its own engine
    (ptrace(2), "Ptrace access mode checking").
    """
    if _has_entered:
        roots = {"MINICONTAINER_ROOT": home.root, "MINICONTAINER_RUN_ROOT": home.run}
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **roots})


def make_private(path: str, *, strict: bool = True) -> None:
    """Make a directory that nobody else can look into; EngineError when it is somebody else's.

    Anybody can make a name in /tmp before we do. strict: otherwise a directory that was there
    before (a home, /tmp itself) may be open to others.
    """
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EngineError(
            f"cannot make the directory {path}: {reason}",
            hint="choose another with --run-root, or run it as root: sudo minicontainer …",
        ) from None
    found = os.lstat(path)
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    below_tmp = os.path.dirname(path) == "/tmp"
    if (strict or below_tmp) and (not ours or found.st_mode & 0o077):
        raise EngineError(
            f"{path} is not a private directory of yours",
            hint="somebody else may have made it; choose another with --run-root",
        )


def living(home: Home, here: str) -> Iterator[int]:
    """A pidfd of every process that is known to be in the namespace, of containers and of commands;
    each is closed when the next is asked for. The files of commands that have ended go."""
    known = []
    for id in os.listdir(home.run) if os.path.isdir(home.run) else ():
        try:
            state = jsonio.read(home.live(id, "state.json"))
            known.append((state["pid"], state["pidStart"], ""))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being made, or going away
    for name in os.listdir(here):
        if name.isdigit():
            with open(f"{here}/{name}") as file:
                known.append((int(name), int(file.read() or 0), f"{here}/{name}"))
    for pid, start, path in known:
        try:
            pidfd = process.open_pid(pid, start)
        except (OSError, OverflowError, ValueError):
            pidfd = None  # no number of a process: the file is anybody's
        if pidfd is not None:
            try:
                yield pidfd
            finally:
                os.close(pidfd)
        elif path:
            os.unlink(path)


def join(pidfd: int) -> bool:
    """Enter the user namespace of a process; False when it has ended or is not ours."""
    try:
        syscalls.setns(pidfd, flags.CLONE_NEWUSER)
    except OSError:
        return False
    users.become_root()
    return True


def create(warn: bool) -> None:
    """A new user namespace: user 0 is the caller, the others are those of /etc/subuid.

    The tables are written by newuidmap and newgidmap, which must run outside: by a child that
    stays there.
    """
    uid, gid = os.getuid(), os.getgid()
    commands = mapping_commands(os.getpid(), uid, gid)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    helper = os.fork()
    if not helper:
        os.close(go_write)
        os._exit(_map(commands) if os.read(go_read, 1) else 1)
    try:
        syscalls.unshare(flags.CLONE_NEWUSER)
        os.write(go_write, b"+")
    except OSError as error:
        raise refusal(error) from None
    finally:
        os.close(go_read)
        os.close(go_write)
        _, status = os.waitpid(helper, 0)
    if status:
        raise EngineError(
            f"{commands[os.waitstatus_to_exitcode(status) - 1][0]} could not give the user "
            "namespace its users",
            hint=f"its own words are above; {_PAGE}",
        )
    if not commands:
        if warn:
            warn_alone()
        single = {"setgroups": "deny", "uid_map": f"0 {uid} 1", "gid_map": f"0 {gid} 1"}
        for name, text in single.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    users.become_root()


def _map(commands: list[list[str]]) -> int:
    """In the helper: run the two programs; 0, or which of them failed, counted from 1."""
    for number, words in enumerate(commands, 1):
        try:
            pid = os.posix_spawnp(words[0], words, {"PATH": _search_path()})
            if os.waitpid(pid, 0)[1]:
                return number
        except OSError:
            return number
    return 0


def mapping_commands(pid: int, uid: int, gid: int) -> list[list[str]]:
    """The command lines of newuidmap(1) and newgidmap(1); none where the programs or the user's
    ranges are missing."""
    commands = []
    for program, number, path in (
        ("newuidmap", uid, userns.SUBUID),
        ("newgidmap", gid, userns.SUBGID),
    ):
        rows, inside = [(0, number, 1)], 1
        for start, count in userns.ranges(path, str(uid)):
            rows.append((inside, start, count))
            inside += count
        if len(rows) == 1 or not _is_installed(program):
            return []
        commands.append([program, str(pid), *(str(n) for row in rows for n in row)])
    return commands


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/bin"


def _is_installed(program: str) -> bool:
    return any(os.access(f"{place}/{program}", os.X_OK) for place in _search_path().split(":"))


def warn_alone() -> None:
    """Say what a namespace with a single user cannot do."""
    sys.stderr.write(
        "minicontainer: warning: no further users for your containers, so every file is root's and "
        f"--user has nobody else\nhint: newuidmap (package uidmap) and a range in {userns.SUBUID} "
        f"and {userns.SUBGID}; {_PAGE}\n"
    )


def refusal(error: OSError) -> EngineError:
    """Why this machine does not let an ordinary user have a user namespace, and what to do."""
    told = "cannot run containers without root: this machine forbids user namespaces"
    for name, forbids, who in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "an AppArmor rule of Ubuntu's"),
        ("kernel/unprivileged_userns_clone", "0", "a setting of Debian's kernels"),
        ("user/max_user_namespaces", "0", "a limit"),
    ):
        value = _sysctl(name)
        if value == forbids:
            key = name.replace("/", ".")
            other = {"1": "0", "0": "1"}[value] if name[:4] != "user" else "15000"
            return EngineError(
                f"{told} ({key}={value}, {who})",
                hint=f"an administrator allows them by: sysctl -w {key}={other}; {_PAGE}. "
                "Or run it as root: sudo minicontainer …",
            )
    if error.errno in (ENOSPC, EUSERS):
        told = "cannot make a user namespace: there are as many as the machine allows"
        return EngineError(told, hint="see /proc/sys/user/max_user_namespaces")
    if error.errno in (EPERM, EACCES):
        return EngineError(
            f"{told} ({error})",
            hint="inside another container its seccomp filter or its security module does that; "
            "run it as root: sudo minicontainer …",
        )
    return EngineError(f"cannot make a user namespace: {error}")


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""

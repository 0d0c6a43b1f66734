"""Processes: born by clone3, watched by a pidfd, ended with a code that tells how.

The chapter's questions: how does a parent learn that the program never started, how does it
learn how the program ended, and how does a signal reach it? The answers here serve every later
chapter; only the namespaces asked for at birth (`namespaces`) change.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import select
import sys
import time
from errno import EIO, ENOSYS

from .. import jsonio
from ..errors import EngineError
from . import flags, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHAPTER = 1

# In a child of `spawn`: the pipe on which it tells its one error. A process has but one.
_report_to = -1
_handed_over = False

# The longest report that is believed: a message, a hint, a trace.
_LONGEST = 65536

_EVERY_SIGNAL = _signal.valid_signals()
_FORWARDED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
_CATCHABLE = _EVERY_SIGNAL - {_signal.SIGKILL, _signal.SIGSTOP}

# PyDLL keeps Python's global lock across the call. With CDLL the child would be born without the
# lock, and hang at its first instruction as soon as another thread had it (measured: 6 of 8).
_clone3 = syscalls.Call(
    "clone3",
    syscalls.STRUCT,
    syscalls.SIZE,
    number=flags.NR_clone3,
    library=ctypes.PyDLL(None, use_errno=True),
)


class Process:
    """A child process.

    pid: its number in the caller's PID namespace; pidfd: a descriptor that means this process
    and no later one with the same number; ended: its exit code once it was waited for.
    """

    __slots__ = ("pid", "pidfd", "_report", "ended")

    def __init__(self, pid: int, pidfd: int, report: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._report = report
        self.ended: int | None = None

    def wait_exec(self, program: str = "the program") -> None:
        """Wait until the child has become its program; raise what stopped it.

        The child's end of the pipe is closed by execve(2) itself, so end of file means success.
        program: its name, for the message when only an errno comes (see `stubs`).
        """
        report = self.read_report()
        if not report:
            return
        self.end()
        if len(report) != 4:
            raise interference()
        raise exec_error(program, int.from_bytes(report, "little"))

    def read_report(self) -> bytes:
        """What a stub tells, up to the end of file; raise what the child told before it was one."""
        report = b""
        while len(report) < _LONGEST and (chunk := os.read(self._report, 65536)):
            report += chunk
        if report[:1] in (b"", _HANDED_OVER):
            return report[1:]
        self.end()
        told = jsonio.loads(report)
        error = EngineError(told["message"], hint=told["hint"], exit_code=told["exit_code"])
        error.add_note(told["trace"])
        raise error

    def has_failed(self) -> bool:
        """Whether it has told of an error already, or has ended, as a process that waits to be let
        go has not."""
        return wait_ready(self._report, 0)

    def end(self) -> None:
        """Kill it, unless it is known to have ended: it may say that it is ending, and lie."""
        if self.ended is None:
            self.signal(_signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code, or 128 + n when signal n killed it (waitid(2)).

        Asked again, it gives the same answer.
        """
        if self.ended is None:
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            assert ended is not None
            killed = ended.si_code != os.CLD_EXITED
            self.ended = ended.si_status + (128 if killed else 0)
        return self.ended

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process is gone (pidfd_send_signal(2))."""
        try:
            _signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Close our descriptors; the process goes on."""
        for descriptor in (self.pidfd, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self._report = -1


def spawn(
    child: Callable[[], None],
    namespaces: int = 0,
    cgroup: int | None = None,
    *,
    fork: bool = False,
) -> Process:
    """Start a process that runs `child`, born into new namespaces (and into a cgroup).

    child: runs in the new process and should end in execve; what it raises is reported to
    `wait_exec`, and the process ends with 125 (fail closed). namespaces: CLONE_NEW… flags.
    cgroup: descriptor of a cgroup v2 directory (CLONE_INTO_CGROUP). fork: use fork(2) and
    unshare(2) as on kernels without clone3.

    Raises EngineError when other threads run: after a clone only the calling thread exists, and
    a lock that another one held would stay locked for ever.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise EngineError(
            "cannot start a process by clone3 while other threads run",
            hint="start containers before threads, or let the engine use its supervisor process",
        )
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    # A signal between birth and the child's own settings would run our handlers in the child.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY_SIGNAL)
    try:
        try:
            birth = _fork_and_unshare if fork else _clone
            pid, pidfd = birth(namespaces, cgroup, report_write)
        except syscalls.SyscallError as error:
            if error.errno != ENOSYS or fork:
                raise
            pid, pidfd = _fork_and_unshare(namespaces, cgroup, report_write)
        if pid == 0:
            _live(child, report_write)
    except BaseException:
        os.close(report_read)
        raise
    finally:
        os.close(report_write)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    process = Process(pid, pidfd, report_read)
    if pid < 0:
        process.ended = 125
        try:
            process.wait_exec()
        finally:
            process.close()
    return process


def _clone(namespaces: int, cgroup: int | None, report: int) -> tuple[int, int]:
    """clone3(2): (pid, pidfd) in the parent, (0, -1) in the child."""
    how = namespaces | flags.CLONE_PIDFD
    pidfd = ctypes.c_int(-1)
    if cgroup is not None:
        how |= flags.CLONE_INTO_CGROUP
    packed = syscalls.Packed.of(
        "11Q",
        lambda: f"{{flags={flags.decode('CLONE_', how)}, exit_signal=SIGCHLD}}",
        how,
        ctypes.addressof(pidfd),
        0,
        0,
        _signal.SIGCHLD,
        0,
        0,
        0,
        0,
        0,
        cgroup or 0,
    )
    arguments = (packed, len(packed))
    # What os.fork() does around fork(2): the interpreter's own locks and at-fork functions.
    ctypes.pythonapi.PyOS_BeforeFork()
    started = time.perf_counter()
    pid = _clone3.function(*arguments)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise _clone3.failed(number, arguments)
    if syscalls.trace is not None:
        syscalls.trace(_clone3.render(arguments), str(pid), started)
    return pid, pidfd.value


def _fork_and_unshare(namespaces: int, cgroup: int | None, report: int) -> tuple[int, int]:
    """The same by fork(2) and unshare(2), for kernels and sandboxes without clone3.

    unshare puts the caller's *children* into a new PID namespace, never the caller. So one
    process forks, unshares and forks again; we are made subreaper for that moment, so that the
    grandchild becomes our child when the one between ends.
    """
    if not namespaces & flags.CLONE_NEWPID:
        pid = os.fork()
        if pid == 0:
            _unshare_or_end(namespaces, cgroup, report)
            return 0, -1
        return pid, os.pidfd_open(pid)
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    syscalls.prctl(flags.PR_SET_CHILD_SUBREAPER, 1)
    try:
        between = os.fork()
        if between == 0:
            _unshare_or_end(namespaces, cgroup, report)
            pid = os.fork()
            if pid == 0:
                return 0, -1
            os.write(told_write, pid.to_bytes(4, "little"))
            os._exit(0)
        os.close(told_write)
        told_write = -1
        os.waitpid(between, 0)
        told = os.read(told_read, 4)
        if not told:
            return -1, -1
        pid = int.from_bytes(told, "little")
        return pid, os.pidfd_open(pid)
    finally:
        syscalls.prctl(flags.PR_SET_CHILD_SUBREAPER, 0)
        os.close(told_read)
        if told_write >= 0:
            os.close(told_write)


def _unshare_or_end(namespaces: int, cgroup: int | None, report: int) -> None:
    """The child's first acts. What it has not at birth it gets before it does anything else."""
    try:
        if cgroup is not None:
            door = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup)
            os.write(door, b"0")  # whoever writes
            os.close(door)
        syscalls.unshare(namespaces)
    except OSError as error:
        _tell(report, error)
        os._exit(125)


def _live(child: Callable[[], None], report: int) -> None:
    """The child's whole life; never returns, whatever happens."""
    global _report_to
    _report_to = report
    code = 125
    # An import after the change of root would run the *image's* Python files as root of the host.
    sys.meta_path.clear()
    try:
        reset_signals()
        child()
        code = 0
    except BaseException as error:
        _tell(report, error)
    finally:
        os._exit(code)


def _tell(report: int, error: BaseException) -> None:
    """Send the child's one error up the pipe, as JSON, with its trace already in words."""
    if _handed_over:
        os.write(report, (getattr(error, "errno", None) or EIO).to_bytes(4, "little"))
        return
    steps = []
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        steps.append(f"  {code.co_filename}:{frame.tb_lineno} in {code.co_name}")
        frame = frame.tb_next
    told = {
        "message": str(error) or type(error).__name__,
        "hint": getattr(error, "hint", None),
        "exit_code": getattr(error, "exit_code", 125),
        "trace": "\n".join(["in the container's first process:", *steps]),
    }
    os.write(report, jsonio.dumps(told).encode())


_HANDED_OVER = b"+"


def hand_over() -> None:
    """In a child of `spawn`, before it executes a stub: from here on only an errno is believed.

    A stub has no more power than the program, and may be traced by whoever has as much inside:
    they could write a message to the user's terminal here, an exit code, or bytes without end.
    """
    global _handed_over
    os.write(_report_to, _HANDED_OVER)
    _handed_over = True


def report_descriptor() -> int:
    """In a child of `spawn`: the pipe to `wait_exec`, for a program that tells an errno on it."""
    return _report_to


def reset_signals() -> None:
    """Give every signal its default action and block none: ignored signals would survive
    the exec, and Python ignores SIGPIPE (signal(7), "Execution of ... execve")."""
    for number in _CATCHABLE:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def find_program(name: str, path: str) -> str:
    """The file that a command name means: itself when it has a slash, else the first match in
    the directories of `path` (a PATH value). Raises EngineError, exit code 126 or 127.
    """
    if not name:
        raise EngineError('exec "": an empty command', exit_code=127)
    if "/" in name:
        return name
    denied = False
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = True
    if denied:
        raise EngineError(f'exec "{name}": found in PATH but not executable', exit_code=126)
    raise EngineError(
        f'exec "{name}": not found in PATH ({path or "which is empty"})', exit_code=127
    )


def execute(arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Become the program arguments[0] (execve(2)); returns only by EngineError (126 or 127)."""
    path = find_program(arguments[0], environment.get("PATH", ""))
    try:
        syscalls.through("execve", os.execve, path, list(arguments), environment)
    except OSError as error:
        raise exec_error(path, error.errno or 0) from None


def interference() -> EngineError:
    """What a report that no stub can have written means."""
    return EngineError("the container has interfered with the start of the program")


def exec_error(program: str, number: int) -> EngineError:
    """What a failed execve(2) means, with docker's exit code: 127 not there, 126 otherwise."""
    hint = syscalls.HINTS.get(("execve", number))
    message = f'exec "{program}": {os.strerror(number).lower()}'
    if os.strerror(number).startswith("Exec format"):
        hint = "a program for another machine, or a script without #! on its first line"
    missing = number in (2, 20)  # ENOENT, ENOTDIR
    return EngineError(message, hint=hint, exit_code=127 if missing else 126)


def open_pid(pid: int, started: int) -> int | None:
    """A pidfd of the process that began at that time (`start_time`); None when it is gone.

    First the descriptor, then the time: the other way round the number could change hands in
    between.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(pid) == started:
            return descriptor
    except ProcessLookupError:
        pass
    os.close(descriptor)
    return None


def wait_ready(descriptor: int, seconds: float | None) -> bool:
    """Wait until there is something to read, which with a pidfd is the end of the process; False
    when the time was up first. seconds: None for any time. (poll(2): select(2) takes no
    descriptor above 1023.)"""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot: with the pid, it names one process
    for ever (/proc/PID/stat, field 22; proc(5)). ProcessLookupError when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    # The name in brackets may hold blanks and brackets: count from the last one.
    return int(text[text.rindex(b")") + 2 :].split()[19])


def run(
    child: Callable[[], None],
    namespaces: int = 0,
    cgroup: int | None = None,
    born: Callable[[int], None] | None = None,
) -> int:
    """Spawn, pass the terminal's and the user's signals on, wait: the parent half of a stage.

    cgroup: as for `spawn`. born: called with the child's number when it exists.

    Returns the exit code; an error before exec is printed, as the engine would, and gives its
    code.
    """
    # Held back until there is somebody to pass them on to.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _FORWARDED)
    process = spawn(child, namespaces, cgroup)
    forward_signals(process)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    try:
        if born is not None:
            born(process.pid)
        process.wait_exec()
        return process.wait()
    except EngineError as error:
        sys.stderr.write(f"{error.render()}\n")
        return error.exit_code
    finally:
        process.close()


def forward_signals(process: Process) -> None:
    """Pass on what a terminal or an init system sends us: the program is what is meant."""
    for number in _FORWARDED:
        _signal.signal(number, lambda number, _: process.signal(number))

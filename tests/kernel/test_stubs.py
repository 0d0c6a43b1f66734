"""The stubs that execute a container's program: their bytes, what they do, what they keep out.

The same tests run the other machine's stubs as well, where qemu-user-static is installed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import pty
import resource
import select
import shutil
import signal
import struct
import subprocess
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chapters import patience
from minicontainer.errors import EngineError
from minicontainer.kernel import flags, process, stubs, syscalls

SOURCES = Path(stubs.__file__).parent
NATIVE = os.uname().machine
OTHERS = [machine for machine in ("x86_64", "aarch64") if machine != NATIVE]
EMULATORS = {m: path for m in OTHERS if (path := shutil.which(f"qemu-{m}-static"))}
PREFIX = {NATIVE: "", **{m: f"{m.replace('_', '-')}-linux-gnu-" for m in OTHERS}}
ASSEMBLED = [
    pytest.param(m, marks=[pytest.mark.tools(f"{PREFIX[m]}as"), pytest.mark.host]) for m in PREFIX
]

PYTHON = os.path.realpath("/proc/self/exe")
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
# A number that no one else uses, so that it shows wherever it should not be.
ERROR_FD = 77

pytestmark = pytest.mark.skipif(not stubs.available(), reason=f"no stubs for {NATIVE}")


# ---------------------------------------------------------------------------------- the machinery


class Started:
    """A process that has executed a stub. Whatever it waits for, it is killed in the end."""

    def __init__(self, born: process.Process, error: int, output: int, input: int) -> None:
        self.born = born
        self.pid = born.pid
        self.descriptors = {"error": error, "output": output, "input": input}

    def report(self) -> str | None:
        """The errno that the stub sent, by name; None when the program was executed."""
        told = self._read("error", None)
        assert len(told) in (0, 4)
        return errno.errorcode[int.from_bytes(told, "little")] if told else None

    def output(self, until: bytes | None = None) -> bytes:
        """The program's output to its end, or until it ends in `until`."""
        return self._read("output", until)

    def _read(self, name: str, until: bytes | None) -> bytes:
        read = b""
        while until is None or not read.endswith(until):
            ready = select.select([self.descriptors[name]], [], [], patience.seconds(10))[0]
            assert ready, f"got only {read!r}"
            try:
                chunk = os.read(self.descriptors[name], 65536)
            except OSError as error:  # a terminal whose last process has gone
                assert error.errno == errno.EIO
                chunk = b""
            if not chunk:
                break
            read += chunk
        return read

    def write(self, text: bytes) -> None:
        os.write(self.descriptors["input"], text)

    def wait(self) -> int:
        assert select.select([self.born.pidfd], [], [], patience.seconds(10))[0], "it does not end"
        return self.born.wait()

    def exe(self) -> str:
        return os.readlink(f"/proc/{self.pid}/exe")

    def children(self) -> list[int]:
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(pid) for pid in file.read().split()]

    def end(self) -> None:
        try:
            # Without a PID namespace of its own an init's end is not its program's end.
            for pid in [*self.children(), self.pid]:
                os.kill(pid, signal.SIGKILL)
            self.born.wait()
        except (FileNotFoundError, ProcessLookupError):
            pass  # the test has waited for it
        self.born.close()
        for descriptor in self.descriptors.values():
            os.close(descriptor)


Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program by a stub, with pipes for its input, its output, and the stub's report.

    prepare: what else the child does first; error: another descriptor for the report;
    terminal: give it a terminal in place of the pipes.
    """
    all_started: list[Started] = []

    def start(
        path: str | Path,
        *arguments: str,
        machine: str = NATIVE,
        init: bool = False,
        namespaces: int = 0,
        prepare: Callable[[], object] = lambda: None,
        error: tuple[int, int] | None = None,
        terminal: bool = False,
    ) -> Started:
        error_read, error_write = error or os.pipe()
        if terminal:
            output_read, stdin = pty.openpty()
            input_write, output_write = os.dup(output_read), os.dup(stdin)
        else:
            output_read, output_write = os.pipe()
            stdin, input_write = os.pipe()

        def child() -> None:
            syscalls.close_range(3, how=flags.CLOSE_RANGE_CLOEXEC)
            os.dup2(stdin, 0)
            os.dup2(output_write, 1)
            if terminal:
                os.setsid()
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if namespaces & flags.CLONE_NEWPID:
                syscalls.mount(None, "/", None, flags.MS_REC | flags.MS_PRIVATE)
                syscalls.mount("proc", "/proc", "proc")
            os.dup2(error_write, ERROR_FD)
            argv = [str(path), *arguments]
            if machine == NATIVE:
                stub = stubs.init_stub(ERROR_FD) if init else stubs.exec_stub(ERROR_FD)
                prepare()
                os.execve(stub, argv, ENVIRONMENT)
            stub = stubs._seal("stub", stubs.program(machine, ERROR_FD, init=init))
            prepare()
            os.set_inheritable(stub, True)
            emulator = [EMULATORS[machine], "-0", argv[0], f"/proc/self/fd/{stub}"]
            os.execve(emulator[0], [*emulator, *arguments], ENVIRONMENT)

        born = process.spawn(child, namespaces)
        for descriptor in (error_write, output_write, stdin):
            os.close(descriptor)
        started = Started(born, error_read, output_read, input_write)
        all_started.append(started)
        born.wait_exec()  # of the stub
        return started

    yield start
    for started in all_started:
        started.end()


both = pytest.mark.parametrize("init", [False, True], ids=["exec", "init"])
everywhere = pytest.mark.parametrize("machine", [NATIVE, *EMULATORS])


def shell(script: str) -> tuple[str, str, str, str]:
    """The arguments of `start` for a shell script."""
    return "/bin/sh", "sh", "-c", script


def python(script: str) -> tuple[str, ...]:
    """The arguments of `start` for a Python script."""
    return PYTHON, "python3", "-ISuc", textwrap.dedent(script)


# -------------------------------------------------------------------------------------- the bytes


@pytest.mark.host
@pytest.mark.tools("objcopy")
@pytest.mark.parametrize("machine", ASSEMBLED)
@pytest.mark.parametrize("name", ["exec", "init", "join"])
def test_the_code_is_what_the_sources_say(machine: str, name: str, tmp_path: Path) -> None:
    source = f"stub_{name}.{machine}.s"
    prefix = PREFIX[machine]
    subprocess.run([f"{prefix}as", "-o", tmp_path / "object", source], cwd=SOURCES, check=True)
    subprocess.run(
        [f"{prefix}objcopy", "-O", "binary", "-j", ".text", tmp_path / "object", tmp_path / "code"],
        check=True,
    )
    code = (tmp_path / "code").read_bytes()
    # What comes before is the header, what comes after is the descriptor's number, or two.
    join = -1 if name == "join" else None
    kept = stubs.program(machine, ERROR_FD, init=name == "init", join=join)[120 + 56 :]
    kept = kept[: -8 if name == "join" else -4]
    assert kept == code, f"{source} is now, in hex:\n" + "\n".join(textwrap.wrap(code.hex(), 80))


def test_a_machine_without_stubs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.uname_result((*os.uname()[:4], "riscv64"))
    monkeypatch.setattr(os, "uname", lambda: other)
    assert not stubs.available()
    with pytest.raises(EngineError, match="'riscv64'"):
        stubs.exec_stub(ERROR_FD)


# ----------------------------------------------------------------------------- executing a program


@everywhere
@both
@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137)]
)
def test_ends_as_the_program_ends(
    start: Start, machine: str, init: bool, script: str, code: int
) -> None:
    started = start(*shell(script), machine=machine, init=init)
    assert started.report() is None
    assert started.wait() == code


@everywhere
@both
def test_arguments_and_environment_arrive_as_they_are(
    start: Start, machine: str, init: bool
) -> None:
    argv = ["no path", "-c", "cat /proc/$$/cmdline /proc/$$/environ; :", "", "ä b", "x\ny"]
    started = start("/bin/sh", *argv, machine=machine, init=init)
    expected = [*argv, *(f"{key}={value}" for key, value in ENVIRONMENT.items())]
    assert started.output() == b"".join(text.encode() + b"\0" for text in expected)


@everywhere
@both
@pytest.mark.parametrize("reason", ["ENOENT", "EACCES", "ENOEXEC", "ENOTDIR"])
def test_a_program_that_cannot_run_is_reported(
    start: Start, machine: str, init: bool, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "plain").write_text("text")
    (tmp_path / "noise").write_text("text")
    (tmp_path / "noise").chmod(0o755)
    name = {"ENOENT": "none", "EACCES": "plain", "ENOEXEC": "noise", "ENOTDIR": "plain/x"}[reason]
    started = start(tmp_path / name, name, machine=machine, init=init)
    assert started.report() == reason
    assert started.wait() == 127


@everywhere
@both
def test_the_report_ends_when_the_program_begins(start: Start, machine: str, init: bool) -> None:
    started = start(*shell("read line; exit 4"), machine=machine, init=init)
    assert started.report() is None
    started.write(b"end\n")
    assert started.wait() == 4


@everywhere
@both
def test_a_stub_that_cannot_report_runs_nothing(start: Start, machine: str, init: bool) -> None:
    started = start(*shell("echo alive"), machine=machine, init=init, prepare=close_the_report)
    assert started.output() == b""
    assert started.wait() == 127


def close_the_report() -> None:
    os.close(ERROR_FD)


@both
def test_the_program_finds_no_descriptor_of_ours(start: Start, init: bool) -> None:
    started = start("/bin/ls", "ls", "/proc/self/fd", init=init)
    assert started.output().split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own


@everywhere
@both
def test_the_program_has_the_signal_mask_that_we_had(
    start: Start, machine: str, init: bool
) -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    started = start(
        "/bin/grep",
        "grep",
        "SigBlk",
        "/proc/self/status",
        machine=machine,
        init=init,
        prepare=block,
    )
    assert int(started.output().split()[1], 16) == 1 << signal.SIGUSR1 - 1


# --------------------------------------------------- the attack: the host's Python inside the box


def full_pipe() -> tuple[int, int]:
    """A pipe of one page that takes nothing more: who reports into it is stopped in the act."""
    read, write = os.pipe()
    size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, mmap.PAGESIZE)
    os.write(write, bytes(size))
    return read, write


@pytest.mark.parametrize("attack", ["a script", "the program itself", "under init"])
def test_proc_self_exe_is_never_python(start: Start, attack: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/proc/self/exe\nraise SystemExit(42)\n")
    script.chmod(0o755)
    # Executed by Python, the script is Python's:
    assert subprocess.run([script], check=False).returncode == 42

    if attack == "the program itself":
        program = ["/proc/self/exe", "python3", "-c", "raise SystemExit(42)"]
    else:
        program = [str(script), "script"]
    started = start(*program, init=attack == "under init", prepare=ask_to_be_traced)
    if attack == "under init":
        assert executables(started) == (["/memfd:init (deleted)"], 127)
    else:
        # The stub, then the stub again, by way of the image's /proc/self/exe.
        assert executables(started) == (["/memfd:start (deleted)"] * 2, 127)
    assert started.output() == b""


def test_between_python_and_the_program_there_is_only_the_stub(start: Start) -> None:
    started = start(*shell("exit 3"), prepare=ask_to_be_traced)
    assert executables(started) == (["/memfd:start (deleted)", os.path.realpath("/bin/sh")], 3)


def ask_to_be_traced() -> None:
    """From now on each execve stops this process until `executables` goes on (ptrace(2))."""
    assert PTRACE(0, 0, None, None) == 0  # PTRACE_TRACEME


def executables(started: Started) -> tuple[list[str], int]:
    """All files that the process executes, one after the other, and its exit code."""
    found: list[str] = []
    while True:
        status = os.waitpid(started.pid, 0)[1]
        if not os.WIFSTOPPED(status):
            return found, os.waitstatus_to_exitcode(status)
        if os.WSTOPSIG(status) == signal.SIGTRAP:
            found.append(started.exe())
            assert len(found) < 10, "it executes files forever"
        PTRACE(7, started.pid, None, None)  # PTRACE_CONT


PTRACE = ctypes.CDLL(None).ptrace
PTRACE.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def test_nobody_can_write_to_the_stub(start: Start) -> None:
    started = start("/none", "none", error=full_pipe())
    exe = f"/proc/{started.pid}/exe"
    with pytest.raises(OSError, match="Text file busy"):
        os.open(exe, os.O_WRONLY)

    # CVE-2019-5736 keeps a descriptor until nothing executes the file any more.
    kept = os.open(exe, os.O_RDONLY)
    os.read(started.descriptors["error"], mmap.PAGESIZE)
    assert started.report() == "ENOENT"
    assert started.wait() == 127
    descriptor = os.open(f"/proc/self/fd/{kept}", os.O_RDWR)
    before = os.pread(descriptor, 4096, 0)
    try:
        for change in (
            lambda: os.write(descriptor, b"x"),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.ftruncate(descriptor, 4096),
            lambda: mmap.mmap(descriptor, 0),
            lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0),
        ):
            with pytest.raises(PermissionError):
                change()
        assert os.pread(descriptor, 4096, 0) == before == stubs.program(NATIVE, ERROR_FD)
    finally:
        os.close(kept)
        os.close(descriptor)


@both
def test_no_memory_of_a_stub_is_writable_and_executable(start: Start, init: bool) -> None:
    if init:
        started = start(*shell("read line"), init=True)
    else:
        started = start("/none", "none", error=full_pipe())
    with open(f"/proc/{started.pid}/maps") as file:
        maps = [line.split() for line in file]
    assert started.exe().startswith("/memfd:")
    assert [(fields[1], fields[-1]) for fields in maps if "w" in fields[1]] == [("rw-p", "[stack]")]


# -------------------------------------------------------------------------------- making the file


def test_an_older_kernel_is_asked_without_mfd_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.memfd_create

    def older(name: str, how: int) -> int:
        if how & stubs.MFD_EXEC:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name, how)

    monkeypatch.setattr(os, "memfd_create", older)
    descriptor = stubs.exec_stub(ERROR_FD)
    assert os.read(descriptor, 4) == b"" and os.pread(descriptor, 4, 0) == b"\x7fELF"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_host_that_forbids_it_is_told_how_to_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, how: int) -> int:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(EngineError, match="Permission denied") as raised:
        stubs.exec_stub(ERROR_FD)
    assert "vm.memfd_noexec" in (raised.value.hint or "")


def test_half_a_stub_is_no_stub() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="limit on file sizes"):
            stubs.exec_stub(ERROR_FD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---------------------------------------------------------------------------------------- the init


@everywhere
def test_init_passes_a_signal_on(start: Start, machine: str) -> None:
    script = "trap 'echo ended; exit 9' TERM; echo ready; while :; do read line; done"
    started = start(*shell(script), machine=machine, init=True)
    started.output(until=b"ready\n")
    started.born.signal(signal.SIGTERM)
    assert started.output() == b"ended\n"
    assert started.wait() == 9


def test_init_passes_every_signal_on(start: Start) -> None:
    """SIGCHLD is init's own; 32 and 33 are the C library's, which lets nobody wait for them."""
    started = start(
        *python("""
            import signal
            every = signal.valid_signals()
            signal.pthread_sigmask(signal.SIG_BLOCK, every)
            print("ready")
            while True:
                print(int(signal.sigwait(every)))
        """),
        init=True,
    )
    started.output(until=b"ready\n")
    # A real-time signal needs a place in the queue; the standard ones stand in no one's way.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        started.born.signal(number)
        assert started.output(until=b"\n") == b"%d\n" % number


def test_init_keeps_the_standard_streams_and_nothing_else(start: Start) -> None:
    def leak() -> None:
        os.dup2(0, 50)

    script = "trap 'echo heard' USR1; echo ready; while :; do read line; done"
    started = start(*shell(script), init=True, prepare=leak)
    started.output(until=b"ready\n")
    started.born.signal(signal.SIGUSR1)
    started.output(until=b"heard\n")  # so it is past its preparations
    # Once in many runs on an emulated processor one more was seen there for a moment.
    deadline = time.monotonic() + patience.seconds(1)
    while (found := sorted(os.listdir(f"/proc/{started.pid}/fd"))) != ["0", "1", "2"]:
        assert time.monotonic() < deadline, found


def test_init_lets_go_of_the_report_where_close_range_is_refused(start: Start) -> None:
    """By an older kernel, or by a seccomp policy that is older than the call."""

    def refuse() -> None:
        code = (
            (0x20, 0, 0, 0),  # load the system call's number
            (0x15, 0, 1, flags.NR_close_range),  # another one: jump over the next
            (0x06, 0, 0, 0x50000 | errno.ENOSYS),  # SECCOMP_RET_ERRNO
            (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        )
        text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
        program = struct.pack("HP", len(code), ctypes.addressof(text))
        syscalls.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)
        assert PRCTL(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    started = start(*shell("read line"), init=True, prepare=refuse)
    assert started.report() is None


PRCTL = ctypes.CDLL(None).prctl
PRCTL.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]


def test_init_reports_that_it_cannot_fork(start: Start) -> None:
    def forbid() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)  # root may always fork
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    started = start(*shell("true"), init=True, prepare=forbid)
    assert started.report() == "EAGAIN"
    assert started.wait() == 127


BOX = flags.CLONE_NEWPID | flags.CLONE_NEWNS


@pytest.mark.root
@everywhere
def test_init_reaps_all_orphans_and_goes_on(start: Start, machine: str) -> None:
    """Three that die while init is stopped: behind one SIGCHLD, which does not queue."""
    script = """
        echo ready; read line
        orphans=$(for n in 1 2 3; do sleep 0.01 >/dev/null & echo $!; done)
        for one in $orphans; do until grep -q '^State:.Z' /proc/$one/status; do :; done; done
        echo dead
        for one in $orphans; do while kill -0 $one 2>/dev/null; do :; done; done
        trap 'exit 5' TERM
        echo reaped; while :; do read line; done
    """
    started = start(*shell(script), machine=machine, init=True, namespaces=BOX)
    started.output(until=b"ready\n")
    started.born.signal(signal.SIGSTOP)
    os.waitid(os.P_PIDFD, started.born.pidfd, os.WSTOPPED)
    started.write(b"begin\n")
    started.output(until=b"dead\n")
    started.born.signal(signal.SIGCONT)
    started.output(until=b"reaped\n")
    started.born.signal(signal.SIGTERM)
    assert started.wait() == 5


@pytest.mark.root
def test_nobody_outlives_init(start: Start) -> None:
    started = start(*shell("sleep 1000 & echo ready; read line; exit 6"), init=True, namespaces=BOX)
    started.output(until=b"ready\n")
    (program,) = started.children()
    with open(f"/proc/{program}/task/{program}/children") as file:
        sleeper = os.pidfd_open(int(file.read()))
    started.write(b"end\n")
    assert started.wait() == 6
    assert select.select([sleeper], [], [], patience.seconds(10))[0]
    os.close(sleeper)


@pytest.mark.root
def test_pid_1_hears_a_signal_from_inside(start: Start) -> None:
    """Without init the kernel drops what PID 1 has no handler for; the program is not PID 1."""
    started = start(*shell("kill -TERM 1; while :; do read line; done"), init=True, namespaces=BOX)
    assert started.wait() == 128 + signal.SIGTERM


@pytest.mark.root
def test_a_job_reaches_the_log_through_pid_1(start: Start) -> None:
    started = start(*shell("echo logged >/proc/1/fd/1"), init=True, namespaces=BOX)
    assert started.output() == b"logged\n"


@everywhere
def test_the_program_has_the_terminal(start: Start, machine: str) -> None:
    started = start("/bin/sh", "sh", "-i", machine=machine, init=True, terminal=True)
    started.write(b"stty -echo; echo start''ed\n")
    started.output(until=b"started\r\n")
    (program,) = started.children()
    assert os.tcgetpgrp(started.descriptors["input"]) == program == os.getpgid(program)
    assert os.getpgid(started.pid) == started.pid
    started.write(b"exit 5\n")
    assert b"job control" not in started.output()
    assert started.wait() == 5


@everywhere
def test_control_c_ends_the_program_and_so_the_container(start: Start, machine: str) -> None:
    started = start(
        *shell("echo ready; exec sleep 1000"), machine=machine, init=True, terminal=True
    )
    started.output(until=b"ready\r\n")
    started.write(b"\x03")
    assert started.wait() == 128 + signal.SIGINT

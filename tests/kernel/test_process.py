"""Birth, exec and end of a process: what the parent learns of each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import flags, process, syscalls
from tests.support.inside import inside

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
pytestmark = pytest.mark.root


def run(*arguments: str, namespaces: int = 0, fork: bool = False) -> int:
    child = process.spawn(lambda: process.execute(arguments, ENVIRONMENT), namespaces, fork=fork)
    try:
        child.wait_exec()
        return child.wait()
    finally:
        child.close()


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
@pytest.mark.parametrize("namespaces", [0, flags.CLONE_NEWPID | flags.CLONE_NEWNS])
def test_the_exit_code_comes_back(fork: bool, namespaces: int) -> None:
    assert run("true", namespaces=namespaces, fork=fork) == 0
    assert run("sh", "-c", "exit 7", namespaces=namespaces, fork=fork) == 7


def test_a_signal_is_128_and_its_number() -> None:
    assert run("sh", "-c", "kill -KILL $$") == 137
    assert run("sh", "-c", "kill -TERM $$") == 143


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
def test_the_first_process_of_a_pid_namespace_is_number_one(fork: bool) -> None:
    assert inside(os.getpid, flags.CLONE_NEWPID, fork=fork) == 1


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-program", 127, "not found in PATH"),
        ("/no/such/program", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
        ("", 127, "empty command"),
    ],
)
def test_a_program_that_cannot_be_executed(command: str, code: int, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        run(command)
    assert caught.value.exit_code == code


def test_a_script_without_its_interpreter_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(EngineError) as caught:
        run(str(script))
    assert caught.value.exit_code == 127
    assert "interpreter" in (caught.value.hint or "")


def test_a_file_without_format_is_126(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"no program at all")
    program.chmod(0o755)
    with pytest.raises(EngineError, match="exec format error") as caught:
        run(str(program))
    assert caught.value.exit_code == 126


def test_path_is_searched_past_what_cannot_be_executed(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("#!/bin/sh\n")
    path = f"{tmp_path}/first:{tmp_path}/second"
    with pytest.raises(EngineError, match="not executable") as caught:
        process.find_program("tool", path)
    assert caught.value.exit_code == 126
    (tmp_path / "second" / "tool").chmod(0o755)
    assert process.find_program("tool", path) == f"{tmp_path}/second/tool"


@pytest.mark.parametrize("fork", [False, True], ids=["clone3", "fork"])
def test_what_the_child_raises_reaches_the_parent(fork: bool) -> None:
    def child() -> None:
        raise EngineError("no luck", hint="try again", exit_code=99)

    started = process.spawn(child, fork=fork)
    with pytest.raises(EngineError) as caught:
        started.wait_exec()
    assert started.wait() == 125
    started.close()
    assert (caught.value.message, caught.value.hint) == ("no luck", "try again")
    assert caught.value.exit_code == 99
    assert any("test_process.py" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("more", [0, flags.CLONE_NEWPID])
def test_a_failed_unshare_reaches_the_parent_of_the_fork(more: int) -> None:
    with pytest.raises(EngineError, match=r"unshare\(CLONE_NEWNS"):
        started = process.spawn(lambda: None, flags.CLONE_NEWNS | more | 1 << 3, fork=True)
        try:
            started.wait_exec()
        finally:
            started.close()


def test_the_child_cannot_import_from_the_root_that_it_enters() -> None:
    def child() -> None:
        import wave  # noqa: F401 - any module that nobody has imported

    assert "wave" not in sys.modules
    started = process.spawn(child)
    with pytest.raises(EngineError, match="wave"):
        started.wait_exec()
    started.close()


def test_the_child_starts_with_default_signals_and_an_open_mask() -> None:
    def status() -> dict[str, str]:
        with open("/proc/self/status") as file:
            return dict(line.split(":\t", 1) for line in file if line.startswith("Sig"))

    signal.pthread_sigmask(signal.SIG_BLOCK, [])
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        seen = inside(status)
    finally:
        signal.signal(signal.SIGUSR1, before)
    library = 3 << 31  # signals 32 and 33 belong to the C library
    assert {int(value, 16) & ~library for key, value in seen.items() if key != "SigQ"} == {0}


def test_no_clone_while_other_threads_run() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(EngineError, match="other threads"):
            process.spawn(lambda: None)
    finally:
        done.set()
        thread.join()


def test_the_fallback_is_taken_where_the_kernel_has_no_clone3() -> None:
    """Under a filter that answers ENOSYS, as docker's does to programs it does not know."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from minicontainer.kernel import process, flags\n"
        "p = process.spawn(lambda: process.execute(['sh', '-c', 'exit $$'], {'PATH': '/bin'}),"
        " flags.CLONE_NEWPID)\n"
        "p.wait_exec(); sys.exit(40 + p.wait())\n"
    )
    strace = ["strace", "-f", "-qq", "-e", "trace=none", "-e", "inject=clone3:error=ENOSYS"]
    python = ["/usr/bin/python3", "-I", "-S", "-c", program, str(Path(__file__).parents[2])]
    assert subprocess.run([*strace, *python], check=False).returncode == 41


def test_a_pid_with_its_start_time_names_one_process() -> None:
    assert process.start_time(os.getpid()) == process.start_time(os.getpid())
    assert process.start_time(os.getpid()) > process.start_time(1)
    with pytest.raises(ProcessLookupError):
        process.start_time(2**22 + 1)


def test_a_signal_to_an_ended_process_is_no_error() -> None:
    child = process.spawn(lambda: None)
    child.wait()
    child.signal(signal.SIGTERM)
    assert child.wait() == 0
    child.close()


def test_namespaces_need_root_and_the_error_says_so() -> None:
    def child() -> str:
        os.setresuid(65534, 65534, 65534)
        try:
            syscalls.unshare(flags.CLONE_NEWNS)
        except syscalls.SyscallError as error:
            return f"{error} | {error.hint}"
        return "done"

    told = inside(child)
    assert told.startswith("unshare(CLONE_NEWNS): Operation not permitted")
    assert "root" in told


@pytest.mark.parametrize(
    "forged", [b'{"message":"owned","hint":null,"exit_code":0,"trace":""}', b"x" * 100_000]
)
def test_after_the_hand_over_only_an_errno_is_believed(forged: bytes) -> None:
    """A program inside that traces the last step could write to the user's terminal here."""

    def child() -> None:
        process.hand_over()
        report = process.report_descriptor()
        os.write(report, forged)
        os.close(report)
        os.read(blocked, 1)  # and not end, so that whoever waits for the end would hang

    blocked, keep = os.pipe()
    started = process.spawn(child)
    try:
        with pytest.raises(EngineError, match="interfered"):
            started.wait_exec()
    finally:
        started.close()
        os.close(blocked)
        os.close(keep)


def test_after_the_hand_over_an_errno_is_told() -> None:
    def child() -> None:
        process.hand_over()
        raise FileNotFoundError(2, "gone")

    started = process.spawn(child)
    with pytest.raises(EngineError, match='exec "tool": no such file') as caught:
        started.wait_exec("tool")
    assert caught.value.exit_code == 127
    started.close()

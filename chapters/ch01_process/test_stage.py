"""Chapter 01: the program gets what it is given and no more, and its end is told truly."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from chapters import patience
from chapters.conftest import Container
from chapters.stages import CLONE


def test_the_program_ends_and_we_end_as_it_did(stage: Container) -> None:
    assert stage.run("sh", "-c", "exit 0").returncode == 0
    assert stage.run("sh", "-c", "exit 7").returncode == 7


def test_a_killed_program_gives_128_and_the_signal(stage: Container) -> None:
    with stage.start() as container:
        os.kill(container.pid, signal.SIGKILL)
        assert container.program.wait(patience.seconds(30)) == 128 + signal.SIGKILL


def test_a_missing_command_is_127_in_one_line(stage: Container) -> None:
    done = stage.run("no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_command_that_cannot_be_executed_is_126(stage: Container) -> None:
    assert stage.run("/etc/passwd").returncode == 126
    assert stage.run("/etc").returncode == 126


def test_input_and_output_pass(stage: Container) -> None:
    done = stage.run("sh", "-c", "cat; echo error >&2", input="some\ninput\n")
    assert (done.stdout, done.stderr) == ("some\ninput\n", "error\n")


def test_our_environment_is_not_the_programs(stage: Container) -> None:
    with stage.start(environment={"REGISTRY_TOKEN": "s3cret"}) as container:
        environment = Path(f"/proc/{container.pid}/environ").read_text()
    assert "REGISTRY_TOKEN" not in environment
    assert "PATH=/usr/local/sbin:" in environment
    assert "HOME=/root" in environment


def test_our_descriptors_are_not_the_programs(stage: Container, tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    try:
        with stage.start(descriptors=(secret,)) as container:
            assert os.path.exists(f"/proc/{container.host}/fd/{secret}")
            assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
    finally:
        os.close(secret)


def test_no_python_stays_in_the_container(stage: Container) -> None:
    with stage.start() as container:
        assert container.status("Name") == "cat"
        assert Path(f"/proc/{container.pid}/exe").readlink().name in ("cat", "busybox")


def test_signals_have_their_default_actions(stage: Container) -> None:
    """Python ignores SIGPIPE, and an ignored signal stays ignored over an exec."""
    with stage.start() as container:
        for field in ("SigIgn", "SigBlk", "SigCgt"):
            assert int(container.status(field), 16) == 0, field


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_to_us_is_passed_on(stage: Container, name: str) -> None:
    trap = f"trap 'exit 42' {name}; echo ready; while :; do sleep 0.1; done"
    program = subprocess.Popen(
        stage.command("sh", "-c", trap),
        cwd=CLONE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with program:
        assert program.stdout and program.stdout.readline() == b"ready\n"
        program.send_signal(getattr(signal, f"SIG{name}"))
        assert program.wait(patience.seconds(30)) == 42

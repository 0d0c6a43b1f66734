"""What any command line gives: help, errors as one or two lines, exit codes. No root needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.cli import main as program
from minicontainer.errors import EngineError
from tests.support.engine import COMMAND, ROOT, Engine


def call(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return Engine(tmp_path).run(*words, check=False)


def test_version(tmp_path: Path) -> None:
    assert call(tmp_path, "--version").stdout.startswith("minicontainer version ")
    assert call(tmp_path, "version", "--format", "{{.Os}}").stdout == "linux\n"


def test_the_overview_names_every_command(tmp_path: Path) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        done = call(tmp_path, *words)
        assert done.returncode == 0
        assert all(f"\n  {name} " in done.stdout for name in program.COMMANDS)


def test_help_of_a_command(tmp_path: Path) -> None:
    first, second = call(tmp_path, "run", "--help"), call(tmp_path, "help", "run")
    assert first.stdout == second.stdout
    assert "Usage:  minicontainer run [OPTIONS] IMAGE" in first.stdout
    assert first.returncode == second.returncode == 0


def test_no_command_shows_the_overview(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Commands:" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nope"], 1, "unknown command: nope"),
        (["attach", "x"], 1, "docker's attach is not implemented yet"),
        (["image"], 1, "which image command?"),
        (["image", "nope"], 1, "unknown command: image nope"),
        (["--nope", "run"], 125, "unknown flag: --nope"),
        (["run"], 1, "'minicontainer run' requires at least 1 argument"),
        (["run", "--nope", "x"], 125, "unknown flag: --nope"),
        (["ps", "--nope"], 125, "unknown flag: --nope"),
        (["exec", "nope", "true"], 1, "no such container: nope"),
        (["rm", "nope"], 1, "no such container: nope"),
        (["run", "--pull", "never", "nope"], 125, "no such image: nope"),
        (["run", "--pull", "maybe", "nope"], 125, "invalid pull option 'maybe'"),
        (["run", "UPPER"], 125, "invalid image name 'UPPER'"),
        (["rmi", "nope"], 1, "no such image: nope"),
        (["tag", "nope", "other"], 1, "no such image: nope"),
        (["kill", "-s", "NOPE", "x"], 1, "invalid signal: NOPE"),
        (["ps", "--filter", "color=red"], 1, "invalid filter 'color'"),
    ],
)
def test_errors(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    done = call(tmp_path, *words)
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"minicontainer: {message}")
    assert len(lines) <= 2 and all(line.startswith("hint: ") for line in lines[1:])
    assert (done.stdout, done.returncode) == ("", code)


def test_an_error_shows_its_trace_only_with_debug(tmp_path: Path) -> None:
    assert "Traceback" not in call(tmp_path, "rmi", "nope").stderr
    assert "Traceback" in call(tmp_path, "--debug", "tag", "nope", "x").stderr


def test_a_bug_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                           tmp_path: Path) -> None:  # fmt: skip
    def broken(words: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(program, "find", broken)
    assert program.main(["--root", str(tmp_path), "ps"]) == 125
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "minicontainer: internal error: ZeroDivisionError: division by zero"
    assert error[1].startswith("hint: this is a bug")


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "find", interrupted)
    assert program.main(["--root", str(tmp_path), "ps"]) == 130


def test_an_error_of_the_system_names_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def full(words: object) -> None:
        raise OSError(28, os.strerror(28), "/some/file")

    monkeypatch.setattr(program, "find", full)
    program.main(["--root", str(tmp_path), "ps"])
    assert capsys.readouterr().err == "minicontainer: /some/file: No space left on device\n"


def test_the_engines_error_keeps_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(words: object) -> None:
        raise EngineError("x", exit_code=127)

    monkeypatch.setattr(program, "find", missing)
    assert program.main(["--root", str(tmp_path), "ps"]) == 127


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [COMMAND, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.stderr, done.returncode) == ("", 141)


@pytest.mark.parametrize("words", [["--help"], ["help", "run"], ["version"]])
def test_a_full_disk_behind_the_output_is_said(tmp_path: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            Engine(tmp_path).command(*words), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    said = "minicontainer: cannot write the standard output: no space left on device\n"
    assert done.stderr == said
    assert done.returncode != 0


@pytest.mark.parametrize("name", ["image", "container"])
def test_help_of_a_group_names_its_commands(tmp_path: Path, name: str) -> None:
    for words in ([name, "--help"], [name, "-h"], ["help", name]):
        done = call(tmp_path, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Usage:  minicontainer {name} COMMAND" in done.stdout
        assert all(f"\n  {word} " in done.stdout for word in ("inspect", "prune", "ls"))


def test_the_overview_has_single_blanks(tmp_path: Path) -> None:
    assert "Usage:  minicontainer [OPTIONS] COMMAND" in call(tmp_path, "--help").stdout


def test_a_closed_standard_output_is_no_harm(tmp_path: Path) -> None:
    """The next file that the engine opens must not become its standard output."""
    script = 'exec 1>&- 2>&-; exec "$@"'
    engine = Engine(tmp_path)
    done = subprocess.run(["sh", "-c", script, "sh", *engine.command("ps", "-a")], check=False)
    assert done.returncode == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minicontainer", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("minicontainer version ")


HEAVY = (
    "typing pathlib dataclasses json argparse socket signal subprocess re enum contextlib shutil "
    "tempfile hashlib logging functools collections threading datetime inspect random"
).split()


@pytest.mark.root
def test_the_start_path_imports_little(engine: Engine, starter: str) -> None:
    """Each of these costs milliseconds of every start (the design's section 3)."""
    words = engine.command("run", "--rm", starter, "true")
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-X", "importtime", *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "minicontainer.engine.run" in imported
    assert imported & set(HEAVY) == set()

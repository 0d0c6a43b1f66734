"""./dev on a machine that lacks something: what it installs, what it says, what it refuses.

It runs here among pretended programs: an apt-get that only notes what it was asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import ROOT

# What dev itself calls. Everything else is missing on the pretended machine.
SHELL_TOOLS = "sh cat cksum mktemp rm tail sed dirname env id printf"


class Machine:
    """A directory with a copy of dev, and a PATH on which only pretended programs are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "clone"
        self.programs = directory / "bin"
        self.calls = directory / "calls"
        self.directory.mkdir()
        self.programs.mkdir()
        shutil.copy(ROOT / "dev", self.directory)
        shutil.copy(ROOT / "pyproject.toml", self.directory)
        for name in SHELL_TOOLS.split():
            program = shutil.which(name)
            if program:
                (self.programs / name).symlink_to(program)
        self.pretend("sudo", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
        self.pretend("apt-get", "")
        self.pretend("apt-cache", "")

    def pretend(self, name: str, script: str, path: Path | None = None) -> Path:
        """Put a program there that notes its call and then does what the script says."""
        program = path or self.programs / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n')
        program.chmod(0o755)
        return program

    def environment(self, *extras: str) -> None:
        """A virtual environment that is up to date, with these extras."""
        self.pretend("venv-python", "", self.directory / ".venv" / "bin" / "python")
        wanted = subprocess.run(
            [ROOT / "dev", "requirements"], capture_output=True, check=True
        ).stdout
        stamp = subprocess.run(["cksum"], input=wanted, capture_output=True, check=True).stdout
        for extra in extras:
            (self.directory / ".venv" / f".has-{extra}").write_bytes(stamp)

    def dev(
        self, *arguments: str, prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, str(self.directory / "dev"), *arguments],
            env={"PATH": str(self.programs)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_help_names_every_command(machine: Machine) -> None:
    done = machine.dev()
    assert done.returncode == 0
    for name in ("demo", "test", "bench", "lint", "docs"):
        assert f"./dev {name}" in done.stdout


def test_an_unknown_command_is_refused(machine: Machine) -> None:
    done = machine.dev("tset")
    assert done.returncode == 1
    assert done.stderr.endswith("dev: no such command: tset\n")


def test_missing_packages_are_installed_and_named_in_one_line(machine: Machine) -> None:
    machine.environment("dev", "docs")
    done = machine.dev("test", "-x")
    assert done.returncode == 0, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if "installing" in line)
    assert said.startswith("dev: installing with apt: ")
    assert " crun " in said
    calls = [line for line in machine.called() if not line.startswith(("sudo", "apt-cache"))]
    assert calls[0] == "apt-get -q update"
    assert calls[1].startswith("apt-get -q install -y --no-install-recommends ")
    assert " crun " in calls[1]
    assert calls[2] == "venv-python -m pytest -x"


def test_a_package_that_the_release_does_not_have_is_left_out(machine: Machine) -> None:
    """Ubuntu's chromium is a snap."""
    machine.environment("dev", "docs")
    machine.pretend("apt-cache", '[ "$2" != chromium ]')
    done = machine.dev("test")
    assert done.returncode == 0, done.stderr
    assert "dev: this system's apt has no chromium: what needs it is skipped\n" in done.stderr
    (install,) = (line for line in machine.called() if " install " in line)
    assert "chromium" not in install


def test_what_is_there_is_not_installed_again(machine: Machine) -> None:
    machine.environment("dev")
    machine.pretend("shellcheck", "")
    machine.pretend("ruff", "", machine.directory / ".venv" / "bin" / "ruff")
    machine.pretend("mypy", "", machine.directory / ".venv" / "bin" / "mypy")
    done = machine.dev("lint")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line.split()[0] for line in machine.called()] == ["ruff", "ruff", "mypy", "shellcheck"]


def test_a_failed_installation_is_shown_and_ends_it(machine: Machine) -> None:
    machine.environment("dev", "docs")
    machine.pretend("apt-get", "echo E: no such package; exit 100")
    done = machine.dev("test")
    assert done.returncode == 1
    assert "E: no such package\ndev: apt could not update: " in done.stderr
    assert not [line for line in machine.called() if "pytest" in line]


def test_a_system_without_apt_is_told_what_to_install(machine: Machine) -> None:
    (machine.programs / "apt-get").unlink()
    done = machine.dev("test")
    assert done.returncode == 1
    assert "dev: please install, with this system's package manager: " in done.stderr
    assert "crun" in done.stderr


def test_a_changed_pyproject_renews_the_environment(machine: Machine) -> None:
    machine.environment("docs")
    project = machine.directory / "pyproject.toml"
    project.write_text(project.read_text().replace('"mkdocs>=1.6', '"mkdocs>=1.7'))
    machine.pretend("mkdocs", "", machine.directory / ".venv" / "bin" / "mkdocs")
    done = machine.dev("docs", "build")
    assert done.returncode == 0, done.stderr
    assert "dev: installing into .venv: minicontainer[docs]\n" in done.stderr
    assert any("pip install" in line and ".[docs]" in line for line in machine.called())
    assert machine.called()[-1] == "mkdocs build --strict"
    before = len(machine.called())
    machine.dev("docs", "build")
    assert machine.called()[before:] == ["mkdocs build --strict"]


def test_a_user_runs_the_tests_through_sudo(machine: Machine) -> None:
    machine.environment("dev", "docs")
    machine.pretend("id", "echo 1000")
    machine.pretend("sudo", "")
    done = machine.dev("test")
    assert "dev: running as root, through sudo" in done.stderr
    last = next(line for line in machine.called() if "pytest" in line)
    assert last.startswith("sudo -- env CI= ")


def over_python(file: str | Path, machine: Machine) -> tuple[str, ...]:
    """A command line before another: with this file in the place of /usr/bin/python3, for it."""
    shell = f'mount --bind {file} /usr/bin/python3 && PATH={machine.programs} exec "$@"'
    unshare = shutil.which("unshare") or "unshare"
    return (unshare, "--mount", "/bin/sh", "-c", f"PATH=/usr/bin:/bin; {shell}", "sh")


@pytest.mark.root
def test_a_machine_without_python_gets_one(machine: Machine) -> None:
    done = machine.dev("lint", prefix=over_python("/dev/null", machine))
    assert "dev: installing with apt: python3\n" in done.stderr
    assert any(line.startswith("apt-get") and "python3" in line for line in machine.called())


@pytest.mark.root
def test_an_old_python_is_named(machine: Machine) -> None:
    old = machine.pretend("python3", '[ "$1" != --version ] || echo Python 3.9.2; exit 1')
    done = machine.dev("lint", prefix=over_python(old, machine))
    assert done.returncode == 1
    assert "dev: Python 3.11 or newer is needed, and this is Python 3.9.2: " in done.stderr


def test_ci_runs_the_same_tests_with_skips_as_failures(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "dev").write_text('#!/bin/sh\necho "CI=$CI $*"\n')
    (tmp_path / "dev").chmod(0o755)
    done = subprocess.run(
        ["bash", tmp_path / ".ci" / "run"],
        cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "CI=true test\nCI=true vm test\n"

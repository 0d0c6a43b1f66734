"""The book's command: python3 -m chapters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chapters import doctor, ground, patience, stages
from chapters.stages import CLONE
from minicontainer.kernel import cgroups
from tests.support import machine


def command(*words: str | Path, cache: Path = Path("/nowhere")) -> subprocess.CompletedProcess[str]:
    """Run it as a reader does: with the system's Python, from the clone, nothing installed."""
    return subprocess.run(
        ["/usr/bin/python3", "-m", "chapters", *words],
        cwd=CLONE,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience.seconds(120),
        check=False,
    )


@pytest.mark.host
def test_list_names_every_chapter() -> None:
    lines = command("list").stdout.splitlines()
    assert len(lines) == len(stages.chapters()) + 1
    assert lines[-1] == "(in brackets: a later release)"
    assert lines[2].startswith("03 mounts ")


@pytest.mark.root
def test_run_makes_a_root_file_system_once(tmp_path: Path) -> None:
    first = command("run", "2", "ls", "/", cache=tmp_path)
    assert first.returncode == 0
    assert "made a root file system" in first.stderr
    again = command("run", "chroot", "ls", "/", cache=tmp_path)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert "bin" in first.stdout.split()


@pytest.mark.root
def test_run_takes_a_root_file_system_and_gives_the_exit_code(rootfs: Path) -> None:
    (rootfs / "marker").touch()
    done = command("run", "3", rootfs, "sh", "-c", "ls /marker; exit 9")
    assert (done.stdout, done.returncode) == ("/marker\n", 9)
    assert command("run", "engine", rootfs, "hostname").stdout == "container\n"
    # Options are the program's.
    assert command("run", "4", rootfs, "--", "nothing").returncode == 127


@pytest.mark.root
def test_a_mistyped_root_directory_is_not_taken_for_the_program(tmp_path: Path) -> None:
    done = command("run", "2", "norootfs", "true", cache=tmp_path)
    assert done.returncode == 127
    assert "no directory 'norootfs'" in done.stderr
    assert "image starter --rootfs norootfs" in done.stderr
    # A single word can only be the program: the stage itself says that it is not there.
    alone = command("run", "2", "nothing", cache=tmp_path)
    assert alone.returncode == 127
    assert "directory" not in alone.stderr


@pytest.mark.root
@pytest.mark.host
@pytest.mark.needs("new-mount-api", "overlay")
def test_why_takes_a_part_and_tells_no_accidents_of_python() -> None:
    done = command("why", "mount_one")
    assert [line for line in done.stdout.splitlines() if line and line[0] != " "] == [
        "run",
        "mount_one",
    ]
    assert "a later line needs what it makes" in done.stdout
    assert "not defined" not in done.stdout
    assert "local variable" not in done.stdout
    none = command("why", "no such line")
    assert none.returncode == 125
    assert "no line of the start" in none.stderr


@pytest.mark.root
@pytest.mark.host
def test_attack_tells_before_and_after() -> None:
    done = command("attack", "2")
    verdicts = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line[0] == " "]
    assert ["01", "process", "gets through"] in verdicts
    assert ["02", "chroot", "is stopped"] in verdicts
    verbose = command("attack", "2", "--on", "1", "--verbose")
    assert 'cat "$1"' in verbose.stdout
    assert "stopped" not in verbose.stdout


@pytest.mark.root
def test_what_a_killed_stage_left_is_swept_up() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, used = (cgroups.create(f"chapter-08-{pid}", {}) for pid in (ended.pid, os.getpid()))
    try:
        ground.sweep()
        there = Path("/sys/fs/cgroup")
        assert not list(there.rglob(f"chapter-08-{ended.pid}"))
        assert list(there.rglob(f"chapter-08-{os.getpid()}"))  # it may be about to be used
    finally:
        left.remove()
        used.remove()


@pytest.mark.root
@pytest.mark.host
@pytest.mark.needs("new-mount-api", "overlay")
def test_look_has_a_row_for_each_stage(tmp_path: Path) -> None:
    rows = command("look", cache=tmp_path).stdout.splitlines()[1:]
    assert [row.split("  ")[0] for row in rows] == [stage.label for stage in stages.stages()]
    names = {row[:13].strip(): row.split()[2 if row[0].isdigit() else 1] for row in rows[1:]}
    assert names["03 mounts"] == os.uname().nodename
    assert names["04 identity"] == names["engine"] == "container"


@pytest.mark.host
def test_diff_shows_what_is_new() -> None:
    new = [line for line in command("diff", "2").stdout.splitlines() if line.startswith("+")]
    assert "+        chroot.chroot(rootfs)" in new
    assert "+++ chapters/ch01_process/container.py" in command("diff", "1").stdout


@pytest.mark.host
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "99", "true"], "no stage '99'"),
        (["run", "2"], "no command"),
        (["run", "18", "true"], "chapter 18 is not written yet"),
        (["attack", "17"], "chapter 17 is not written yet"),
        (["diff", "x"], "no chapter 'x'"),
        (["diff", "18"], "not written yet"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words: list[str], said: str) -> None:
    done = command(*words)
    assert done.returncode == 125
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.host
def test_the_exercises_say_that_they_are_to_come() -> None:
    done = command("start", "3")
    assert done.returncode == 2
    assert "not written yet" in done.stdout


@pytest.mark.root
@pytest.mark.tools("busybox", "strace", "ip")
def test_the_doctor_finds_this_machine_well() -> None:
    done = command("doctor")
    assert done.returncode == 0, done.stdout
    last = stages.ready()[-1]["number"]
    assert done.stdout.splitlines()[-1] == f"All is well: chapters 01 to {last:02} run here."
    assert "lacks" not in done.stdout


def doctor_where(script: str) -> tuple[int, list[str]]:
    """What the doctor says in a network of its own that was set up by a script."""
    line = f"{script}; exec {sys.executable} -m chapters doctor"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", line],
        cwd=CLONE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.root
@pytest.mark.host
@pytest.mark.tools("busybox", "strace", "ip", "nft")
def test_the_doctor_says_what_the_networks_would_meet() -> None:
    code, said = doctor_where(
        "ip link add lan type veth peer name other; ip address add 10.12.7.7/16 dev lan; "
        "ip link set other up; ip link set lan up; nft add table inet filter; "
        "nft add chain inet filter f '{ type filter hook forward priority 0; policy drop; }'"
    )
    notes = [line for line in said if line.startswith("note ") and "slower" not in line]
    assert code == 0
    assert notes[0] == (
        "note   this host's way to 10.12.0.0/16, by lan, is cut off while the stage runs "
        "(chapter 12)"
    )
    assert notes[1].startswith("note   this host's firewall drops what it forwards")
    assert len(notes) == 2
    assert not [line for line in doctor_where("ip link set lo up")[1] if line in notes]


@pytest.mark.root
@pytest.mark.host
@pytest.mark.tools("busybox", "strace", "ip")
def test_the_doctor_tries_what_the_networks_need(tmp_path: Path) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "nft").chmod(0o755)
    code, said = doctor_where(f"PATH={tmp_path}:$PATH")
    assert code == 1
    assert "ok     a bridge, and a cable to it (chapter 12)" in said
    lacks = "lacks  a firewall that translates addresses, and looks into bridges (chapter 13)"
    assert said[said.index(lacks) + 1].startswith("       to do: apt-get install nftables")


def find(monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[int, list[str]]:
    """What the doctor says of a machine on which some things are otherwise."""
    for name, value in changes.items():
        monkeypatch.setattr(doctor, name, value)
    said: list[str] = []
    return doctor.report(doctor.examine(), said.append), said


@pytest.mark.host
def test_the_doctor_says_what_is_missing_for_whom_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "missing", lambda feature: feature == "overlay" or None)
    code, said = find(monkeypatch, PROGRAMS={"sh": "dash", "no-such-program": "nothing"})
    assert code == 1
    lacks = "lacks  the kernel's overlay file system (chapters 07 to "
    (overlay,) = [number for number, line in enumerate(said) if line.startswith(lacks)]
    assert said[overlay + 1].startswith(
        "       to do: modprobe overlay, or take the book's Linux VM"
    )
    programs = said.index("lacks  programs to look with: no-such-program")
    assert said[programs + 1] == "       to do: apt-get install nothing"
    assert said[-1].endswith(" to mend.")


@pytest.mark.host
def test_what_only_a_later_chapter_needs_is_no_reason_to_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = doctor.Finding("a feature", "wait", [99])
    said: list[str] = []
    assert doctor.report(iter([later]), said.append) == 0
    assert said[:2] == ["later  a feature (chapter 99)", "       to do: wait"]


@pytest.mark.host
def test_on_another_system_the_doctor_sends_to_the_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code, said = find(monkeypatch)
    assert (code, said[-1]) == (1, "1 to mend.")
    assert said[0].startswith("lacks  Linux (this is ")
    assert said[1] == "       to do: take the book's Linux VM: ./dev vm up"


@pytest.mark.host
def test_an_old_python_is_told_so() -> None:
    pretend = "import sys; sys.version_info = (3, 10, 2); sys.version = '3.10.2 x'; import chapters"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", pretend], cwd=CLONE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "python3 -m chapters: Python 3.11 or newer is needed, and this is"
    )

"""The system-call filter of a container: on by default, chosen by option, kept for the next."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minicontainer import files
from minicontainer.engine import filters
from minicontainer.engine.home import Home
from minicontainer.engine.record import Record
from minicontainer.kernel import seccomp_compiler, seccomp_default, seccomp_profile
from tests.support.engine import Engine

pytestmark = pytest.mark.root

NO_CHMOD = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["chmod", "fchmod", "fchmodat", "fchmodat2"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 95,  # EOPNOTSUPP
        }
    ],
}


def seccomp_of(pid: int) -> str:
    """The mode in /proc/PID/status, seen from outside: 0 none, 2 a filter."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in status if line.startswith("Seccomp:"))


def pid_of(engine: Engine, name: str) -> int:
    return int(json.loads(engine.output("inspect", name))[0]["State"]["Pid"])


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_is_on_from_outside(engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "plain", starter, "sleep", "1000")
    engine.run("run", "-d", "--name", "user", "--user", "1:1", starter, "sleep", "1000")
    engine.run("run", "-d", "--name", "init", "--init", starter, "sleep", "1000")
    for name in ("plain", "user"):
        assert seccomp_of(pid_of(engine, name)) == "2"
    first = pid_of(engine, "init")
    (program,) = children_of(first)
    assert [seccomp_of(first), seccomp_of(program)] == ["2", "2"]


def test_exec_is_filtered_as_the_container_is(engine: Engine, starter: str) -> None:
    for name, option in (("filtered", "builtin"), ("open", "unconfined")):
        engine.run("run", "-d", "--name", name, "--security-opt", f"seccomp={option}", starter,
                   "sleep", "1000")  # fmt: skip
    command = ("sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true")
    filtered = engine.run("exec", "filtered", *command, check=False)
    assert filtered.stdout == "Seccomp:\t2\n"
    assert "Operation not permitted" in filtered.stderr
    opened = engine.run("exec", "open", *command)
    assert opened.stdout == "Seccomp:\t0\n"
    assert engine.output("exec", "--user", "1", "filtered", *command[:2],
                         "grep Seccomp: /proc/self/status") == "Seccomp:\t2"  # fmt: skip


def test_exec_when_the_containers_copy_is_damaged(engine: Engine, starter: str) -> None:
    """It is made again from config.json, and never left out."""
    identity = engine.output("run", "-d", starter, "sleep", "1000")
    copy = engine.root / "containers" / identity / "seccomp"
    look = ("exec", identity, "grep", "Seccomp:", "/proc/self/status")
    text = copy.read_bytes()
    for damaged in (text[:-8], text.replace(b"\n", b"\n0", 1), b"", b"\n\n\n\n"):
        copy.write_bytes(damaged)
        assert engine.output(*look) == "Seccomp:\t2"
    copy.unlink()
    assert engine.output(*look) == "Seccomp:\t2"


def test_unconfined(engine: Engine, starter: str) -> None:
    identity = engine.output("run", "-d", "--security-opt", "seccomp=unconfined", starter, "sleep",
                             "1000")  # fmt: skip
    assert seccomp_of(pid_of(engine, identity)) == "0"
    assert "seccomp" not in json.loads(
        (engine.root / "containers" / identity / "config.json").read_text()
    )["linux"]  # fmt: skip
    host = json.loads(engine.output("inspect", identity))[0]["HostConfig"]
    assert host["SecurityOpt"] == ["seccomp=unconfined"]


def test_a_profile_of_ones_own(engine: Engine, starter: str, tmp_path: Path) -> None:
    file = tmp_path / "no-chmod.json"
    file.write_text(json.dumps(NO_CHMOD, indent=1))
    option = ("--security-opt", f"seccomp={file}")
    script = "touch /x; chmod 600 /x; unshare -U echo unshared"
    done = engine.run("run", "--name", "own", *option, starter, "sh", "-c", script, check=False)
    assert "not supported" in done.stderr
    assert done.stdout == "unshared\n"
    host = json.loads(engine.output("inspect", "own"))[0]["HostConfig"]
    (told,) = host["SecurityOpt"]
    assert json.loads(told.removeprefix("seccomp=")) == NO_CHMOD


def test_an_empty_profile_is_no_filter(engine: Engine, starter: str, tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text("{}")
    assert engine.output("run", "--rm", "--security-opt", f"seccomp={file}", starter, "grep",
                         "Seccomp:", "/proc/self/status") == "Seccomp:\t0"  # fmt: skip


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("seccomp=FILE", "FILE:3: syscalls[0].action: unknown action 'SCMP_ACT_ALOW'\n"),
        ("seccomp=/no/such", "cannot read the seccomp profile /no/such: no such file or directory"),
        ("seccomp=/", "cannot read the seccomp profile /: is a directory"),
        ("seccomp=", 'invalid --security-opt: "seccomp="'),
        ("seccomp=/bin/busybox", "the seccomp profile /bin/busybox: it is not UTF-8"),
        ("apparmor=", 'invalid --security-opt: "apparmor="'),
        ("label=type:x", "label=type:x cannot be had: the engine gives no SELinux labels"),
        ("magic", 'invalid --security-opt: "magic"'),
    ],
)
def test_bad_ones(engine: Engine, starter: str, tmp_path: Path, option: str, told: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(
        '{"defaultAction": "SCMP_ACT_ERRNO",\n "syscalls": [{"names": ["read"],\n'
        '  "action": "SCMP_ACT_ALOW"}]}\n'
    )
    done = engine.run("run", "--rm", "--security-opt", option.replace("FILE", str(file)), starter,
                      "true", check=False)  # fmt: skip
    assert done.returncode == 125
    assert told.replace("FILE", str(file)) in done.stderr
    assert not (engine.root / "containers").exists()  # the first thing that a start makes


def test_a_profile_that_no_program_can_start_behind(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    file = tmp_path / "nothing.json"
    file.write_text('{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": []}')
    done = engine.run("run", "--rm", "--security-opt", f"seccomp={file}", starter, "true",
                      check=False)  # fmt: skip
    assert done.returncode == 125
    assert "refuses write and execveat and fcntl and execve and capset" in done.stderr


# ------------------------------------------------------------------------------- what is kept


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(str(tmp_path / "lib"), str(tmp_path / "run"))
    made.make()
    return made


def record(home: Home, id: str, **fields: Any) -> Record:
    os.mkdir(home.container(id))
    return Record(id=id, capabilities=["CAP_CHOWN"], **fields)


def kept(home: Home) -> list[Path]:
    return sorted(Path(home.root, "seccomp").iterdir())


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled, in order."""
    found: list[str] = []
    choose: Callable[[Record], Any] = filters._choose

    def count(record: Record) -> Any:
        found.append(record.id)
        return choose(record)

    monkeypatch.setattr(filters, "_choose", count)
    return found


def program(home: Home, record: Record) -> bytes:
    chosen = filters.prepare(home, record)
    assert chosen is not None
    return chosen.filter.program


def test_the_second_container_does_not_compile(home: Home, compiled: list[str]) -> None:
    first, second = record(home, "a"), record(home, "b")
    assert program(home, first) == program(home, second)
    assert compiled == ["a"]
    assert len(kept(home)) == 1
    assert kept(home)[0].stat().st_mode & 0o777 == 0o600
    assert Path(home.root, "seccomp").stat().st_mode & 0o777 == 0o700


def test_it_is_what_the_compiler_makes(home: Home) -> None:
    chosen = filters.prepare(home, record(home, "a"))
    again = filters.prepare(home, record(home, "b"))
    rules = seccomp_profile.select(
        seccomp_default.profile(), ["CAP_CHOWN"], os.uname().machine, os.uname().release
    )
    assert chosen is not None
    assert again is not None
    assert rules is not None
    assert json.loads(chosen.profile) == json.loads(again.profile) == rules
    expected = seccomp_compiler.compile_filter(rules)
    for found in (chosen.filter, again.filter):
        assert (found.program, found.how) == (expected.program, expected.how)


def test_whatever_it_depends_on_makes_another_one(
    home: Home, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(home, record(home, "plain"))
    program(home, record(home, "init", init=True))
    profile = filters.check(json.dumps(NO_CHMOD), "p")
    program(home, record(home, "own", seccomp=profile))
    more = record(home, "powers")
    more.capabilities = ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    program(home, more)
    monkeypatch.setattr(filters, "__version__", "99")
    program(home, record(home, "newer"))
    real = os.uname()
    monkeypatch.setattr(
        os, "uname", lambda: os.uname_result((real[0], real[1], "99.0", real[3], real[4]))
    )
    program(home, record(home, "kernel"))
    touched = Path(sys.modules[seccomp_compiler.__name__].__file__ or "")
    stat = os.stat

    def other(path: Any, **how: Any) -> os.stat_result:
        return stat(__file__, **how) if str(path) == str(touched) else stat(path, **how)

    monkeypatch.setattr(os, "stat", other)
    program(home, record(home, "source"))
    assert compiled == ["plain", "init", "own", "powers", "newer", "kernel", "source"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-8],
        lambda data: data + b"\0" * 8,
        lambda data: data[:-8] + b"\x06\0\0\0\0\0\xff\x7f",  # return allow
        lambda data: data.replace(b"SCMP_ACT_ERRNO", b"SCMP_ACT_ALLOW", 1),
        lambda data: b"\xff" * len(data),
    ],
)
def test_a_damaged_one_is_made_again(
    home: Home, compiled: list[str], damage: Callable[[bytes], bytes]
) -> None:
    good = program(home, record(home, "a"))
    (file,) = kept(home)
    file.write_bytes(damage(file.read_bytes()))
    assert program(home, record(home, "b")) == good
    assert compiled == ["a", "b"]
    assert program(home, record(home, "c")) == good
    assert compiled == ["a", "b"]


def test_one_under_anothers_name_is_not_taken(home: Home, compiled: list[str]) -> None:
    """A whole file, but made for other capabilities."""
    more = record(home, "a")
    more.capabilities = ["CAP_SYS_ADMIN"]
    open_one = program(home, more)
    (wrong,) = kept(home)
    strict = program(home, record(home, "b"))
    (name,) = set(kept(home)) - {wrong}
    name.write_bytes(wrong.read_bytes())
    assert program(home, record(home, "c")) == strict != open_one


def test_a_container_keeps_its_filter_when_the_others_are_tidied_up(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "KEPT", 2)
    first = record(home, "first")
    mine = program(home, first)
    for number in range(4):
        other = record(home, f"n{number}")
        other.capabilities = [f"CAP_{number}"]
        program(home, other)
    assert len(kept(home)) == 2
    spec = {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_KILL"}}}
    found = filters.of_container(home, first, spec)
    assert found is not None
    assert found.program == mine
    assert filters.of_container(home, first, {"linux": {}}) is None


def test_a_second_start_of_one_container(home: Home) -> None:
    again = record(home, "a")
    assert program(home, again) == program(home, again)


def test_many_engines_that_make_the_same_one_at_once(home: Home) -> None:
    """Each puts its own in the others' place; a file that has lost its last name gets none."""
    mine = program(home, record(home, "first"))
    (file,) = kept(home)
    data = file.read_bytes()
    other = os.fork()
    if not other:
        while True:
            files.write_atomic(str(file), data)
    try:
        for number in range(300):
            one = record(home, f"n{number}")
            assert program(home, one) == mine
            found = filters.of_container(home, one, {"linux": {"seccomp": {}}})
            assert found is not None
            assert found.program == mine
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)

"""Who is alive: the lock of a container's life, and the one undo. No root needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minicontainer.engine import lifetime, names, record, teardown
from minicontainer.engine.ending import parse_signal
from minicontainer.engine.home import Home
from minicontainer.errors import EngineError
from minicontainer.kernel.process import start_time

ID = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "lib"), str(tmp_path / "run"))
    home.make()
    return home


def make(home: Home, **fields: object) -> record.Record:
    os.mkdir(home.container(ID))
    name = names.claim(home, ID, "web")
    made = record.Record(id=ID, name=name, status="created", **fields)
    made.save(home)
    return made


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])


def left(home: Home) -> list[str]:
    found = [*os.listdir(home.run), *os.listdir(f"{home.root}/containers")]
    return found + [name for name in os.listdir(home.names) if name != ".lock"]


def test_a_life(home: Home) -> None:
    assert not lifetime.is_alive(home, ID)
    lock = lifetime.claim(home, ID)
    assert lifetime.is_alive(home, ID)
    with pytest.raises(BlockingIOError):
        lifetime.claim(home, ID, block=False)
    assert list(lifetime.abandoned(home)) == []
    lifetime.drop(home, ID, lock)
    assert not lifetime.is_alive(home, ID)
    assert os.listdir(home.run) == []
    lifetime.drop(home, ID, lock)


def test_who_waits_is_told_the_exit_code(home: Home) -> None:
    lock = lifetime.claim(home, ID)
    end = lifetime.End(home, ID)
    told: list[int | None] = []
    waiting = threading.Thread(target=lambda: told.append(end.wait()))
    waiting.start()
    lifetime.announce(lock, 42)
    lifetime.drop(home, ID, lock)
    waiting.join(20)
    end.close()
    assert told == [42]


def test_the_end_of_a_killed_one_is_unknown(home: Home) -> None:
    lock = lifetime.claim(home, ID)
    end = lifetime.End(home, ID)
    lock.release()  # as the kernel does for a killed process
    assert end.wait() is None
    end.close()
    assert lifetime.End(home, "none").wait() is None


def test_abandoned_lives_are_found(home: Home) -> None:
    lifetime.claim(home, ID).release()
    os.mkdir(home.live("cd"))  # killed between mkdir and lock
    found = list(lifetime.abandoned(home))
    assert [id for id, _ in found] == [ID]
    assert os.listdir(home.run) == [ID]
    lifetime.drop(home, ID, found[0][1])


def test_teardown_kills_and_records(home: Home) -> None:
    make(home)
    child = sleeper()
    lock = lifetime.claim(home, ID)
    record.Live(child.pid, start_time(child.pid), 1, "then").save(home, ID)
    teardown.teardown(home, ID, lock)
    assert child.wait(10) == -9
    found = record.load(home, ID)
    assert found is not None
    assert (found.status, found.exit_code, found.started) == ("exited", 137, "then")
    assert found.error == "the engine was killed"
    assert os.listdir(home.run) == []


def test_teardown_spares_a_process_that_has_the_number_now(home: Home) -> None:
    make(home)
    child = sleeper()
    try:
        lock = lifetime.claim(home, ID)
        record.Live(child.pid, start_time(child.pid) - 1, 1, "then").save(home, ID)
        teardown.teardown(home, ID, lock)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_teardown_with_rm(home: Home) -> None:
    make(home, remove=True)
    teardown.teardown(home, ID, lifetime.claim(home, ID), code=0)
    assert left(home) == []


def test_teardown_twice(home: Home) -> None:
    make(home)
    lock = lifetime.claim(home, ID)
    teardown.teardown(home, ID, lock, code=3, error="why")
    teardown.teardown(home, ID, lifetime.claim(home, ID), code=3, error="why")
    found = record.load(home, ID)
    assert found is not None
    assert (found.status, found.exit_code, found.error) == ("created", 3, "why")


def test_what_never_ran_because_its_engine_was_killed_never_was(home: Home) -> None:
    make(home)
    lifetime.claim(home, ID).release()
    teardown.reconcile(home)
    assert left(home) == []


def test_a_removal_cut_short_is_finished(home: Home) -> None:
    make(home)
    os.unlink(home.container(ID, "container.json"))
    os.mkdir(home.container(ID, "upper"))
    lifetime.claim(home, ID).release()
    teardown.reconcile(home)
    assert names.claim(home, ID, "web") == "web"
    assert os.listdir(f"{home.root}/containers") == os.listdir(home.run) == []


def test_after_a_boot(home: Home) -> None:
    """The run root is empty then: what was half-made or ran with --rm goes, the rest stays."""
    kept = make(home)
    kept.status, kept.exit_code = "exited", 255
    kept.save(home)
    os.mkdir(home.container("half"))
    os.mkdir(home.container("gone"))
    record.Record(id="gone", name="other", remove=True).save(home)
    os.rmdir(home.run)
    teardown.reconcile(home)
    assert os.listdir(f"{home.root}/containers") == [ID]
    assert record.load(home, ID) is not None


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("sigkill", 9), ("SIGTERM", 15), ("RTMIN+3", 37), ("sigrtmin", 34)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "99", "NOPE", "SIG", "_DFL", "RTMIN+x", "RTMIN+99", "-9"]
)
def test_signals_that_are_none(text: str) -> None:
    with pytest.raises(EngineError, match="invalid signal"):
        parse_signal(text)

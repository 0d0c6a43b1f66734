"""The log file: docker's form, whatever bytes come, and in which pieces. No root needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.engine import logs
from minicontainer.engine.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "lib"), str(tmp_path / "run"))
    home.make()
    os.mkdir(home.container("x"))
    return home


def rows(home: Home) -> list[dict[str, str]]:
    text = Path(home.container("x", "log.json")).read_text()
    return [json.loads(line) for line in text.splitlines()]


def written(home: Home, pieces: list[bytes]) -> list[str]:
    path = home.container("x", "log.json")
    if os.path.exists(path):
        os.unlink(path)
    writer = logs.Writer(path)
    for piece in pieces:
        writer.write("stdout", piece)
    writer.close()
    return [row["log"] for row in rows(home)]


def test_lines(home: Home) -> None:
    assert written(home, [b"one\ntwo", b" more\nthree"]) == ["one\n", "two more\n", "three"]
    assert written(home, []) == []
    assert written(home, [b"\n\n"]) == ["\n", "\n"]


def test_a_line_without_end_is_cut(home: Home) -> None:
    assert [len(line) for line in written(home, [b"x" * 40_000, b"y\n"])] == [16384, 16384, 7234]


def test_bytes_that_are_no_text(home: Home) -> None:
    assert written(home, [b"\xff\x00\xc3", b"\xa9\n"]) == ["\ufffd\x00é\n"]


def test_two_streams_do_not_mix_their_lines(home: Home) -> None:
    writer = logs.Writer(home.container("x", "log.json"))
    writer.stream("stdout")(b"out ")
    writer.stream("stderr")(b"err\n")
    writer.stream("stdout")(b"more\n")
    writer.close()
    assert [(row["stream"], row["log"]) for row in rows(home)] == [
        ("stderr", "err\n"), ("stdout", "out more\n"),
    ]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_nothing_is_lost(home: Home, pieces: list[bytes]) -> None:
    lines = b"".join(pieces).split(b"\n")
    expected = [line.decode(errors="replace") + "\n" for line in lines[:-1]]
    if lines[-1]:
        expected.append(lines[-1].decode(errors="replace"))
    assert written(home, pieces) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 5000])
def test_the_last_lines(home: Home, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BLOCK", 1000)  # so that the search goes over many blocks
    writer = logs.Writer(home.container("x", "log.json"))
    writer.write("stdout", b"".join(b"%d\n" % number for number in range(1000)))
    writer.close()
    found = [int(entry.text) for entry in logs.read(home, "x", tail=count)]
    assert found == list(range(max(0, 1000 - count), 1000))


def test_a_line_that_was_cut_short_is_passed_over(home: Home) -> None:
    written(home, [b"one\n", b"two\n"])
    path = Path(home.container("x", "log.json"))
    path.write_text(path.read_text().replace('"two', "two", 1) + '{"log":"thr')
    assert [entry.text for entry in logs.read(home, "x")] == ["one\n"]


def test_no_log(home: Home) -> None:
    assert list(logs.read(home, "x")) == []
    assert list(logs.read(home, "x", follow=True)) == []


@pytest.mark.root
def test_a_full_disk_loses_lines_and_nothing_else(home: Home) -> None:
    writer = logs.Writer("/dev/full")
    writer.write("stdout", b"lost\n")
    writer.close()

"""What is written of a container, and times as docker writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.engine import record
from minicontainer.engine.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path), str(tmp_path / "run"))
    home.make()
    Path(home.container("x")).mkdir()
    Path(home.live("x")).mkdir()
    return home


def test_a_record_comes_back(home: Home) -> None:
    made = record.Record(id="x", name="web", command=["a", "b"], labels={"k": "v"}, remove=True)
    made.save(home)
    found = record.load(home, "x")
    assert found is not None
    for name in record.FIELDS:
        assert getattr(found, name) == getattr(made, name)


def test_no_record(home: Home) -> None:
    assert record.load(home, "x") is None
    assert record.load_live(home, "x") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_damaged_record_is_a_dead_container(home: Home, text: str) -> None:
    Path(home.container("x", "container.json")).write_text(text)
    found = record.load(home, "x")
    assert found is not None
    assert (found.id, found.status, found.command) == ("x", "dead", [])
    assert found.error.startswith("the record is damaged")


def test_two_records_share_no_list() -> None:
    one, other = record.Record(id="a"), record.Record(id="b")
    one.command.append("x")
    one.labels["k"] = "v"
    assert other.command == [] and other.labels == {}


def test_live(home: Home) -> None:
    record.Live(7, 8, 9, "now").save(home, "x")
    live = record.load_live(home, "x")
    assert live is not None
    assert (live.pid, live.start, live.engine, live.started) == (7, 8, 9, "now")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1714557600_000000000, "2024-05-01T10:00:00Z"),
        (1714557600_500000000, "2024-05-01T10:00:00.5Z"),
        (1714557600_000000123, "2024-05-01T10:00:00.000000123Z"),
        (1714557600_123456780, "2024-05-01T10:00:00.12345678Z"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert record.timestamp(nanoseconds) == text

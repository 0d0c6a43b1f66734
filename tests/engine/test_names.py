"""Names and ids of containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.engine import names, record
from minicontainer.engine.home import Home
from minicontainer.errors import EngineError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "lib"), str(tmp_path / "run"))
    home.make()
    return home


def add(home: Home, id: str, name: str) -> record.Record:
    os.mkdir(home.container(id))
    made = record.Record(id=id, name=names.claim(home, id, name), created=id[:4])
    made.save(home)
    return made


A, B, C = "aa" * 32, "ab" * 32, "cc" * 32


def test_a_name_is_one_containers(home: Home) -> None:
    add(home, A, "web")
    with pytest.raises(EngineError) as caught:
        names.claim(home, B, "web")
    assert caught.value.message == (
        f'conflict: the container name "/web" is already in use by container "{A}"'
    )
    assert caught.value.exit_code == 125
    names.release(home, B, "web")
    assert names.find(home, "web").id == A
    names.release(home, A, "web")
    assert names.claim(home, B, "web") == "web"


def test_a_name_whose_container_is_gone_is_free(home: Home) -> None:
    os.symlink(A, f"{home.names}/web")
    assert names.claim(home, B, "web") == "web"
    assert os.readlink(f"{home.names}/web") == B


@pytest.mark.parametrize("name", ["", "a", "-ab", ".ab", "a b", "a/b", "ä1", "..", "a\n"])
def test_names_that_cannot_be(home: Home, name: str) -> None:
    with pytest.raises(EngineError, match="invalid container name"):
        names.claim(home, A, name)


def test_a_name_made_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [add(home, id, None) for id in (A, B)]  # type: ignore[arg-type]
    assert all(names.check(one.name) == one.name and "_" in one.name for one in made)
    drawn = iter([made[0].name, made[1].name, "fresh_name1"])
    monkeypatch.setattr(names, "random_name", lambda attempt=0: next(drawn))
    assert names.claim(home, C, None) == "fresh_name1"


def test_find(home: Home) -> None:
    add(home, A, "web")
    add(home, B, "cc")
    add(home, C, "other")
    for text in (A, "web", "/web", "aa", A[:12]):
        assert names.find(home, text).id == A
    # A name comes before the beginning of an id, as in docker.
    assert names.find(home, "cc").id == B
    assert names.find(home, "ccc").id == C
    with pytest.raises(EngineError, match="several containers have an id that begins with a"):
        names.find(home, "a")


@pytest.mark.parametrize("text", ["nope", "", "/", "../lib", "d", "d" * 64, ".lock"])
def test_find_nothing(home: Home, text: str) -> None:
    add(home, A, "web")
    with pytest.raises(EngineError, match="no such container"):
        names.find(home, text)


def test_the_youngest_first(home: Home) -> None:
    for id in (B, C, A):
        add(home, id, f"n{id[:2]}")
    os.mkdir(home.container("unfinished"))
    assert [one.id for one in names.all_records(home)] == [C, B, A]


def test_ids_do_not_look_like_numbers() -> None:
    made = {names.new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(len(id) == 64 and not id[:12].isdigit() for id in made)

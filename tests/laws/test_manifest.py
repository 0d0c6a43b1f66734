"""The manifest tells the truth, and law 3: a stage uses only what is born by its chapter."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from chapters import __main__ as command
from chapters import stages
from chapters.stages import HERE, Chapter
from tests.support import machine, source
from tests.support.engine import ROOT

# What makes a chapter, beside its lesson in docs/book/.
FILES = ("__init__.py", "container.py", "attack.py", "test_stage.py", "bench_stage.py")
# A stage is read in one sitting, and what is new in it at one glance.
STAGE_LINES = 220
NEW_LINES = 96

READY = stages.ready()
MODULES = [
    path
    for path in source.files("minicontainer/kernel", "minicontainer/network")
    if path.name != "__init__.py"
]


def label(chapter: Chapter) -> str:
    """The chapter's folder, as the name of its test."""
    return str(chapter["folder"])


def born_in(path: Path) -> int:
    """The CHAPTER that a module of the engine says it is born in."""
    for node in source.tree(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CHAPTER":
            return int(ast.literal_eval(node.value))
    raise AssertionError(f"{path.name} does not say in which chapter it is born: CHAPTER = N")


BIRTHS = {source.module_name(path): born_in(path) for path in MODULES}


def test_the_chapters_are_in_order() -> None:
    chapters = stages.chapters()
    assert [chapter["number"] for chapter in chapters] == list(range(1, len(chapters) + 1))
    statuses = [chapter["status"] for chapter in chapters]
    assert set(statuses) <= {"ready", "planned"}
    assert statuses == sorted(statuses, key=["ready", "planned"].index)


def test_every_folder_is_a_chapter() -> None:
    folders = {path.name for path in HERE.glob("ch[0-9]*") if path.is_dir()}
    assert folders == {chapter["folder"] for chapter in READY}


@pytest.mark.parametrize("chapter", READY, ids=label)
def test_a_chapter_is_whole(chapter: Chapter) -> None:
    folder = HERE / chapter["folder"]
    assert [name for name in FILES if not (folder / name).is_file()] == []
    for name in ("title", "adds", "attack"):
        assert chapter[name]
    assert 5 <= chapter["minutes"] <= 120
    assert set(chapter["requires"]) <= set(machine.FEATURES)


def test_each_module_is_born_once_and_says_where() -> None:
    listed = {
        f"minicontainer.{file.removesuffix('.py').replace('/', '.')}": chapter["number"]
        for chapter in stages.chapters()
        for file in chapter["modules"]
    }
    assert sum(len(chapter["modules"]) for chapter in stages.chapters()) == len(listed)
    assert listed == BIRTHS


@pytest.mark.parametrize("chapter", READY, ids=label)
def test_the_functions_of_the_exercises_exist(chapter: Chapter) -> None:
    for name in chapter["functions"]:
        module, _, path = name.partition(":")
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        assert found.__doc__, f"{name} has no docstring: it is what a reader starts from"
        assert BIRTHS[module] <= chapter["number"]


# ------------------------------------------------------------------------------------------ law 3


@pytest.mark.parametrize("module", sorted(BIRTHS))
def test_a_module_uses_only_what_is_born(module: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")
    for name, line in source.imports(source.tree(path), module.rpartition(".")[0]):
        if name in BIRTHS:
            assert BIRTHS[name] <= BIRTHS[module], (
                f"{module}:{line} is of chapter {BIRTHS[module]} and imports {name}, which is of "
                f"chapter {BIRTHS[name]}"
            )


def imported_by(chapter: Chapter) -> set[str]:
    """The modules that a stage imports, with their own names."""
    tree = source.tree(HERE / chapter["folder"] / "container.py")
    return {name for name, _ in source.imports(tree, f"chapters.{chapter['folder']}")}


@pytest.mark.parametrize("chapter", READY, ids=label)
def test_a_stage_imports_only_what_is_born(chapter: Chapter) -> None:
    for name in imported_by(chapter):
        if name == "minicontainer.files":
            continue  # locks; of no chapter, and below all of them
        if name.startswith("minicontainer."):
            assert BIRTHS.get(name, 99) <= chapter["number"], name
        else:
            allowed = ("__future__.annotations", "chapters.command_line", "os", "sys", "tempfile")
            assert name in allowed, name


@pytest.mark.parametrize("chapter", READY, ids=label)
def test_a_stage_uses_what_its_chapter_brings(chapter: Chapter) -> None:
    born = {name for name, number in BIRTHS.items() if number == chapter["number"]}
    assert born & imported_by(chapter)


@pytest.mark.parametrize("chapter", READY, ids=label)
def test_a_stage_is_short_and_its_step_is_small(chapter: Chapter) -> None:
    lines = (HERE / chapter["folder"] / "container.py").read_text().splitlines()
    assert len(lines) <= STAGE_LINES
    changed = [
        line
        for line in command.diff(chapter["number"])
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    if chapter["number"] > 1:
        assert len(changed) <= NEW_LINES, "".join(changed)

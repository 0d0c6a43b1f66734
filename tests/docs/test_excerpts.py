"""Code in a page is taken from the source by name, and what does not resolve fails."""

from __future__ import annotations

from pathlib import Path

import excerpts
import pytest

SAMPLE = '''\
"""What this file is."""

import os

# Why it is five.
LIMIT = 5
SIZE: int = 6


class Box:
    """A box."""

    @property
    def lid(self) -> str:
        """The lid."""

        return "lid"


# Why it is called so.
@cached
def open_box(path):
    """Open it.

    path: where.
    """
    return path
'''


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one file."""
    folder = tmp_path / "minicontainer" / "kernel"
    folder.mkdir(parents=True)
    (folder / "box.py").write_text(SAMPLE)
    (folder / "box2.py").write_text(SAMPLE.replace("LIMIT = 5", "LIMIT = 7"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "secret.py").write_text("")
    monkeypatch.setattr(excerpts, "ROOT", tmp_path)
    return tmp_path


BOX = "minicontainer/kernel/box.py"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("LIMIT", "# Why it is five.\nLIMIT = 5\n"),
        ("SIZE", "SIZE: int = 6\n"),
        ("Box.lid", '@property\ndef lid(self) -> str:\n    """The lid."""\n\n    return "lid"\n'),
        ("LIMIT,SIZE", "# Why it is five.\nLIMIT = 5\n\nSIZE: int = 6\n"),
    ],
)
def test_a_definition_is_taken_by_name(name: str, source: str) -> None:
    assert excerpts.excerpt(f"{BOX}:{name}") == source


def test_a_function_comes_with_its_comment_and_decorator() -> None:
    taken = excerpts.excerpt(f"{BOX}:open_box")
    assert taken.startswith("# Why it is called so.\n@cached\ndef open_box(path):\n")
    assert taken.endswith("    return path\n")


def test_docstrings_can_be_left_out() -> None:
    taken = excerpts.excerpt(f"{BOX}:open_box", docstrings=False)
    assert taken == "# Why it is called so.\n@cached\ndef open_box(path):\n    return path\n"
    whole = excerpts.excerpt(BOX, docstrings=False)
    assert whole.startswith("import os\n")
    assert '"""' not in whole


def test_a_page_shows_the_source_of_today(repository: Path) -> None:
    page = f"Before.\n\n```python excerpt={BOX}:LIMIT\n```\n\nAfter.\n"
    shown = f'```python title="{BOX}"\n# Why it is five.\nLIMIT = 5\n```\n\nAfter.\n'
    assert excerpts.resolve(page, lesson=True) == f"Before.\n\n{shown}"
    file = repository / BOX
    file.write_text(SAMPLE.replace("LIMIT = 5", "LIMIT = 50"))
    assert "LIMIT = 50" in excerpts.resolve(page, lesson=True)


def test_an_excerpt_inside_a_list_keeps_its_place() -> None:
    page = f"- point\n\n    ```python excerpt={BOX}:SIZE\n    ```\n"
    assert "\n    SIZE: int = 6\n    ```\n" in excerpts.resolve(page)


def test_a_difference_shows_what_a_chapter_adds() -> None:
    page = f"```diff excerpt={BOX}..minicontainer/kernel/box2.py\n```\n"
    shown = excerpts.resolve(page)
    assert "\n-LIMIT = 5\n+LIMIT = 7\n" in shown
    assert "---" not in shown


def test_a_reference_leads_to_the_line() -> None:
    line = SAMPLE.splitlines().index("def open_box(path):") + 1
    page = f"See [`open_box`](code:{BOX}:open_box) and [the file](code:{BOX})."
    assert excerpts.resolve(page, source_page="../source/") == (
        f'See <a href="../source/{BOX}/#__span-0-{line}">`open_box`</a> and '
        f'<a href="../source/{BOX}/#__span-0-1">the file</a>.'
    )


def test_a_reference_inside_a_fence_is_left_alone() -> None:
    page = "```text\n[x](code:nowhere.py:x)\n```\n"
    assert excerpts.resolve(page) == page


@pytest.mark.parametrize(
    "page",
    [
        "```python excerpt=minicontainer/kernel/nothing.py:f\n```\n",
        f"```python excerpt={BOX}:nothing\n```\n",
        f"```python excerpt={BOX}:Box.nothing\n```\n",
        f"```python excerpt={BOX}:LIMIT,nothing\n```\n",
        f"```python excerpt={BOX}:LIMIT\nLIMIT = 5\n```\n",
        f"```python excerpt={BOX}:LIMIT docstrings=no\n```\n",
        f"```diff excerpt={BOX}..minicontainer/kernel/nothing.py\n```\n",
        f"[f](code:{BOX}:nothing)",
        "[f](code:minicontainer/kernel/nothing.py)",
        "[f](code:docs/secret.py)",
        "```python\nLIMIT = 5\n```\n",
        "```console\n$ ls\n```\n",
        "```console not-run=\n$ ls\n```\n",
    ],
)
def test_what_does_not_resolve_fails(page: str) -> None:
    with pytest.raises(excerpts.Unresolved):
        excerpts.resolve(page, lesson=True)


@pytest.mark.parametrize(
    "page", ["```console run\n$ ls\n```\n", '```console not-run="a keyboard"\n$ ls\n```\n']
)
def test_a_transcript_in_a_lesson_is_run_or_says_why_not(page: str) -> None:
    assert excerpts.resolve(page, lesson=True) == "```console\n$ ls\n```\n"


def test_a_guide_may_show_code_that_is_not_ours() -> None:
    assert excerpts.resolve("```python\nimport os\n```\n") == "```python\nimport os\n```\n"

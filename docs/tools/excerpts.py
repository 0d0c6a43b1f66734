"""Code in the book comes from the source by name, and never lives in a page (law 6).

A hook of mkdocs. In a page,

    ```python excerpt=minicontainer/kernel/mounts.py:pivot_root
    ```

becomes that function's source as it is today; `path:first,Second.method,CONSTANT` takes several,
`path` alone the whole file, and ` docstring=no` after it leaves the docstrings out. Likewise

    ```diff excerpt=chapters/ch02_chroot/container.py..chapters/ch03_mounts/container.py
    ```

becomes what changes from the one file to the other, and `[words](code:path:name)` a link to the
line in the site's copy of the source. What does not resolve fails the build, and so does a fence
of Python in a lesson that is pasted, and a transcript in a lesson that is not run
(docs/tools/transcripts.py); ```` ```console not-run="why" ```` is the exception that says why.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

# What the site shows whole, so that a reference has a line to lead to.
SOURCES = ("minicontainer/**/*.py", "chapters/ch*/*.py", "bin/minicontainer")

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<head>[^\n`]+)\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)
DIRECTIVE = re.compile(r"(?P<language>\w+) excerpt=(?P<what>\S+)(?P<bare> docstring=no)?\s*")
REFERENCE = re.compile(r"\[(?P<words>[^\]]+)\]\(code:(?P<path>[^):\s]+)(?::(?P<name>[\w.]+))?\)")


class Unresolved(ValueError):
    """A page names code that is not there, or breaks a law of the book."""


# ------------------------------------------------------------------------------ code, by its name


def read(path: str) -> str:
    """The text of a file of this repository."""
    file = ROOT / path
    if not file.is_file():
        raise Unresolved(f"{path}: there is no such file")
    return file.read_text()


def find(text: str, name: str, path: str) -> ast.stmt:
    """The definition of a name: function, class, `Class.method` or assignment."""
    body = ast.parse(text).body
    for step, part in enumerate(name.split("."), 1):
        found = next((node for node in body if part in _defines(node)), None)
        if found is None:
            raise Unresolved(f"{path}:{name}: nothing of that name is defined there")
        body = getattr(found, "body", [])
        if step == name.count(".") + 1:
            return found
    raise AssertionError("a name has at least one part")


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def excerpt(what: str, *, docstrings: bool = True) -> str:
    """The source that `path` or `path:name,name` stands for, at the margin."""
    path, _, names = what.partition(":")
    text = read(path)
    if not names:
        return (text if docstrings else _without_docstrings(text)).rstrip() + "\n"
    pieces = []
    for name in names.split(","):
        lines = text.splitlines()
        node = find(text, name, path)
        decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
        first = min([node.lineno, *decorators])
        # The comment right above belongs to it.
        while first > 1 and lines[first - 2].lstrip().startswith("# "):
            first -= 1
        piece = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno]))
        pieces.append(piece if docstrings else _without_docstrings(piece))
    return "\n\n".join(piece.rstrip() for piece in pieces) + "\n"


def _without_docstrings(text: str) -> str:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            last = string.end_lineno or string.lineno
            for number in range(string.lineno, last + 1):
                lines[number - 1] = "\0"
            if last < len(lines) and not lines[last].strip() and isinstance(node, ast.FunctionDef):
                lines[last] = "\0"
    return "\n".join(line for line in lines if line != "\0").lstrip("\n")


def difference(what: str) -> str:
    """What changes from one file to the other, for `old..new`; their names are left out."""
    old, _, new = what.partition("..")
    lines = difflib.unified_diff(read(old).splitlines(), read(new).splitlines(), n=2, lineterm="")
    return "\n".join([*lines][2:]) + "\n"


def line_of(path: str, name: str | None) -> int:
    """Where the definition starts; the first line for a file."""
    text = read(path)
    return find(text, name, path).lineno if name else 1


# ------------------------------------------------------------------------------------- the page


def resolve(markdown: str, *, lesson: bool = False, source_page: str = "source/") -> str:
    """The page with its excerpts and references in place.

    lesson: hold it to the laws of the book. source_page: what leads from this page to the pages
    of the source.
    """

    def fence(match: re.Match[str]) -> str:
        head, body, indent = match["head"].strip(), match["body"], match["indent"]
        language = head.split()[0]
        directive = DIRECTIVE.fullmatch(head)
        if directive is None:
            if "excerpt=" in head:
                raise Unresolved(f"```{head}: cannot be read")
            if lesson and language in ("python", "py"):
                raise Unresolved(f"```{head}: code in a lesson is taken by excerpt=, not pasted")
            if lesson and language == "console" and not re.search(r" (run\b|not-run=\".+\")", head):
                raise Unresolved(f'```{head}: a lesson\'s transcript says run, or not-run="why"')
            # What follows the language is ours to read; the highlighter knows only `console`.
            plain = language if language == "console" else head
            return f"{indent}{match['ticks']}{plain}\n{body}{indent}{match['ticks']}"
        if body.strip():
            raise Unresolved(f"```{head}: the fence of an excerpt stays empty")
        what = directive["what"]
        if language == "diff":
            code, title = difference(what), what.replace("..", " → ")
        else:
            code = excerpt(what, docstrings=not directive["bare"])
            title = what.partition(":")[0]
        ticks = "`" * (max(map(len, re.findall("`+", code)), default=2) + 1)
        ticks = ticks if len(ticks) > 3 else "```"
        return textwrap.indent(f'{ticks}{language} title="{title}"\n{code}{ticks}', indent)

    def reference(match: re.Match[str]) -> str:
        path, line = match["path"], line_of(match["path"], match["name"])
        if ROOT / path not in shown():
            raise Unresolved(f"code:{path}: the site does not show this file")
        return f'<a href="{source_page}{path}/#__span-0-{line}">{match["words"]}</a>'

    # Fences first; a reference is looked for outside them only.
    parts, end = [], 0
    for match in FENCE.finditer(markdown):
        parts += [REFERENCE.sub(reference, markdown[end : match.start()]), fence(match)]
        end = match.end()
    return "".join([*parts, REFERENCE.sub(reference, markdown[end:])])


def shown() -> list[Path]:
    """The files of the source that the site shows."""
    return sorted(file for pattern in SOURCES for file in ROOT.glob(pattern))


# ------------------------------------------------------------------------------ tables from files


def chapters() -> str:
    """The book's table of contents, from its manifest; a lesson that is written has a link."""
    with open(ROOT / "chapters" / "book.toml", "rb") as file:
        manifest = tomllib.load(file)
    rows = ["| | chapter | adds | the attack that it stops |", "|---|---|---|---|"]
    for chapter in manifest["chapter"]:
        lesson = f"{chapter['number']:02}-{chapter['name']}.md"
        title = chapter["title"]
        if (ROOT / "docs" / "book" / lesson).is_file():
            title = f"[{title}]({lesson})"
        cells = [f"{chapter['number']:02}", title, chapter["adds"], chapter.get("attack", "")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def prices(table: str) -> str:
    """A table of the price list, from its figures."""
    sys.path.insert(0, str(Path(__file__).parent))
    import pricelist

    found = json.loads(pricelist.FIGURES.read_text())
    return pricelist.peers_table(found) if table == "peers" else pricelist.table(found)


def sources(source_page: str) -> str:
    """Every file that the site shows, by folder: its name, its size, what it says it is."""
    folders: dict[str, list[Path]] = {}
    for file in shown():
        folders.setdefault(str(file.relative_to(ROOT).parent), []).append(file)
    pieces = []
    for folder, files in folders.items():
        pieces.append(f"## {folder}/\n\n| file | lines | |\n|---|---|---|")
        for file in files:
            text = file.read_text()
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
            words = " ".join(first.split()).replace("|", "\\|").replace("<", "&lt;")
            link = f'<a href="{source_page}{file.relative_to(ROOT)}/">`{file.name}`</a>'
            pieces.append(f"| {link} | {len(text.splitlines())} | {words} |")
        pieces.append("")
    return "\n".join(pieces)


# ------------------------------------------------------------------------------- what mkdocs calls


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give every lesson its place in the navigation: a new one needs no line in mkdocs.yml."""
    assert config.nav is not None
    book = next(pages for section in config.nav for pages in [section.get("The book")] if pages)
    lessons = (ROOT / "docs" / "book").glob("[0-9]*.md")
    book[1:1] = [f"book/{lesson.name}" for lesson in sorted(lessons)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file of the source: what references lead to, and good to read."""
    from mkdocs.structure.files import File

    for file in shown():
        path = str(file.relative_to(ROOT))
        text = file.read_text()
        page = (
            f"---\ntitle: {path}\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n"
            f'# `{path}`\n\n````python linenums="1"\n{text}````\n'
        )
        files.append(File.generated(config, f"source/{path}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the code into a page; a page of the source is code already."""
    from mkdocs.exceptions import PluginError
    from mkdocs.utils import get_relative_url

    path = page.file.src_uri
    if path.startswith("source/"):
        return markdown
    source_page = get_relative_url("source/", page.url).rstrip("/") + "/"
    try:
        text = resolve(markdown, lesson=path.startswith("book/"), source_page=source_page)
    except Unresolved as error:
        raise PluginError(f"{path}: {error}") from error
    tables = {
        "chapters": chapters,
        "source": lambda: sources(source_page),
        "price": lambda: prices("stages"),
        "peers": lambda: prices("peers"),
    }
    for name, table in tables.items():
        if f"<!-- {name} -->" in text:
            text = text.replace(f"<!-- {name} -->", table())
    return text


def on_serve(server: Any, config: MkDocsConfig, builder: Any) -> Any:
    """`./dev docs serve` shows a change of the source at once."""
    for folder in ("minicontainer", "chapters"):
        server.watch(str(ROOT / folder))
    return server

"""Write docs/reference/commands.md from the tables that the command line is parsed with.

python3 docs/tools/reference.py     (a test says when it is due)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"

HEAD = """\
# Commands

<!-- Written by docs/tools/reference.py from minicontainer/cli: change it there. -->

The names, options and exit codes are docker's. `minicontainer COMMAND --help` prints the same.

| exit code | meaning |
|---|---|
| 125 | minicontainer itself failed |
| 126 | the container's command is there and cannot be run |
| 127 | the container's command is not there |
| 128 + n | the container's command was ended by signal n |
| other | the container's command ended with it |

"""


def page() -> str:
    """The whole page, from the command line's own tables."""
    from minicontainer.cli import main

    sections = [HEAD, "## Global options\n\n", _options(main.GLOBAL)]
    for name in main.COMMANDS:
        aliases = sorted(alias for alias, target in main.ALIASES.items() if target == name)
        sections.append(_section(main.load(name), aliases))
    return "".join(sections).rstrip() + "\n"


def _section(command: object, aliases: list[str]) -> str:
    from minicontainer.cli.options import Command

    assert isinstance(command, Command)
    text = f"## {command.name}\n\n{command.summary.rstrip('.')}.\n\n"
    text += f"```text\n{command.usage}\n```\n\n"
    if aliases:
        text += "Also: " + ", ".join(f"`{alias}`" for alias in aliases) + "\n\n"
    return text + _options(command)


def _options(command: object) -> str:
    from minicontainer.cli.options import Command, value_of

    assert isinstance(command, Command)
    if not command.options:
        return ""
    rows = ["| option | meaning |", "|---|---|"]
    for option in command.options:
        names = f"{option.short}, {option.long}" if option.short else option.long
        default = option.default
        note = "" if default is None or isinstance(default, bool) else f" (default `{default}`)"
        rows.append(f"| `{names}{value_of(option)}` | {_cell(option.help)}{note} |")
    return "\n".join(rows) + "\n\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

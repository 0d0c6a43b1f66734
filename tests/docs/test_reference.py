"""docs/reference/commands.md is what the command line's tables say today."""

from __future__ import annotations

import reference


def test_the_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.page(), (
        "the commands have changed: python3 docs/tools/reference.py"
    )


def test_every_command_and_option_is_there() -> None:
    from minicontainer.cli import main

    page = reference.page()
    for name in main.COMMANDS:
        assert f"\n## {name}\n" in page
        for option in main.load(name).options:
            assert f"{option.long}" in page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]

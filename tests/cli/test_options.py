"""Command lines are read as docker (pflag) reads them. No root needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cli import main as program
from minicontainer.cli.options import Command, Option, UsageError, Values, help_text, parse

TOY = Command(
    "toy",
    "IMAGE [ARG...]",
    "Play",
    lambda home, values: 0,
    (
        Option("--interactive -i", "keep the input open"),
        Option("--tty -t", "a terminal"),
        Option("--detach -d", "in the background"),
        Option("--env -e", "a variable", value="NAME=VALUE", many=True),
        Option("--name", "the name", value="NAME"),
        Option("--time -T", "seconds", value="SECONDS", number=True),
        Option("--proxy", "signals", default=True),
        Option("--hostname -h", "the host's name", value="NAME"),
        Option("--draw", "a picture", value="FORM", alone="text"),
    ),
    minimum=1,
    interspersed=False,
    later="--publish -p",
)


def read(line: str, command: Command = TOY) -> Values:
    values = parse(command, line.split())
    assert values is not None
    return values


@pytest.mark.parametrize(
    "line",
    ["-i -t -d x", "-itd x", "-tid x", "--interactive --tty --detach x", "-it --detach=true x",
     "-id -t=1 x", "-idt=T x"],
)  # fmt: skip
def test_flags_bundle(line: str) -> None:
    values = read(line)
    assert [values.flag(name) for name in ("interactive", "tty", "detach")] == [True] * 3


@pytest.mark.parametrize(
    "line",
    ["-e A=1 -e B=2 x", "-eA=1 -eB=2 x", "-e=A=1 --env B=2 x", "--env=A=1 --env=B=2 x",
     "-iteA=1 -e B=2 x"],
)  # fmt: skip
def test_values_in_all_forms(line: str) -> None:
    assert read(line).many("env") == ["A=1", "B=2"]


def test_a_flag_can_be_unset() -> None:
    assert read("x").flag("proxy")
    assert not read("--proxy=false x").flag("proxy")
    assert not read("-i=0 x").flag("interactive")


def test_a_flag_takes_no_word_that_follows() -> None:
    assert read("-i false").words == ["false"]


def test_what_follows_the_image_is_the_containers() -> None:
    values = read("-i image sh -c -t --rm --name=x")
    assert values.words == ["image", "sh", "-c", "-t", "--rm", "--name=x"]
    assert not values.flag("tty")


def test_the_words_of_an_interspersed_command() -> None:
    command = Command("rm", "", "", lambda h, v: 0, (Option("--force -f", ""),), minimum=1)
    values = parse(command, ["a", "-f", "b", "--", "-c"])
    assert values is not None and values.flag("force")
    assert values.words == ["a", "b", "-c"]


def test_two_dashes_end_the_options() -> None:
    assert read("-i -- -t x").words == ["-t", "x"]


def test_one_dash_is_a_word() -> None:
    assert read("-").words == ["-"]


def test_the_last_value_counts() -> None:
    assert read("--name a --name b x").text("name") == "b"


def test_a_commands_own_h_is_not_help() -> None:
    assert read("-h box x").text("hostname") == "box"
    assert parse(TOY, ["--help"]) is None
    assert parse(program.load("ps"), ["-h"]) is None


def test_help_after_the_image_is_the_containers() -> None:
    assert read("x --help").words == ["x", "--help"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--nope x", "unknown flag: --nope"),
        ("--nope=1 x", "unknown flag: --nope"),
        ("-z x", "unknown shorthand flag: 'z' in -z"),
        ("-itz x", "unknown shorthand flag: 'z' in -itz"),
        ("--name", "flag needs an argument: --name"),
        ("-e", "flag needs an argument: 'e' in -e"),
        ("-ite", "flag needs an argument: 'e' in -ite"),
        ("--tty=maybe x", 'invalid argument "maybe" for "-t, --tty" flag: it is not true or false'),
        ("-T soon x", 'invalid argument "soon" for "-T, --time" flag: it is not a whole number'),
        ("--publish 80 x", "docker's --publish is not implemented yet"),
        ("-p80:80 x", "docker's -p is not implemented yet"),
    ],
)
def test_errors_in_dockers_words(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert caught.value.message == words
    later = words.startswith("docker's")  # there the help has no answer
    assert caught.value.hint == (None if later else "see 'minicontainer toy --help'")
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(
    ("low", "high", "given", "words"),
    [
        (1, None, 0, "requires at least 1 argument"),
        (2, None, 1, "requires at least 2 arguments"),
        (1, 1, 2, "requires 1 argument"),
        (2, 2, 1, "requires 2 arguments"),
        (0, 0, 1, "accepts no arguments"),
        (0, 1, 2, "requires at most 1 argument"),
    ],
)
def test_the_number_of_arguments(low: int, high: int | None, given: int, words: str) -> None:
    command = Command("toy", "", "", lambda h, v: 0, minimum=low, maximum=high)
    with pytest.raises(UsageError) as caught:
        parse(command, ["x"] * given)
    assert caught.value.message == f"'minicontainer toy' {words}"
    assert caught.value.exit_code == 1


@given(st.lists(st.text(alphabet="-=abeit10 ", max_size=6), max_size=6))
def test_any_line_is_read_or_refused(words: list[str]) -> None:
    try:
        values = parse(TOY, words)
    except UsageError:
        return
    assert values is None or values.words


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_the_containers_words_come_through_unchanged(words: list[str]) -> None:
    values = parse(TOY, ["--", *words])
    assert values is not None and values.words == words


def test_help_shows_every_option_within_the_width() -> None:
    for name in program.COMMANDS:
        command = program.load(name)
        text = help_text(command)
        assert text.startswith(f"Usage:  minicontainer {command.name}")
        assert all(len(line) <= 100 for line in text.splitlines())
        for option in command.options:
            assert option.long in text, (name, option.long)


def test_no_command_has_an_option_twice() -> None:
    for name in program.COMMANDS:
        command = program.load(name)
        names = [option.long for option in command.options]
        names += [option.short for option in command.options if option.short]
        names += command.later
        assert len(names) == len(set(names)), name


def test_a_value_that_may_lack_never_takes_the_next_word() -> None:
    assert read("x").text("draw") is None
    bare, given = read("--draw svg"), read("--draw=svg x")
    assert (bare.text("draw"), bare.words) == ("text", ["svg"])
    assert (given.text("draw"), given.words) == ("svg", ["x"])
    assert "--draw[=FORM]" in help_text(TOY)

"""Command lines as docker reads them: one table per command, for parsing, --help and the docs.

argparse costs 6 ms of a start that takes 20, and does not follow docker's rules (those of Go's
pflag): `-itd`, `-eNAME=1`, `--rm=false`, and nothing after the image's name is ours.
"""

from __future__ import annotations

import os

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..engine.home import Home

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


class UsageError(EngineError):
    """The command line is wrong. Docker ends with 125 for an option, with 1 for an argument."""


class Option:
    """One row of a command's table.

    names: "--env -e", the long name first. value: what --help shows for its value; None for a
    flag. many: may be given more than once. number: the value is a whole number. alone: what it
    means without a value, which then can only come as `--option=value`.
    """

    __slots__ = ("long", "short", "value", "help", "many", "number", "default", "alone")

    def __init__(
        self,
        names: str,
        help: str,
        *,
        value: str | None = None,
        many: bool = False,
        number: bool = False,
        default: str | bool | int | None = None,
        alone: str | None = None,
    ) -> None:
        self.long, _, short = names.partition(" ")
        self.short: str | None = short or None
        self.value = value
        self.help = help
        self.many = many
        self.number = number
        self.default = default
        self.alone = alone


class Values:
    """What a command line said: the options by long name without the dashes, and the words."""

    __slots__ = ("given", "words")

    def __init__(self) -> None:
        self.given: dict[str, str | bool | int | list[str]] = {}
        self.words: list[str] = []

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return bool(self.given.get(name, False))

    def text(self, name: str) -> str | None:
        """An option's value, or None when it was not given and has no default."""
        value = self.given.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """A number's value, or None when it was not given and has no default."""
        value = self.given.get(name)
        return value if isinstance(value, int) else None

    def many(self, name: str) -> list[str]:
        """All values of an option that may be repeated, in order."""
        value = self.given.get(name)
        return value if isinstance(value, list) else []


class Command:
    """One command: its words, what it does, its options, and the function behind it.

    arguments: as --help shows them. minimum, maximum: how many arguments it takes.
    interspersed: options may also follow arguments (not for `run`, where the words after the
    image belong to the container). later: docker's options that we do not have yet. failure:
    the exit code when the engine fails: docker's `run` says 125, its other commands say 1.
    """

    __slots__ = (
        "name",
        "arguments",
        "summary",
        "options",
        "action",
        "minimum",
        "maximum",
        "interspersed",
        "later",
        "failure",
    )

    def __init__(
        self,
        name: str,
        arguments: str,
        summary: str,
        action: Callable[[Home, Values], int],
        options: Sequence[Option] = (),
        *,
        minimum: int = 0,
        maximum: int | None = None,
        interspersed: bool = True,
        later: str = "",
        failure: int = 1,
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.summary = summary
        self.action = action
        self.options = tuple(options)
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed
        self.later = tuple(later.split())
        self.failure = failure

    @property
    def usage(self) -> str:
        """The line that says how to call it."""
        options = "[OPTIONS] " if self.options else ""
        return " ".join(f"minicontainer {self.name} {options}{self.arguments}".split())

    def complain(self, message: str, exit_code: int = 125) -> UsageError:
        """An error about this command line, with the way to the help."""
        name = f"minicontainer {self.name}".rstrip()
        return UsageError(message, hint=f"see '{name} --help'", exit_code=exit_code)


HELP = Option("--help -h", "show this help")


def parse(command: Command, words: Sequence[str]) -> Values | None:
    """Read a command line by the command's table; None when it asks for help.

    UsageError names the word that is wrong.
    """
    table: dict[str, Option] = {"--help": HELP, "-h": HELP}
    # Docker's -h is --hostname in `run`: a command's own letters win over ours.
    values = Values()
    for option in command.options:
        table[option.long] = option
        if option.short:
            table[option.short] = option
        if option.default is not None:
            values.given[option.long[2:]] = option.default
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            values.words += rest
            break
        if word == "-" or not word.startswith("-"):
            values.words.append(word)
            if not command.interspersed:
                values.words += rest
                break
            continue
        found = _long(command, table, word) if word.startswith("--") else None
        for option, value in [found] if found else _shorts(command, table, word):
            if option is HELP:
                return None
            if value is None:
                if option.value is None:
                    value = "true"
                elif option.alone is not None:
                    value = option.alone
                elif rest:
                    value = rest.pop(0)
                else:
                    name = option.long if found else f"'{word[-1]}' in {word}"
                    raise command.complain(f"flag needs an argument: {name}")
            _store(command, values, option, value)
    if len(values.words) < command.minimum or (
        command.maximum is not None and len(values.words) > command.maximum
    ):
        raise command.complain(_count_error(command), exit_code=1)
    return values


def _long(command: Command, table: dict[str, Option], word: str) -> tuple[Option, str | None]:
    name, equals, value = word.partition("=")
    option = table.get(name)
    if option is None:
        raise _unknown(command, name, f"unknown flag: {name}")
    return option, value if equals else None


def _shorts(
    command: Command, table: dict[str, Option], word: str
) -> list[tuple[Option, str | None]]:
    """`-it` is two flags; the first letter that takes a value takes what is left of the word."""
    found: list[tuple[Option, str | None]] = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = table.get(f"-{letter}")
        if option is None:
            message = f"unknown shorthand flag: '{letter}' in {word}"
            raise _unknown(command, f"-{letter}", message)
        if letters.startswith("="):
            found.append((option, letters[1:]))
            break
        if option.value is not None and letters:
            found.append((option, letters))
            break
        found.append((option, None))
    return found


def _unknown(command: Command, name: str, message: str) -> UsageError:
    if name in command.later:
        return UsageError(f"docker's {name} is not implemented yet")
    return command.complain(message)


def _store(command: Command, values: Values, option: Option, value: str) -> None:
    key = option.long[2:]
    if option.value is None:
        if value not in TRUE + FALSE:
            raise _invalid(command, option, value, "it is not true or false")
        values.given[key] = value in TRUE
    elif option.many:
        values.given[key] = [*values.many(key), value]
    elif option.number:
        try:
            values.given[key] = int(value)
        except ValueError:
            raise _invalid(command, option, value, "it is not a whole number") from None
    else:
        values.given[key] = value


def _invalid(command: Command, option: Option, value: str, why: str) -> UsageError:
    names = f"{option.short}, {option.long}" if option.short else option.long
    return command.complain(f'invalid argument "{value}" for "{names}" flag: {why}')


def _count_error(command: Command) -> str:
    low, high = command.minimum, command.maximum
    if high == 0:
        amount = "accepts no arguments"
    elif high == low:
        amount = f"requires {low} argument{'s' if low != 1 else ''}"
    elif high is None or low > 0:
        amount = f"requires at least {low} argument{'s' if low != 1 else ''}"
    else:
        amount = f"requires at most {high} argument{'s' if high != 1 else ''}"
    return f"'minicontainer {command.name}' {amount}"


def help_text(command: Command) -> str:
    """The page that `--help` prints, made from the command's table."""
    lines = [f"Usage:  {command.usage}", "", command.summary]
    if command.options:
        lines += ["", "Options:"]
        heads = [head(option) for option in command.options]
        # A terminal tells its width; a pipe and a page get 80 columns.
        try:
            columns = os.get_terminal_size().columns
        except OSError:
            columns = 80
        indent = max(len(text) for text in heads) + 5
        for text, option in zip(heads, command.options, strict=True):
            words = _wrap(_described(option), max(columns - indent, 30))
            lines.append(f"  {text:<{indent - 2}}{words[0]}")
            lines += [" " * indent + line for line in words[1:]]
    return "\n".join(lines)


def head(option: Option) -> str:
    """An option as the help shows it: `-e, --env NAME=VALUE`."""
    short = f"{option.short}, " if option.short else "    "
    return f"{short}{option.long}{value_of(option)}"


def value_of(option: Option) -> str:
    """` NAME=VALUE`, `[=NAME]` where it may lack, "" for a flag."""
    if option.alone is not None:
        return f"[={option.value}]"
    return f" {option.value}" if option.value else ""


def _described(option: Option) -> str:
    if option.default is None or isinstance(option.default, bool):
        return option.help
    return f"{option.help} (default {option.default})"


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines

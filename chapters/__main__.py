"""The book's command: python3 -m chapters list | run | attack | diff | look | why | doctor."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import tempfile
from pathlib import Path

from chapters import stages
from chapters.stages import CLONE, HERE
from minicontainer.errors import EngineError

LATER = ("start", "check", "hint", "solution", "reset", "watch")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m chapters",
        description=__doc__,
        epilog=f"with the exercises, in a later release, come: {', '.join(LATER)}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("list", help="the chapters, and what each adds")

    command = commands.add_parser(
        "run", help="run a program at a chapter's stage, or in the engine"
    )
    command.add_argument("stage", help="a chapter (3 or mounts), `engine`, or 0 for no container")
    command.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="[ROOTFS] COMMAND…",
        help="ROOTFS may be left out: one made of this machine's programs, once, is then taken "
        "(~/.cache/minicontainer/rootfs)",
    )

    command = commands.add_parser("attack", help="make a chapter's attack, before and after it")
    command.add_argument("chapter")
    command.add_argument("--on", action="append", default=[], metavar="STAGE")
    command.add_argument("-v", "--verbose", action="store_true", help="show the scripts")
    command.add_argument("--json", metavar="FILE", help="write the verdicts to a file")

    command = commands.add_parser("diff", help="what a stage changes in the one before it")
    command.add_argument("chapter")

    commands.add_parser("look", help="what a program sees, from stage to stage")
    command = commands.add_parser("why", help="what each line of the engine's start is for")
    command.add_argument("part", nargs="?", default="", help="of a function's name or of a line")
    commands.add_parser("doctor", help="what this machine lacks for the book, and what to do")
    for name in LATER:
        commands.add_parser(name, add_help=False)  # without help: the epilog names them

    given, rest = parser.parse_known_args(arguments)
    if given.command in LATER:
        print(f"{given.command}: the exercises are not written yet; see: python3 -m chapters list")
        return 2
    if rest:
        commands.choices[given.command].error(f"unknown argument: {rest[0]}")
    try:
        code: int = globals()[f"do_{given.command}"](given)
        return code
    except EngineError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code


def do_list(given: argparse.Namespace) -> int:
    """Every chapter on one line; those to come in brackets."""
    for chapter in stages.chapters():
        name = f"{chapter['number']:02} {chapter['name']}"
        if chapter["status"] == "ready":
            print(f"{name:16} {chapter['adds']}")
        else:
            print(f"{name:16} ({chapter['adds']})")
    print("(in brackets: a later release)")
    return 0


def do_run(given: argparse.Namespace) -> int:
    """Become the stage's own program, with the root file system that was given or a made one."""
    require_root()
    stage = find_stage(given.stage)
    words = given.words[1:] if given.words[:1] == ["--"] else given.words
    rootfs = Path(words[0]) if words and Path(words[0]).is_dir() else None
    command = words[1:] if rootfs else words
    if not command:
        raise EngineError("run: no command was given", hint="try: run 2 sh")
    rootfs = rootfs or starter_rootfs()
    if command is words and len(words) > 1 and stage.number and not holds(rootfs, words[0]):
        raise EngineError(
            f"run: no directory {words[0]!r}, and no such program in {rootfs}",
            hint=f"make it with: bin/minicontainer image starter --rootfs {words[0]}",
            exit_code=127,
        )
    if os.geteuid() == 0:
        from chapters import ground

        ground.sweep()
    line = stage.command(rootfs.resolve(), *command)
    os.chdir(CLONE)
    os.execvp(line[0], line)


def do_attack(given: argparse.Namespace) -> int:
    """Make the attacks of a chapter, in a stand-in for this machine."""
    from chapters import attacks, ground

    require_root()
    chapter = find_chapter(given.chapter)
    on = [find_stage(name) for name in given.on] or attacks.default_stages(chapter["number"])
    ground.enter_stand_in()
    try:
        verdicts = attacks.make(chapter, on, given.verbose)
    except RuntimeError as error:  # it was not stopped: it was never made
        raise EngineError(str(error)) from None
    if given.json:
        Path(given.json).write_text(json.dumps(verdicts))
    return 0


def do_diff(given: argparse.Namespace) -> int:
    """Show what a stage changes in the one before it."""
    sys.stdout.writelines(diff(find_chapter(given.chapter)["number"]))
    return 0


def do_look(given: argparse.Namespace) -> int:
    """Show what a program sees, from stage to stage."""
    from chapters import look

    require_root()
    print(look.table(starter_rootfs()))
    return 0


def do_why(given: argparse.Namespace) -> int:
    """Take each line out of the engine's start, and show what notices."""
    from chapters import attacks, why

    require_root()
    with tempfile.TemporaryDirectory(prefix="chapters-why-") as directory:
        rootfs, place = Path(directory) / "rootfs", Path(directory) / "place"
        attacks.write_rootfs(rootfs)
        place.mkdir()
        found = why.ask(rootfs, place, given.part)
    if len(found) == 1:
        raise EngineError(f"no line of the start has {given.part!r} in it", hint="try: why mount")
    before = ""
    for name, noticed in found.items():
        function, _, line = name.partition(": ")
        if function != before:
            print(f"\n{function}")
        before = function
        if name:
            print(f"  without  {line}")
            print(f"           {noticed or 'nothing notices: ' + why.UNSEEN.get(name, '?')}")
    return 0


def do_doctor(given: argparse.Namespace) -> int:
    """Look at this machine; 1 when something is missing that a chapter needs."""
    from chapters import doctor

    return doctor.report(doctor.examine())


def diff(number: int) -> list[str]:
    """The lines by which a stage differs from the one before it, in diff's form."""
    texts = []
    for chapter in stages.chapters():
        if chapter["number"] in (number - 1, number):
            file = HERE / chapter["folder"] / "container.py"
            texts.append((str(file.relative_to(CLONE)), file.read_text().splitlines(True)))
    if number == 1:
        texts.insert(0, ("/dev/null", []))
    (before, old), (after, new) = texts
    return list(difflib.unified_diff(old, new, before, after, n=2))


def starter_rootfs() -> Path:
    """A root file system of this machine's programs, made when it is first asked for.

    Up to chapter 06 a program's writes stay in it: remove the directory to have it made anew.
    """
    from chapters import attacks

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "minicontainer" / "rootfs"
    if not directory.exists():
        new = directory.with_name(f"rootfs.{os.getpid()}")
        attacks.write_rootfs(new)
        new.rename(directory)
        print(f"made a root file system from this machine's programs: {directory}", file=sys.stderr)
    return directory


def holds(rootfs: Path, program: str) -> bool:
    """Is there a program of this name in a root file system, where a stage would look for it?"""
    places = [""] if "/" in program else ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"]
    return any(os.path.lexists(rootfs / place / program.lstrip("/")) for place in places)


def find_chapter(name: str) -> stages.Chapter:
    """The chapter of this number or name, if it is written."""
    try:
        chapter = stages.find_chapter(name)
    except KeyError:
        raise EngineError(f"no chapter {name!r}", hint="see: python3 -m chapters list") from None
    if chapter["status"] != "ready":
        raise EngineError(f"chapter {name} is not written yet")
    return chapter


def find_stage(name: str) -> stages.Stage:
    """The stage of this number or name."""
    try:
        return stages.find(name)
    except KeyError:
        pass
    try:
        stages.find_chapter(name)
    except KeyError:
        raise EngineError(f"no stage {name!r}", hint="see: python3 -m chapters list") from None
    raise EngineError(f"chapter {name} is not written yet")


def require_root() -> None:
    """Say at once what would fail later with a stranger message."""
    if os.geteuid() != 0:
        raise EngineError("stages make namespaces and mounts, which needs root", hint="use sudo")


if __name__ == "__main__":
    sys.exit(main())

"""The command `minicontainer`: global options, the choice of the command, and how errors look."""

from __future__ import annotations

import os
import sys

from .. import __version__
from ..engine.home import DATA_ROOT, RUN_ROOT, Home
from ..errors import EngineError
from .options import Command, Option, help_text, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The words of each command, and where its table is: file and name. A file is imported when its
# command is called: `run` does not pay for `pull`.
COMMANDS = {
    "run": "run:RUN",
    "exec": "exec:EXEC",
    "ps": "ps:PS",
    "logs": "logs:LOGS",
    "stop": "signals:STOP",
    "kill": "signals:KILL",
    "wait": "signals:WAIT",
    "rm": "containers:RM",
    "port": "port:PORT",
    "pause": "control:PAUSE",
    "unpause": "control:UNPAUSE",
    "update": "control:UPDATE",
    "top": "control:TOP",
    "stats": "stats:STATS",
    "inspect": "inspect:INSPECT",
    "pull": "images:PULL",
    "load": "images:LOAD",
    "images": "images:IMAGES",
    "tag": "images:TAG",
    "rmi": "images:RMI",
    "history": "images:HISTORY",
    "image starter": "images:STARTER",
    "image inspect": "inspect:IMAGE_INSPECT",
    "image prune": "images:PRUNE",
    "container inspect": "inspect:CONTAINER_INSPECT",
    "container prune": "containers:PRUNE",
    **{
        f"network {name}": f"network:{name.upper()}"
        for name in "create ls inspect rm connect disconnect prune".split()
    },
    "version": "system:VERSION",
    "info": "system:INFO",
}
ALIASES = {
    **{
        f"container {name}": name
        for name in "run exec logs port stop kill wait rm pause unpause update top stats".split()
    },
    **{f"image {name}": name for name in "pull load tag history".split()},
    **{f"container {name}": "ps" for name in ("ls", "list", "ps")},
    **{f"image {name}": "images" for name in ("ls", "list")},
    **{f"image {name}": "rmi" for name in ("rm", "remove")},
    "container remove": "rm",
    "network list": "network ls",
    "network remove": "network rm",
    "system info": "info",
}
# What makes images and containers.
MAKING = ("run", "pull", "load", "image starter")
GROUPS = {
    "image": "Work with images",
    "container": "Work with containers",
    "network": "Work with networks",
}
# Docker's commands that a later chapter brings: better a clear word than "unknown command".
LATER = frozenset(
    "attach build commit container cp create diff events export image import login logout "
    "push rename restart save search start system volume".split()
)

GLOBAL = Command(
    "",
    "COMMAND",
    "A container engine that you can read.",
    lambda home, values: 0,
    (
        Option("--root", f"where images and containers are kept (default {DATA_ROOT}, "
               "without root ~/.local/share/minicontainer, or MINICONTAINER_ROOT)", value="DIR"),
        Option("--run-root", f"where the state of running containers is kept (default {RUN_ROOT}, "
               "without root $XDG_RUNTIME_DIR/minicontainer, or MINICONTAINER_RUN_ROOT)",
               value="DIR"),
        Option("--debug -D", "show the trace of an error"),
        Option("--version -v", "print the version and quit"),
    ),
    interspersed=False,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code. Errors are printed as one line and a hint.

    argv: the words after the program's name; None: those of this process, which is ours alone.
    """
    if argv is not None:
        return run(argv)
    own_process()
    code = run(sys.argv[1:])
    if "threading" not in sys.modules:
        # The interpreter's own end takes 2 ms to free what the kernel frees at once.
        os._exit(code)
    return code


def run(words: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    # Known before the parse, so that an error of the parse can be looked at too.
    debug = "--debug" in words[:4] or "-D" in words[:4]
    failure = 125
    try:
        options = parse(GLOBAL, words)
        if options is not None and options.flag("version"):
            print(f"minicontainer version {__version__}")
            return _flush(0)
        if options is None or not options.words or options.words == ["help"]:
            print(_overview())
            return _flush(0 if options is None or options.words else 1)
        if options.words[0] == "help":
            # `help run` is `run --help`, as in docker.
            options.words = [*options.words[1:], "--help"]
        debug = options.flag("debug")
        if options.words[0] in GROUPS and options.words[1:] in (["--help"], ["-h"]):
            print(_group(options.words[0]))
            return _flush(0)
        command, rest = find(options.words)
        values = parse(command, rest)
        if values is None:
            return _flush(0, help_text(command))
        failure = command.failure
        home = Home(options.text("root"), options.text("run-root"))
        if os.geteuid() and command.name != "version":
            from ..engine import rootless

            rootless.enter(home, makes=command.name in MAKING)
        return _flush(command.action(home, values))
    except BrokenPipeError:
        # Whoever read us has enough (`minicontainer ps | head -1`): end as SIGPIPE would end us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13
    except KeyboardInterrupt:
        return 130
    except EngineError as error:
        _complain(error, debug, error)
        return failure if error.exit_code == 125 else error.exit_code
    except OSError as error:
        _complain(_in_words(error), debug, error)
        return failure
    except Exception as error:
        told = EngineError(
            f"internal error: {type(error).__name__}: {error}",
            hint="this is a bug; 'minicontainer --debug …' shows where",
        )
        _complain(told, debug, error)
        return 125


def _flush(code: int, text: str = "") -> int:
    """Here and not at the interpreter's end, where a closed pipe is an ugly message.

    text: what is longer than the buffer (`run --help`) fails as it is printed, so it is here too.
    """
    if sys.stdout is not None:
        try:
            print(text, end="\n" if text else "")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is left in the buffer would be tried again, and fail again, at every flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
            reason = (error.strerror or str(error)).lower()
            raise EngineError(f"cannot write the standard output: {reason}") from error
    return code


def own_process() -> None:
    """What a program does once that nobody else runs in: descriptors and signals."""
    import _signal  # type: ignore[import-not-found]
    import gc

    # By default the garbage collector looks at every 700th new object: 3 ms of a start. What we
    # make lives to the end, or is freed by its count.
    gc.set_threshold(100_000)

    # A closed one of the three would be taken by the next file that is opened, and written to.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # What a container sees (/etc/hosts, made directories) must not depend on its caller's umask.
    os.umask(0o022)
    # Ignored by our caller, and so by us, it would have the kernel throw our children's codes away.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    # So that `with` and `finally` undo what was begun, as they do after Ctrl-C.
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, leave)


def leave(number: int, frame: object) -> None:
    """End by a signal, in Python's own way."""
    raise SystemExit(128 + number)


def find(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that the first one or two words name, and the words after it."""
    for count in (2, 1):
        name = " ".join(words[:count])
        name = ALIASES.get(name, name)
        if name in COMMANDS:
            return load(name), list(words[count:])
    name = words[0]
    if name in GROUPS:
        if len(words) > 1 and not words[1].startswith("-"):
            name = f"{name} {words[1]}"
        else:
            known = sorted(n.split()[1] for n in (*COMMANDS, *ALIASES) if n.startswith(name + " "))
            raise EngineError(f"which {name} command?", hint=" | ".join(known), exit_code=1)
    elif name in LATER:
        raise EngineError(f"docker's {name} is not implemented yet", exit_code=1)
    raise EngineError(f"unknown command: {name}", hint="see 'minicontainer --help'", exit_code=1)


def load(name: str) -> Command:
    """The table of one command."""
    file, _, attribute = COMMANDS[name].partition(":")
    module = __import__(f"{__package__}.{file}", fromlist=[attribute])
    command: Command = getattr(module, attribute)
    return command


def _overview() -> str:
    commands = "\n".join(f"  {name:<20}{load(name).summary}" for name in COMMANDS)
    return f"{help_text(GLOBAL)}\n\nCommands:\n{commands}"


def _group(name: str) -> str:
    """The page of `image --help`: its commands, under their names there."""
    words = {word for word in (*COMMANDS, *ALIASES) if word.startswith(f"{name} ")}
    lines = [f"  {word.split()[1]:<18}{load(ALIASES.get(word, word)).summary}"
             for word in sorted(words)]  # fmt: skip
    head = f"Usage:  minicontainer {name} COMMAND\n\n{GROUPS[name]}\n\nCommands:\n"
    return head + "\n".join(lines)


def _complain(error: EngineError, debug: bool, cause: BaseException) -> None:
    try:
        try:
            _flush(0)
        except EngineError as full:
            if isinstance(cause, OSError) and cause.filename is None:
                error = full  # the same, from a print whose buffer was full
            elif error.message != full.message:
                print(full.render(), file=sys.stderr)
        if debug:
            import traceback

            traceback.print_exception(cause)
        print(error.render(), file=sys.stderr)
    except OSError:
        return  # nobody is there to read it; the exit code still tells


def _in_words(error: OSError) -> EngineError:
    """A SyscallError shows its call and may have a hint; a plain OSError names its file."""
    hint = getattr(error, "hint", None)
    if hint is None and isinstance(error, PermissionError) and os.geteuid() != 0:
        hint = "run it as root: sudo minicontainer …"
    if hasattr(error, "call"):
        return EngineError(str(error), hint=hint)
    name = f"{error.filename}: " if error.filename else ""
    return EngineError(f"{name}{error.strerror or error}", hint=hint)

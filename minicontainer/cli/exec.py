"""`exec`: run a command in a running container."""

from __future__ import annotations

import os

from ..engine.home import Home
from ..errors import EngineError
from . import arguments
from .options import Command, Option, Values

OPTIONS = (
    Option("--detach -d", "run in the background"),
    Option("--env -e", "set an environment variable, or pass the caller's on",
           value="NAME[=VALUE]", many=True),
    Option("--env-file", "read environment variables from a file", value="FILE", many=True),
    Option("--interactive -i", "pass the standard input to the command"),
    Option("--privileged", "all capabilities that the engine has"),
    Option("--tty -t", "give the command a terminal"),
    Option("--user -u", "who the process is", value="USER[:GROUP]"),
    Option("--workdir -w", "the working directory", value="DIR"),
)  # fmt: skip


def execute(home: Home, values: Values) -> int:
    """The action of `minicontainer exec`."""
    from ..engine import execute, names, teardown

    interactive, tty = values.flag("interactive"), values.flag("tty")
    if interactive and tty and not values.flag("detach") and not os.isatty(0):
        raise EngineError("the input device is not a TTY", exit_code=1)
    teardown.reconcile(home)
    return execute.execute(
        home,
        names.find(home, values.words[0]),
        values.words[1:],
        env=arguments.environment(values.many("env-file"), values.many("env")),
        workdir=values.text("workdir"),
        user=values.text("user"),
        privileged=values.flag("privileged"),
        tty=tty,
        interactive=interactive,
        detach=values.flag("detach"),
    )


EXEC = Command(
    "exec",
    "CONTAINER COMMAND [ARG...]",
    "Run a command in a running container",
    execute,
    OPTIONS,
    minimum=2,
    interspersed=False,
    later="--detach-keys",
)

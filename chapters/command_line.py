"""The command line that all stages share: `container ROOTFS COMMAND [ARGUMENT…]`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from minicontainer.errors import EngineError


def main(run: Callable[[str, list[str]], int]) -> int:
    """Give a stage's `run` its arguments; the exit code, with docker's meaning.

    An error is one line on standard error, and 125 unless it knows better.
    """
    if len(sys.argv) < 3:
        print(f"usage: {sys.argv[0]} ROOTFS COMMAND [ARGUMENT…]", file=sys.stderr)
        return 125
    try:
        return run(sys.argv[1], sys.argv[2:])
    except EngineError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        told = EngineError(str(error), hint=getattr(error, "hint", None))
        print(told.render(), file=sys.stderr)
        return told.exit_code

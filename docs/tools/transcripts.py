"""Run the terminal transcripts of a page and compare what they show (law 6).

    ```console run
    $ minicontainer run --rm starter hostname
    3f1c0c2f4b5a
    ```

Lines that begin with `$ ` or `# ` are commands, those with `> ` after them go on with the command,
and lines that begin with `/ # ` are typed into the program that the command above has started; all
others are what is printed, both streams together. All blocks of a page run in order in one bash,
so that variables and directories last, in a fresh directory with the starter image's tree as
`rootfs/`, with `minicontainer` on PATH and a data root of the page's own. A block with
` needs=cgroup-v2` runs only where the machine has that feature (tests/support/machine.py).

The comparison
- `...` stands for any text within its line; a line of `...` alone for any lines, or none.
- Empty lines do not count.
- Before it, both sides are made alike: container ids and digests (12 or 64 hex digits), the number
  of a namespace (`net:[4026532008]`), clock times, durations (`2.8 ms`), `pid 4711`, what a network
  has by chance (links `mc5f0c0c2f4b`, the default bridge, prefixes `fd73:7ad8:bb24::`), the width
  of gaps between words, and the length of drawn lines.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chapters import patience

ROOT = Path(__file__).resolve().parents[2]

BLOCK = re.compile(
    r"^(?P<indent> *)```console run(?P<options>[^\n]*)\n(?P<body>.*?)^(?P=indent)``` *$",
    re.MULTILINE | re.DOTALL,
)
NEEDS = re.compile(r"\bneeds=(\S+)")

ALIKE = [
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b(\w+):\[\d+\]"), r"\1:[<number>]"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+([.,]\d+)?( ?)(ns|µs|us|ms|s|seconds?|minutes?)\b"), r"<n> \3"),
    (re.compile(r"\bpid \d+\b"), "pid <number>"),
    (re.compile(r"\bmc[0-9a-f]{10}"), "<link>"),
    (re.compile(r"\b(mc-[0-9a-f]{6}-0|minicontainer0)\b"), "<bridge>"),
    (re.compile(r"\bfd[0-9a-f]{2}(:[0-9a-f]{1,4}){1,2}::"), "<prefix>"),
    (re.compile(r"([─═])\1+"), r"\1"),
    (re.compile(r"[ \t]+"), " "),
]


class Step:
    """One command of a transcript: what is typed, what is typed into it, what it shows."""

    def __init__(self, command: str, line: int) -> None:
        self.command = command
        self.line = line
        self.typed: list[str] = []
        self.shown: list[str] = []


class Block:
    """One fence: its steps, and the machine features that it needs."""

    def __init__(self, steps: list[Step], needs: tuple[str, ...]) -> None:
        self.steps = steps
        self.needs = needs


def blocks(markdown: str) -> list[Block]:
    """The transcripts of a page, in order."""
    found = []
    for match in BLOCK.finditer(markdown):
        first = markdown[: match.start("body")].count("\n") + 1
        indent = len(match["indent"])
        lines = [line[indent:] for line in match["body"].splitlines()]
        needs = NEEDS.search(match["options"])
        found.append(Block(list(_steps(lines, first)), tuple(needs[1].split(",")) if needs else ()))
    return found


def _steps(lines: list[str], first: int) -> Iterator[Step]:
    step: Step | None = None
    for number, line in enumerate(lines, first):
        if line.startswith(("$ ", "# ")):
            if step:
                yield step
            step = Step(line[2:], number)
        elif step is None:
            raise ValueError(f"line {number}: a transcript begins with a command, '$ …' or '# …'")
        elif line.startswith("> ") and not step.shown and not step.typed:
            step.command += "\n" + line[2:]
        elif line.startswith("/ # "):
            step.typed.append(line[4:])
        else:
            step.shown.append(line)
    if step:
        yield step


def alike(text: str) -> str:
    """The text without what differs from one run to the next."""
    for pattern, replacement in ALIKE:
        text = pattern.sub(replacement, text)
    return text.strip()


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether the lines that the page shows stand for the lines that were printed."""
    if not shown:
        return not printed
    if shown[0].strip() == "...":
        return any(matches(shown[1:], printed[skip:]) for skip in range(len(printed) + 1))
    if not printed:
        return False
    pattern = ".*".join(re.escape(alike_part) for alike_part in alike(shown[0]).split("..."))
    return bool(re.fullmatch(pattern, alike(printed[0]))) and matches(shown[1:], printed[1:])


class Shell:
    """One bash for a page. What the commands start is in its session and ends with it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.end = f"<{secrets.token_hex(8)}>"
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, step: Step, timeout: float = 60) -> list[str]:
        """The lines that a step prints. The shell's $? lives on to the next step.

        timeout: in seconds, of an ordinary machine.
        """
        typed = "".join(f"{line}\n" for line in step.typed)
        source = f"<<'{self.end}'\n{typed}{self.end}\n" if typed else "</dev/null\n"
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(
            f"(exit ${{status:-0}})\n{{ {step.command}\n}} {source}"
            f"status=$?; printf '%s\\n' '{self.end}'\n".encode()
        )
        self.process.stdin.flush()
        printed = b""
        deadline = time.monotonic() + patience.seconds(timeout)
        mark = f"{self.end}\n".encode()
        while not printed.endswith(mark):
            ready = select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                why = "the shell has ended" if ready else f"no end after {timeout:.0f} s"
                raise TimeoutError(f"{why}\n{printed.decode(errors='replace')}")
            printed += chunk
        return printed[: -len(mark)].decode(errors="replace").rstrip("\n").splitlines()

    def close(self) -> None:
        """End the shell and all that it still runs."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()


def difference(step: Step, printed: list[str]) -> str:
    """What a page shows against what was printed, as a diff."""
    lines = difflib.unified_diff(
        step.shown, printed, "what the page shows", "what is printed", lineterm="", n=20
    )
    return f"line {step.line}: $ {step.command}\n" + "\n".join(lines)


def run_page(
    markdown: str,
    directory: Path,
    environment: dict[str, str],
    lacks: Callable[[str], object] = lambda feature: None,
) -> list[str]:
    """Run a page's transcripts; one diff for each step that shows something else.

    lacks: whether this machine is without a feature; a block that needs it is left out.
    """
    failures = []
    shell = Shell(directory, environment)
    try:
        for block in blocks(markdown):
            for step in [] if any(map(lacks, block.needs)) else block.steps:
                try:
                    printed = shell.run(step)
                except TimeoutError as error:
                    return [*failures, f"line {step.line}: $ {step.command}\n{error}"]
                if not matches(_trim(step.shown), _trim(printed)):
                    failures.append(difference(step, printed))
    finally:
        shell.close()
    return failures


def _trim(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]

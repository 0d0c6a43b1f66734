"""The engine as a user runs it: its command, with a data root of the test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO, Any

from chapters import patience

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "bin" / "minicontainer"


class Engine:
    """`engine.run("run", "--rm", "starter", "true")` is the command, as a CompletedProcess."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "lib"
        self.run_root = directory / "run"
        self.environment = {
            **os.environ,
            "MINICONTAINER_ROOT": str(self.root),
            "MINICONTAINER_RUN_ROOT": str(self.run_root),
        }

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line, for programs that start it in their own way (a terminal, strace)."""
        roots = ["--root", str(self.root), "--run-root", str(self.run_root)]
        return [str(COMMAND), *roots, *map(str, arguments)]

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        input: str | None = None,
        timeout: float = 60,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end. A failure shows what it said, unless check is False."""
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            capture_output=True,
            text=True,
            timeout=patience.seconds(timeout),
            check=False,
            **options,
        )
        if check and done.returncode:
            raise AssertionError(
                f"minicontainer {' '.join(map(str, arguments))}: exit {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def output(self, *arguments: str | Path, **options: Any) -> str:
        """What one command prints, without the last line's end."""
        return self.run(*arguments, **options).stdout.rstrip("\n")

    def start(
        self, *arguments: str | Path, stdin: int | IO[Any] = subprocess.DEVNULL, **options: Any
    ) -> subprocess.Popen[str]:
        """Start one command and return at once; the test waits for it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def remove_containers(self) -> None:
        """Stop and remove what the test has left running."""
        containers = self.root / "containers"
        if containers.is_dir():
            for identifier in os.listdir(containers):
                self.run("rm", "--force", identifier, check=False)
        if (self.root / "networks").is_dir():
            self.run("network", "prune", "--force", check=False)

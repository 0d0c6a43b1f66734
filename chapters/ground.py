"""Where the attacks take place: a stand-in for the host, whose loss would hurt nobody.

The stand-in is a set of namespaces: mounts, host name, shared memory, queues and the network that
an attack changes there are not the machine's. Inside it the mounts are *shared*, as systemd leaves
them on most machines, whatever this one does.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from chapters import patience, stages
from chapters.stages import CLONE, Stage
from minicontainer.kernel import cgroupfs, cgroups, flags, loopback, mounts, namespaces, syscalls

HOST_NAME = "the-host"
_OVER = "the script has run to its end"


class Missing(Exception):
    """This machine does not have what the attack is about: the sentence says what."""


def enter_stand_in() -> None:
    """Put this process into namespaces that stand for the host's."""
    kinds = flags.CLONE_NEWNS | flags.CLONE_NEWUTS | flags.CLONE_NEWIPC | flags.CLONE_NEWNET
    syscalls.unshare(kinds)
    loopback.bring_up()
    mounts.make_private()
    syscalls.mount(None, "/", None, flags.MS_REC | flags.MS_SHARED)
    namespaces.set_hostname(HOST_NAME)


def sweep() -> None:
    """Remove the cgroups of stages that were killed before they could: those that nobody is in,
    and whose process is gone."""
    place = cgroups.place() if cgroups.is_v2() else "/*"
    for path in glob.glob(f"{cgroupfs.MOUNT}{place}/{cgroups.OURS}/chapter-*-*"):
        if not os.path.exists(f"/proc/{path.rpartition('-')[2]}"):
            cgroupfs.remove_empty(path)


class Ground:
    """One attack on one stage.

    stage: what runs the attacker; directory: an empty one on the stand-in host; rootfs: the
    attacker's root file system, a fresh copy of `template`; told: what was run and what it said.
    """

    def __init__(self, stage: Stage, directory: Path, template: Path) -> None:
        self.stage = stage
        self.directory = directory
        self.rootfs = directory / "rootfs"
        self.told: list[str] = []
        shutil.copytree(template, self.rootfs, symlinks=True)
        sweep()

    def file(self, name: str, text: str) -> Path:
        """A file of the host."""
        path = self.directory / name
        path.write_text(text)
        return path

    def run(
        self,
        script: str,
        *arguments: str | Path,
        environment: dict[str, str] | None = None,
        descriptors: Sequence[int] = (),
        may_die: bool = False,
    ) -> str:
        """Run a shell script as the container's program; what it printed.

        arguments: the script's $1, $2…; environment: added to the engine's own; descriptors:
        left open in the engine, for the program to find. RuntimeError when the script did not
        reach its end: an attack that was never made has not been stopped. may_die: unless it
        was killed, or could not fork, which is how a limit may stop it.
        """
        script = textwrap.dedent(script).strip()
        whole = f"{script}\necho; echo {_OVER}"
        words = ["sh", "-c", whole, "attack", *map(str, arguments)]
        program = subprocess.Popen(
            self.stage.command(self.rootfs, *words),
            cwd=CLONE,
            env={**os.environ, **(environment or {})},
            pass_fds=list(descriptors),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = program.communicate(timeout=patience.seconds(30))
        except subprocess.TimeoutExpired:
            stages.kill_tree(program.pid)
            out, err = program.communicate()
        printed, over, _ = out.partition(f"\n{_OVER}\n")
        self.told += [f"$ {line}" for line in script.splitlines()]
        self.told += [*printed.splitlines(), *err.splitlines()]
        died = may_die and program.returncode in (2, 137)
        if not over and not died:
            raise RuntimeError("\n".join(["the attack could not be made:", *self.told]))
        return printed

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Run a program in the container meanwhile: one that says "ready", and ends when its input
        does."""
        self.told += [f"$ {' '.join(command)}"]
        with subprocess.Popen(
            self.stage.command(self.rootfs, *command),
            cwd=CLONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as program:  # fmt: skip
            assert program.stdout is not None
            try:
                if program.stdout.read(5) != b"ready":
                    raise RuntimeError("the attack could not be made: its program did not start")
                yield
            finally:
                program.communicate()  # closes its input

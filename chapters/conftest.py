"""What the chapters' tests share: the stage under test, seen from inside and from its host.

A chapter's tests run on its own stage, on every later one and on the engine (law 1 of the book).
`--stage previous` turns them on the stage before, where at least one must fail (law 2).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from chapters import patience, stages
from chapters.ground import HOST_NAME
from chapters.stages import CLONE, Chapter, Stage

# A stand-in for the host, as in ground.py; the command keeps the process that was started.
STAND_IN: list[str] = [
    *("unshare", "--mount", "--uts", "--ipc", "--propagation", "private", "sh", "-c"),
    f'mount --make-rshared / && echo {HOST_NAME} >/proc/sys/kernel/hostname && exec "$@"',
    "host",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stage",
        default="later",
        help="run the chapters' tests on: later (their own stage and all after it), own, previous, "
        "or one stage (3, mounts, engine)",
    )


def chapter_of(path: Path) -> Chapter | None:
    """The chapter whose folder this file is in."""
    for chapter in stages.chapters():
        if chapter["folder"] == path.parent.name:
            return chapter
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        chapter = chapter_of(item.path)
        if chapter:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.needs(*chapter["requires"]))
            # In the VM, each chapter's own stage: what comes after it is the same code. The engine
            # too where it is about the VM's cgroups; the rest of it has tests of its own there.
            stage = getattr(item, "callspec", None) and item.callspec.params.get("stage")
            own = {chapter["number"], stages.ENGINE if chapter["name"] == "cgroups" else 0}
            if stage and stage.number not in own:
                item.add_marker(pytest.mark.host)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stage" not in metafunc.fixturenames:
        return
    chapter = chapter_of(Path(metafunc.module.__file__))
    assert chapter is not None
    wanted = metafunc.config.getoption("--stage")
    number = chapter["number"]
    if wanted == "later":
        chosen = [stage for stage in stages.stages() if stage.number >= number]
    elif wanted in ("own", "previous"):
        chosen = [stages.find(str(number if wanted == "own" else number - 1))]
    else:
        chosen = [stages.find(wanted)]
    metafunc.parametrize("stage", chosen, indirect=True, ids=lambda s: s.label.replace(" ", "-"))


class Running:
    """A container that runs: its first process and its engine, as the host numbers them.

    pid: the program; host: the stage's own process, whose namespaces are the stand-in host's.
    """

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        self.host = program.pid
        self.pid = program.pid

    def __enter__(self) -> Running:
        try:
            # The answer comes from the program, so it is past its exec.
            assert self.program.stdin
            self.program.stdin.write("ready\n")
            self.program.stdin.flush()
            first = self.line()
            assert first == "ready", first
            with open(f"/proc/{self.host}/task/{self.host}/children") as children:
                self.pid = int((children.read().split() or [str(self.host)])[0])
        except BaseException:
            stages.kill_tree(self.host)
            _, error = self.program.communicate()
            pytest.fail(f"the container did not start: {error}")
        return self

    def line(self) -> str:
        """The next line that the program prints."""
        assert self.program.stdout
        return self.program.stdout.readline().rstrip("\n")

    def end(self) -> int:
        """Close the program's input, which ends it; the stage's exit code."""
        assert self.program.stdin
        self.program.stdin.close()
        self.program.stdin = None
        return self.program.wait(patience.seconds(30))

    def status(self, field: str) -> str:
        """One field of /proc/PID/status."""
        for row in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = row.partition(":")
            if name == field:
                return value.strip()
        raise KeyError(field)

    def path(self, inside: str) -> Path:
        """The host's path of a file in the container."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def mounts(self) -> dict[str, list[str]]:
        """The container's mounts: {mount point: the row of mountinfo, split}; proc(5)."""
        rows = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return {row.split()[4]: row.split() for row in rows}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.program.communicate(
                timeout=patience.seconds(10)
            )  # closes the input, which ends the program
        except subprocess.TimeoutExpired:
            stages.kill_tree(self.host)
            self.program.communicate()


class Container:
    """The stage under test, with a root file system."""

    def __init__(self, stage: Stage, rootfs: Path) -> None:
        self.stage = stage
        self.rootfs = rootfs

    def command(self, *command: str | Path) -> list[str]:
        """The command line, in a stand-in host."""
        return [*STAND_IN, *self.stage.command(self.rootfs, *map(str, command))]

    def run(self, *command: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*command),
            cwd=CLONE,
            input=input,
            capture_output=True,
            text=True,
            timeout=patience.seconds(30),
            check=False,
        )

    def output(self, script: str, *arguments: str | Path) -> str:
        """What a shell script prints inside; its errors too, so that a test that fails tells."""
        done = self.run("sh", "-c", f"exec 2>&1\n{script}", "script", *arguments)
        return done.stdout + done.stderr

    def start(
        self,
        script: str = "",
        *,
        environment: dict[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> Running:
        """Start a shell that does `script` and then lives until its input ends. For `with`."""
        return Running(
            subprocess.Popen(
                self.command("sh", "-c", f"{script}\nexec cat"),
                cwd=CLONE,
                env={**os.environ, **(environment or {})},
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


@pytest.fixture
def stage(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Container]:
    """The stage under test, as `Container`."""
    yield Container(request.param, rootfs)


@pytest.fixture
def neighbour(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Running]:
    """For the benchmarks: a container of the chapter's stage that lives meanwhile, so that what all
    of them share is not made for each."""
    chapter = chapter_of(request.path)
    assert chapter is not None
    with Container(stages.find(str(chapter["number"])), rootfs).start() as running:
        yield running


@pytest.fixture
def start_once(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Callable[[], None]]:
    """For the benchmarks: start the smallest program at the chapter's stage, and see it end."""
    chapter = chapter_of(request.path)
    assert chapter is not None
    # The same file at every stage, also where the root is still the host's.
    program = f"{rootfs}/bin/true" if chapter["number"] == 1 else "/bin/true"
    command = [sys.executable, "-I", "-S", str(CLONE / "chapters" / "repeat.py")]
    command += [f"chapters.{chapter['folder']}.container", str(rootfs), program]
    # Scratch directories in memory: the price of isolation, not of this machine's disk.
    environment = {**os.environ, "TMPDIR": "/dev/shm"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe) as repeat:
        assert repeat.stdin and repeat.stdout
        go, done = repeat.stdin.fileno(), repeat.stdout.fileno()

        def start() -> None:
            os.write(go, b".")
            assert os.read(done, 1) == b"\0"

        yield start

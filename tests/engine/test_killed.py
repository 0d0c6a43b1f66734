"""An engine that is killed at any moment leaves nothing that the next command does not clean."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from chapters import patience
from tests.support.engine import ROOT, Engine

pytestmark = [pytest.mark.root, pytest.mark.tools("strace")]


def moments(engine: Engine, tmp_path: Path, count: int, *words: str) -> list[tuple[str, int]]:
    """Moments of a command to kill it at, spread from its first look at the run root to its end:
    a system call, and the how-manieth of its name it is."""
    trace = tmp_path / "trace"
    command = ["strace", "-qq", "-o", trace, *engine.command(*words)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seen: collections.Counter[str] = collections.Counter()
    found = []
    begun = False
    for line in trace.read_text().splitlines():
        name, parenthesis, _ = line.partition("(")
        if parenthesis and name.isidentifier():
            seen[name] += 1
            begun = begun or str(engine.run_root) in line
            if begun:
                found.append((name, seen[name]))
    return found[:: max(1, len(found) // count)]


def kill_at(engine: Engine, moment: tuple[str, int], *words: str) -> int:
    """Run a command that is killed at that moment; the exit code, negative for a signal.

    -f: what it starts dies at the same moment of its own: the supervisor of `-d`, and the
    container's first process before it is the container's.
    """
    name, when = moment
    inject = f"--inject={name}:signal=KILL:when={when}"
    return subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", inject, *engine.command(*words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        timeout=patience.seconds(60), check=False,
    ).returncode  # fmt: skip


def left(engine: Engine) -> list[str]:
    """What is left after the next command, whichever it is; or after some more, while the last
    process that a killed engine had started holds on to the container for a moment."""
    deadline = time.monotonic() + patience.seconds(5)
    while True:
        engine.run("ps")
        found = [*os.listdir(engine.run_root), *os.listdir(engine.root / "containers")]
        found += [name for name in os.listdir(engine.root / "names") if name != ".lock"]
        if not found or time.monotonic() > deadline:
            return found


@pytest.mark.parametrize("options", [["--rm"], []], ids=["rm", "kept"])
def test_a_run_killed_at_any_moment(
    engine: Engine, starter: str, tmp_path: Path, options: list[str]
) -> None:
    words = ["run", *options, "--name", "web", starter, "true"]
    engine.run(*words)
    engine.run("rm", "-f", "web")
    chosen = moments(engine, tmp_path, 25, *words)
    engine.run("rm", "-f", "web")
    killed = 0
    for moment in chosen:
        killed += kill_at(engine, moment, *words) != 0
        if options:
            assert left(engine) == [], moment
        else:
            assert left(engine) in ([], [engine.output("ps", "-aq", "--no-trunc"), "web"]), moment
            engine.run("rm", "-f", "web")
            assert left(engine) == [], moment
    assert killed > len(chosen) // 2


def test_a_detached_run_killed_at_any_moment(engine: Engine, starter: str, tmp_path: Path) -> None:
    words = ["run", "-d", "--name", "web", starter, "true"]
    engine.run(*words)
    engine.run("wait", "web")
    engine.run("rm", "web")
    # The moments of a run in the foreground: they are the supervisor's.
    for moment in moments(engine, tmp_path, 20, "run", "--rm", starter, "true"):
        kill_at(engine, moment, *words)
        engine.run("rm", "-f", "web", check=False)
        assert left(engine) == [], moment


def test_a_supervisor_killed(engine: Engine, starter: str) -> None:
    id = engine.output("run", "-d", "--name", "web", starter, "sleep", "1000")
    state = json.loads((engine.run_root / id / "state.json").read_text())
    os.kill(state["engine"], signal.SIGKILL)
    # The next command finds it, whichever it is.
    assert engine.output("ps", "-q") == ""
    assert not os.path.exists(f"/proc/{state['pid']}/ns/net")
    assert engine.output("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137)")
    assert engine.output("inspect", "-f", "{{.State.Error}}", "web") == "the engine was killed"
    engine.run("rm", "web")


PROGRAM = """
    import sys, threading, time
    sys.path.insert(0, {root!r})
    from minicontainer.engine import run
    from minicontainer.engine.create import Settings
    from minicontainer.engine.home import Home
    if {threads}:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    home = Home({lib!r}, {run!r})
    settings = Settings("starter", ["sh", "-c", {script!r}], remove=True, interactive=True)
    code = run.run(home, settings)
    print("code", code, flush=True)
"""


@pytest.mark.parametrize("threads", [False, True])
def test_from_a_python_program(engine: Engine, starter: str, threads: bool) -> None:
    """With other threads a supervisor process comes in between: the same streams, the same end."""
    program = textwrap.dedent(PROGRAM).format(
        root=str(ROOT), lib=str(engine.root), run=str(engine.run_root), threads=threads,
        script="cat; echo err >&2; exit 3",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], input="hello\n", capture_output=True, text=True,
        timeout=patience.seconds(60), check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("hello\ncode 3\n", "err\n")
    assert left(engine) == []

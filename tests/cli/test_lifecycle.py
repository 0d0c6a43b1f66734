"""Containers in the background: ps, logs, exec, stop, kill, wait, rm, inspect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from chapters import patience
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm]

FOREVER = "while :; do sleep 0.05; done"


def detach(engine: Engine, image: str, script: str, *options: str) -> str:
    return engine.output("run", "--detach", *options, image, "sh", "-c", script)


def state(engine: Engine, name: str, field: str) -> str:
    return engine.output("inspect", "-f", f"{{{{.State.{field}}}}}", name)


def until_blocked(pid: int) -> None:
    """Wait until a process waits for a lock (proc(5), /proc/locks)."""
    while not any(
        fields[1] == "->" and fields[5] == str(pid)
        for line in Path("/proc/locks").read_text().splitlines()
        if len(fields := line.split()) > 5
    ):
        time.sleep(0.01)  # allowed: the kernel tells nobody when a process begins to wait


def supervisor(engine: Engine, id: str) -> int:
    text = (engine.run_root / id / "state.json").read_text()
    return int(json.loads(text)["engine"])


def test_detached(engine: Engine, starter: str) -> None:
    id = detach(engine, starter, "sleep 100", "--name", "web", "--label", "tier=front")
    assert len(id) == 64
    (row,) = [json.loads(line) for line in engine.output("ps", "--format", "json").splitlines()]
    assert row["ID"] == id[:12]
    assert row["Command"] == "\"sh -c 'sleep 100'\"" or row["Command"] == '"sh -c sleep 100"'
    assert row["Names"] == "web" and row["State"] == "running"
    assert row["Status"].startswith("Up ")
    assert int(state(engine, "web", "Pid")) > 1
    engine.run("stop", "-t", "0", "web")
    assert engine.output("ps", "-q") == ""
    assert engine.output("ps", "-aq") == id[:12]
    assert engine.output("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137) ")


def test_the_supervisor_keeps_nothing_of_the_callers(engine: Engine, starter: str) -> None:
    read, write = os.pipe()
    try:
        command = engine.command("run", "-d", starter, "sleep", "100")
        done = subprocess.run(
            command,
            pass_fds=[write],
            capture_output=True,
            text=True,
            check=True,
            timeout=patience.seconds(30),
        )
    finally:
        os.close(write)
    # End of file: neither the supervisor nor the container has the descriptor.
    assert os.read(read, 1) == b""
    os.close(read)
    pid = supervisor(engine, done.stdout.strip())
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    links = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)}
    assert links == {"/dev/null"}


@pytest.mark.host
def test_a_failed_start_is_told(engine: Engine, starter: str) -> None:
    done = engine.run("run", "-d", "--name", "bad", starter, "no-such", check=False)
    assert done.returncode == 127
    assert done.stdout == ""
    assert done.stderr.startswith('minicontainer: exec "no-such": not found in PATH')
    assert state(engine, "bad", "Status") == "created"
    done = engine.run("run", "-d", "--rm", "-u", "nope", starter, "true", check=False)
    assert done.returncode == 125
    assert len(os.listdir(engine.root / "containers")) == 1


def test_rm_when_it_ends(engine: Engine, starter: str) -> None:
    detach(engine, starter, "read line; exit 3", "--rm", "--name", "web", "-i")
    waiting = engine.start("wait", "web")
    pid = int(state(engine, "web", "Pid"))
    until_blocked(waiting.pid)
    os.kill(pid, signal.SIGKILL)
    output, _ = waiting.communicate(timeout=patience.seconds(20))
    assert output == "137\n"
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []
    assert os.listdir(engine.root / "names") == [".lock"]


@pytest.mark.host
def test_logs(engine: Engine, starter: str) -> None:
    script = "echo one; echo two >&2; printf 'h\\303\\251 \"q\"\\n'; printf three"
    detach(engine, starter, script, "--name", "web")
    engine.run("wait", "web")
    done = engine.run("logs", "web")
    assert (done.stdout, done.stderr) == ('one\nhé "q"\nthree', "two\n")
    assert engine.run("logs", "-n", "1", "web").stdout == "three"
    assert engine.run("logs", "--tail", "0", "web").stdout == ""
    assert engine.run("logs", "--tail", "99", "web").stdout == done.stdout
    stamped = engine.run("logs", "-t", "web").stdout.splitlines()[0].split(" ")
    assert stamped[1] == "one" and stamped[0].endswith("Z")
    assert engine.run("logs", "--since", stamped[0], "web").stdout == done.stdout
    assert engine.run("logs", "--until", "2001-01-01T00:00:00Z", "web").stdout == ""
    assert engine.run("logs", "--since", "1h", "web").stdout == done.stdout
    log = Path(engine.output("inspect", "-f", "{{.LogPath}}", "web"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert set(rows[0]) == {"log", "stream", "time"}
    assert sorted((row["stream"], row["log"]) for row in rows) == [
        ("stderr", "two\n"), ("stdout", 'hé "q"\n'), ("stdout", "one\n"), ("stdout", "three"),
    ]  # fmt: skip


@pytest.mark.host
def test_logs_follow_to_the_end(engine: Engine, starter: str) -> None:
    script = "trap 'echo bye; exit' TERM; echo one; " + FOREVER
    detach(engine, starter, script, "--name", "web")
    following = engine.start("logs", "--follow", "web")
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    engine.run("stop", "web")
    output, _ = following.communicate(timeout=patience.seconds(20))
    assert (output, following.returncode) == ("bye\n", 0)
    assert engine.output("logs", "-f", "web") == "one\nbye"


def test_logs_follow_ends_with_a_killed_supervisor(engine: Engine, starter: str) -> None:
    id = detach(engine, starter, "echo one; sleep 1000", "--name", "web")
    following = engine.start("logs", "-f", "web")
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    os.kill(supervisor(engine, id), signal.SIGKILL)
    assert following.wait(20) == 0
    following.communicate()


def test_stop(engine: Engine, starter: str) -> None:
    detach(engine, starter, f"trap 'exit 5' TERM; echo ready; {FOREVER}", "--name", "polite")
    script = f"trap 'exit 6' QUIT; echo ready; {FOREVER}"
    detach(engine, starter, script, "--name", "other", "--stop-signal", "QUIT")
    detach(engine, starter, f"trap : TERM; echo ready; {FOREVER}", "--name", "stubborn")
    for name, options, code in (
        ("polite", [], "5"),
        ("other", [], "6"),
        ("stubborn", ["--timeout", "0"], "137"),
    ):
        following = engine.start("logs", "-f", name)
        assert following.stdout is not None
        following.stdout.readline()  # its trap is set
        assert engine.output("stop", *options, name) == name
        assert state(engine, name, "ExitCode") == code
        following.communicate(timeout=patience.seconds(20))
    assert engine.output("stop", "polite") == "polite"
    assert engine.output("wait", "polite", "other") == "5\n6"


def test_kill(engine: Engine, starter: str) -> None:
    detach(engine, starter, f"trap 'echo usr' USR1; echo ready; {FOREVER}", "--name", "web")
    following = engine.start("logs", "-f", "web")
    assert following.stdout is not None
    following.stdout.readline()
    assert engine.output("kill", "-s", "SIGUSR1", "web") == "web"
    assert following.stdout.readline() == "usr\n"
    engine.run("kill", "--signal", "9", "web")
    following.communicate(timeout=patience.seconds(20))
    assert state(engine, "web", "ExitCode") == "137"
    done = engine.run("kill", "web", check=False)
    assert done.returncode == 1 and "is not running" in done.stderr


@pytest.mark.host
def test_wait_for_one_that_runs(engine: Engine, starter: str) -> None:
    detach(engine, starter, "read line; exit 3", "--name", "web", "-i")
    waiting = engine.start("wait", "web")
    engine.run("exec", "web", "sh", "-c", "kill -9 -1", check=False)
    engine.run("kill", "web")
    output, _ = waiting.communicate(timeout=patience.seconds(20))
    assert output == "137\n"


@pytest.mark.host
def test_rm(engine: Engine, starter: str) -> None:
    detach(engine, starter, "sleep 1000", "--name", "web")
    done = engine.run("rm", "web", "nope", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        'minicontainer: cannot remove container "/web": container is running: '
        "stop the container before removing or force remove"
    )
    assert "no such container: nope" in done.stderr
    pid = int(state(engine, "web", "Pid"))
    assert engine.output("rm", "-f", "web") == "web"
    assert not os.path.exists(f"/proc/{pid}/ns")
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []
    assert engine.run("rm", "-f", "web", check=False).returncode == 0
    detach(engine, starter, "true", "--name", "web")


def test_exec(engine: Engine, starter: str) -> None:
    options = ["--name", "web", "-e", "A=1", "-w", "/srv", "-u", "app", "--cap-drop", "CHOWN"]
    detach(engine, starter, "sleep 1000", *options)
    script = "id -u; pwd; echo $A$B; echo $HOME; hostname; ls /proc | grep -c '^[0-9]'"
    found = engine.output("exec", "-e", "B=2", "web", "sh", "-c", script).splitlines()
    hostname = engine.output("ps", "-q")
    assert found[:5] == ["1000", "/srv", "12", "/home/app", hostname]
    assert int(found[5]) <= 4
    script = "id -u; pwd; echo $HOME; grep CapBnd /proc/self/status | cut -f 2"
    found = engine.output("exec", "-u", "0", "-w", "/", "web", "sh", "-c", script).splitlines()
    assert found == ["0", "/", "/root", "00000000a80425fa"]
    assert engine.run("exec", "-i", "web", "cat", input="hi").stdout == "hi"
    for words, code in (
        (["sh", "-c", "exit 9"], 9),
        (["no-such"], 127),
        (["/etc"], 126),
        (["sh", "-c", "kill -9 $$"], 137),
    ):
        assert engine.run("exec", "web", *words, check=False).returncode == code
    done = engine.run("exec", "-w", "/no/such", "web", "true", check=False)
    assert done.returncode != 0 and "/no/such" in done.stderr


def test_exec_in_the_background(engine: Engine, starter: str) -> None:
    detach(engine, starter, "sleep 1000", "--name", "web")
    assert engine.output("exec", "-d", "web", "sh", "-c", "echo x > /tmp/x; sleep 1000") == ""
    processes = engine.output("exec", "web", "ps").splitlines()
    assert sum("sleep 1000" in line for line in processes) >= 2
    assert engine.run("exec", "-d", "web", "no-such", check=False).returncode == 127
    engine.run("rm", "-f", "web")


@pytest.mark.host
def test_exec_where_nothing_runs(engine: Engine, starter: str) -> None:
    engine.run("run", "--name", "web", starter, "true")
    id = engine.output("ps", "-aq", "--no-trunc")
    done = engine.run("exec", "web", "true", check=False)
    assert (done.returncode, done.stderr) == (
        1, f"minicontainer: container {id} is not running\n",
    )  # fmt: skip


@pytest.mark.host
def test_ps_filters(engine: Engine, starter: str) -> None:
    detach(engine, starter, "sleep 1000", "--name", "front", "-l", "tier=web", "-l", "env=test")
    engine.run("run", "--name", "back", "-l", "tier=db", starter, "sh", "-c", "exit 3", check=False)
    engine.run("run", "--name", "bad", starter, "no-such", check=False)

    def names(*options: str) -> list[str]:
        return engine.output("ps", "--format", "{{.Names}}", *options).splitlines()

    assert names() == ["front"]
    assert names("-a") == ["bad", "back", "front"]
    assert names("--filter", "status=exited") == ["back"]
    assert names("-f", "status=created", "-f", "status=running") == ["bad", "front"]
    assert names("-a", "-f", "name=ba") == ["bad", "back"]
    assert names("-a", "-f", "label=tier") == ["back", "front"]
    assert names("-a", "-f", "label=tier=web", "-f", "label=env=test") == ["front"]
    assert names("-a", "-f", "label=tier=web", "-f", "label=env=prod") == []
    assert names("-a", "-f", "exited=3") == ["back"]
    assert names("-a", "-f", "ancestor=starter") == ["bad", "back", "front"]
    assert names("-l") == ["bad"]
    assert names("-n", "2") == ["bad", "back"]
    head = engine.output("ps", "-a").splitlines()[0].split("   ")
    assert [word.strip() for word in head if word.strip()] == [
        "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES",
    ]  # fmt: skip


@pytest.mark.host
def test_inspect(engine: Engine, starter: str, tmp_path: Path) -> None:
    volume = f"{tmp_path}:/data:ro"
    detach(engine, starter, "sleep 1000", "--name", "web", "-v", volume, "-e", "A=1", "--rm")
    (found,) = json.loads(engine.output("inspect", "web"))
    assert found["Name"] == "/web"
    assert found["Path"] == "sh" and found["Args"] == ["-c", "sleep 1000"]
    assert found["State"]["Running"] and found["State"]["Status"] == "running"
    assert os.readlink(f"/proc/{found['State']['Pid']}/exe").endswith("busybox")
    assert found["HostConfig"]["AutoRemove"] and found["HostConfig"]["NetworkMode"] == "bridge"
    (mount,) = found["Mounts"]
    assert (mount["Source"], mount["Destination"], mount["RW"]) == (str(tmp_path), "/data", False)
    assert "A=1" in found["Config"]["Env"]
    assert found["Image"] == engine.output("images", "-q", "--no-trunc")
    done = engine.run("inspect", "nope", check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "no such object: nope" in done.stderr
    assert json.loads(engine.output("inspect", starter))[0]["RepoTags"] == ["starter:latest"]
    assert engine.run("container", "inspect", starter, check=False).returncode == 1


@pytest.mark.host
def test_an_image_in_use_stays(engine: Engine, starter: str) -> None:
    detach(engine, starter, "sleep 1000", "--name", "web")
    done = engine.run("rmi", starter, check=False)
    assert done.returncode == 1 and "conflict" in done.stderr
    engine.run("rm", "-f", "web")
    assert "Untagged: starter:latest" in engine.output("rmi", starter)
    assert engine.output("images", "-q") == ""


@pytest.mark.host
def test_prune(engine: Engine, starter: str) -> None:
    id = detach(engine, starter, "sleep 1000", "--name", "kept")
    engine.run("run", "--name", "gone", starter, "true")
    assert engine.run("container", "prune", input="n\n", check=False).returncode == 1
    assert len(engine.output("container", "prune", "--force").splitlines()) == 1
    assert engine.output("ps", "-aq", "--no-trunc") == id


@pytest.mark.host
def test_commands_beside_each_other(engine: Engine, starter: str) -> None:
    """Every command looks for what killed engines left: none may take a living one for killed."""
    commands = []
    for number in range(6):
        commands.append(["run", "-d", "--name", f"web{number}", starter, "sleep", "1000"])
        commands.append(["run", "--rm", starter, "true"])
        commands += [["ps", "-a"], ["container", "prune", "-f"]]
    for command, running in [(words, engine.start(*words)) for words in commands]:
        _, error = running.communicate(timeout=patience.seconds(60))
        assert (running.returncode, error) == (0, ""), command
    assert len(engine.output("ps", "-q").splitlines()) == 6


@pytest.mark.host
def test_a_damaged_record(engine: Engine, starter: str) -> None:
    engine.run("run", "--name", "web", starter, "true")
    id = engine.output("ps", "-aq", "--no-trunc")
    (engine.root / "containers" / id / "container.json").write_text("{")
    assert engine.output("ps", "-a", "--format", "{{.Status}}") == "Dead"
    assert "damaged" in engine.output("inspect", "-f", "{{.State.Error}}", id)
    engine.run("rm", "web")
    assert os.listdir(engine.root / "containers") == []
    assert os.listdir(engine.root / "names") == [".lock"]


@pytest.mark.host
def test_info(engine: Engine, starter: str) -> None:
    detach(engine, starter, "sleep 1000")
    engine.run("run", starter, "true")
    found = json.loads(engine.output("info", "--format", "json"))
    assert (found["Containers"], found["ContainersRunning"], found["Images"]) == (2, 1, 1)
    assert found["RootDir"] == str(engine.root)

"""`run`, as a user types it: what the container gets, exit codes, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from chapters import patience
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.vm]


def sh(engine: Engine, image: str, script: str, *options: str, **keywords: str) -> str:
    return engine.output("run", "--rm", *options, image, "sh", "-c", script, **keywords)


def test_what_a_container_sees(engine: Engine, starter: str) -> None:
    lines = sh(engine, starter, "id; echo $$; hostname; pwd; ls /sys/class/net").splitlines()
    assert lines[0] == "uid=0(root) gid=0(root) groups=0(root)"
    assert lines[1] == "1"
    assert len(lines[2]) == 12
    assert lines[3:] == ["/", "eth0", "lo"]


@pytest.mark.host
def test_the_environment(engine: Engine, starter: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FROM_FILE=1\n")
    found = engine.output(
        "run", "--rm", "-e", "A=x y", "-eB", "-e", "HOME=/here", "--env-file", file,
        "--hostname", "box", starter, "env",
        environment={"B": "host"},
    ).splitlines()  # fmt: skip
    assert found == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=box", "FROM_FILE=1", "A=x y", "B=host", "HOME=/here",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
        (["no-such"], 127, 'exec "no-such": not found in PATH'),
        (["/no/such"], 127, 'exec "/no/such": no such file or directory'),
        (["/etc"], 126, 'exec "/etc": permission denied'),
        (["/etc/passwd"], 126, 'exec "/etc/passwd": permission denied'),
    ],
)
def test_exit_codes(
    engine: Engine, starter: str, words: list[str], code: int, message: str
) -> None:
    done = engine.run("run", "--rm", starter, *words, check=False)
    assert done.returncode == code
    if message:
        assert done.stderr.startswith(f"minicontainer: {message}")
    assert os.listdir(engine.root / "containers") == []


@pytest.mark.host
def test_a_script_without_its_interpreter(engine: Engine, starter: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such\n")
    script.chmod(0o755)
    done = engine.run("run", "--rm", "-v", f"{script}:/script", starter, "/script", check=False)
    assert done.returncode == 127
    assert "interpreter" in done.stderr


@pytest.mark.host
def test_the_streams_stay_apart(engine: Engine, starter: str) -> None:
    done = engine.run("run", "--rm", starter, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.host
def test_much_output_arrives_whole(engine: Engine, starter: str) -> None:
    done = engine.run("run", "--rm", starter, "seq", "100000")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 100001))


def test_standard_input(engine: Engine, starter: str) -> None:
    assert engine.run("run", "--rm", "-i", starter, "cat", input="hello").stdout == "hello"
    assert engine.run("run", "--rm", starter, "cat", input="hello").stdout == ""
    big = "x" * 1_000_000
    assert engine.run("run", "--rm", "-i", starter, "cat", input=big).stdout == big


def test_a_reader_that_leaves_early(engine: Engine, starter: str) -> None:
    """`minicontainer run … | head -1` ends."""
    running = engine.start("run", "--rm", starter, "yes")
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.wait(20) != 0
    running.stderr.close()


def test_users(engine: Engine, starter: str) -> None:
    script = "id -u; id -g; id -G; echo $HOME; echo hi > /dev/stdout"
    found = sh(engine, starter, script, "--user", "app").splitlines()
    assert found == ["1000", "1000", "1000 100", "/home/app", "hi"]
    found = sh(engine, starter, script, "-u", "5:7", "--group-add", "users").splitlines()
    assert found == ["5", "7", "7 100", "/", "hi"]
    done = engine.run("run", "--rm", "-u", "nope", starter, "true", check=False)
    assert done.returncode == 125
    assert "unable to find user nope: no matching entries in passwd file" in done.stderr


def test_capabilities_and_limits(engine: Engine, starter: str) -> None:
    script = "grep -E 'CapEff|CapBnd|CapInh' /proc/self/status | cut -f 2"
    assert sh(engine, starter, script).split() == ["0" * 16, *["00000000a80425fb"] * 2]
    assert sh(engine, starter, script, "-u", "app").split()[1] == "0" * 16
    assert sh(engine, starter, script, "--cap-drop", "ALL").split() == ["0" * 16] * 3
    assert sh(engine, starter, "ulimit -n; ulimit -Hn", "--ulimit", "nofile=64:128") == "64\n128"


def test_low_ports_and_ping_are_nobodys_privilege(engine: Engine, starter: str) -> None:
    """In a network of its own; as in docker."""
    # Debian's busybox does not try the socket for ping that needs no power (icmp(7)).
    script = "httpd -p 80 -h / && cat /proc/sys/net/ipv4/ping_group_range"
    user = ("-u", "app", "--cap-drop", "ALL")
    assert sh(engine, starter, script, *user) == "0\t2147483647"
    start = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    changed = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=81")
    assert sh(engine, starter, start, *changed) == "81"
    of_the_host = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    assert sh(engine, starter, start, "--network", "host") == of_the_host != "0"


def test_workdir_is_made(engine: Engine, starter: str) -> None:
    assert sh(engine, starter, "pwd", "-w", "/new/deep") == "/new/deep"
    done = engine.run("run", "--rm", "-w", "/etc/passwd", starter, "true", check=False)
    assert done.returncode == 125


@pytest.mark.host
def test_entrypoint(engine: Engine, starter: str) -> None:
    output = engine.output("run", "--rm", "--entrypoint", "echo", starter, "a", "b")
    assert output == "a b"


def test_mounts(engine: Engine, starter: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("data\n")
    volume = f"{tmp_path}/dir:/data"
    assert sh(engine, starter, "cat /data/file; echo new > /data/new", "-v", volume) == "data"
    assert (tmp_path / "dir" / "new").read_text() == "new\n"
    done = engine.run("run", "--rm", "-v", f"{volume}:ro", starter, "touch", "/data/x", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    output = sh(engine, starter, "cat /etc/my/file", "-v", f"{tmp_path}/dir/file:/etc/my/file")
    assert output == "data"
    sh(engine, starter, "true", "-v", f"{tmp_path}/made/deep:/data")
    assert (tmp_path / "made" / "deep").is_dir()
    options = ["--tmpfs", "/a:size=64k,exec", "--mount", "type=tmpfs,target=/b,tmpfs-mode=700"]
    mounts = sh(engine, starter, "grep -E ' /[ab] ' /proc/mounts", *options)
    # Where the kernel numbers a tmpfs's files by 64 bits it says so.
    assert sorted(mounts.replace(",inode64", "").splitlines()) == [
        "tmpfs /a tmpfs rw,nosuid,nodev,relatime,size=64k 0 0",
        "tmpfs /b tmpfs rw,nosuid,nodev,noexec,relatime,mode=700 0 0",
    ]


def test_a_mount_of_the_users_replaces_a_default_one(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("mine\n")
    assert sh(engine, starter, "cat /etc/hosts", "-v", f"{tmp_path}/hosts:/etc/hosts") == "mine"


def test_read_only(engine: Engine, starter: str) -> None:
    script = "touch /x /etc/hosts 2>&1; touch /tmp/x && echo written"
    output = sh(engine, starter, script, "--read-only", "--tmpfs", "/tmp").splitlines()
    assert len(output) == 3 and output[2] == "written"
    assert all("Read-only file system" in line for line in output[:2])


def test_writes_are_the_containers_own(engine: Engine, starter: str) -> None:
    sh(engine, starter, "echo changed > /etc/passwd; rm /etc/group")
    assert sh(engine, starter, "head -c 4 /etc/passwd; ls /etc/group") == "root/etc/group"


def test_network(engine: Engine, starter: str) -> None:
    assert sh(engine, starter, "hostname", "--network", "host") == os.uname().nodename
    interfaces = sh(engine, starter, "ls /sys/class/net", "--network", "host").split()
    assert sorted(interfaces) == sorted(os.listdir("/sys/class/net"))
    assert sh(engine, starter, "ping -c 1 127.0.0.1 > /dev/null && echo up") == "up"
    hosts = sh(engine, starter, "cat /etc/hosts; cat /etc/hostname", "--hostname", "box")
    assert hosts.splitlines()[0] == "127.0.0.1\tlocalhost"
    assert hosts.splitlines()[-1] == "box"


def test_init_reaps_and_passes_the_code_on(engine: Engine, starter: str) -> None:
    done = engine.run("run", "--rm", "--init", starter, "sh", "-c", "echo $$; exit 4", check=False)
    assert (done.stdout, done.returncode) == ("2\n", 4)
    done = engine.run("run", "--rm", "--init", starter, "no-such", check=False)
    assert done.returncode == 127


@pytest.mark.host
def test_cidfile(engine: Engine, starter: str, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    engine.run("run", "--cidfile", file, "--name", "web", starter, "true")
    assert file.read_text() == engine.output("inspect", "-f", "{{.Id}}", "web")
    done = engine.run("run", "--rm", "--cidfile", file, starter, "true", check=False)
    assert done.returncode == 125
    assert "container ID file found" in done.stderr
    done = engine.run("run", "--cidfile", "/no/such/dir/cid", starter, "true", check=False)
    assert done.returncode == 125
    assert len(os.listdir(engine.root / "containers")) == 1


@pytest.mark.host
def test_a_name_in_use(engine: Engine, starter: str) -> None:
    engine.run("run", "--name", "web", starter, "true")
    id = engine.output("ps", "-aq", "--no-trunc")
    done = engine.run("run", "--name", "web", starter, "true", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith(
        f'minicontainer: conflict: the container name "/web" is already in use by container "{id}"'
    )
    assert os.listdir(engine.root / "containers") == [id]
    assert engine.run("run", "--name", "x", starter, "true", check=False).returncode == 125
    assert os.listdir(engine.root / "containers") == [id]


@pytest.mark.host
def test_a_failed_start_is_kept_unless_rm(engine: Engine, starter: str) -> None:
    engine.run("run", "--name", "bad", starter, "no-such", check=False)
    (found,) = json.loads(engine.output("inspect", "bad"))
    state = found["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert state["Error"].startswith('exec "no-such": not found in PATH')
    assert os.listdir(engine.run_root) == []


@pytest.mark.host
def test_without_rm_the_container_stays(engine: Engine, starter: str) -> None:
    engine.run("run", "--name", "web", starter, "sh", "-c", "echo hi; exit 3", check=False)
    state = json.loads(engine.output("inspect", "-f", "{{json .State}}", "web"))
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 3, 0)
    assert state["StartedAt"] <= state["FinishedAt"]
    assert engine.output("logs", "web") == "hi"
    assert os.listdir(engine.run_root) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(engine: Engine, starter: str, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.value}; echo ready; while :; do sleep 0.05; done"
    running = engine.start("run", "--rm", starter, "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    output, _ = running.communicate(timeout=patience.seconds(20))
    assert (output, running.returncode) == ("got\n", 9)


@pytest.mark.host
def test_signals_are_kept_without_sig_proxy(engine: Engine, starter: str) -> None:
    """We supervise, so our end is the container's; but in order: nothing is left."""
    script = "trap 'echo got' TERM; echo ready; while :; do sleep 0.05; done"
    words = ["run", "--rm", "--sig-proxy=false", starter, "sh", "-c", script]
    running = engine.start(*words)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=patience.seconds(20))
    assert (output, running.returncode) == ("", 143)
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []


def test_explain(engine: Engine, starter: str) -> None:
    done = engine.run("run", "--rm", "--explain", starter, "echo", "hi")
    assert done.stdout == "hi\n"
    # Two processes write it: by when a call began, not by who wrote first.
    lines = sorted(done.stderr.splitlines()[1:], key=lambda line: float(line.split()[0]))
    told = [line.split("  ")[-1].partition("(")[0] for line in lines]
    for first, then in zip(
        ["clone3", "move_mount", "pivot_root", "capset"],
        ["move_mount", "pivot_root", "capset", "execve"],
        strict=True,
    ):
        assert told.index(first) < told.index(then)
    assert sum(" engine " in line for line in lines) > 3
    (pivot,) = [line for line in lines if "pivot_root" in line]
    assert "container  ch 03  pivot_root" in pivot
    (proc,) = [line for line in lines if 'fsopen("proc"' in line]
    assert "ch 05" in proc


@pytest.mark.host
def test_many_at_once(engine: Engine, starter: str) -> None:
    running = [engine.start("run", "--rm", starter, "echo", str(n)) for n in range(20)]
    for number, one in enumerate(running):
        output, error = one.communicate(timeout=patience.seconds(60))
        assert (output, error, one.returncode) == (f"{number}\n", "", 0)
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []


@pytest.mark.slow
@pytest.mark.host
def test_many_in_a_row(engine: Engine, starter: str) -> None:
    """The leak check around this test looks at mounts, processes, links and cgroups."""
    for _ in range(200):
        engine.run("run", "--rm", "--network", "none", starter, "true")
    assert os.listdir(engine.run_root) == os.listdir(engine.root / "containers") == []


@pytest.mark.host
def test_without_root_and_with_roots_directories(tmp_path: Path) -> None:
    """What an ordinary user can do is in tests/engine/test_rootless.py."""
    engine = Engine(tmp_path)
    engine.root.mkdir(mode=0o700)
    # One power is left, to read the clone, wherever it lies.
    powers = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", "--reuid", "65534", "--clear-groups", *powers]
    command += engine.command("run", "x", "true")
    tmp_path.chmod(0o711)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert done.stderr.splitlines()[1].endswith("or run it as root: sudo minicontainer …")


@pytest.mark.host
@pytest.mark.tools("busybox")
def test_an_image_from_an_archive_that_is_not_unpacked_is_unpacked(
    engine: Engine, starter: str
) -> None:
    """A pull that was killed between its last blob and the unpacking leaves such an image."""
    for stack in (engine.root / "stacks").iterdir():
        stack.unlink()
    assert sh(engine, starter, "echo hi") == "hi"


def test_a_full_disk(engine: Engine, starter: str, tmp_path: Path) -> None:
    """The container's writes fail, not the engine; and a store without room says so."""
    done = engine.run(
        "run", "--rm", "--tmpfs", "/t:size=16k", starter, "dd", "if=/dev/zero", "of=/t/x",
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_a_full_disk_behind_the_output_is_not_the_end(
    engine: Engine, starter: str, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        words = engine.command("run", "--name", "ff", starter, "sh", "-c", "echo hi; exit 3")
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert engine.output("inspect", "-f", "{{.State.Status}}", "ff") == "exited"
    assert engine.output("logs", "ff") == "hi"


@pytest.mark.host
def test_what_runs_has_not_finished(engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "web", starter, "sleep", "1000")
    finished = engine.output("inspect", "-f", "{{.State.FinishedAt}}", "web")
    assert finished == "0001-01-01T00:00:00Z"
    engine.run("run", "--name", "never", starter, "no-such", check=False)
    assert engine.output("inspect", "-f", "{{.State.Status}}", "never") == "created"


@pytest.mark.host
def test_networks_that_there_are_not(engine: Engine, starter: str) -> None:
    for name, said in (
        ("foo", "network foo not found"),
        ("container:foo", "no such container: foo"),
    ):
        done = engine.run("run", "--network", name, starter, "true", check=False)
        assert (done.returncode, done.stderr.splitlines()[0]) == (125, f"minicontainer: {said}")

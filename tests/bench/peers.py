"""The other engines and runtimes, set up in a folder of their own, and put away again.

What each needs on a machine with few powers and a hybrid cgroup tree is written beside it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import machine

LIMIT = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def quiet(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a command to its end; AssertionError with what it said when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout.decode()}"


class Peer:
    """An engine with docker's command line. pull: the words between `pull` and the image."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], pull: list[str]
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.pull_words = pull

    def run(self, *arguments: str | Path) -> None:
        """Run one of its commands to the end."""
        quiet(*self.command, *arguments, environment=self.environment)

    def pull(self, image: str) -> None:
        """Pull an image of the loopback registry."""
        self.run("pull", "--quiet", *self.pull_words, image)

    def forget(self, image: str) -> None:
        """Remove an image, so that the next pull fetches it anew."""
        self.run("rmi", "--force", image)


def ours(directory: Path) -> Peer:
    """minicontainer, with a store below the directory."""
    engine = Path(__file__).parents[2] / "bin" / "minicontainer"
    command = [str(engine), "--root", f"{directory}/lib", "--run-root", f"{directory}/run"]
    return Peer("minicontainer", command, {}, [])


def podman(directory: Path) -> Peer | None:
    """Podman with its files below the directory; None where it is not installed.

    It raises limits above what an unprivileged parent allows unless told otherwise.
    """
    if not shutil.which("podman"):
        return None
    directory.mkdir()
    (directory / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits=["nofile={LIMIT}:{LIMIT}","nproc=1024:1024"]\n'
        '[engine]\ncgroup_manager="cgroupfs"\nruntime="runc"\nevents_logger="file"\n'
        f'[network]\nnetwork_backend="netavark"\nnetwork_config_dir="{directory}/networks"\n'
    )
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver="overlay"\nrunroot="{directory}/run"\ngraphroot="{directory}/lib"\n'
    )
    environment = {
        "CONTAINERS_CONF": f"{directory}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
        "TMPDIR": str(directory),
    }
    return Peer("podman", ["podman"], environment, ["--tls-verify=false"])


def forget_podmans_network() -> None:
    """Podman leaves the mount of its namespaces and the tables of iptables when its last container
    has gone; both are in the test run's own namespaces."""
    for words in ("umount /run/netns", "nft delete table ip filter", "nft delete table ip nat"):
        subprocess.run(words.split(), check=False, capture_output=True)


@contextmanager
def docker(directory: Path) -> Iterator[Peer | None]:
    """Docker's daemon with its files below the directory; None where it is not installed.

    No bridge and no iptables: it would set the host's FORWARD policy to drop.
    """
    if machine.missing("docker"):
        yield None
        return
    daemon, client = machine.docker()
    directory.mkdir()
    socket = f"unix://{directory}/docker.sock"
    parent = f"docker-{os.getpid()}"
    settings = {
        "data-root": f"{directory}/lib",
        "exec-root": f"{directory}/run",
        "pidfile": f"{directory}/pid",
        "hosts": [socket],
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{parent}",
        "insecure-registries": ["127.0.0.0/8"],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": LIMIT, "Hard": LIMIT}},
    }
    (directory / "daemon.json").write_text(json.dumps(settings))
    # It looks for containerd and its shim beside the client.
    environment = {**os.environ, "PATH": f"{Path(client).parent}:{os.environ['PATH']}"}
    with open(directory / "log", "w") as log:
        process = subprocess.Popen(
            [daemon, "--config-file", directory / "daemon.json"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    peer = Peer("docker", [client], {"DOCKER_HOST": socket}, [])
    try:
        wait_for(peer, process, directory)
        yield peer
    finally:
        process.terminate()
        process.wait()
        for group in list(Path("/sys/fs/cgroup").rglob(parent)):
            group.rmdir()


def wait_for(peer: Peer, process: subprocess.Popen[bytes], directory: Path) -> None:
    """Wait until the daemon answers; AssertionError with its log when it ends instead."""
    for _ in range(300):
        done = subprocess.run(
            [*peer.command, "version"],
            env={**os.environ, **peer.environment}, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError((directory / "log").read_text()[-2000:])


def bundle(directory: Path, engine: Peer, image: str) -> Path:
    """An OCI bundle of what our engine runs, for the runtimes: our spec, a copy of the root."""
    data = Path(engine.command[2])
    done = subprocess.run(
        [*engine.command, "run", "-d", "--network", "none", image, "sleep", "1000"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    identity = done.stdout.strip()
    spec = json.loads((data / "containers" / identity / "config.json").read_text())
    spec["process"]["args"] = ["true"]
    spec["process"]["terminal"] = False
    # The three files of the container's own directory go with the container.
    spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/etc/")]
    engine.run("rm", "-f", identity)
    directory.mkdir()
    layers = [entry for entry in (data / "layers").iterdir() if entry.is_dir()]
    shutil.copytree(layers[0], directory / "rootfs", symlinks=True)
    (directory / "config.json").write_text(json.dumps(spec))
    return directory

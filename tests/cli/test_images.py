"""Images by the command line: from a registry, from an archive, listed, named, removed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.root


@pytest.fixture
def pushed(engine: Engine, starter: str, registry: str) -> str:
    """The starter image on a registry; the name it has there. The engine's store has it too."""
    name = f"{registry}/team/starter:1.0"
    layout = f"oci:{engine.root}/images:docker.io/library/starter:latest"
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", layout, f"docker://{name}"], check=True
    )
    return name


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    """A second engine, with a store of its own."""
    other = Engine(tmp_path / "other")
    yield other
    other.remove_containers()


@pytest.mark.tools("skopeo", "docker-registry")
def test_run_pulls_what_is_missing(other: Engine, pushed: str) -> None:
    done = other.run("run", "--rm", pushed, "echo", "hi")
    assert done.stdout == "hi\n"
    assert done.stderr.startswith(f"Unable to find image '{pushed}' locally\n")
    assert "Status: Downloaded newer image" in done.stderr
    done = other.run("run", "--rm", pushed, "echo", "again")
    assert (done.stdout, done.stderr) == ("again\n", "")
    done = other.run("run", "--rm", "--pull", "always", "-q", pushed, "echo", "quiet")
    assert (done.stdout, done.stderr) == ("quiet\n", "")
    assert os.listdir(other.root / "containers") == []


@pytest.mark.tools("skopeo", "docker-registry")
def test_pull(other: Engine, pushed: str) -> None:
    assert other.output("pull", "-q", pushed) == pushed
    output = other.output("pull", pushed)
    assert "Status: Image is up to date" in output and output.endswith(f"\n{pushed}")
    (row,) = [json.loads(line) for line in other.output("images", "--format", "json").splitlines()]
    assert f"{row['Repository']}:{row['Tag']}" == pushed
    assert row["Digest"].startswith("sha256:")
    by_digest = f"{row['Repository']}@{row['Digest']}"
    assert other.output("run", "--rm", by_digest, "echo", "hi") == "hi"
    done = other.run("pull", pushed.replace("1.0", "nope"), check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.tools("skopeo", "docker-registry")
def test_a_platform_that_there_is_not(engine: Engine, pushed: str, starter: str) -> None:
    words = ["run", "--rm", "--platform", "linux/s390x", "--pull", "never", starter, "true"]
    done = engine.run(*words, check=False)
    assert done.returncode == 125
    assert "linux/s390x was asked for" in done.stderr


@pytest.mark.tools("skopeo")
def test_load(engine: Engine, starter: str, other: Engine, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{engine.root}/images:docker.io/library/starter:latest",
         f"docker-archive:{archive}:other:2"],
        check=True,
    )  # fmt: skip
    second = Engine(tmp_path / "two")
    assert other.output("load", "--input", archive) == "Loaded image: other:2"
    assert other.output("run", "--rm", "other:2", "echo", "hi") == "hi"
    with open(archive, "rb") as stream:
        done = subprocess.run(
            second.command("load", "-q"), stdin=stream, capture_output=True, text=True, check=True
        )
    assert done.stdout == "other:2\n"
    done_badly = second.run("load", "-i", "/no/such", check=False)
    assert (done_badly.returncode, done_badly.stdout) == (1, "")
    assert done_badly.stderr.startswith("minicontainer: /no/such: No such file")


def test_load_of_something_else(engine: Engine, tmp_path: Path) -> None:
    done = engine.run("load", "-i", "/etc/passwd", check=False)
    first, hint = done.stderr.splitlines()
    assert first == "minicontainer: /etc/passwd is no archive of images"
    assert hint.startswith("hint: 'load' takes what 'docker save'")
    for content, said in (("", "is empty"), ("x" * 5000, "is no archive of images")):
        words = engine.command("load")
        done = subprocess.run(words, input=content, capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[0] == f"minicontainer: standard input {said}"
        assert done.returncode == 1


def test_images(engine: Engine, starter: str) -> None:
    engine.run("tag", starter, "other/name:1")
    engine.run("tag", starter, "starter:2")
    lines = engine.output("images").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["REPOSITORY", "TAG"], ["starter", "2"], ["starter", "latest"], ["other/name", "1"],
    ]  # fmt: skip
    assert "DIGEST" in engine.output("images", "--digests").splitlines()[0]
    id = engine.output("images", "-q")
    assert len(id) == 12
    assert engine.output("images", "-q", "--no-trunc").removeprefix("sha256:").startswith(id)
    assert engine.output("images", "--format", "{{.Repository}}:{{.Tag}}", "starter").split() == [
        "starter:2", "starter:latest",
    ]  # fmt: skip
    assert engine.output("image", "ls", "-q", "starter:2") == id
    assert engine.output("images", "-q", "nope") == ""
    assert engine.output("run", "--rm", id, "echo", "by id") == "by id"


def test_rmi(engine: Engine, starter: str) -> None:
    engine.run("tag", starter, "other:1")
    assert engine.output("rmi", "other:1") == "Untagged: other:1"
    done = engine.run("rmi", "other:1", "starter", check=False)
    assert done.returncode == 1
    assert "other:1" in done.stderr
    assert "Untagged: starter:latest" in done.stdout and "Deleted: sha256:" in done.stdout
    assert os.listdir(engine.root / "layers") == []


def test_history(engine: Engine, starter: str) -> None:
    lines = engine.output("history", starter).splitlines()
    assert lines[0].split("  ")[0] == "IMAGE"
    assert engine.output("images", "-q") in lines[1]
    rows = [json.loads(line) for line in engine.output("history", "--format", "json", starter)
            .splitlines()]  # fmt: skip
    assert rows[0]["CreatedBy"].startswith("minicontainer image starter")


def test_prune(engine: Engine, starter: str) -> None:
    assert engine.output("image", "prune", "-f") == ""
    engine.run("run", "--name", "user", starter, "true")
    assert engine.output("image", "prune", "-af") == ""
    engine.run("rm", "user")
    assert "Untagged: starter:latest" in engine.output("image", "prune", "-a", "-f")


def test_starter(engine: Engine, tmp_path: Path) -> None:
    assert engine.output("image", "starter", "mine:1").startswith("made mine:1 (")
    assert engine.output("run", "--rm", "mine:1", "echo", "hi") == "hi"
    rootfs = tmp_path / "rootfs"
    engine.run("image", "starter", "--rootfs", rootfs)
    assert (rootfs / "bin" / "sh").exists()
    assert engine.run("image", "starter", "--rootfs", rootfs, "x", check=False).returncode == 1


def test_an_image_by_the_layers_of_a_container(engine: Engine, starter: str) -> None:
    """With its image untagged by force the container still has its root."""
    engine.run("run", "-d", "--name", "web", starter, "sleep", "1000")
    engine.run("rmi", "-f", starter)
    assert engine.output("exec", "web", "echo", "hi") == "hi"
    assert engine.output("inspect", "-f", "{{.Config.Image}}", "web") == starter
    lower = engine.output("inspect", "-f", "{{.GraphDriver.Data.LowerDir}}", "web")
    assert all(os.path.isdir(path) for path in lower.split(":"))

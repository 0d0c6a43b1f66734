"""The app that the demo, the quick start and a later chapter put into an image."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import shipping

from chapters import patience
from tests.support.engine import ROOT, Engine

DOGS = ROOT / "examples" / "dogs"
URL = "http://127.0.0.1:5000"

pytestmark = pytest.mark.root  # port 5000 is that of a network of our own


@pytest.fixture
def dogs() -> Iterator[subprocess.Popen[str]]:
    """The app, once it listens."""
    with subprocess.Popen(
        [sys.executable, DOGS / "dogs.py"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            assert process.stdout.readline() == "listening on port 5000\n"
            yield process
        finally:
            process.kill()


def fetch(page: str, **headers: str) -> tuple[str, str]:
    """A page's type and text."""
    asked = urllib.request.Request(URL + page, headers=headers)
    with urllib.request.urlopen(asked, timeout=patience.seconds(10)) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_its_pages_and_its_log(dogs: subprocess.Popen[str]) -> None:
    kind, text = fetch("/")
    assert kind == "text/plain; charset=utf-8"
    assert re.search(rf"\n\w+, from container \S+, process {dogs.pid}\n$", text)
    kind, page = fetch("/", Accept="text/html,*/*")
    assert kind == "text/html; charset=utf-8"
    assert f"process {dogs.pid}\n</pre>" in page
    assert fetch("/health") == ("text/plain; charset=utf-8", "ok\n")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch("/cats")
    dogs.terminate()
    _, log = dogs.communicate(timeout=patience.seconds(10))
    assert dogs.returncode == 0
    assert [line.split('"')[1] for line in log.splitlines()] == [
        "GET / HTTP/1.1", "GET / HTTP/1.1", "GET /health HTTP/1.1", "GET /cats HTTP/1.1",
    ]  # fmt: skip


def test_it_is_random(dogs: subprocess.Popen[str]) -> None:
    assert len({fetch("/")[1] for _ in range(100)}) == 4


@pytest.mark.tools("busybox")
def test_as_process_1_of_an_image(engine: Engine, tmp_path: Path) -> None:
    """Packaged as the demo does it; it ends when it is asked, and need not be killed."""
    engine.run("image", "starter", "--python")
    base = shipping.Layout(engine.root / "images")
    made = shipping.package(base, DOGS, tmp_path / "layout", "dogs")
    with tarfile.open(tmp_path / "dogs.tar", "w") as tar:
        tar.add(made.directory, ".")
    assert engine.output("load", "-i", tmp_path / "dogs.tar") == "Loaded image: dogs:latest"
    config = json.loads(engine.output("image", "inspect", "dogs"))[0]["Config"]
    assert (config["User"], list(config["ExposedPorts"])) == ("nobody", ["5000/tcp"])
    engine.run("run", "-d", "--name", "one", "--network", "none", "dogs")
    logs = engine.start("logs", "--follow", "one")
    assert logs.stdout
    assert logs.stdout.readline() == "listening on port 5000\n"
    ask = "wget -qO- http://127.0.0.1:5000/"
    assert engine.output("exec", "one", "sh", "-c", ask).endswith(", process 1")
    engine.run("stop", "-t", "30", "one")
    assert engine.output("inspect", "-f", "{{.State.ExitCode}}", "one") == "0"
    _, log = logs.communicate(timeout=patience.seconds(10))
    assert '"GET / HTTP/1.1" 200' in log


def test_ctrl_c_ends_it_too(dogs: subprocess.Popen[str]) -> None:
    dogs.send_signal(signal.SIGINT)
    assert dogs.wait(patience.seconds(10)) == 0

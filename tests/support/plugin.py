"""The pytest plugin of this repository: marks, the leak check, and the fixtures that tests share.

Loaded by pyproject.toml for tests/ and chapters/ alike.

Marks: root (needs root), needs(feature…) (tests/support/machine.py), tools(program…); vm and host
(what runs in the Linux VM too).
Fixtures: engine, starter, registry, rootfs, outside; the leak check is around every test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support import leaks, machine
from tests.support.engine import Engine
from tests.support.network import Outside

CI = os.environ.get("CI") == "true"
EXPLAINED = "this machine lacks "


# What another kernel, another processor and pure cgroup v2 may change: `-m vm` is what the VM runs.
# It has two emulated processors, so what is only slow, or only Python, stays on the host.
VM = ("chapters/", "tests/kernel/", "tests/runtime/")


# ---------------------------------------------------------------------------------- what may skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a skip is a failure, whatever its reason: for a machine that has every feature",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the VM runs; also what a host with the older cgroups cannot."""
    for item in items:
        needs = {feature for mark in item.iter_markers("needs") for feature in mark.args}
        if item.nodeid.startswith(VM) or "cgroup-v2" in needs:
            item.add_marker("vm")


def pytest_configure(config: pytest.Config) -> None:
    """Programs that we start find sbin's tools, as root's own shell does."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() == 0:
        leaks.isolate()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run; say exactly what it lacks."""
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            if sentence := machine.missing(feature):
                pytest.skip(f"{EXPLAINED}{feature}: {sentence}")
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("runs as root: sudo ./dev test")
    for mark in item.iter_markers("tools"):
        absent = [program for program in mark.args if not shutil.which(program)]
        if absent:
            pytest.skip(f"needs the program {', '.join(absent)}: ./dev test installs it")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """On CI a skip hides a gap, unless it names the feature that the machine lacks."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if config.getoption("no_skips"):
        where = "with --no-skips"
    elif CI and EXPLAINED not in reason:
        where = "on CI"
    else:
        return
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: a skip is a failure {where}: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector.config)
    return report


# --------------------------------------------------------------------------------- the leak check


@pytest.fixture(scope="session")
def temporaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TMPDIR of the whole run: what a test leaves there is a leak, and surely ours."""
    directory = tmp_path_factory.mktemp("tmp")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    yield directory
    tempfile.tempdir = None
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before


@pytest.fixture(scope="session")
def not_ours() -> tuple[str, ...]:
    """Directories of others, whose mounts come and go as those like."""
    return ()


@pytest.fixture(autouse=True)
def leak_check(temporaries: Path, not_ours: tuple[str, ...]) -> Iterator[None]:
    """Fail the test that leaves a mount, process, link, cgroup, file or descriptor behind."""
    before = leaks.Snapshot(str(temporaries))
    yield
    if left := [line for line in before.leaks() if not any(f" {d}/" in line for d in not_ours)]:
        pytest.fail("the host is not as it was:\n  " + "\n  ".join(left), pytrace=False)


# -------------------------------------------------------------------------------------- the engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The engine with an empty store of the test's own."""
    engine = Engine(tmp_path / "engine")
    yield engine
    engine.remove_containers()


@pytest.fixture(scope="session")
def _starter_store(tmp_path_factory: pytest.TempPathFactory, temporaries: Path) -> Path:
    engine = Engine(tmp_path_factory.mktemp("starter"))
    engine.run("image", "starter")
    return engine.root


@pytest.fixture
def starter(_starter_store: Path, engine: Engine) -> str:
    """The name of the starter image, in the engine's store. The blobs are shared, never changed."""
    engine.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--link", f"{_starter_store}/.", engine.root], check=True)
    return "starter:latest"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system of busybox alone, as chapter 02 uses it."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs the program busybox: ./dev test installs it")
    root = tmp_path / "rootfs"
    for name in ("bin", "etc", "root", "tmp", "var", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    return root


# ------------------------------------------------------------------------------------- the network


@pytest.fixture
def outside() -> Iterator[Outside]:
    """A second host, beyond this one's uplink."""
    with Outside() as host:
        yield host


# ------------------------------------------------------------------------------------ the registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, temporaries: Path) -> Iterator[str]:
    """`127.0.0.1:PORT` of a real registry, Debian's docker-registry, with no authentication."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs the program docker-registry: ./dev test installs it")
    with run_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


class run_registry:
    """docker-registry on a free port of 127.0.0.1, with its files in `directory`.

    extra: more lines of its configuration (auth, tls), in YAML.
    """

    def __init__(self, directory: Path, extra: str = "", scheme: str = "http") -> None:
        self.directory = directory
        self.extra = extra
        self.scheme = scheme

    def __enter__(self) -> str:
        for _ in range(5):
            address = f"127.0.0.1:{_free_port()}"
            if self._start(address):
                return address
            self.process.wait()
        raise RuntimeError((self.directory / "log").read_text())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _start(self, address: str) -> bool:
        configuration = self.directory / "registry.yml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: warn}}\n"
            f"storage:\n  filesystem: {{rootdirectory: {self.directory}/data}}\n"
            f"  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n{self.extra}"
        )
        with open(self.directory / "log", "w") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", configuration],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return _answers(self.process, address)


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until something listens at the address; False when the process ended first."""
    import socket
    import time

    host, _, port = address.partition(":")
    while process.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True
        except ConnectionRefusedError:
            time.sleep(0.01)  # allowed: no event tells another process that somebody listens
    return False

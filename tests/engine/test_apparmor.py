"""AppArmor: which profile a container gets, that the kernel holds it to it, and what is said where
there is none.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.engine import apparmor, security
from minicontainer.engine.record import Record
from minicontainer.errors import EngineError
from minicontainer.kernel import apparmor as kernel
from tests.runtime import bundle
from tests.support.engine import Engine

pytestmark = pytest.mark.vm
here = pytest.mark.needs("apparmor")
DEFAULT = f"{apparmor.DEFAULT} (enforce)"
ABSENT = "this machine has no AppArmor"


@pytest.mark.host
@pytest.mark.parametrize(
    ("given", "profile"),
    [
        ([], ""),
        (["apparmor=unconfined"], "unconfined"),
        (["apparmor:docker-nginx"], "docker-nginx"),
        (["apparmor=one", "apparmor=/usr/bin/two//hat"], "/usr/bin/two//hat"),
        (["label=disable"], ""),
    ],
)
def test_the_option(given: list[str], profile: str) -> None:
    options = security.Options(given)
    assert (options.apparmor, options.shown) == (profile, given)


@pytest.mark.host
@pytest.mark.parametrize("option", ["apparmor", "apparmor=", "apparmor=a\nexec b", "label"])
def test_the_option_malformed(option: str) -> None:
    with pytest.raises(EngineError, match="invalid --security-opt"):
        security.Options([option])


@pytest.mark.host
@pytest.mark.parametrize(
    ("asked", "privileged", "with_default", "without"),
    [
        ("", False, apparmor.DEFAULT, ""),
        ("", True, "", ""),
        ("mine", False, "mine", "mine"),
        ("mine", True, "mine", "mine"),
        ("unconfined", False, "unconfined", "unconfined"),
    ],
)
def test_which_profile(
    monkeypatch: pytest.MonkeyPatch, asked: str, privileged: bool, with_default: str, without: str
) -> None:
    record = Record(apparmor=asked, privileged=privileged)
    monkeypatch.setattr(kernel, "is_enabled", lambda: False)
    assert apparmor.choose(record) == without
    monkeypatch.setattr(kernel, "is_enabled", lambda: True)
    monkeypatch.setattr(kernel, "is_loaded", lambda profile: True)
    assert apparmor.choose(record) == with_default


@pytest.mark.host
def test_why_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "is_enabled", lambda: True)
    monkeypatch.setattr(kernel, "is_loaded", lambda profile: False)
    monkeypatch.setattr(apparmor, "PARSERS", ("/no/such/parser",))
    assert "apparmor_parser is not installed" in apparmor.unavailable()
    assert apparmor.prepare(Record()) == {}
    monkeypatch.setattr(apparmor, "PARSERS", ("/no/such/parser", "/bin/false"))
    assert apparmor.unavailable() == ""
    with pytest.raises(EngineError, match="cannot load the AppArmor profile minicontainer-default"):
        apparmor.prepare(Record())


@pytest.mark.root
def test_a_profile_that_is_not_there(engine: Engine, starter: str) -> None:
    option = ("--security-opt", "apparmor=no-such-profile")
    done = engine.run("run", "--rm", *option, starter, "true", check=False)
    assert done.returncode == 125
    told = "no-such-profile: it is not loaded" if kernel.is_enabled() else ABSENT
    assert told in done.stderr.splitlines()[0]
    engine.run("run", "--rm", "--security-opt", "apparmor=unconfined", starter, "true")


@pytest.mark.root
def test_what_is_said_of_it(engine: Engine, starter: str) -> None:
    engine.run("run", "-d", "--name", "web", starter, "sleep", "1000")
    (found,) = json.loads(engine.output("inspect", "--security", "-f", "json", "web"))
    skipped = apparmor.unavailable()
    assert found["AppArmor"]["Skipped"] == skipped
    assert f"no profile: {skipped}" in engine.output("inspect", "--security", "web") or not skipped
    name = engine.output("inspect", "-f", "{{.AppArmorProfile}}", "web")
    assert name == ("" if skipped else apparmor.DEFAULT)
    assert engine.output("info", "-f", "{{.AppArmor}}") == (skipped or apparmor.DEFAULT)


# -------------------------------------------------------------------------- where there is AppArmor

OWN = "minicontainer-test"
CURRENT = ("cat", "/proc/self/attr/current")


@pytest.fixture
def own() -> Iterator[str]:
    """A profile of the test's own: nothing is written in /tmp."""
    parser = next(filter(os.path.exists, apparmor.PARSERS))
    text = f"""profile {OWN} flags=(attach_disconnected,mediate_deleted) {{
        network, capability, file, signal, ptrace,
        deny /tmp/** wl,
    }}"""
    subprocess.run([parser, "-Kr"], input=text, text=True, check=True, capture_output=True)
    yield OWN
    subprocess.run([parser, "-KR"], input=text, text=True, check=True, capture_output=True)


@pytest.mark.root
@here
def test_the_default(engine: Engine, starter: str) -> None:
    def run(*options: str) -> str:
        return engine.output("run", "--rm", *options, starter, *CURRENT)

    assert run() == run("--init") == run("-u", "app") == DEFAULT
    assert run("--security-opt", "no-new-privileges") == DEFAULT
    assert run("--security-opt", "seccomp=unconfined") == DEFAULT
    assert run("--privileged") == run("--security-opt", "apparmor=unconfined") == "unconfined"
    # It is loaded again when somebody has removed it.
    Path("/sys/kernel/security/apparmor/.remove").write_text(apparmor.DEFAULT)
    assert not kernel.is_loaded(apparmor.DEFAULT)
    assert run() == DEFAULT


@pytest.mark.root
@here
def test_the_default_stands_where_other_walls_are_gone(engine: Engine, starter: str) -> None:
    script = """
        mount -t tmpfs mine /mnt && echo mounted
        (: >>/proc/sysrq-trigger) && echo opened
        echo 1 >/proc/sys/vm/drop_caches && echo written
        kill -0 1 && echo signalled
    """
    walls = ["--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined"]
    for more, expected in (
        ([], ["signalled"]),
        (["--security-opt", "apparmor=unconfined"], ["mounted", "opened", "written", "signalled"]),
    ):
        found = engine.output("run", "--rm", *walls, *more, starter, "sh", "-c", script)
        assert found.split() == expected


@pytest.mark.root
@here
def test_one_of_ones_own(engine: Engine, starter: str, own: str) -> None:
    option = ("--security-opt", f"apparmor={own}")
    engine.run("run", "-d", "--name", "web", "--privileged", *option, starter, "sleep", "1000")
    assert engine.output("exec", "web", *CURRENT) == f"{own} (enforce)"
    assert engine.output("exec", "--privileged", "web", *CURRENT) == f"{own} (enforce)"
    done = engine.run("exec", "web", "touch", "/tmp/x", "/root/x", check=False)
    assert done.returncode == 1 and done.stderr.count("Permission denied") == 1
    words = engine.output("inspect", "--security", "web")
    assert f"the profile {own} (enforce)" in words
    assert engine.output("kill", "web") == "web"


@pytest.mark.root
@here
def test_a_false_proc_does_not_keep_it_off(tmp_path: Path, rootfs: Path, own: str) -> None:
    """CVE-2019-16884: the words were written to a file of the image's, and nobody was confined."""
    spec = bundle.write(tmp_path, rootfs, args=["sh", "-c", "echo >/tmp/x"], apparmorProfile=own)
    place = rootfs / "proc/thread-self/attr/apparmor/exec"
    place.parent.mkdir(parents=True)
    place.touch()
    (rootfs / "tmp").mkdir(exist_ok=True)
    spec["root"]["readonly"] = False
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/proc"]
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    (tmp_path / "config.json").write_text(json.dumps(spec))
    code, said = bundle.run(tmp_path)
    assert "Permission denied" in said and code != 0
    assert place.read_text() == ""

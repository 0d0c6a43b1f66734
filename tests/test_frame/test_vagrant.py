"""vagrant/: the parts that can be looked at without a VM. The rest is ./dev vm test itself."""

from __future__ import annotations

import subprocess

import yaml

from tests.support.engine import ROOT

PROVISION = ROOT / "vagrant" / "provision.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROVISION, *arguments], capture_output=True, text=True, check=False)


def test_the_cloud_init_file_is_made_from_the_script() -> None:
    made = run("--cloud-init").stdout
    assert (ROOT / "vagrant" / "cloud-init.yaml").read_text() == made


def test_the_cloud_init_file_carries_the_script_and_runs_it() -> None:
    found = yaml.safe_load((ROOT / "vagrant" / "cloud-init.yaml").read_text())
    (file,) = found["write_files"]
    assert file["content"] == PROVISION.read_text()
    assert found["runcmd"] == [[file["path"], "--machine"]]


def test_the_list_names_packages_and_changes_nothing() -> None:
    done = run("--list")
    packages = done.stdout.splitlines()
    assert {"python3", "python3-venv", "busybox-static", "iproute2", "strace"} <= set(packages)
    assert all(package == package.strip() and "=" not in package for package in packages)


def test_bad_arguments_are_refused_before_anything_is_done() -> None:
    for arguments in (["--sit"], ["/nowhere"], ["--site", "/nowhere"]):
        done = run(*arguments)
        assert done.returncode == 1, arguments
        (line,) = done.stderr.splitlines()
        assert line.startswith("provision: ")


def test_the_vm_command_explains_itself_and_refuses_what_it_does_not_know() -> None:
    said = subprocess.run([ROOT / "dev", "vm"], capture_output=True, text=True, check=True).stdout
    for name in ("up", "ssh", "test", "bench", "destroy"):
        assert f"\n  {name} " in said
    refused = subprocess.run(
        [ROOT / "dev", "vm", "up"], env={"PATH": "/usr/bin:/bin", "RELEASE": "sid"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (refused.returncode, refused.stderr) == (
        1,
        "vm: RELEASE is bookworm or trixie, not 'sid'\n",
    )

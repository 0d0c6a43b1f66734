"""Law 8: take any one line out of the child's start sequence, and something notices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.needs("new-mount-api", "overlay"),
    pytest.mark.tools("unshare"),
]

# What may be taken out unseen, and why it is there all the same.
UNSEEN = {
    "mount_one: os.close(made)": "exec closes it too; a hundred mounts would need the numbers",
    "pivot_root: os.close(old)": "exec closes it too; the layer workers do not exec",
    "pivot_root: syscalls.through('fchdir', os.fchdir, old)": "the kernels we know have `.` at "
    "the old root already; pivot_root(2) does not promise it",
    "pivot_root: syscalls.through('chdir', os.chdir, '/')": "a container goes to its own working "
    "directory next; the layer workers, which call this too, do not",
    "confine: syscalls.prctl(flags.PR_SET_DUMPABLE, 0)": "nobody can be made to look exactly "
    "between it and the exec",
    "enter_directory: if not inside:": "this C library says ENOENT; others return (unreachable)",
    "enter_directory: raise EngineError(f'the working directory {path!r} lies outside of the "
    "container')": "the same",
    "change: syscalls.prctl(flags.PR_SET_KEEPCAPS, 0)": "exec clears it too",
}


def test_every_line_is_for_something(rootfs: Path, tmp_path: Path) -> None:
    directory = tmp_path / "ablation"
    directory.mkdir()
    program = Path(__file__).with_name("ablation.py")
    subprocess.run(
        ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--mount-proc",
         "--propagation", "private", sys.executable, "-I", "-S", program, rootfs, directory],
        check=True, timeout=120,
    )  # fmt: skip
    found = json.loads((directory / "found.json").read_text())
    assert found.pop("") == "", "the start as it stands does not pass its own probes"
    assert len(found) > 50
    assert "it hangs" not in found.values()
    survived = {line for line, noticed in found.items() if not noticed}
    assert survived - set(UNSEEN) == set(), "nothing notices when these are taken out"
    assert set(UNSEEN) - survived == set(), "these are noticed now: they need no excuse"

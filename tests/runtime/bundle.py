"""OCI bundles for tests: what `runc spec` writes, with a busybox root."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from minicontainer.kernel import process
from minicontainer.runtime import spec as specification
from minicontainer.runtime import start, supervise


def write(directory: Path, rootfs: Path, **changes: Any) -> dict[str, Any]:
    """A bundle made by `runc spec`, without terminal; `changes` go into its process object."""
    if not (directory / "config.json").exists():
        subprocess.run(["runc", "spec"], cwd=directory, check=True)
    spec: dict[str, Any] = json.loads((directory / "config.json").read_text())
    spec["root"]["path"] = str(rootfs)
    spec["process"]["terminal"] = False
    spec["process"].update(changes)
    (directory / "config.json").write_text(json.dumps(spec))
    return spec


def begin(bundle: Path, streams: tuple[int, int, int], **options: Any) -> process.Process:
    """Start a bundle by our runtime."""
    spec = specification.load(str(bundle / "config.json"))
    root = start.open_root(str(bundle), spec)
    try:
        return start.start(spec, str(bundle), root, streams, lambda _: None, **options)
    finally:
        os.close(root)


def run(bundle: Path, **options: Any) -> tuple[int, str]:
    """Start a bundle by our runtime; its exit code and its output, errors too."""
    read, write = os.pipe2(os.O_CLOEXEC)
    kept, sink = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    output = bytearray()
    try:
        container = begin(bundle, (null, write, write), **options)
    except BaseException:
        os.close(read)
        raise
    finally:
        for descriptor in (write, null, kept, sink):
            os.close(descriptor)
    code = supervise.supervise(
        container, [supervise.Pump(read, None, output.extend)], forward=False
    )
    container.close()
    remove_cgroup(bundle)
    return code, output.decode()


def remove_cgroup(bundle: Path) -> None:
    """What is left of a bundle's container when it has ended."""
    start.remove_cgroup(specification.load(str(bundle / "config.json")), str(bundle))

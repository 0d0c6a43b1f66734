"""The OCI runtime specification: what is malformed or cannot be given is refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.runtime import spec as specification

pytestmark = pytest.mark.host  # no kernel is asked

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/", "env": ["A=b", "A=c=d"]},
    "mounts": [{"destination": "/proc", "type": "proc", "options": ["nosuid"]}],
    "linux": {"namespaces": [{"type": "mount"}], "maskedPaths": ["/proc/kcore"]},
}


def test_a_good_one_passes() -> None:
    specification.check(GOOD)
    assert specification.environment(GOOD["process"]) == {"A": "c=d"}


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1"])
def test_any_version_1(version: str) -> None:
    specification.check({**GOOD, "ociVersion": version})


BAD: list[tuple[tuple[str, ...], Any, str]] = [
    (("ociVersion",), "2.0.0", "only 1.x"),
    (("ociVersion",), None, "only 1.x"),
    (("root",), None, "root"),
    (("root", "path"), 7, "root.path"),
    (("process", "args"), [], "no command"),
    (("process", "args"), "true", "process.args"),
    (("process", "args"), ["a\0b"], "null character"),
    (("process", "cwd"), "relative", "process.cwd"),
    (("process", "env"), ["novalue"], "NAME=value"),
    (("process", "env"), ["=x"], "NAME=value"),
    (("process", "user"), {"uid": -1}, "uid"),
    (("process", "user"), {"uid": True}, "uid"),
    (("process", "user"), {"gid": 2**32}, "gid"),
    (("process", "capabilities"), {"bounding": ["CAP_MAGIC"]}, "CAP_MAGIC"),
    (("mounts",), [{"destination": "proc"}], "mount point"),
    (("mounts",), [{"destination": "/a/../../b"}], "mount point"),
    (("mounts",), [{"destination": "/a", "options": "ro"}], "options"),
    (("mounts",), [{"destination": "/a", "options": ["rbind", "rslave"]}], "propagation"),
    (("mounts",), [{"destination": "/a", "options": ["bind", "idmap"]}], "idmap"),
    (("linux", "rootfsPropagation"), "shared", "propagation"),
    (("linux", "namespaces"), [{"type": "magic"}], "magic"),
    (("linux", "namespaces"), [{"type": "user"}], "uidMappings is missing"),
    (("linux", "namespaces"), [{"type": "user", "path": "/proc/1/ns/user"}], "user namespace"),
    (("linux", "uidMappings"), [{"containerID": 0, "hostID": 1, "size": 1}], "there is none"),
    (("linux", "gidMappings"), [{"containerID": 0, "hostID": 1, "size": 0}], "no range"),
    (("linux", "gidMappings"), [{"containerID": 0, "hostID": 1}], "size"),
    (("linux", "namespaces"), [{"type": "pid", "path": "/proc/1/ns/pid"}], "pid namespace"),
    (("linux", "maskedPaths"), ["kcore"], "mount point"),
    (("linux", "resources"), {"memory": {"limit": "1"}}, "linux.resources.memory.limit"),
    (("linux", "resources"), {"memory": {"kernel": 1}}, "memory.kernel cannot be had"),
    (("linux", "resources"), {"network": {"classID": 1}}, "network cannot be had"),
    (("linux", "resources"), {"devices": [{"access": "x"}]}, "device rule"),
    (("linux", "cgroupsPath"), 5, "cgroupsPath"),
    (("hooks",), {"prestart": [{"path": "/bin/true"}]}, "hooks"),
]


@pytest.mark.parametrize(("way", "value", "words"), BAD, ids=[f"{b[0][-1]}={b[1]}" for b in BAD])
def test_a_bad_one_is_refused_by_name(way: tuple[str, ...], value: Any, words: str) -> None:
    spec = copy.deepcopy(GOOD)
    place = spec
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    with pytest.raises(EngineError, match=words):
        specification.check(spec)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"ociVersion": "1.0.0"}'])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(EngineError):
        specification.load(str(file))
    with pytest.raises(EngineError, match="no OCI bundle"):
        specification.load(str(tmp_path / "missing.json"))

"""The small languages inside option values. No root needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minicontainer.cli import arguments
from minicontainer.errors import EngineError


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "host")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\n  A=1\nB=x=y # kept \nHERE\nNOT_HERE\nEMPTY=\n")
    found = arguments.environment([str(file)], ["HERE", "NOT_HERE", "C=3", "A=2"])
    assert found == [
        "A=1", "B=x=y # kept ", "HERE=host", "EMPTY=", "HERE=host", "NOT_HERE", "C=3", "A=2",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["A B=1", "=1"])
def test_a_bad_env_file(tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(line)
    with pytest.raises(EngineError, match="invalid env file"):
        arguments.environment([str(file)], [])


def test_a_missing_env_file() -> None:
    with pytest.raises(EngineError, match="cannot read the env file /no/such: no such file"):
        arguments.environment(["/no/such"], [])


def test_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("a=1\nb\n")
    assert arguments.labels([str(file)], ["a=2", "c=x=y"]) == {"a": "2", "b": "", "c": "x=y"}


def bind(target: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": list(options)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a:/b", bind("/b", "/a", "rbind", "rprivate")),
        ("/a:/b:ro", bind("/b", "/a", "rbind", "ro", "rro", "rprivate")),
        ("/a:/b:ro,z,rslave", bind("/b", "/a", "rbind", "ro", "rro", "rslave")),
        ("/a:/b/./c/", bind("/b/c", "/a", "rbind", "rprivate")),
    ],
)
def test_volume(text: str, expected: dict[str, Any]) -> None:
    assert arguments.volume(text) == expected


def test_a_relative_source_is_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert arguments.volume("./x:/b")["source"] == f"{tmp_path}/x"
    assert arguments.volume(".:/b")["source"] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name:/b", "named volumes are not implemented yet"),
        ("/b", "the anonymous volume /b cannot be had yet"),
        ("", "invalid volume"),
        (":/b", "invalid volume"),
        ("/a:", "invalid volume"),
        ("/a:/b:ro:x", "invalid volume"),
        ("/a:/b:nope", "unknown option 'nope'"),
        ("/a:b", "must be an absolute path"),
        ("/a:/b/../../c", "must be an absolute path"),
        ("/a:/", "the root itself"),
    ],
)
def test_bad_volumes(text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        arguments.volume(text)


def test_mount(tmp_path: Path) -> None:
    text = f"type=bind,src={tmp_path},dst=/b,ro,bind-propagation=rshared"
    assert arguments.mount(text) == bind("/b", str(tmp_path), "rbind", "ro", "rro", "rshared")
    assert arguments.mount(f"type=bind,source={tmp_path},target=/b,readonly=false")["options"] == [
        "rbind", "rprivate",
    ]  # fmt: skip
    assert arguments.mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700") == {
        "destination": "/t", "type": "tmpfs", "source": "tmpfs",
        "options": ["noexec", "nosuid", "nodev", "size=1m", "mode=700"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind,source=/no/such,target=/b", "bind source path does not exist: /no/such"),
        ("type=bind,target=/b", "the source of a bind mount is an absolute path"),
        ("type=bind,source=/", "target is required"),
        ("typ=bind", "unexpected key 'typ'"),
        ("type=bind,source", "source must be a key=value pair"),
        ("target=/b", "the type 'volume' cannot be had yet"),
        ("type=bind,source=/,target=/b,bind-propagation=x", "unknown bind-propagation"),
    ],
)
def test_bad_mounts(text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        arguments.mount(text)


def test_tmpfs_options_replace_the_careful_defaults() -> None:
    assert arguments.temporary("/t")["options"] == ["noexec", "nosuid", "nodev"]
    assert arguments.temporary("/t:exec,size=1m")["options"] == [
        "nosuid", "nodev", "exec", "size=1m",
    ]  # fmt: skip


def test_two_mounts_at_one_place() -> None:
    with pytest.raises(EngineError, match="duplicate mount point: /b"):
        arguments.mounts(["/a:/b"], [], ["/b"])


def test_only_missing_sources_of_volumes_are_made(tmp_path: Path) -> None:
    _, sources = arguments.mounts([f"{tmp_path}:/a", f"{tmp_path}/new:/b"], [], ["/c"])
    assert sources == [f"{tmp_path}/new"]


def test_ulimits() -> None:
    found = arguments.ulimits(["nofile=10:20", "core=-1", "nproc=5:-1"])
    assert found == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
        {"type": "RLIMIT_NPROC", "soft": 5, "hard": 2**64 - 1},
    ]


@pytest.mark.parametrize("text", ["nofile", "nofile=x", "nofile=20:10", "nofile=-1:10"])
def test_bad_ulimits(text: str) -> None:
    with pytest.raises(EngineError, match="invalid ulimit"):
        arguments.ulimits([text])

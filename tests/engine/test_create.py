"""Docker's rules for what a container runs, as whom and where. No root needed."""

from __future__ import annotations

from typing import Any

import pytest

from minicontainer.engine import create
from minicontainer.engine.create import Settings
from minicontainer.engine.record import Record
from minicontainer.errors import EngineError

ID = "0123456789ab" + "c" * 52


def compose(config: dict[str, Any] | None = None, **settings: Any) -> Record:
    return create.compose(ID, "sha256:x", config or {"Cmd": ["sh"]}, Settings("image", **settings))


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "settings", "expected"),
    [
        (None, ["sh"], {}, ["sh"]),
        (None, ["sh"], {"command": ["ls", "-l"]}, ["ls", "-l"]),
        (["/e"], ["a"], {}, ["/e", "a"]),
        (["/e"], ["a"], {"command": ["b"]}, ["/e", "b"]),
        (["/e", "x"], None, {"command": ["b"]}, ["/e", "x", "b"]),
        (["/e"], ["a"], {"entrypoint": "/f"}, ["/f"]),
        (["/e"], ["a"], {"entrypoint": "/f", "command": ["b"]}, ["/f", "b"]),
        (["/e"], ["a"], {"entrypoint": "", "command": ["b"]}, ["b"]),
    ],
)
def test_entrypoint_and_cmd(
    entrypoint: list[str] | None,
    cmd: list[str] | None,
    settings: dict[str, Any],
    expected: list[str],
) -> None:
    config = {"Entrypoint": entrypoint, "Cmd": cmd}
    assert compose(config, **settings).command == expected


@pytest.mark.parametrize(
    ("config", "settings"), [({}, {}), ({"Cmd": ["sh"]}, {"entrypoint": ""}), ({"Cmd": None}, {})]
)
def test_nothing_to_run(config: dict[str, Any], settings: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="no command specified"):
        create.compose(ID, "x", config, Settings("image", **settings))


def test_the_environment_keeps_its_order_and_the_last_word() -> None:
    config = {"Cmd": ["sh"], "Env": ["PATH=/bin", "A=1", "B=2", "C="]}
    assert compose(config, env=["A=9", "D=4", "B"]).env == ["PATH=/bin", "A=9", "C=", "D=4"]


def test_user_and_workdir() -> None:
    config = {"Cmd": ["sh"], "User": "app", "WorkingDir": "/srv"}
    record = compose(config)
    assert (record.user, record.workdir) == ("app", "/srv")
    record = compose(config, user="0", workdir="/tmp")
    assert (record.user, record.workdir) == ("0", "/tmp")
    assert (compose().user, compose().workdir) == ("", "/")
    with pytest.raises(EngineError, match="needs to be an absolute path"):
        compose(workdir="tmp")


def test_names_and_labels() -> None:
    assert compose().hostname == "0123456789ab"
    assert compose(hostname="box").hostname == "box"
    for name in ("", "a b", "x" * 64, "a\nb"):
        if name:
            with pytest.raises(EngineError, match="invalid hostname"):
                compose(hostname=name)
    config = {"Cmd": ["sh"], "Labels": {"a": "1", "b": "2"}}
    assert compose(config, labels={"b": "3"}).labels == {"a": "1", "b": "3"}


def test_how_it_is_asked_to_end() -> None:
    assert (compose().stop_signal, compose().stop_timeout) == ("SIGTERM", 10)
    config = {"Cmd": ["sh"], "StopSignal": "SIGQUIT"}
    assert compose(config).stop_signal == "SIGQUIT"
    record = compose(config, stop_signal="INT", stop_timeout=0)
    assert (record.stop_signal, record.stop_timeout) == ("INT", 0)

"""How results look. No root needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minicontainer.cli import output
from minicontainer.errors import EngineError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1.9, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400 - 3600, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400 - 3600, "8 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400 - 3600, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_duration_as_go_units_has_it(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234567, "1.23MB"), (77_800_000, "77.8MB"),
     (117_000_000, "117MB"), (2_000_000_000, "2GB"), (999_999, "1MB"), (5e12, "5TB")],
)  # fmt: skip
def test_size(count: float, text: str) -> None:
    assert output.size(count) == text


def test_times_are_read_in_all_forms() -> None:
    at = 1714557600_000000000
    for text in ("2024-05-01T10:00:00Z", "2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00.0Z"):
        assert output.parse_time(text) == at
    assert output.parse_time("2024-05-01T10:00:00.000000123Z") == at + 123
    assert output.parse_time("2024-05-01T10:00:00.5Z") == at + 500_000_000
    with pytest.raises(ValueError):
        output.parse_time("yesterday")


def test_a_table() -> None:
    assert output.table(["A", "LONG"], [["1", "x"], ["333", ""]]) == "A     LONG\n1     x\n333"


VALUE = {"Name": "/web", "State": {"Pid": 7, "Running": True, "List": ["a", "b"]}, "Nothing": None}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "/web"),
        ("{{ .Name }}", "/web"),
        ("pid={{.State.Pid}}!", "pid=7!"),
        ("{{.State.Running}}", "true"),
        ("{{.State.List}}", "[a b]"),
        ("{{.Nothing}}", "<no value>"),
        ("{{json .State.List}}", '["a","b"]'),
        ("{{.State}}", "map[List:[a b] Pid:7 Running:true]"),
        ("a\\tb", "a\tb"),
        ("plain", "plain"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert output.render(template, VALUE) == text


@pytest.mark.parametrize("template", ["{{.Nope}}", "{{range .State}}", "{{.Name", "{{.Name.x}}"])
def test_bad_templates(template: str) -> None:
    with pytest.raises(EngineError, match="invalid template"):
        output.render(template, VALUE)


@pytest.mark.parametrize("value", [VALUE, [], {}, [{}], {"a": [1, {"b": "é\n"}]}, "x", [VALUE] * 2])
def test_pretty_is_json_as_docker_indents_it(value: Any) -> None:
    assert output.pretty(value) == json.dumps(value, indent=4)


def test_rows_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    head, rows = {"ID": "THE ID", "Name": "NAME"}, [{"ID": "1", "Name": "a", "More": "x"}]
    for template, text in (
        (None, "THE ID   NAME\n1        a\n"),
        ("table", "THE ID   NAME\n1        a\n"),
        ("json", '{"ID":"1","Name":"a","More":"x"}\n'),
        ("{{.More}}:{{.ID}}", "x:1\n"),
        ("table {{.Name}}\t{{.More}}", "NAME   MORE\na      x\n"),
    ):
        output.show(head, rows, template)
        assert capsys.readouterr().out == text


def test_the_age_of_time_0_is_not_known() -> None:
    assert output.ago("1970-01-01T00:00:00Z") == output.ago("0001-01-01T00:00:00Z") == "N/A"

"""JSON by the C scanner alone says what the json package says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import jsonio

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_it_agrees_with_the_package(value: Any) -> None:
    assert json.loads(jsonio.dumps(value)) == value
    assert jsonio.loads(json.dumps(value, indent=2)) == value
    assert jsonio.loads(f" \r\n{json.dumps(value)}\t\n".encode()) == value


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"{", b"[1", b"[1] x", b"{a: 1}", b'{"a"}', b"NaN", b"-Infinity", b"tru",
     b'"\n"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000],
    ids=repr,
)  # fmt: skip
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        jsonio.loads(text)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        jsonio.dumps({"a": {1}})


def test_an_error_needs_no_package_loaded_before() -> None:
    """The C scanner takes its exception from json.decoder, and crashes where that is not there."""
    program = "import sys; sys.path.insert(0, '.'); from minicontainer import jsonio\n"
    program += "assert 'json' not in sys.modules\n"
    program += "try: jsonio.loads('{')\nexcept ValueError as error: print(error)"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", program],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "line 1 column 2" in done.stdout


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"a": [1]}')
    assert jsonio.read(str(tmp_path / "file")) == {"a": [1]}

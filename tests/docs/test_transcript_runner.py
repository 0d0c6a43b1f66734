"""The runner of transcripts: what it accepts, and above all what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import transcripts


def failures(page: str, directory: Path) -> list[str]:
    return transcripts.run_page(page, directory, dict(os.environ))


@pytest.mark.parametrize(
    "body",
    [
        "$ echo one; echo two >&2\none\ntwo\n",
        "$ true\n",
        "$ seq 5\n1\n...\n5\n",
        "$ seq 5\n...\n",
        "$ echo here is 4711 now\nhere is ... now\n",
        "$ printf 'a   b\\n'\na b\n",
        "$ printf 'one\\n\\ntwo\\n'\none\ntwo\n",
        "# echo root\nroot\n",
        "$ x=5\n$ echo $x\n5\n",
        "$ cd /\n$ pwd\n/\n",
        "$ sh -c 'exit 7'\n$ echo $?\n7\n",
        "$ echo \\\n> joined\njoined\n",
        "$ cat <<END\n> in a document\n> END\nin a document\n",
        "$ sh\n/ # echo from inside\n/ # exit 3\nfrom inside\n$ echo $?\n3\n",
        "$ cat\n$ echo the input was empty\nthe input was empty\n",
        f"$ echo {'ab12' * 16}\n{'cd34' * 16}\n",
        "$ readlink /proc/self/ns/net\nnet:[1]\n",
        "$ echo took 1.25 ms at 10:11:12\ntook 3 ms at 23:59:59\n",
        "$ echo 'mc0123456789 ───┼ fd00:1:22::2/64'\nmcabcdefabcd ─┼ fdfe:3333:4::2/64\n",
        "$ echo mc-012345-0\nminicontainer0\n",
    ],
)
def test_a_true_transcript_passes(body: str, tmp_path: Path) -> None:
    assert failures(f"```console run\n{body}```\n", tmp_path) == []


@pytest.mark.parametrize(
    "body",
    [
        "$ echo one\ntwo\n",
        "$ echo one\n",
        "$ true\none\n",
        "$ seq 5\n1\n...\n6\n",
        "$ seq 3\n1\n2\n",
        "$ seq 3\n2\n3\n",
        "$ echo here is 4711 now\nhere is ... then\n",
        "$ echo 4711\n4712\n",
        "$ echo 4.5\n4x5\n",
        "$ echo 'mc01234567891 fd00:1:22::2'\nmcabcdefabcd1 fd00:1:22::3\n",
        "$ echo mc-012345-0\nmc-012345-1\n",
        "$ no-such-program\n",
        "$ readlink /proc/self/ns/net\nmnt:[1]\n",
        "$ sh\n/ # echo from inside\nfrom outside\n",
        "$ exit 0\n",
    ],
)
def test_a_false_transcript_fails(body: str, tmp_path: Path) -> None:
    assert len(failures(f"```console run\n{body}```\n", tmp_path)) == 1


def test_a_failure_shows_where_and_what(tmp_path: Path) -> None:
    (text,) = failures("# A page\n\n```console run\n$ echo one\ntwo\n```\n", tmp_path)
    assert text.startswith("line 4: $ echo one\n")
    assert "\n-two\n+one" in text


def test_state_lasts_over_the_blocks_of_a_page(tmp_path: Path) -> None:
    page = "```console run\n$ x=5; cd /\n```\n\nand\n\n```console run\n$ echo $x $PWD\n5 /\n```\n"
    assert failures(page, tmp_path) == []


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    shell = transcripts.Shell(tmp_path, dict(os.environ))
    try:
        with pytest.raises(TimeoutError, match="no end after"):
            shell.run(transcripts.Step("sleep 1000", 1), timeout=0.1)
    finally:
        shell.close()


def test_a_block_for_another_machine_is_left_out(tmp_path: Path) -> None:
    page = "```console run needs=cgroup-v3\n$ echo one\ntwo\n```\n"
    assert transcripts.run_page(page, tmp_path, dict(os.environ), lambda f: f == "cgroup-v3") == []
    assert failures(page, tmp_path)


def test_a_block_that_is_not_run_is_not_found() -> None:
    assert transcripts.blocks("```console\n$ rm -rf /\n```\n```python\n$ x\n```\n") == []


def test_output_without_a_command_is_an_error() -> None:
    with pytest.raises(ValueError, match="begins with a command"):
        transcripts.blocks("```console run\nhello\n```\n")

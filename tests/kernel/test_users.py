"""User namespaces: tables, who is who, and what a single user cannot do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import flags, mounts, overlay, process, syscalls, users

pytestmark = [pytest.mark.root, pytest.mark.needs("user-namespaces")]
ROWS = [(0, 100000, 1000), (1000, 300000, 5)]


def inside(
    look: Callable[[], object], uids: list[users.Row] = ROWS, *, setgroups: str = "allow"
) -> str:
    """What a function says in a new user namespace, as its root."""
    read, write = os.pipe()
    gate = users.Gate()

    def child() -> None:
        gate.wait()
        users.become_root()
        os.write(write, str(look()).encode())

    born = process.spawn(child, flags.CLONE_NEWUSER)
    try:
        if setgroups == "deny":
            Path(f"/proc/{born.pid}/setgroups").write_text("deny")
        gate.open(born.pid, uids, uids)
        born.wait_exec()
        return os.read(read, 4096).decode()
    finally:
        born.signal(9)
        born.wait()
        born.close()
        for descriptor in (read, write, gate._read, gate._write):
            os.close(descriptor)


def test_it_is_root_there_and_sees_its_table() -> None:
    told = inside(lambda: (os.getresuid(), os.getresgid(), os.getgroups(), users.read_map("self")))
    assert told == str(((0, 0, 0), (0, 0, 0), [], ROWS))
    assert inside(users.is_mapped) == "True"
    assert not users.is_mapped()


def test_without_a_table_it_does_not_go_on() -> None:
    read, write = os.pipe()
    os.close(write)
    gate = users.Gate()
    engine = os.fork()
    if not engine:
        try:
            gate.wait()
        except EngineError:
            os._exit(7)
        os._exit(0)
    os.close(gate._write)
    assert os.waitstatus_to_exitcode(os.waitpid(engine, 0)[1]) == 7
    os.close(gate._read)
    os.close(read)


@pytest.mark.parametrize(
    "rows", [[(0, 1, 10), (5, 100, 10)], [(0, 1, 0)], [(0, 1, 10), (10, 5, 10)]]
)
def test_a_bad_table_is_the_kernels_to_refuse(rows: list[users.Row]) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        inside(os.getuid, rows)


def test_who_is_who() -> None:
    found = [users.outside(ROWS, number) for number in (0, 999, 1000, 1004)]
    assert found == [100000, 100999, 300000, 300004]
    assert users.outside([], 5) == 5
    with pytest.raises(EngineError, match="1005 does not exist") as caught:
        users.outside(ROWS, 1005)
    assert "0 to 999, 1000 to 1004" in str(caught.value.hint)


def test_a_single_user_keeps_his_groups() -> None:
    def change() -> str:
        users.set_groups([0])  # his own
        try:
            users.set_groups([5])
        except EngineError as error:
            return error.message
        return "changed"

    told = inside(change, [(0, 100000, 10)], setgroups="deny")
    assert "cannot be changed in a user namespace with a single user" in told
    assert inside(change, [(0, 100000, 10)]) == "changed"


@pytest.mark.parametrize("by_path", [False, True])
def test_layers_are_shown_with_other_owners(tmp_path: Path, by_path: bool) -> None:
    for name in ("one", "two", "upper", "work"):
        (tmp_path / name).mkdir()
    for name, owner in (("one/root", 0), ("two/other", 1003), ("two/strange", 1005)):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, owner, 0)
    namespace = users.open_namespace(ROWS, [(0, 200000, 10)])
    tree = overlay.mount(
        [str(tmp_path / "one"), str(tmp_path / "two")],
        str(tmp_path / "upper"),
        str(tmp_path / "work"),
        users=namespace,
        by_path=by_path,
    )
    found = [os.stat(name, dir_fd=tree) for name in ("root", "other", "strange")]
    assert [status.st_uid for status in found] == [100000, 300003, 65534]
    assert [status.st_gid for status in found] == [200000] * 3
    # What is copied up is on the disk as it was shown.
    os.chmod("root", 0o700, dir_fd=tree)
    assert (tmp_path / "upper" / "root").stat().st_uid == 100000
    assert (tmp_path / "one" / "root").stat().st_uid == 0
    with pytest.raises(OSError, match="Invalid argument"):
        mounts.map_owners(tree, namespace)  # an overlay itself has no such mounts
    os.close(tree)
    os.close(namespace)


def test_the_trace_shows_whose_owners() -> None:
    said: list[str] = []
    syscalls.trace = lambda call, *_: said.append(call)
    try:
        with pytest.raises(OSError, match="userns_fd=999"):
            mounts.map_owners(998, 999)
    finally:
        syscalls.trace = None
    assert "MOUNT_ATTR_IDMAP" in said[0]

"""The table of system calls: decoded flags, errors that show the call, hints, the trace."""

from __future__ import annotations

import os
import time

import pytest

from minicontainer.kernel import flags, syscalls


def test_flags_are_named_and_what_has_no_name_is_shown_in_hex() -> None:
    assert flags.decode("MS_", flags.MS_NOSUID | flags.MS_NODEV) == "MS_NOSUID|MS_NODEV"
    assert flags.decode("MS_", flags.MS_REC | 1 << 40) == "MS_REC|0x10000000000"
    assert flags.decode("MS_", 0) == "0"
    assert flags.name_of("PR_", flags.PR_SET_NO_NEW_PRIVS) == "PR_SET_NO_NEW_PRIVS"
    assert flags.name_of("PR_", 7777) == "7777"


def test_flags_are_the_kernels_own_numbers() -> None:
    assert flags.MS_REC == 16384
    assert flags.CLONE_NEWNS == 0x20000
    assert flags.OPEN_TREE_CLOEXEC == os.O_CLOEXEC


def test_an_error_shows_the_call_as_it_was_made() -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        syscalls.mount("nothing", "/nowhere", "tmpfs", flags.MS_NOSUID | flags.MS_NODEV, "size=1m")
    assert str(caught.value) == (
        'mount("nothing", "/nowhere", "tmpfs", MS_NOSUID|MS_NODEV, "size=1m"): '
        "No such file or directory"
    )
    assert isinstance(caught.value, OSError)


def test_a_misleading_errno_gets_a_hint() -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        syscalls.fsopen("no-such-file-system")
    assert caught.value.hint is not None
    assert "/proc/filesystems" in caught.value.hint


def test_structures_show_their_fields() -> None:
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(syscalls.SyscallError) as caught:
            syscalls.openat2(root, "no/such", os.O_RDONLY, 0, flags.RESOLVE_IN_ROOT)
    finally:
        os.close(root)
    assert "{flags=0, mode=0o0, resolve=RESOLVE_IN_ROOT}" in str(caught.value)


def test_pythons_own_calls_go_through_the_same_door() -> None:
    with pytest.raises(syscalls.SyscallError) as caught:
        syscalls.through("mkdirat", os.mkdir, "/proc/nope", syscalls.Octal(0o755))
    assert str(caught.value) == 'mkdirat("/proc/nope", 0o755): No such file or directory'


def test_the_trace_tells_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    began: list[float] = []

    def trace(call: str, result: str, started: float) -> None:
        told.append((call, result))
        began.append(started)

    monkeypatch.setattr(syscalls, "trace", trace)
    syscalls.prctl(flags.PR_GET_DUMPABLE)
    with pytest.raises(OSError, match="umount2"):
        syscalls.umount2("/nowhere", flags.MNT_DETACH)
    assert told == [
        ("prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)", "1"),
        ('umount2("/nowhere", MNT_DETACH)', "No such file or directory"),
    ]
    assert all(0 <= time.perf_counter() - moment < 60 for moment in began)

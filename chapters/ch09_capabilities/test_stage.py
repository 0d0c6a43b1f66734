"""Chapter 09: root in there has the small powers and none of the great, whatever it executes."""

from __future__ import annotations

import os

import pytest

from chapters import stages
from chapters.conftest import Container
from minicontainer.kernel import capabilities

KEPT = capabilities.mask(capabilities.DEFAULT)


def test_the_five_sets(stage: Container) -> None:
    with stage.start() as container:
        sets = capabilities.read(container.pid)
    assert sets == {"CapInh": 0, "CapPrm": KEPT, "CapEff": KEPT, "CapBnd": KEPT, "CapAmb": 0}


def test_a_program_of_roots_gets_no_more(stage: Container) -> None:
    """An exec by root fills the sets up, from the bounding set and no further."""
    told = stage.output("sh -c 'exec grep CapEff /proc/self/status'")
    assert int(told.split()[1], 16) == KEPT


def test_no_new_privileges(stage: Container) -> None:
    """The stage sets it. The engine leaves it to --security-opt, as docker does."""
    with stage.start() as container:
        expected = "0" if stage.stage.number == stages.ENGINE else "1"
        assert container.status("NoNewPrivs") == expected


@pytest.mark.tools("busybox")
def test_a_set_user_id_program_gives_nothing_back(stage: Container) -> None:
    (stage.rootfs / "etc" / "passwd").write_text(
        "root::0:0:root:/:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n"
    )
    script = """
        mkdir /own && cp /bin/busybox /own/busybox && chmod 4755 /own/busybox
        su app -c "/own/busybox su root -c 'grep CapBnd /proc/self/status; mount -t tmpfs x /tmp'"
        grep -c " /tmp " /proc/mounts
    """
    told = stage.output(script).splitlines()
    assert told[-1] == "0"
    if stage.stage.number == stages.ENGINE:
        assert int(told[0].split()[1], 16) == KEPT
    else:
        assert "must be suid" in told[0]


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /dev/shm",
        "hostname other",
        "renice -n -5 $$",
        "unshare --mount true",
    ],
)
def test_the_great_powers_are_gone(stage: Container, attempt: str) -> None:
    told = stage.output(f"{attempt} && echo done")
    assert "done" not in told
    assert "ermi" in told, told  # "Operation not permitted", "permission denied"


def test_the_small_powers_are_there(stage: Container) -> None:
    """What a package manager and a server do: files of others, users, ports below 1024."""
    script = """
        touch /file && chown 1000:1000 /file && chmod 4711 /file && stat -c '%u %g %a' /file
        chmod 0 /file && cat /file && echo read
        su -s /bin/sh nobody -c 'id -u'
        sleep 100 & su -s /bin/sh nobody -c 'kill -9 '$! 2>&1 | grep -c permitted
        kill -9 $! && echo killed
        nc -l -p 1 -e true & sleep 0.2; kill $! && echo listened
        chroot / true && echo changed
    """
    (stage.rootfs / "etc" / "passwd").write_text(
        "root:x:0:0::/:/bin/sh\nnobody:x:99:99::/:/bin/sh\n"
    )
    told = stage.output(script).splitlines()
    # Users of its own (chapter 11) have no power over the host's network, but over their own
    # (chapter 12).
    users, network = (
        os.readlink(f"/proc/self/ns/{kind}")
        != stage.output(f"readlink /proc/self/ns/{kind}").strip()
        for kind in ("user", "net")
    )
    if users and not network:
        assert "nc: bind: Permission denied" in told
    else:
        assert "listened" in told
    told = [line for line in told if line != "listened" and ": " not in line]
    assert told == ["1000 1000 4711", "read", "99", "1", "killed", "changed"]

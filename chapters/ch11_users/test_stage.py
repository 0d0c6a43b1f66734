"""Chapter 11: root inside is another outside, over nothing of the host's, and root inside still."""

from __future__ import annotations

import os
from pathlib import Path

from chapters.conftest import Container

OUTSIDE = 100000


def test_root_inside_is_another_outside(stage: Container) -> None:
    with stage.start() as container:
        assert container.status("Uid").split() == [str(OUTSIDE)] * 4
        assert container.status("Gid").split() == [str(OUTSIDE)] * 4
        assert container.status("Groups") == ""
        rows = Path(f"/proc/{container.pid}/uid_map").read_text().split()
        assert rows == ["0", str(OUTSIDE), "65536"]
        user = os.readlink(f"/proc/{container.pid}/ns/user")
        assert user != os.readlink("/proc/self/ns/user")


def test_inside_it_is_root_and_the_image_is_its_own(stage: Container) -> None:
    (stage.rootfs / "home" / "app").mkdir(parents=True)
    os.chown(stage.rootfs / "home" / "app", 1000, 1000)
    script = """
        id -u
        stat -c %u:%g / /etc/passwd /home/app /dev/shm
        touch /file && chown 7:8 /file && stat -c %u:%g /file
        echo line >>/etc/passwd && stat -c %u:%g /etc/passwd
        mkdir /home/app/deep && mv /home/app /home/moved && stat -c %u:%g /home/moved
    """
    assert stage.output(script).split() == [
        "0", "0:0", "0:0", "1000:1000", "0:0", "7:8", "0:0", "1000:1000",
    ]  # fmt: skip
    assert (stage.rootfs / "etc" / "passwd").stat().st_uid == 0


def test_what_is_not_its_own_is_nobodys(stage: Container) -> None:
    """The host's files in it: devices, /proc, and what a number above the table owns."""
    (stage.rootfs / "strange").touch()
    os.chown(stage.rootfs / "strange", 70000, 70000)
    script = "stat -c %u:%g /dev/null /proc/sys /sys /strange"
    assert stage.output(script).split() == ["65534:65534"] * 4
    assert "not permitted" in stage.output("chown 0 /strange").lower()
    assert "not permitted" in stage.output("chmod 600 /dev/null").lower()
    assert os.stat("/dev/null").st_mode & 0o777 == 0o666


def test_no_device_can_be_made(stage: Container) -> None:
    assert "not permitted" in stage.output("mknod /tmp/null c 1 3").lower()


def test_devices_work(stage: Container) -> None:
    script = "echo gone >/dev/null && head -c 3 /dev/zero | wc -c; ls /dev/pts /dev/mqueue"
    assert stage.output(script).split()[0] == "3"


def test_its_mounts_do_not_reach_the_host(stage: Container) -> None:
    """What covers a part of /sys, which is the host's own, covers it in the container alone."""
    if not os.path.isdir("/sys/firmware"):
        return
    with stage.start() as container:
        assert "/sys/firmware" in container.mounts()
        assert " /sys/firmware " not in Path(f"/proc/{container.host}/mountinfo").read_text()

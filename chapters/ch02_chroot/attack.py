"""The attack of chapter 02: read and write the host's files, by their names."""

from __future__ import annotations

from chapters.ground import Ground


def read_a_file(ground: Ground) -> bool:
    """read a file of the host"""
    secret = ground.file("secret", "the host's secret")
    return "the host's secret" in ground.run('cat "$1"', secret)


def write_a_file(ground: Ground) -> bool:
    """change a file of the host"""
    profile = ground.file("profile", "echo welcome\n")
    ground.run('echo "echo owned" >>"$1"', profile)
    return "owned" in profile.read_text()


ATTACKS = (read_a_file, write_a_file)

"""The attack of chapter 01: take what the engine left lying about, its secrets and open files.

Nothing more is stopped yet: the program sees the host's files, processes and names as they are
(`python3 -m chapters look` shows how that changes from chapter to chapter).
"""

from __future__ import annotations

import os

from chapters.ground import Ground


def read_the_environment(ground: Ground) -> bool:
    """read a secret from the engine's environment"""
    found = ground.run('echo "token: $REGISTRY_TOKEN"', environment={"REGISTRY_TOKEN": "s3cret"})
    return "s3cret" in found


def read_an_open_file(ground: Ground) -> bool:
    """read a file through a descriptor that the engine has open"""
    secret = ground.file("state", "only the engine may read this")
    descriptor = os.open(secret, os.O_RDONLY)
    secret.unlink()  # no path leads to it now, for anybody
    try:
        found = ground.run('cat "/proc/self/fd/$1"', str(descriptor), descriptors=[descriptor])
    finally:
        os.close(descriptor)
    return "only the engine" in found


ATTACKS = (read_the_environment, read_an_open_file)

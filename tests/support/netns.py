"""Network namespaces for tests: a function runs in one, a socket of one is used from outside.

A namespace lives as long as the process that holds it, so nothing is left of a test that dies.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from chapters import patience

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace of its own, held by a process that only waits; `with` ends it.

    path: the namespace that this file names instead.
    """

    def __init__(self, path: str = "") -> None:
        self.holder = None if path else self._hold()
        self.pid = self.holder.pid if self.holder else 0
        self._entry = os.open(path or f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _hold(self) -> subprocess.Popen[bytes]:
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.read(1)
        return holder

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._entry)
        if self.holder is not None:
            self.holder.communicate()

    def call(self, function: Callable[[], T]) -> T:
        """The function's value, with the namespace as its own: in a thread that ends with it."""
        values: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                if _libc.setns(self._entry, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                values.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return values[0]

    def run(self, *words: str, input: str | None = None, check: bool = True) -> str:
        """Run a program inside; its output."""
        done = self.call(lambda: subprocess.run(words, input=input, capture_output=True, text=True))
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def ip(self, text: str) -> None:
        """ip(8) commands, one a line."""
        self.run("ip", "-batch", "-", input=text)

    def write(self, path: str, value: str) -> None:
        """Set a kernel setting of the namespace."""
        self.call(lambda: Path(path).write_text(value))

    def open(self, *arguments: Any) -> socket.socket:
        """A socket of the namespace, with a limit of time."""
        made = self.call(lambda: socket.socket(*arguments))
        made.settimeout(patience.seconds(10))
        return made

    def listen(
        self, address: str, port: int, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        """A bound socket, which listens where it is a stream's."""
        made = self.open(_family(address), kind, proto)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    def connect(
        self, address: str, port: int, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        """A socket that is connected."""
        made = self.open(_family(address), kind, proto)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET

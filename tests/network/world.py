"""A name server of the world beyond, for tests: every name has the address 192.0.2.80.

As a program: `python3 world.py ADDRESS`; it says so when it listens, and ends when it is killed.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.network import dns

WORLD = bytes([192, 0, 2, 80])


class World:
    """Answers every question with one address, by UDP and TCP, and notes what it was asked.

    silent: it reads and says nothing. wrong: it says what was not asked, before the answer. many:
    how often it says the address; over UDP once. code: it says that instead. astray: over TCP it
    answers under another number.
    """

    def __init__(
        self, address: tuple[str, int] = ("127.0.0.1", 0), *, silent: bool = False,
        wrong: bool = False, many: int = 1, code: int = dns.GOOD, astray: bool = False,
    ) -> None:  # fmt: skip
        self.silent, self.wrong, self.many, self.code = silent, wrong, many, code
        self.astray = astray
        self.heard: list[str] = []
        self.tcp = socket.create_server(address)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.tcp.getsockname())
        self.address = self.udp.getsockname()
        self.threads = [threading.Thread(target=each) for each in (self.by_udp, self.by_tcp)]

    def __enter__(self) -> World:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.udp.sendto(b"", self.address)
        socket.create_connection(self.address).close()
        for thread in self.threads:
            thread.join()
        self.udp.close()
        self.tcp.close()

    def answer(self, message: bytes) -> bytes:
        question = dns.read_question(message)
        self.heard.append(question.name)
        told = [] if self.code else [WORLD] * self.many
        return dns.write_answer(question, told, self.code, room=65535)

    def by_udp(self) -> None:
        while True:
            message, asker = self.udp.recvfrom(4096)
            if not message:
                return
            answer = self.answer(message)
            if self.wrong:
                number = bytes([answer[0] ^ 1, answer[1]])
                self.udp.sendto(number + answer[2:-4] + b"\6\6\6\6", asker)
            if not self.silent:
                self.udp.sendto(answer, asker)

    def by_tcp(self) -> None:
        while True:
            client, _ = self.tcp.accept()
            with client, client.makefile("rb") as stream:
                length = stream.read(2)
                if not length:
                    return
                answer = self.answer(stream.read(int.from_bytes(length)))
                if self.astray:
                    answer = bytes([answer[0] ^ 1]) + answer[1:]
                # In two pieces, as a network may deliver it.
                whole = len(answer).to_bytes(2) + answer
                client.sendall(whole[:1])
                client.sendall(whole[1:])


if __name__ == "__main__":
    world = World((sys.argv[1], 53))
    for thread in world.threads:
        thread.start()
    print("listening", flush=True)

"""A container's name server, opened in its network and led to, by a supervisor of the test's."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minicontainer.engine import nameserver
from minicontainer.engine import record as records
from minicontainer.engine.home import Home
from minicontainer.engine.record import Record
from minicontainer.network import nft
from tests.network.test_directory import place
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.tools("busybox")]


class Asker:
    """A container with an empty network, and what the engine knows of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.home = Home(str(engine.root), str(engine.run_root))
        id = engine.output(
            "run", "-d", "--name", "asker", "--network", "none", "starter", "sleep", "1000"
        )
        record, live = records.load(self.home, id), records.load_live(self.home, id)
        assert record
        assert live
        record.network = "bridge"  # what it would be with a cable
        self.record: Record = record
        self.pidfd = os.pidfd_open(live.pid)

    def on(self, *networks: str) -> list[dict[str, str]]:
        """Its endpoints, when it is on these networks."""
        directory = place(
            Path(self.home.run), self.record.id, "asker", *((n, "2") for n in networks)
        )
        file = directory / "network.json"
        return records.jsonio.read(str(file))["endpoints"]  # type: ignore[no-any-return]

    def run(self, script: str) -> str:
        return self.engine.run("exec", "asker", "sh", "-c", script, check=False).stdout

    @contextmanager
    def served(self, endpoints: list[dict[str, str]]) -> Iterator[nameserver.NameServer]:
        """With its name server, in a loop as its supervisor has one."""
        server = nameserver.open_server(self.home, self.record, self.pidfd, endpoints)
        stop, end = os.pipe()

        def loop() -> None:
            while True:
                poll = select.poll()
                poll.register(server.descriptor, select.POLLIN)
                poll.register(stop, select.POLLIN)
                if stop in dict(poll.poll()):
                    return
                server.serve()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            server.settle()
            yield server
        finally:
            os.close(end)
            thread.join()
            os.close(stop)
            server.close()
            server.close()


@pytest.fixture
def asker(engine: Engine, starter: str) -> Iterator[Asker]:
    asker = Asker(engine)
    web = place(Path(asker.home.run), "b" * 64, "web", ("shop", "3"))
    yield asker
    os.close(asker.pidfd)
    (web / "network.json").unlink()
    web.rmdir()


def is_found(asker: Asker) -> bool:
    return "Address: 10.92.0.3" in asker.run("nslookup -type=a web 127.0.0.11 2>&1")


@pytest.mark.tools("nft")
def test_it_is_asked_at_port_53_which_stays_free(asker: Asker) -> None:
    endpoints = asker.on("shop")
    with asker.served(endpoints) as server:
        assert server.port != 53
        assert is_found(asker)
        asker.run("mkdir /w; echo mine >/w/index.html; httpd -p 53 -h /w")
        assert asker.run("wget -qO- 127.0.0.1:53") == "mine\n"
        assert is_found(asker)
        asker.run("killall httpd")


def test_without_nft_it_is_port_53_itself(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "is_available", lambda: False)
    endpoints = asker.on("bridge")
    with asker.served(endpoints) as server:
        assert server.port == 53
        nameserver.follow(asker.home, asker.record, asker.pidfd, asker.on("shop"), server.port)
        assert is_found(asker)


@pytest.mark.tools("nft")
def test_a_container_that_is_connected_later_is_led_to_it(asker: Asker) -> None:
    endpoints = asker.on("bridge")
    with asker.served(endpoints) as server:
        assert not is_found(asker)  # nobody is at port 53
        for _ in range(2):
            both = asker.on("bridge", "shop")
            nameserver.follow(asker.home, asker.record, asker.pidfd, both, server.port)
        assert is_found(asker)
        # The files are changed where the container has them mounted.
        files = asker.run("cat /etc/resolv.conf; grep $(hostname) /etc/hosts")
        assert "nameserver 127.0.0.11" in files
        assert f"10.94.0.2\t{asker.record.hostname}\n10.92.0.2\t{asker.record.hostname}\n" in files
        nameserver.follow(asker.home, asker.record, asker.pidfd, asker.on("bridge"), server.port)
        files = asker.run("cat /etc/resolv.conf /etc/hosts")
        assert "127.0.0.11" not in files
        assert "10.92.0.2" not in files
        assert not is_found(asker)

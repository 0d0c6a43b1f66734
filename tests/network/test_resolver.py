"""The name server of a container, asked over real sockets, with one of the test's behind it."""

from __future__ import annotations

import _socket
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chapters import patience
from minicontainer.network import dns, resolver
from minicontainer.network.directory import Directory
from minicontainer.network.resolver import Resolver
from tests.network.test_directory import ASKER, place
from tests.network.test_dns import ask
from tests.network.world import WORLD, World

WAIT = patience.seconds(20)


@contextmanager
def serving(run: Path, *servers: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """A resolver in a loop of its own; where it listens."""
    # The stream's first: a port that a stream has left is not free for the next for a minute.
    tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    tcp.bind(("127.0.0.1", 0))
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    tcp.listen(8)
    address = udp.getsockname()
    service = Resolver(Directory(str(run), ASKER), list(servers), udp, tcp)
    stop, end = os.pipe()

    def loop() -> None:
        poll = select.poll()
        poll.register(service.descriptor, select.POLLIN)
        poll.register(stop, select.POLLIN)
        while stop not in dict(poll.poll(50)):
            service.serve()
        service.close()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield address
    finally:
        os.close(end)
        thread.join()
        os.close(stop)


def by_udp(address: tuple[str, int], message: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(WAIT)
        client.connect(address)
        client.send(message)
        return client.recv(65535)


def by_tcp(address: tuple[str, int], *messages: bytes) -> list[bytes]:
    with socket.create_connection(address, WAIT) as client, client.makefile("rb") as stream:
        client.sendall(b"".join(len(each).to_bytes(2) + each for each in messages))
        return [stream.read(int.from_bytes(stream.read(2))) for _ in messages]


def code(answer: bytes) -> int:
    return answer[3] & 15


def count(answer: bytes) -> int:
    return int.from_bytes(answer[6:8])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The asker with a neighbour `web`, and two that share the name `www`."""
    place(tmp_path, ASKER, "asker", ("shop", "2"))
    place(tmp_path, "b" * 64, "web", ("shop", "3"), aliases=["www"])
    place(tmp_path, "c" * 64, "other", ("shop", "4"), aliases=["www"])
    return tmp_path


def test_a_neighbour_is_known_and_nobody_else_is_asked(run: Path) -> None:
    with World(many=40) as world, serving(run, world.address) as address:
        answer = by_udp(address, ask("Web"))
        assert answer[-4:] == bytes([10, 92, 0, 3])
        assert (code(answer), count(answer)) == (dns.GOOD, 1)
        for kind in (dns.AAAA, 15, 16, 255):
            answer = by_udp(address, ask("web", kind))
            assert (code(answer), count(answer)) == (dns.GOOD, 0)
        pointer = by_udp(address, ask("3.0.92.10.in-addr.arpa", dns.PTR))
        assert pointer.endswith(b"\3web\4shop\0")
        nobody = by_udp(address, ask("99.0.92.10.in-addr.arpa", dns.PTR))
        assert (code(nobody), count(nobody)) == (dns.NO_SUCH_NAME, 0)
    assert world.heard == []


def test_a_shared_name_has_all_addresses_each_first_in_turn(run: Path) -> None:
    with serving(run) as address:
        answers = []
        for _ in range(4):
            answers.append(by_udp(address, ask("www")))
            by_udp(address, ask("www", dns.AAAA))
    assert all(count(answer) == 2 for answer in answers)
    assert {answer[-4:] for answer in answers} == {bytes([10, 92, 0, n]) for n in (3, 4)}
    assert answers[0] == answers[2] != answers[1] == answers[3]


def test_the_rest_is_passed_on_by_both_ways(run: Path) -> None:
    with World(many=40) as world, serving(run, world.address) as address:
        answer = by_udp(address, ask("example.org", id=4711))
        assert answer[:2] == (4711).to_bytes(2)
        assert answer[-4:] == WORLD
        first, second, third = by_tcp(address, ask("one.org"), ask("web"), ask("two.org"))
        assert (count(first), count(second), count(third)) == (40, 1, 40)
        assert second[-4:] == bytes([10, 92, 0, 3])
        assert by_udp(address, ask("4.4.8.8.in-addr.arpa", dns.PTR))
    assert world.heard == ["example.org", "one.org", "two.org", "4.4.8.8.in-addr.arpa"]


def test_an_answer_that_was_not_asked_for_is_not_believed(run: Path) -> None:
    with World(wrong=True) as world, serving(run, world.address) as address:
        assert by_udp(address, ask("example.org"))[-4:] == WORLD


def test_a_server_that_is_silent_or_gone_is_passed_over(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "SERVER_TIME", 0.1)
    monkeypatch.setattr(resolver, "STREAM_TIME", 0.1)
    with socket.socket() as gone, socket.create_server(("127.0.0.1", 0)) as mute:
        gone.bind(("127.0.0.1", 0))  # and does not listen
        dead, still = gone.getsockname(), mute.getsockname()
        with World(silent=True, many=40) as silent, World(many=40) as world:
            with serving(run, dead, still, silent.address, world.address) as address:
                assert by_udp(address, ask("example.org"))[-4:] == WORLD
                assert count(by_tcp(address, ask("example.org"))[0]) == 40
            with serving(run, dead, still) as address:
                assert code(by_udp(address, ask("example.org"))) == dns.FAILED
                assert code(by_tcp(address, ask("example.org"))[0]) == dns.FAILED


@pytest.mark.parametrize("code_of_first", [dns.FAILED, dns.REFUSED])
def test_a_server_that_cannot_say_is_not_the_last(run: Path, code_of_first: int) -> None:
    with World(code=code_of_first) as first, World() as second:
        with serving(run, first.address, second.address) as address:
            assert by_udp(address, ask("example.org"))[-4:] == WORLD
            assert by_tcp(address, ask("example.org"))[0][-4:] == WORLD
        with serving(run, first.address) as address:
            assert code(by_udp(address, ask("example.org"))) == code_of_first
            assert code(by_tcp(address, ask("example.org"))[0]) == code_of_first


def test_a_server_that_knows_of_none_is_believed(run: Path) -> None:
    with (
        World(code=dns.NO_SUCH_NAME) as first,
        World() as second,
        serving(run, first.address, second.address) as address,
    ):
        assert code(by_udp(address, ask("example.org"))) == dns.NO_SUCH_NAME
        assert code(by_tcp(address, ask("example.org"))[0]) == dns.NO_SUCH_NAME
    assert second.heard == []


def test_the_answer_to_another_question_is_not_believed(run: Path) -> None:
    with World(astray=True) as first, World() as second:
        with serving(run, first.address, second.address) as address:
            assert by_tcp(address, ask("example.org", id=7))[0][:2] == (7).to_bytes(2)
        assert second.heard == ["example.org"]


def test_from_an_inner_network_nothing_leaves(tmp_path: Path) -> None:
    """Or an attacker in it would have a way out: one question after the other (CVE-2024-29018)."""
    place(tmp_path, ASKER, "asker", ("inner", "2"))
    place(tmp_path, "b" * 64, "web", ("inner", "3"))
    with World(many=40) as world, serving(tmp_path, world.address) as address:
        assert code(by_udp(address, ask("secret.attacker.example"))) == dns.NO_SUCH_NAME
        assert code(by_tcp(address, ask("secret.attacker.example"))[0]) == dns.NO_SUCH_NAME
        assert count(by_udp(address, ask("web"))) == 1
    assert world.heard == []


def test_a_damaged_file_is_no_end(run: Path) -> None:
    (run / ("b" * 64) / "network.json").write_text('{"endpoints": [{"network": "shop"}]}')
    with serving(run) as address:
        assert code(by_udp(address, ask("web"))) == dns.FAILED


def test_more_than_a_datagram_holds_comes_over_tcp(run: Path) -> None:
    for number in range(40):
        place(run, f"{number:064}", f"many{number}", ("shop", str(100 + number)), aliases=["all"])
    with serving(run) as address:
        short = by_udp(address, ask("all"))
        assert (count(short), short[2] & 2) == (30, 2)  # as many as there is room for
        assert count(by_tcp(address, ask("all"))[0]) == 40


def test_streams_are_bounded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most, a connection is closed at once; when one has ended, the next is served."""
    monkeypatch.setattr(resolver, "MOST", 2)
    monkeypatch.setattr(resolver, "STREAM_TIME", 1000.0)
    with serving(run) as address:
        held = [socket.create_connection(address, WAIT) for _ in range(2)]
        assert count(by_udp(address, ask("web"))) == 1
        with socket.create_connection(address, WAIT) as third:
            assert third.recv(1) == b""
        held.pop().close()
        assert count(by_tcp_when_free(address)) == 1
        held.pop().close()


def by_tcp_when_free(address: tuple[str, int]) -> bytes:
    while True:
        try:
            if answer := by_tcp(address, ask("web"))[0]:
                return answer
        except (ConnectionResetError, BrokenPipeError):
            continue  # the end of the one before is on its way


@pytest.mark.parametrize(
    "stream", [b"", b"\0", b"\0\5abcde", b"\xff\xff" + b"x" * 70000, b"\0\14x"]
)
def test_a_stream_of_anything_ends_quietly(run: Path, stream: bytes) -> None:
    with serving(run) as address:
        with socket.create_connection(address, WAIT) as client:
            try:
                client.sendall(stream)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
            except OSError:
                pass  # it closed before it had read all
        assert count(by_udp(address, ask("web"))) == 1


def test_a_slow_asker_is_given_up(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "STREAM_TIME", 0.05)
    with serving(run) as address, socket.create_connection(address, WAIT) as client:
        client.send(b"\0")
        assert client.recv(100) == b""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=20))
def test_datagrams_of_anything_do_no_harm(run: Path, messages: list[bytes]) -> None:
    with serving(run) as address:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for message in messages:
                client.sendto(message, address)
        assert count(by_udp(address, ask("web"))) == 1


def test_a_flood_leaves_turns_for_the_rest(run: Path) -> None:
    """One turn reads so many questions and no more: the container's output waits behind them."""
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    address = udp.getsockname()
    service = Resolver(Directory(str(run), ASKER), [], udp, tcp)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        for _ in range(resolver.TURN + 5):
            client.sendto(ask("web"), address)
        service.serve()
        for _ in range(resolver.TURN):
            assert client.recv(512)
        with pytest.raises(BlockingIOError):
            client.recv(512)
    service.close()

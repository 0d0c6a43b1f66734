"""The words of -p and --expose, and the sockets that hold a port."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.network import ports


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("80/udp", {"80/udp": [("", "")]}),
        ("80/UDP", {"80/udp": [("", "")]}),
        ("80/", {"80/tcp": [("", "")]}),
        (":80", {"80/tcp": [("", "")]}),
        ("5001:80", {"80/tcp": [("", "5001")]}),
        ("0:80", {"80/tcp": [("", "")]}),
        ("127.0.0.1:5001:80", {"80/tcp": [("127.0.0.1", "5001")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:5001:80/sctp", {"80/sctp": [("::1", "5001")]}),
        ("::1:5001:80", {"80/tcp": [("::1", "5001")]}),
        ("[2001:DB8:0::1]::80", {"80/tcp": [("2001:db8::1", "")]}),
        ("5001-5009:80", {"80/tcp": [("", "5001-5009")]}),
        ("80-81", {"80/tcp": [("", "")], "81/tcp": [("", "")]}),
        ("5001-5002:80-81", {"80/tcp": [("", "5001")], "81/tcp": [("", "5002")]}),
        ("published=5001,target=80", {"80/tcp": [("", "5001")]}),
        ("target=80,protocol=udp", {"80/udp": [("", "")]}),
    ],
)
def test_the_words(word: str, expected: dict[str, list[tuple[str, str]]]) -> None:
    found = ports.parse([word])
    assert {
        port: [(place["HostIp"], place["HostPort"]) for place in places]
        for port, places in found.items()
    } == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "no port specified: <empty>"),
        ("5001:", "no port specified: 5001:<empty>"),
        ("5001:/tcp", "no port specified: 5001:/tcp<empty>"),
        ("a", "invalid containerPort: a"),
        ("5000:0", "invalid containerPort: 0"),
        ("65536", "invalid containerPort: 65536"),
        ("-1", "invalid containerPort: -1"),
        ("2-1", "invalid containerPort: 2-1"),
        ("1-2-3", "invalid containerPort: 1-2-3"),
        ("٣", "invalid containerPort: ٣"),
        ("a:80", "invalid hostPort: a"),
        ("65536:80", "invalid hostPort: 65536"),
        ("80/icmp", "invalid proto: icmp"),
        ("localhost:80:80", "invalid IP address: localhost"),
        ("127.1:80:80", "invalid IP address: 127.1"),
        ("[::1:80:80", "invalid IP address: [::1"),
        ("1-3:4-5", "invalid ranges specified for container and host Ports: 4-5 and 1-3"),
        ("1:4-5", "invalid ranges specified for container and host Ports: 4-5 and 1"),
        ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ("published=80", "no port specified: 80:/tcp<empty>"),
    ],
)
def test_the_words_that_are_none(word: str, message: str) -> None:
    with pytest.raises(EngineError) as caught:
        ports.parse([word])
    assert caught.value.message == message
    assert caught.value.exit_code == 125


def test_one_port_in_several_places() -> None:
    assert ports.parse(["5001:80", "127.0.0.1:5002:80"]) == {
        "80/tcp": [
            {"HostIp": "", "HostPort": "5001"},
            {"HostIp": "127.0.0.1", "HostPort": "5002"},
        ]
    }


numbers = st.integers(1, 65535)
addresses = st.one_of(st.just(""), st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))


@given(addresses, numbers, numbers, st.integers(0, 20), st.sampled_from(["tcp", "udp", "sctp"]))
def test_what_is_written_is_what_is_read(
    address: str, host: int, inner: int, more: int, proto: str
) -> None:
    host, inner = min(host, 65535 - more), min(inner, 65535 - more)
    before = f"[{address}]:" if ":" in address else f"{address}:" if address else ""
    ends = (f"{host}-{host + more}", f"{inner}-{inner + more}") if more else (host, inner)
    found = ports.parse([f"{before}{ends[0]}:{ends[1]}/{proto}"])
    assert list(found) == [f"{inner + step}/{proto}" for step in range(more + 1)]
    for step, (place,) in enumerate(found.values()):
        assert place["HostPort"] == str(host + step)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if address:
            assert socket.inet_pton(family, place["HostIp"]) == socket.inet_pton(family, address)


@given(st.text(alphabet="0123456789-:/[].=,tcpudx%\0é", max_size=24))
def test_anything_else_is_refused_in_one_line(word: str) -> None:
    with contextlib.suppress(EngineError):
        for port, places in ports.parse([word]).items():
            number, _, proto = port.partition("/")
            assert 0 <= int(number) <= 65535 and proto in ("tcp", "udp", "sctp")
            assert all(set(place) == {"HostIp", "HostPort"} for place in places)


def test_exposed_ports() -> None:
    assert ports.parse_exposed(["80", "53/udp", "8000-8002", "80/tcp"]) == [
        "80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp",
    ]  # fmt: skip
    for word, message in (
        ("1:2", "invalid port format for --expose: 1:2"),
        ("x", "invalid range format for --expose: x, error: invalid port: 'x'"),
        ("1/x", "invalid proto: x"),
    ):
        with pytest.raises(EngineError) as caught:
            ports.parse_exposed([word])
        assert caught.value.message == message


def test_all_that_is_exposed_is_published_but_what_has_a_place_already() -> None:
    bindings = ports.parse(["5001:80"])
    both = ports.publish_all(bindings, ["80/tcp", "53/udp"])
    assert both == {**bindings, "53/udp": [{"HostIp": "", "HostPort": ""}]}


# ------------------------------------------------------------------------------------- the sockets


def test_a_held_port_is_nobody_elses_on_either_version_of_ip() -> None:
    held = ports.hold(ports.parse(["80", "80/udp"]))
    try:
        for port in held:
            kind = socket.SOCK_STREAM if port.proto == "tcp" else socket.SOCK_DGRAM
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family, kind) as other, pytest.raises(OSError, match="in use"):
                    other.bind((address, port.number))
    finally:
        ports.release(held)
        ports.release(held)


@pytest.mark.parametrize("taken", ["0.0.0.0", "127.0.0.1", "::", "::1"])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_taken_port_is_refused_and_nothing_is_held(taken: str, proto: str) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as other:
        other.bind((taken, 0))
        if proto == "tcp":
            other.listen()
        number = other.getsockname()[1]
        with pytest.raises(EngineError) as caught:
            ports.hold(ports.parse(["80", f"{number}:80/{proto}"]))
    assert caught.value.message == f"Bind for 0.0.0.0:{number} failed: port is already allocated"
    assert caught.value.exit_code == 125


def test_the_same_port_twice() -> None:
    with pytest.raises(EngineError, match="port is already allocated"):
        ports.hold(ports.parse(["127.0.0.1:5001:80", "5001:81"]))


def test_a_range_of_the_host_is_searched() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        first = other.getsockname()[1]
        held = ports.hold(ports.parse([f"{first}-{first + 9}:80"]))
        assert first < held[0].number <= first + 9
        ports.release(held)
        with pytest.raises(EngineError, match="port is already allocated"):
            ports.hold(ports.parse([f"{first}-{first}:80"]))


def test_a_range_that_is_all_taken() -> None:
    held = ports.hold(ports.parse(["5101-5103:80"] * 3))
    try:
        assert sorted(port.number for port in held) == [5101, 5102, 5103]
        with pytest.raises(EngineError, match="all ports are allocated"):
            ports.hold(ports.parse(["5101-5103:80"]))
    finally:
        ports.release(held)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(EngineError) as caught:
        ports.hold(ports.parse(["192.0.2.77:5001:80"]))
    assert caught.value.message.startswith("cannot publish 192.0.2.77:5001/tcp: ")
    assert "this host's" in str(caught.value.hint)


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = ports._bind

    def refuse(proto: str, address: str, number: int) -> object:
        if ":" in address:
            raise OSError(97, "Address family not supported by protocol")
        return bind(proto, address, number)

    monkeypatch.setattr(ports, "_bind", refuse)
    held = ports.hold(ports.parse(["80"]))
    assert [len(port.sockets) for port in held] == [1]
    ports.release(held)


def test_sctp_is_held_or_its_absence_is_told() -> None:
    try:
        ports.release(ports.hold(ports.parse(["80/sctp"])))
    except EngineError as error:
        assert error.message.startswith("cannot publish 0.0.0.0:0/sctp: ")
        assert error.hint == "the kernel has no SCTP (modprobe sctp)"

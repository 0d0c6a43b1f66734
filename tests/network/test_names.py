"""The texts of /etc/hosts and /etc/resolv.conf, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.network import names

HOST = """\
# Written by hand
nameserver 192.0.2.53
nameserver 127.0.0.53
nameserver ::1
search example.org
options edns0 trust-ad
"""


def test_a_container_finds_itself_under_its_own_name() -> None:
    text = names.hosts(names.LOCAL, [], ["10.89.0.2", "fd00::2"], "web")
    assert text == names.LOCAL + "10.89.0.2\tweb\nfd00::2\tweb\n"
    text = names.hosts(names.LOCAL, [], ["10.89.0.2"], "web.example.org")
    assert text.endswith("10.89.0.2\tweb.example.org web\n")


def test_what_is_added_stands_before_it() -> None:
    extra = names.extra_hosts(
        ["db:10.0.0.9", "six:fd00::9", "me:host-gateway"], ["10.1.0.1", "::9"]
    )
    assert extra == [("db", "10.0.0.9"), ("six", "fd00::9"), ("me", "10.1.0.1"), ("me", "::9")]
    text = names.hosts("127.0.0.1 localhost", extra[:1], ["10.1.0.2"], "web")
    assert text == "127.0.0.1 localhost\n10.0.0.9\tdb\n10.1.0.2\tweb\n"


def test_no_way_to_the_host_is_said() -> None:
    with pytest.raises(EngineError, match="unable to derive the IP value for host-gateway"):
        names.extra_hosts(["me:host-gateway"], [])


def test_the_servers_of_a_file() -> None:
    assert names.servers(HOST) == ["192.0.2.53", "127.0.0.53", "::1"]
    assert names.servers("nameserver\n#nameserver 1.1.1.1\n  nameserver\t1.1.1.2 x\n") == [
        "1.1.1.2"
    ]
    assert [names.is_loopback(each) for each in names.servers(HOST)] == [False, True, True]
    assert names.is_loopback("0.0.0.0")


def test_what_is_given_takes_the_place_of_the_hosts() -> None:
    assert names.resolv_conf(HOST) == HOST
    text = names.resolv_conf(HOST, servers=["1.1.1.1", "fd00::53"])
    assert text.startswith("nameserver 1.1.1.1\nnameserver fd00::53\n# Written by hand\nsearch ex")
    assert names.servers(text) == ["1.1.1.1", "fd00::53"]
    text = names.resolv_conf(HOST + "domain a.b\n", search=["a.org", "b.org"], options=["ndots:3"])
    assert text.splitlines()[-2:] == ["search a.org b.org", "options ndots:3"]
    assert "example" not in text
    assert "edns0" not in text
    assert "domain" not in text
    assert "search" not in names.resolv_conf(HOST, search=["."])


def test_of_the_resolver_a_short_name_is_asked_first() -> None:
    text = names.for_resolver(HOST)
    assert names.servers(text) == ["127.0.0.11"]
    assert text.splitlines()[-1] == "options edns0 trust-ad ndots:0"
    assert "search example.org" in text
    assert names.for_resolver("").splitlines() == ["nameserver 127.0.0.11", "options ndots:0"]
    assert names.for_resolver(HOST, [], ["ndots:2"]).splitlines()[-1] == "options ndots:2"
    assert names.for_resolver(HOST, ["."], ["debug"]).splitlines()[-1] == "options debug ndots:0"


@pytest.mark.parametrize(
    ("check", "given_text", "result"),
    [
        (names.check_server, "8.8.8.8", "8.8.8.8"),
        (names.check_server, "2001:db8::1", "2001:db8::1"),
        (names.check_search, "example.org.", "example.org"),
        (names.check_search, " a-b.c ", "a-b.c"),
        (names.check_search, ".", "."),
        (names.check_option, "ndots:2", "ndots:2"),
        (names.check_host, "db:10.0.0.9", "db:10.0.0.9"),
        (names.check_host, "db=10.0.0.9", "db:10.0.0.9"),
        (names.check_host, "db:fd00::9", "db:fd00::9"),
        (names.check_host, "db=[fd00::9]", "db:fd00::9"),
        (names.check_host, "db:[fd00::9]", "db:fd00::9"),
        (names.check_host, "me:host-gateway", "me:host-gateway"),
    ],
)
def test_docker_takes_it_and_so_do_we(
    check: Callable[[str], str], given_text: str, result: str
) -> None:
    assert check(given_text) == result


@pytest.mark.parametrize(
    ("check", "given_text", "sentence"),
    [
        (names.check_server, "dns.example", "IP address is not correctly formatted: dns.example"),
        (names.check_server, "10.0.0.010", "IP address is not correctly formatted"),
        (names.check_server, "1.1.1.1\n", "IP address is not correctly formatted"),
        (names.check_search, "1.2.3", "1.2.3 is not a valid domain"),
        (names.check_search, "-a.b", "-a.b is not a valid domain"),
        (names.check_search, "a..b", "a..b is not a valid domain"),
        (names.check_search, "a b", "a b is not a valid domain"),
        (names.check_search, "a\nnameserver 6.6.6.6", "is not a valid domain"),
        (names.check_search, "", "is not a valid domain"),
        (names.check_search, "a" * 255, "is not a valid domain"),
        (names.check_option, "a\nb", "invalid DNS option"),
        (names.check_option, "", "invalid DNS option"),
        (names.check_host, "db", 'bad format for add-host: "db"'),
        (names.check_host, ":10.0.0.1", "bad format for add-host"),
        (names.check_host, "a:b=10.0.0.1", "bad format for add-host"),
        (names.check_host, "a\n:10.0.0.1", "bad format for add-host"),
        (names.check_host, "db:", 'invalid IP address in add-host: ""'),
        (names.check_host, "db:10.0.0.256", 'invalid IP address in add-host: "10.0.0.256"'),
        (names.check_host, "db:fe80::1%eth0", "invalid IP address in add-host"),
    ],
)
def test_docker_refuses_it_and_so_do_we(
    check: Callable[[str], str], given_text: str, sentence: str
) -> None:
    with pytest.raises(EngineError) as refused:
        check(given_text)
    assert sentence in refused.value.message


@given(st.text(max_size=60))
def test_what_is_taken_stays_in_its_line(text: str) -> None:
    for check in (names.check_server, names.check_search, names.check_option, names.check_host):
        try:
            taken = check(text)
        except EngineError:
            continue
        assert len(f"x{taken}x".split()) == 1

"""TLS, certificates and proxies, on the wire."""

from __future__ import annotations

import gc
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image import proxies
from minicontainer.image.origin import Origin, printable, redact
from minicontainer.image.patience import Patience
from minicontainer.image.reference import Reference
from minicontainer.image.registry import Registry
from minicontainer.image.transport import Client
from minicontainer.image.trust import Trust
from tests.image import fake_registry as fake
from tests.image.authority import Authority
from tests.image.fake_registry import FakeRegistry, Proxy

FAST = Patience(connect=2, stall=1, attempts=2, pause=0.005)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certificates(authority: Authority, tmp_path: Path) -> str:
    """A --cert-dir that trusts the authority."""
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return str(tmp_path / "certs")


def ask(host: str, trust: Trust) -> str:
    """Greet a registry; the scheme that was agreed on."""
    registry = Registry(Reference.parse(f"{host}/app:1"), trust, None, FAST, threading.Event())
    client = Client(trust, FAST, host.partition(":")[0])
    try:
        registry.open(client)
        registry.digest(client, "1")
        return registry._base().partition(":")[0]
    finally:
        client.close()


def refusal(host: str, trust: Trust) -> EngineError:
    with pytest.raises(EngineError) as caught:
        ask(host, trust)
    assert "\n" not in caught.value.message
    error = EngineError(caught.value.message, hint=caught.value.hint)
    # http.client's frames hold the socket of a refused tunnel; the traceback holds the frames.
    del caught
    gc.collect()
    return error


# -------------------------------------------------------------------------------------------- TLS

pytestmark = pytest.mark.tools("openssl")


def test_an_authority_of_our_own(authority: Authority, certificates: str) -> None:
    with FakeRegistry(authority.server()) as server:
        assert ask(server.host, Trust(certificates=certificates)) == "https"


def test_loopback_needs_no_authority(authority: Authority) -> None:
    with FakeRegistry(authority.server()) as server:
        assert ask(server.host, Trust()) == "https"


def test_loopback_may_be_plain() -> None:
    with FakeRegistry() as server:
        assert ask(server.host, Trust()) == "http"
        assert ask(server.host.replace("127.0.0.1", "localhost"), Trust()) == "http"


def test_an_unknown_authority(authority: Authority) -> None:
    with FakeRegistry(authority.server()) as server:
        error = refusal(server.host, Trust(verify=True))
    assert error.message == (
        f"cannot trust {server.host}: its certificate is signed by an unknown authority"
    )
    assert "--cert-dir" in (error.hint or "")


def test_an_authority_in_the_directory_makes_loopback_strict(
    authority: Authority, certificates: str
) -> None:
    """Who names an authority wants it checked: plain HTTP is then no way round it."""
    with FakeRegistry() as server:
        error = refusal(server.host, Trust(certificates=certificates))
    assert "answers in plain HTTP" in error.message
    assert "--insecure" in (error.hint or "")


def test_an_expired_certificate(authority: Authority, certificates: str) -> None:
    with FakeRegistry(authority.server(days="0")) as server:
        error = refusal(server.host, Trust(certificates=certificates))
    assert error.message.endswith("its certificate has expired")


def test_a_certificate_for_another_name(authority: Authority, certificates: str) -> None:
    with FakeRegistry(authority.server("DNS:elsewhere.example")) as server:
        error = refusal(server.host, Trust(certificates=certificates))
    assert error.message.endswith("its certificate is for another address")


def test_a_client_certificate(authority: Authority, certificates: str) -> None:
    context = authority.server()
    # In TLS 1.3 the refusal comes after the handshake, and may be lost to a reset.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    with FakeRegistry(context) as server:
        assert "client certificate" in (
            refusal(server.host, Trust(certificates=certificates)).hint or ""
        )
        for source, name in zip(
            authority.issue("me", "DNS:me"), ("me.cert", "me.key"), strict=True
        ):
            (Path(certificates) / name).write_bytes(source.read_bytes())
        assert ask(server.host, Trust(certificates=certificates)) == "https"


@pytest.mark.parametrize("name", ["ca.crt", "me.cert"])
def test_a_broken_certificate_file(certificates: str, name: str) -> None:
    (Path(certificates) / name).write_text("nonsense")
    (Path(certificates) / "me.key").write_text("nonsense")
    with FakeRegistry() as server:
        assert name in refusal(server.host, Trust(certificates=certificates)).message


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"--cert-dir .*: not a directory"):
        Trust(certificates=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("rules", "host", "expected"),
    [
        ((), "registry.example", False),
        ((), "127.1.2.3", True),
        ((), "localhost", True),
        ((), "::1", True),
        ((), "::ffff:127.0.0.1", True),
        ((), "localhost.example", False),
        (("registry.example",), "registry.example", True),
        (("registry.example:5000",), "registry.example", True),
        (("registry.example:5001",), "registry.example", False),
        (("10.0.0.0/8",), "10.1.2.3", True),
        (("10.0.0.0/8",), "11.1.2.3", False),
    ],
)
def test_who_is_insecure(rules: tuple[str, ...], host: str, expected: bool) -> None:
    assert Trust(insecure=rules).is_insecure(host, 5000) is expected
    assert Trust(verify=True, insecure=rules).is_insecure(host, 5000) is False
    assert Trust(verify=False).is_insecure(host, 5000) is True


# ------------------------------------------------------------------------------------------ proxies


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield monkeypatch.setenv


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_plain_through_a_proxy(environment: Callable[[str, str], None], name: str) -> None:
    with FakeRegistry() as server, Proxy("user:pass word") as proxy:
        environment(name, f"http://user:pass%20word@{proxy.host}")
        assert ask(f"registry.example:{server.port}", Trust(verify=False)) == "http"
        (digest,) = proxy.asked("/manifests/1", "HEAD")
        assert digest.path == f"http://registry.example:{server.port}/v2/app/manifests/1"
        assert "proxy-authorization" not in server.asked("/manifests/1", "HEAD")[0].headers


def test_tls_through_a_tunnel(
    environment: Callable[[str, str], None], authority: Authority, certificates: str
) -> None:
    with (
        FakeRegistry(authority.server("DNS:registry.example")) as server,
        Proxy("user:secret") as proxy,
    ):
        environment("HTTPS_PROXY", f"user:secret@{proxy.host}")
        trust = Trust(certificates=certificates)
        assert ask(f"registry.example:{server.port}", trust) == "https"
        assert [r.method for r in proxy.requests] == ["CONNECT"]


def test_a_proxy_that_refuses_the_tunnel(environment: Callable[[str, str], None]) -> None:
    with Proxy("user:secret") as proxy:
        environment("https_proxy", proxy.url)
        error = refusal("registry.example", Trust())
    assert f"registry.example through the proxy {proxy.host}" in error.message
    assert "407" in error.message


def test_a_proxy_that_is_not_there(environment: Callable[[str, str], None]) -> None:
    with Proxy() as proxy:
        pass
    environment("HTTPS_PROXY", proxy.url)
    error = refusal("registry.example", Trust())
    assert error.message == (
        f"cannot reach registry.example through the proxy {proxy.host}: connection refused"
    )


def test_loopback_is_never_proxied(environment: Callable[[str, str], None]) -> None:
    environment("HTTP_PROXY", "http://192.0.2.1:1")
    with FakeRegistry() as server:
        assert ask(server.host, Trust()) == "http"


@pytest.mark.parametrize(
    ("rules", "host", "is_direct"),
    [
        ("", "a.example", False),
        ("*", "a.example", True),
        ("example", "a.example", True),
        ("a.example", "a.example", True),
        ("a.example", "ba.example", False),
        (".a.example", "a.example", False),
        (".a.example", "b.a.example", True),
        ("*.a.example", "b.a.example", True),
        ("A.Example , x", "a.example.", True),
        ("a.example:443", "a.example", True),
        ("a.example:80", "a.example", False),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8", "a.example", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("fd00::/8", "fd00::1", True),
        ("fd00::1", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("10.0.0.0/99", "10.2.3.4", False),
    ],
)
def test_no_proxy(rules: str, host: str, is_direct: bool) -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": rules}
    assert (proxies.find("https", host, 443, environment) is None) is is_direct


@pytest.mark.parametrize("address", ["socks5://p:1", "https://p:1", "http://", "http://p:x"])
def test_a_proxy_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(EngineError, match="cannot use the proxy in HTTPS_PROXY") as caught:
        proxies.find("https", "a.example", 443, {"HTTPS_PROXY": address})
    assert address.rpartition("/")[2] not in caught.value.message or address.endswith("/")


# --------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/x?sig=1", "https://a.example/x?…"),
        ("https://me:secret@a.example/x", "https://a.example/x"),
        ("https://a.example/x#y", "https://a.example/x"),
        ("https://a.example/\x1b[2J", "https://a.example/ [2J"),
        ("https://me:se/cret@a.example", "https://me:se/cret@a.example"),
    ],
)
def test_redacted_urls(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_printable_text_has_an_end() -> None:
    assert printable("x" * 300, 10) == "xxxxxxxxx…"


def test_origins() -> None:
    assert Origin.of("HTTPS://A.Example/x") == Origin("https", "a.example", 443)
    assert Origin.of("https://a.example") != Origin.of("http://a.example")
    assert str(Origin.of("http://[::1]:5000/")) == "[::1]:5000"


def test_a_stranger_in_the_middle_of_a_kept_connection(authority: Authority) -> None:
    """Another host's connection is never used for a host of the same name and another port."""
    with FakeRegistry() as first, FakeRegistry() as second:
        client = Client(Trust(), FAST, "127.0.0.1")
        for server in (first, second, first, second):
            with client.request("GET", f"{server.url}/v2/", {}) as answer:
                assert answer.read(100, "it") == b"{}"
        client.close()
        assert (first.connections, second.connections) == (1, 1)
        assert fake.basic("a:b").startswith("Basic ")

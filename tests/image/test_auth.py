"""The ladder of authentication, and above all where a secret must not go."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image import credentials
from minicontainer.image.auth import (
    AccessDenied,
    Challenge,
    check_destination,
    parse_challenges,
)
from minicontainer.image.credentials import Login
from minicontainer.image.origin import Origin
from minicontainer.image.patience import Patience
from minicontainer.image.reference import Reference
from minicontainer.image.registry import Registry
from minicontainer.image.transport import Client
from minicontainer.image.trust import Trust
from tests.image import fake_registry as fake
from tests.image.fake_registry import FakeRegistry, TokenServer

FAST = Patience(connect=2, stall=1, attempts=2, pause=0.005)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        server.add_manifest("app:1", {"schemaVersion": 2, "layers": []})
        yield server


@pytest.fixture
def tokens(server: FakeRegistry) -> Iterator[TokenServer]:
    with TokenServer() as tokens:
        tokens.protect(server)
        yield tokens


def get(server: FakeRegistry, login: Login | None = None, times: int = 1) -> bytes:
    """Ask for the manifest, from the first greeting on."""
    registry = Registry(
        Reference.parse(f"{server.host}/app:1"), Trust(), login, FAST, threading.Event()
    )
    client = Client(Trust(), FAST, "127.0.0.1")
    try:
        registry.open(client)
        for _ in range(times):
            body = registry.manifest(client, "1").body
    finally:
        client.close()
    return body


# ------------------------------------------------------------------------------------- challenges


def shown(challenges: list[Challenge]) -> list[tuple[str, dict[str, str]]]:
    return [(each.scheme, each.parameters) for each in challenges]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            # Docker Hub's, as it is.
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/alpine:pull"'
            ],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/alpine:pull",
                    },
                )
            ],
        ),
        (["Basic realm=x"], [("basic", {"realm": "x"})]),
        (["basic"], [("basic", {})]),
        (
            ['Negotiate, BASIC realm="a, b=\\"c\\"" , Bearer realm = "r"'],
            [("negotiate", {}), ("basic", {"realm": 'a, b="c"'}), ("bearer", {"realm": "r"})],
        ),
        (["Basic x=a", "Bearer x=b"], [("basic", {"x": "a"}), ("bearer", {"x": "b"})]),
        (['Bearer realm="x",realm="y"'], [("bearer", {"realm": "x"})]),
        ([""], []),
        (['="x"'], []),
        (['realm="x"'], []),
    ],
)  # fmt: skip
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert shown(parse_challenges(headers)) == expected


@given(st.text(alphabet='Bearbasic realm="\\,;x \t\n/', max_size=200))
def test_any_header_is_parsed(header: str) -> None:
    for challenge in parse_challenges([header]):
        assert challenge.scheme


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=20)))
def test_quoted_parameters_survive(parameters: dict[str, str]) -> None:
    def quote(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")

    header = "Bearer " + ",".join(f'{key}="{quote(text)}"' for key, text in parameters.items())
    ((scheme, found),) = shown(parse_challenges([header]))
    assert scheme == "bearer"
    assert found == {key: text.replace("\n", " ") for key, text in parameters.items()}


# ----------------------------------------------------------------------------------------- bearer


@pytest.mark.parametrize("field", ["token", "access_token"])
def test_anonymous_token(server: FakeRegistry, tokens: TokenServer, field: str) -> None:
    tokens.field = field
    get(server)
    (request,) = tokens.requests
    assert request.path == "/token?service=fake+registry&scope=repository%3Aapp%3Apull"
    assert "authorization" not in request.headers
    assert server.requests[-1].headers["authorization"] == "Bearer token-0"
    # The greeting's challenge is enough: the manifest is asked for once.
    assert len(server.asked("/manifests/")) == 1


def test_token_with_a_login(server: FakeRegistry, tokens: TokenServer) -> None:
    tokens.login = "me:se:cret"
    get(server, Login("me", "se:cret"))
    (request,) = tokens.requests
    assert "account=me" in request.path
    assert not [r for r in server.requests if "Basic" in r.headers.get("authorization", "")]


def test_identity_token(server: FakeRegistry, tokens: TokenServer) -> None:
    tokens.login = "identity"
    tokens.field = "access_token"
    get(server, Login("", "", "identity"))
    (request,) = tokens.requests
    assert request.method == "POST"
    assert "identity" not in request.path


def test_wrong_login(server: FakeRegistry, tokens: TokenServer) -> None:
    tokens.login = "me:right"
    with pytest.raises(AccessDenied, match="refused the login for"):
        get(server, Login("me", "wrong"))


def test_the_registrys_own_scope_is_asked_for_too(
    server: FakeRegistry, tokens: TokenServer
) -> None:
    tokens.protect(server, ',scope="repository:mirror/app:pull"')
    get(server)
    assert "scope=repository%3Aapp%3Apull&scope=repository%3Amirror%2Fapp%3Apull" in str(
        tokens.requests[0]
    )


def test_a_token_that_expired_is_renewed(server: FakeRegistry, tokens: TokenServer) -> None:
    server.lie(
        "GET", "/manifests/", lambda handler: tokens.tokens.append("newer") or False, times=1
    )
    get(server)
    assert len(tokens.requests) == 2
    assert len(server.asked("/manifests/")) == 2


def test_a_token_is_used_as_long_as_it_lives(server: FakeRegistry, tokens: TokenServer) -> None:
    get(server, times=5)
    assert len(tokens.requests) == 1


def test_denied_with_a_good_token(
    server: FakeRegistry, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker Hub: anybody gets a token, but it opens nothing."""
    monkeypatch.setenv("HOME", "/nowhere")
    header = f'Bearer realm="{tokens.url}",error="insufficient_scope"'
    server.lie("GET", "/manifests/", fake.status(401, WWW_Authenticate=header))
    with pytest.raises(AccessDenied) as caught:
        get(server)
    assert caught.value.message == (
        f"access denied for {server.host}/app: the repository does not exist or needs a login"
    )
    assert "docker login" in (caught.value.hint or "")
    assert len(tokens.requests) == 1


def test_a_registry_that_never_accepts_ends(server: FakeRegistry, tokens: TokenServer) -> None:
    server.accepted = lambda header: False
    with pytest.raises(AccessDenied):
        get(server)
    assert len(server.requests) < 6


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"token": 1}',
        b'{"token": ""}',
        b'{"token": "a\\r\\nX-Injected: yes"}',
        b'{"token": "\\u00e9"}',
        b'{"token": "a", "expires_in": "soon"}',
        b'{"token": "a", "expires_in": [1]}',
    ],
)
def test_token_servers_that_answer_nonsense(
    server: FakeRegistry, tokens: TokenServer, body: bytes
) -> None:
    tokens.lie("GET", "/", fake.content(body))
    with pytest.raises(EngineError, match="answers without a token"):
        get(server)


def test_a_large_token_is_not_read(server: FakeRegistry, tokens: TokenServer) -> None:
    tokens.lie("GET", "/", fake.content(b" " * (65 << 10)))
    with pytest.raises(EngineError, match=r"the token from .* is larger than the 64 KiB"):
        get(server)


def test_a_token_server_that_fails_for_a_moment(server: FakeRegistry, tokens: TokenServer) -> None:
    tokens.lie("GET", "/", fake.status(503), times=1)
    get(server)
    assert len(tokens.requests) == 2


# ------------------------------------------------------------------------------------------ basic


def test_basic(server: FakeRegistry) -> None:
    server.challenge = 'Basic realm="x"'
    server.accepted = lambda header: header == fake.basic("me:secret")
    get(server, Login("me", "secret"))
    assert "authorization" not in server.requests[0].headers


def test_basic_without_a_login(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    server.challenge = 'Basic realm="x"'
    with pytest.raises(AccessDenied, match="needs a login"):
        get(server)


def test_basic_with_the_wrong_password(server: FakeRegistry) -> None:
    server.challenge = 'Basic realm="x"'
    with pytest.raises(AccessDenied, match="refused the password of me"):
        get(server, Login("me", "wrong"))
    assert len(server.requests) == 2


def test_a_proof_of_an_unknown_kind(server: FakeRegistry) -> None:
    server.challenge = "Negotiate"
    with pytest.raises(EngineError, match="unknown kind"):
        get(server)


# ------------------------------------------------------------------------- where secrets do not go


def origin(url: str) -> Origin:
    return Origin.of(url)


@pytest.mark.parametrize(
    ("sender", "target"),
    [
        ("https://registry.example", "https://auth.example/token"),
        ("https://registry.example", "https://registry.example:444/"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/"),
        ("http://localhost:5000", "http://127.0.0.1:5001/"),
        ("https://10.0.0.1", "https://10.0.0.2/"),
        ("https://10.0.0.1", "https://10.0.0.1/"),
        ("http://registry.lan", "http://auth.lan/"),
    ],
)
def test_good_destinations(sender: str, target: str) -> None:
    check_destination(target, origin(sender))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "10.1.2.3", "192.168.0.1", "172.16.0.1",
        "169.254.169.254", "[fe80::1]", "[fd00::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]",
        "100.64.0.1",
    ],
)  # fmt: skip
def test_a_public_registry_cannot_send_us_inside(host: str) -> None:
    """The metadata service of a cloud is the prize."""
    with pytest.raises(EngineError, match="not public"):
        check_destination(f"https://{host}/latest?x=y", origin("https://registry.example"))


@pytest.mark.parametrize("url", ["http://auth.example/", "http://registry.example/"])
def test_from_tls_there_is_no_way_back(url: str) -> None:
    with pytest.raises(EngineError, match="not encrypted"):
        check_destination(url, origin("https://registry.example"))


def test_a_realm_inside_is_not_asked(server: FakeRegistry, tokens: TokenServer) -> None:
    """Through the whole client: the registry is reached under a name, through a proxy."""
    with fake.Proxy() as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", proxy.url)
        name = f"registry.example:{server.port}"
        trust = Trust(verify=False)
        reference = Reference.parse(f"{name}/app:1")
        registry = Registry(reference, trust, Login("a", "b"), FAST, threading.Event())
        client = Client(trust, FAST, "registry.example")
        with pytest.raises(EngineError, match="not public"):
            registry.open(client)
        client.close()
    assert not tokens.requests


# ----------------------------------------------------------------------------------------- logins


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def find(tmp_path: Path, content: object, name: str) -> Login | None:
    path = tmp_path / "auth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    reference = Reference.parse(name)
    return credentials.find(reference.registry, reference.repository, {}, str(path))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("https://index.docker.io/v1/", "alpine"),
        ("docker.io", "alpine"),
        ("registry-1.docker.io", "me/app"),
        ("127.0.0.1:5000", "127.0.0.1:5000/app"),
        ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000/app"),
        ("quay.io/team", "quay.io/team/app"),
        ("quay.io/team/app", "quay.io/team/app"),
    ],
)
def test_login_by_the_key(tmp_path: Path, key: str, name: str) -> None:
    login = find(tmp_path, {"auths": {key: {"auth": encoded("me:a:b")}}}, name)
    assert login
    assert (login.user, login.password) == ("me", "a:b")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("127.0.0.1:5000", "127.0.0.1:5001/app"),
        ("quay.io/team", "quay.io/teammate/app"),
        ("evil.example/docker.io", "alpine"),
        ("docker.io", "docker.io.evil.example/app"),
    ],
)
def test_a_login_is_for_its_registry_alone(tmp_path: Path, key: str, name: str) -> None:
    assert find(tmp_path, {"auths": {key: {"auth": encoded("me:a")}}}, name) is None


def test_the_longest_key_wins(tmp_path: Path) -> None:
    auths = {
        "quay.io": {"auth": encoded("all:a")},
        "quay.io/team": {"auth": encoded("team:b")},
    }
    login = find(tmp_path, {"auths": auths}, "quay.io/team/app")
    assert login and login.user == "team"


@pytest.mark.parametrize(
    "content", ["", "[", '{"auths": {"docker.io": {"auth": "%%"}}}',
                '{"auths": {"docker.io": {"auth": "bWU="}}}',
                '{"auths": {"docker.io": {"auth": 1}}}'],
)  # fmt: skip
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(EngineError) as caught:
        find(tmp_path, content, "alpine")
    assert "auth.json" in caught.value.message


@pytest.mark.parametrize("content", ["{}", "[]", '{"auths": []}', '{"auths": {"docker.io": {}}}'])
def test_a_file_without_a_login(tmp_path: Path, content: str) -> None:
    assert find(tmp_path, content, "alpine") is None


def test_places_in_their_order(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.mkdir()
    entry = {"auths": {"docker.io": {"auth": encoded("docker:a")}}}
    (docker / "config.json").write_text(json.dumps(entry))
    runtime = tmp_path / "run" / "containers"
    runtime.mkdir(parents=True)
    environment = {
        "HOME": str(tmp_path),
        "DOCKER_CONFIG": str(docker),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }

    def user() -> str:
        login = credentials.find("docker.io", "library/alpine", environment)
        return login.user if login else ""

    assert user() == "docker"
    entry = {"auths": {"docker.io": {"auth": encoded("podman:a")}}}
    (runtime / "auth.json").write_text(json.dumps(entry))
    assert user() == "podman"
    entry = {"auths": {"docker.io": {"auth": encoded("named:a")}}}
    (tmp_path / "named").write_text(json.dumps(entry))
    environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "named")
    assert user() == "named"


def test_a_missing_file_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such file"):
        credentials.find("docker.io", "library/alpine", {}, str(tmp_path / "none"))


def test_a_helper_is_named_in_the_hint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"gcr.io": "gcloud"}}))
    environment = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    assert credentials.helper("gcr.io", environment) == "docker-credential-gcloud"
    assert credentials.helper("quay.io", environment) is None


def test_a_redirect_inside_is_not_followed(server: FakeRegistry) -> None:
    """The same by a redirect: a registry with a public name, reached through a proxy."""
    with fake.Proxy() as proxy, FakeRegistry() as inside, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", proxy.url)
        server.lie("GET", "/manifests/", fake.redirect(f"{inside.url}/latest/meta-data"))
        trust = Trust(verify=False)
        reference = Reference.parse(f"registry.example:{server.port}/app:1")
        registry = Registry(reference, trust, None, FAST, threading.Event())
        client = Client(trust, FAST, "registry.example")
        registry.open(client)
        with pytest.raises(EngineError, match="not public"):
            registry.manifest(client, "1")
        client.close()
    assert not inside.requests

"""Pulls from the registry that the world runs, Debian's docker-registry; skopeo is the witness."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import EngineError
from minicontainer.image.pull import pull
from minicontainer.image.reference import Reference
from minicontainer.image.store import Image, Store
from tests.image import fake_registry as fake
from tests.image import generate
from tests.image.authority import Authority
from tests.support.plugin import run_registry

pytestmark = [pytest.mark.root, pytest.mark.tools("docker-registry", "skopeo", "openssl")]

LOGIN = "tester:correct horse"
# `htpasswd -nbB tester 'correct horse'`
HTPASSWD = "tester:$2y$04$25PcnaCGX0BFq5RE.z2x8eyD/s0k13LXSlZcK8ttn2LN50JeM28Se\n"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with one small image of three layers."""
    directory = tmp_path_factory.mktemp("image")
    generate.image(directory, files=90, size=900_000)
    return directory


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def auth_file(tmp_path: Path) -> Iterator[str]:
    """As `docker login` writes it; the registry's name is filled in by `log_in`."""
    yield str(tmp_path / "auth.json")


def log_in(auth_file: str, host: str, login: str = LOGIN) -> None:
    secret = base64.b64encode(login.encode()).decode()
    Path(auth_file).write_text(json.dumps({"auths": {host: {"auth": secret}}}))


def skopeo(*arguments: object) -> str:
    done = subprocess.run(
        ["skopeo", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def push(layout: Path, host: str, name: str = "team/app:1", *options: str) -> str:
    """Copy the image in by skopeo; the digest that skopeo then reads from the registry."""
    target = f"docker://{host}/{name}"
    skopeo("copy", "-q", "--dest-tls-verify=false", *options, f"oci:{layout}:latest", target)
    options = tuple(option.replace("--dest-", "--") for option in options if "creds" in option)
    facts = json.loads(skopeo("inspect", "--tls-verify=false", *options, target))
    return str(facts["Digest"])


def get(store: Store, host: str, name: str = "team/app:1", **options: Any) -> Image:
    return pull(store, Reference.parse(f"{host}/{name}"), **options)


def compare(image: Image, layout: Path, store: Store, digest: str) -> None:
    """The same bytes, by every digest that skopeo and the layout's maker know."""
    assert image.manifest.digest == digest
    assert [each.rpartition("@")[2] for each in image.repo_digests] == [digest]
    manifest = image.manifest_json()
    for blob in (manifest["config"], *manifest["layers"]):
        original = layout / "blobs" / "sha256" / blob["digest"].removeprefix("sha256:")
        assert store.read_blob(blob["digest"], 1 << 30) == original.read_bytes()
    if image.manifest.media_type == fake.OCI_MANIFEST:
        # Of a layout, skopeo sees the entries of OCI's own types alone.
        ours = json.loads(skopeo("inspect", f"oci:{store.layout}:{image.names[0]}"))
        assert ours["Digest"] == digest
    assert len(store.stack(image)) == 3


def test_plain(layout: Path, store: Store, registry: str) -> None:
    digest = push(layout, registry)
    compare(get(store, registry), layout, store, digest)
    assert get(store, registry, f"team/app@{digest}").manifest.digest == digest


def test_unknown_names(layout: Path, store: Store, registry: str) -> None:
    push(layout, registry)
    with pytest.raises(EngineError, match=r"app:2 not found: manifest unknown"):
        get(store, registry, "team/app:2")
    with pytest.raises(EngineError, match=r"nobody:1 not found: manifest unknown"):
        get(store, registry, "nobody:1")
    with pytest.raises(EngineError, match=r"not found: manifest unknown"):
        get(store, registry, "team/app@sha256:" + "0" * 64)


def test_docker_schema_2(layout: Path, store: Store, registry: str) -> None:
    digest = push(layout, registry, "team/app:docker", "--format", "v2s2")
    compare(get(store, registry, "team/app:docker"), layout, store, digest)


def test_a_blob_that_rots_on_the_registrys_disk(layout: Path, store: Store, tmp_path: Path) -> None:
    with run_registry(tmp_path) as host:
        push(layout, host)
        blobs = sorted(
            tmp_path.glob("data/**/blobs/sha256/*/*/data"), key=lambda p: p.stat().st_size
        )
        content = bytearray(blobs[-1].read_bytes())
        content[1000] ^= 1
        blobs[-1].write_bytes(content)
        with pytest.raises(EngineError, match="has another content"):
            get(store, host)
        assert store.images() == []


def test_tls(layout: Path, store: Store, tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("registry", "IP:127.0.0.1")
    trusted = tmp_path / "certs"
    trusted.mkdir()
    shutil.copy(authority.certificate, trusted)
    with run_registry(tmp_path, f"  tls: {{certificate: {certificate}, key: {key}}}\n") as host:
        digest = push(layout, host)
        with pytest.raises(EngineError, match="signed by an unknown authority"):
            get(store, host, insecure=False)
        compare(get(store, host, cert_dir=str(trusted)), layout, store, digest)


def test_password(layout: Path, store: Store, tmp_path: Path, auth_file: str) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    extra = f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n"
    with run_registry(tmp_path, extra) as host:
        digest = push(layout, host, "team/app:1", f"--dest-creds={LOGIN}")
        log_in(auth_file, host)
        compare(get(store, host, auth_file=auth_file), layout, store, digest)
        log_in(auth_file, host, "tester:wrong")
        with pytest.raises(EngineError, match="refused the password of tester"):
            get(store, host, auth_file=auth_file)
        log_in(auth_file, "other.example")
        with pytest.raises(EngineError, match=f"access denied for {host}/team/app"):
            get(store, host, auth_file=auth_file)


class Signer(fake.TokenServer):
    """Docker's token protocol with tokens that docker-registry believes: signed JWTs (RS256)."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__()
        self.certificate = certificate
        self.key = key

    def answer(self, handler: fake.Handler) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        is_known = handler.headers.get("Authorization") == fake.basic(LOGIN)
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            # Anybody may pull what is public; who logs in may do all.
            if is_known or (name == "team/app" and actions == "pull"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": "tests", "sub": "", "aud": query["service"][0], "jti": str(len(self.tokens)),
            "nbf": now - 10, "iat": now, "exp": now + 300, "access": access,
        }  # fmt: skip
        pem = self.certificate.read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem[1:-1])]}
        signed = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed, capture_output=True, check=True,
        ).stdout  # fmt: skip
        token = (signed + b"." + encode(signature)).decode()
        self.tokens.append(token)
        body = json.dumps({"token": token, "expires_in": 300}).encode()
        handler.reply(200, body, {"Content-Type": "application/json"})


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_token(
    layout: Path, store: Store, tmp_path: Path, authority: Authority, auth_file: str
) -> None:
    """As on Docker Hub: anybody gets a token, and for some repositories it opens nothing."""
    with Signer(*authority.issue("signer", "DNS:signer", kind="rsa")) as signer:
        extra = (
            f"auth: {{token: {{realm: '{signer.url}/token', service: tests, issuer: tests, "
            f"rootcertbundle: {authority.certificate}}}}}\n"
        )
        with run_registry(tmp_path, extra) as host:
            creds = f"--dest-creds={LOGIN}"
            digest = push(layout, host, "team/app:1", creds)
            push(layout, host, "secret/app:1", creds)
            signer.requests.clear()
            log_in(auth_file, "other.example")
            compare(get(store, host, auth_file=auth_file), layout, store, digest)
            assert len(signer.requests) == 1
            with pytest.raises(EngineError, match=f"access denied for {host}/secret/app"):
                get(store, host, "secret/app:1", auth_file=auth_file)
            log_in(auth_file, host)
            assert get(store, host, "secret/app:1", auth_file=auth_file).manifest.digest == digest

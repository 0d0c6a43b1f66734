"""A registry that lies, once per field: what is refused, what is asked again, what is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.errors import EngineError
from minicontainer.image.credentials import Login
from minicontainer.image.digest import Descriptor
from minicontainer.image.patience import Cancelled, Patience, Transient, persist
from minicontainer.image.reference import Reference
from minicontainer.image.registry import NotFound, Registry
from minicontainer.image.transport import Client
from minicontainer.image.trust import Trust
from tests.image import fake_registry as fake
from tests.image.authority import Authority
from tests.image.fake_registry import FakeRegistry

BLOB = bytes(range(256)) * 12000  # 3 MB: several reads, and several times HEADWAY
FAST = Patience(connect=2, stall=0.4, attempts=3, pause=0.005)


class Asker:
    """A registry as the pull asks it, with one client."""

    def __init__(
        self,
        name: str,
        trust: Trust | None = None,
        login: Login | None = None,
        patience: Patience = FAST,
    ) -> None:
        reference = Reference.parse(name)
        self.stop = threading.Event()
        trust = trust or Trust()
        self.registry = Registry(reference, trust, login, patience, self.stop)
        host = Registry.host(reference).partition(":")[0]
        self.client = Client(trust, patience, host)

    def open(self) -> Asker:
        self.registry.open(self.client)
        return self

    def manifest(self, which: str = "1") -> bytes:
        return self.registry.manifest(self.client, which).body

    def blob(self, digest: str, size: int) -> bytes:
        received = bytearray()
        descriptor = Descriptor(fake.OCI_LAYER, digest, size)
        self.registry.copy_blob(self.client, descriptor, received.extend)
        return bytes(received)

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        server.add_blob(BLOB)
        server.add_manifest("app:1", {"schemaVersion": 2, "layers": []})
        yield server


@pytest.fixture
def asker(server: FakeRegistry) -> Iterator[Asker]:
    asker = Asker(f"{server.host}/app:1").open()
    yield asker
    asker.close()


DIGEST = fake.digest_of(BLOB)
PATH = f"/blobs/{DIGEST}"


def refused(asker: Asker, *words: str) -> EngineError:
    """The manifest is refused with one line that has these words in it."""
    with pytest.raises(EngineError) as caught:
        asker.manifest()
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


# ---------------------------------------------------------------------------------------- manifests


def test_manifest_by_tag_and_by_digest(server: FakeRegistry, asker: Asker) -> None:
    body = asker.manifest()
    assert asker.manifest(fake.digest_of(body)) == body
    assert asker.registry.digest(asker.client, "1") == fake.digest_of(body)
    accept = server.asked("/manifests/1")[0].headers["accept"]
    assert fake.OCI_INDEX in accept
    assert fake.DOCKER_MANIFEST in accept


def test_one_connection_serves_many_requests(server: FakeRegistry, asker: Asker) -> None:
    before = server.connections
    for _ in range(3):
        asker.manifest()
        asker.registry.digest(asker.client, "1")
        assert asker.blob(DIGEST, len(BLOB)) == BLOB
    assert server.connections == before


def test_a_kept_connection_that_the_server_has_closed_is_replaced(
    server: FakeRegistry, asker: Asker
) -> None:
    server.lie("GET", "/manifests/", lambda handler: handler.hang_up(), times=1)
    asker.manifest()
    # Not a retry: the request before it was answered, so this one never reached anybody.
    assert len(server.asked("/manifests/")) == 2


def test_unknown_tag(asker: Asker) -> None:
    with pytest.raises(NotFound) as caught:
        asker.manifest("2")
    assert caught.value.message.endswith("app:1 not found: manifest unknown")


def test_unknown_is_asked_once(server: FakeRegistry, asker: Asker) -> None:
    with pytest.raises(NotFound):
        asker.manifest("2")
    assert len(server.asked("/manifests/2")) == 1


@pytest.mark.parametrize("code", [401, 403, 404])
def test_final_refusals_are_not_asked_again(server: FakeRegistry, asker: Asker, code: int) -> None:
    server.lie("GET", "/manifests/", fake.status(code))
    with pytest.raises(EngineError):
        asker.manifest()
    assert len(server.asked("/manifests/")) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_passing_failures_are_asked_again(server: FakeRegistry, asker: Asker, code: int) -> None:
    server.lie("GET", "/manifests/", fake.status(code), times=2)
    asker.manifest()
    assert len(server.asked("/manifests/")) == 3


def test_patience_ends(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.status(503))
    refused(asker, "503", "tried 3 times")


def test_retry_after_is_honoured(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.status(429, retry_after="1"), times=1)
    begin = time.monotonic()
    asker.manifest()
    assert time.monotonic() - begin >= 1


def test_retry_after_a_day_is_not_waited_for(server: FakeRegistry, asker: Asker) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}'
    server.lie("GET", "/manifests/", fake.status(429, body, retry_after="86400"))
    error = refused(asker, "429", "pull rate limit")
    assert error.hint
    assert len(server.asked("/manifests/")) == 1


@pytest.mark.parametrize("date", ["Wed, 21 Oct 2099 07:28:00 GMT", "soon", "-1", "9" * 5000])
def test_retry_after_in_other_forms_ends(server: FakeRegistry, asker: Asker, date: str) -> None:
    server.lie("GET", "/manifests/", fake.status(429, retry_after=date))
    refused(asker, "429")


def test_html_instead_of_a_manifest(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.html)
    refused(asker, "does not answer like a registry", "text/html")


def test_manifest_of_another_digest_than_the_header_says(
    server: FakeRegistry, asker: Asker
) -> None:
    lie = fake.content(b"{}", docker_content_digest=DIGEST)
    server.lie("GET", "/manifests/", lie)
    refused(asker, "is not what it says", DIGEST, fake.digest_of(b"{}"))


def test_manifest_of_another_digest_than_asked_for(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.content(b'{"schemaVersion": 2}'))
    with pytest.raises(EngineError, match="is not the one asked for"):
        asker.manifest(DIGEST)


def test_a_digest_header_that_is_no_digest(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.content(b"{}", docker_content_digest="../../etc"))
    refused(asker, "Docker-Content-Digest")


def test_a_large_manifest_is_refused_by_its_length(server: FakeRegistry, asker: Asker) -> None:
    """100 MB are announced and never sent: who waits for them stalls."""

    def lie(handler: fake.Handler) -> None:
        handler.reply(200, b"{", {"Content-Length": str(100 << 20)})
        handler.server.owner.released.wait()

    server.lie("GET", "/manifests/", lie)
    refused(asker, "larger than the 4096 KiB")


def test_a_large_manifest_without_a_length_is_read_up_to_the_limit(
    server: FakeRegistry, asker: Asker
) -> None:
    sent = 0

    def lie(handler: fake.Handler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" " * (1 << 20))
            sent += 1

    server.lie("GET", "/manifests/", lie)
    refused(asker, "larger than the 4096 KiB")
    assert sent < 20


def test_an_error_cannot_write_to_the_terminal(server: FakeRegistry, asker: Asker) -> None:
    message = b'{"errors":[{"code":"X","message":"\\u001b[2J\\u202egone\\nin two lines"}]}'
    server.lie("GET", "/manifests/", fake.status(400, message))
    error = refused(asker, "answers 400")
    assert error.message.isprintable()


def test_a_large_error_is_not_read(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.status(400, b"x" * (1 << 20)))
    refused(asker, "answers 400", "status 400")


# -------------------------------------------------------------------------------------------- time


def test_a_registry_that_stalls(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.stall)
    refused(asker, "stalls", "tried 3 times")


def test_a_registry_that_drips_is_one_that_stalls(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.drip)
    refused(asker, "stalls")


def test_a_head_without_end(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.endless_head)
    refused(asker, "does not answer in HTTP", "a head without end")


@pytest.mark.parametrize(
    "line", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 100, b"HTTP/1.1 twohundred OK\r\n\r\n"]
)
def test_something_that_does_not_speak_http(
    server: FakeRegistry, asker: Asker, line: bytes
) -> None:
    def lie(handler: fake.Handler) -> None:
        handler.wfile.write(line)
        handler.hang_up()

    server.lie("GET", "/manifests/", lie)
    refused(asker, server.host)


def test_nobody_there_is_said_at_once() -> None:
    with FakeRegistry() as server:
        pass
    with pytest.raises(EngineError) as caught:
        Asker(f"{server.host}/app:1", patience=Patience(pause=60)).open()
    assert caught.value.message == f"cannot reach {server.host}: connection refused"


def test_no_such_host() -> None:
    with pytest.raises(EngineError, match=r"cannot reach registry\.invalid: "):
        Asker("registry.invalid/app:1").open()


def test_a_cancelled_pull_does_not_wait(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.status(429, retry_after="50"))
    threading.Timer(0.1, asker.stop.set).start()
    with pytest.raises(Cancelled):
        asker.manifest()


def test_a_cancelled_pull_reads_no_further(server: FakeRegistry, asker: Asker) -> None:
    asker.stop.set()
    with pytest.raises(Cancelled):
        asker.blob(DIGEST, len(BLOB))


def test_abort_ends_a_read_in_another_thread(server: FakeRegistry) -> None:
    asker = Asker(f"{server.host}/app:1", patience=Patience(stall=60)).open()
    server.lie("GET", "/blobs/", fake.stalled_after(100_000))

    def abort() -> None:
        fake.wait_until(lambda: bool(server.asked("/blobs/")))
        asker.stop.set()
        asker.client.abort()

    threading.Thread(target=abort).start()
    with pytest.raises((Cancelled, Transient)):
        asker.blob(DIGEST, len(BLOB))
    asker.close()


# ------------------------------------------------------------------------------------------- blobs


def test_a_blob_is_resumed_where_it_broke_off(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.broken_off(1_000_000), times=1)
    assert asker.blob(DIGEST, len(BLOB)) == BLOB
    first, second = server.asked(PATH)
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 1_000_000


def test_a_blob_begins_again_where_it_cannot_be_resumed(server: FakeRegistry, asker: Asker) -> None:
    server.has_ranges = False
    server.lie("GET", PATH, fake.broken_off(1_000_000), times=2)
    assert asker.blob(DIGEST, len(BLOB)) == BLOB
    assert len(server.asked(PATH)) == 3


def test_headway_renews_the_patience(server: FakeRegistry, asker: Asker) -> None:
    """Ten breaks with three attempts: each attempt brings more than the last."""
    server.lie("GET", PATH, fake.broken_off(600_000), times=5)
    assert asker.blob(DIGEST, len(BLOB)) == BLOB
    assert len(server.asked(PATH)) > FAST.attempts


def test_a_blob_that_breaks_off_at_once_every_time(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.broken_off(10))
    with pytest.raises(EngineError, match=r"closed the connection|broke off"):
        asker.blob(DIGEST, len(BLOB))
    assert len(server.asked(PATH)) == FAST.attempts


def test_a_blob_that_stalls_is_resumed(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.stalled_after(2_000_000), times=1)
    assert asker.blob(DIGEST, len(BLOB)) == BLOB
    assert "range" in server.asked(PATH)[1].headers


def test_resumed_at_another_place(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.broken_off(1_000_000), times=1)
    lie = fake.status(206, BLOB[5:], content_range=f"bytes 5-{len(BLOB) - 1}/{len(BLOB)}")
    server.lie("GET", PATH, lie)
    with pytest.raises(EngineError, match="at another place"):
        asker.blob(DIGEST, len(BLOB))


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_blob_of_another_size_is_refused_unread(
    server: FakeRegistry, asker: Asker, difference: int
) -> None:
    with pytest.raises(EngineError, match=f"offers {len(BLOB)} bytes for blob"):
        asker.blob(DIGEST, len(BLOB) + difference)
    assert len(server.asked(PATH)) == 1


def test_unknown_blob(asker: Asker) -> None:
    with pytest.raises(NotFound, match="not found: blob unknown"):
        asker.blob(fake.digest_of(b"?"), 1)


def test_an_empty_blob(server: FakeRegistry, asker: Asker) -> None:
    assert asker.blob(server.add_blob(b""), 0) == b""


# --------------------------------------------------------------------------------------- redirects


def test_a_redirect_to_another_host_carries_no_secret(server: FakeRegistry, asker: Asker) -> None:
    server.challenge = "Basic realm=x"
    server.accepted = lambda header: header == fake.basic("me:secret")
    with FakeRegistry() as storage:
        storage.add_blob(BLOB)
        server.lie("GET", PATH, fake.redirect(storage.url + "{path}?signature=hidden"))
        asker = Asker(f"{server.host}/app:1", login=Login("me", "secret")).open()
        storage.blobs[f"{DIGEST}?signature=hidden"] = BLOB
        assert asker.blob(DIGEST, len(BLOB)) == BLOB
        (request,) = storage.asked("/blobs/")
        asker.close()
    assert "authorization" not in request.headers
    assert server.asked(PATH)[-1].headers["authorization"] == fake.basic("me:secret")


def test_a_redirect_back_home_carries_the_secret(server: FakeRegistry) -> None:
    server.challenge = "Basic realm=x"
    server.accepted = lambda header: header == fake.basic("me:secret")
    server.lie("GET", "/manifests/1", fake.redirect("/v2/app/manifests/here"))
    server.manifests["app/manifests/here"] = server.manifests["app/manifests/1"]
    asker = Asker(f"{server.host}/app:1", login=Login("me", "secret")).open()
    asker.manifest()
    asker.close()
    assert "authorization" in server.asked("/here")[0].headers


def test_redirects_without_end(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", "/manifests/", fake.redirect("/v2/app/manifests/1"))
    refused(asker, "circles of redirects")
    assert len(server.asked("/manifests/")) < 12


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "gopher:x"]
)
def test_redirects_to_what_is_no_web_address(server: FakeRegistry, asker: Asker, url: str) -> None:
    server.lie("GET", "/manifests/", fake.redirect(url))
    refused(asker, "not an address that we can ask")


def test_a_dead_redirect_is_explained_without_its_query(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.redirect(f"{server.url}/nowhere?X-Amz-Signature=hidden"))
    with pytest.raises(EngineError) as caught:
        asker.blob(DIGEST, len(BLOB))
    assert "hidden" not in caught.value.message


def test_a_redirect_that_forgot_to_quote(server: FakeRegistry, asker: Asker) -> None:
    server.lie("GET", PATH, fake.redirect("/v2/a b/\u00e9/blobs/x?y={path}"), times=1)
    server.lie("GET", "/v2/a%20b/%E9/blobs/", fake.content(BLOB))
    assert asker.blob(DIGEST, len(BLOB)) == BLOB


def test_a_busy_registry_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    """TLS that answers 503 is TLS: loopback's second try must not be plain HTTP."""
    with FakeRegistry(Authority(tmp_path).server()) as server:
        server.add_manifest("app:1", {"schemaVersion": 2, "layers": []})
        server.lie("GET", "/v2/", fake.status(503), times=1)
        asker = Asker(f"{server.host}/app:1").open()
        asker.manifest()
        asker.close()


def test_a_blob_in_chunks(server: FakeRegistry, asker: Asker) -> None:
    def lie(handler: fake.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(BLOB), 100_000):
            part = BLOB[start : start + 100_000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    server.lie("GET", PATH, lie)
    for _ in range(2):
        assert asker.blob(DIGEST, len(BLOB)) == BLOB


def test_a_server_that_closes_after_each_answer(server: FakeRegistry, asker: Asker) -> None:
    def lie(handler: fake.Handler) -> None:
        handler.protocol_version = "HTTP/1.0"
        handler.close_connection = True
        server.answer(handler)

    server.lie("GET", "/", lie)
    for _ in range(2):
        assert asker.blob(DIGEST, len(BLOB)) == BLOB
        asker.manifest()


# -------------------------------------------------------------------------------------- persistence


def test_pauses_grow_and_are_never_equal_for_all() -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return False

    def fail() -> None:
        raise Transient("again")

    with pytest.raises(Transient) as caught:
        persist(fail, Patience(pause=1), Stop())
    assert caught.value.message == "again (tried 5 times)"
    for number, pause in enumerate(pauses):
        assert 0.5 * 2**number <= pause <= 2**number
    assert len(pauses) == 4

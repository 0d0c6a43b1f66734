"""A registry, its token server and a proxy, in this process, that lie on demand.

    with FakeRegistry() as registry:
        reference = registry.add_image("app:1", [layer])
        registry.lie("GET", "/blobs/", broken_off(1000), times=1)

A lie is a function that is given the request's handler and answers in its own way, or returns
False to let the honest answer follow. Everything that was asked is in `registry.requests`.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import socket
import ssl
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

Lie = Callable[["Handler"], object]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed archive with these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


class Request:
    """One request as it came: what it asked, and what it told about us."""

    def __init__(self, handler: Handler) -> None:
        self.method = handler.command
        self.path = handler.path
        self.headers = {key.lower(): value for key, value in handler.headers.items()}

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.owner.connections += 1
        self.server.owner.live.add(self.connection)

    def finish(self) -> None:
        self.server.owner.live.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def do_GET(self) -> None:
        owner = self.server.owner
        owner.requests.append(Request(self))
        for lie in list(owner.lies):
            if lie.matches(self) and lie.tell(self) is not False:
                return
        owner.answer(self)

    do_HEAD = do_POST = do_CONNECT = do_GET

    def reply(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer; Content-Length is the body's unless `headers` says otherwise."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        """Close the connection now, in the middle of whatever."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    owner: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Told:
    def __init__(self, method: str, part: str, lie: Lie, times: int) -> None:
        self.method, self.part, self.lie, self.times = method, part, lie, times
        self.lock = threading.Lock()

    def matches(self, handler: Handler) -> bool:
        return self.method == handler.command and self.part in handler.path

    def tell(self, handler: Handler) -> object:
        with self.lock:
            if self.times == 0:
                return False
            self.times -= 1
        return self.lie(handler)


class FakeServer:
    """An HTTP server on a free port of loopback, in threads of this process."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.live: set[socket.socket] = set()
        self.lies: list[_Told] = []
        self.released = threading.Event()
        self.tls = tls
        self._server = Server((address, 0), Handler, bind_and_activate=False)
        self._server.owner = self
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.server_bind()
        self._server.server_activate()
        self.port: int = self._server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    def __enter__(self) -> Any:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        for connection in list(self.live):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def lie(self, method: str, part: str, lie: Lie, times: int = -1) -> None:
        """Answer requests whose path contains `part` like that; the first `times` of them."""
        self.lies.append(_Told(method, part, lie, times))

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        """The requests so far whose path contains `part`."""
        return [r for r in list(self.requests) if r.method == method and part in r.path]

    def answer(self, handler: Handler) -> None:
        handler.reply(404)


class FakeRegistry(FakeServer):
    """An honest registry with blobs and manifests in memory.

    challenge: the WWW-Authenticate header for requests without `authorization`.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        super().__init__(tls, address)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.challenge: str | None = None
        self.accepted: Callable[[str], bool] = lambda header: False
        self.has_ranges = True

    def add_blob(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(self, name: str, value: Any, media_type: str = OCI_MANIFEST) -> str:
        """Serve a manifest under `repository:tag` and its digest; the digest."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        repository, _, tag = name.partition(":")
        digest = digest_of(body)
        for which in filter(None, (tag, digest)):
            self.manifests[f"{repository}/manifests/{which}"] = (media_type, body)
        return digest

    def describe(self, media_type: str, digest: str, **more: Any) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest, "size": len(self.blobs[digest]), **more}

    def make_manifest(
        self, layers: list[bytes], architecture: str = "", **fields: Any
    ) -> dict[str, Any]:
        """The manifest of an image with these uncompressed layers; its blobs are served."""
        import os

        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        config = {
            "os": "linux",
            "architecture": architecture or machine,
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
        blobs = [self.add_blob(gzip.compress(layer, 1, mtime=0)) for layer in layers]
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.describe(OCI_CONFIG, self.add_blob(json.dumps(config).encode())),
            "layers": [self.describe(OCI_LAYER, blob) for blob in blobs],
            **fields,
        }

    def add_image(self, name: str, layers: list[bytes], **options: Any) -> str:
        """Serve a whole image; the digest of its manifest."""
        return self.add_manifest(name, self.make_manifest(layers, **options))

    def answer(self, handler: Handler) -> None:
        header = handler.headers.get("Authorization", "")
        if self.challenge and not self.accepted(header):
            handler.reply(
                401,
                b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
                {"WWW-Authenticate": self.challenge},
            )
            return
        path = handler.path.removeprefix("/v2/")
        if path == "":
            handler.reply(200, b"{}", {"Content-Type": "application/json"})
        elif path in self.manifests:
            media_type, body = self.manifests[path]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(body)}
            handler.reply(200, body, headers)
        elif "/blobs/" in path and path.rpartition("/")[2] in self.blobs:
            self._answer_blob(handler, self.blobs[path.rpartition("/")[2]])
        elif "/manifests/" in path:
            code = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
            handler.reply(404, code, {"Content-Type": "application/json"})
        else:
            handler.reply(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')

    def _answer_blob(self, handler: Handler, blob: bytes) -> None:
        wanted = handler.headers.get("Range")
        headers = {"Content-Type": "application/octet-stream"}
        if wanted and self.has_ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(blob) - 1}/{len(blob)}"
            handler.reply(206, blob[start:], headers)
        else:
            handler.reply(200, blob, headers)


class TokenServer(FakeServer):
    """Docker's token protocol: hands out tokens that FakeRegistry.accepted can be told to take."""

    def __init__(self, tls: ssl.SSLContext | None = None, field: str = "token") -> None:
        super().__init__(tls)
        self.field = field
        self.login: str | None = None
        self.tokens: list[str] = []
        self.lifetime = 300

    def answer(self, handler: Handler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        form = urllib.parse.parse_qs(handler.rfile.read(length).decode())
        is_known = form.get("refresh_token") == [self.login] or (
            self.login and handler.headers.get("Authorization") == basic(self.login)
        )
        if self.login and not is_known:
            handler.reply(401, b'{"details":"incorrect username or password"}')
            return
        token = f"token-{len(self.tokens)}"
        self.tokens.append(token)
        body = {self.field: token, "expires_in": self.lifetime}
        handler.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def protect(self, registry: FakeRegistry, more: str = "") -> None:
        """Have a registry send its clients here, and take the newest token only."""
        registry.challenge = f'Bearer realm="{self.url}/token",service="fake registry"{more}'
        registry.accepted = lambda header: (
            header == f"Bearer {self.tokens[-1:] and self.tokens[-1]}"
        )


class Proxy(FakeServer):
    """An HTTP proxy: forwards plain requests, and tunnels after CONNECT."""

    def __init__(self, login: str | None = None) -> None:
        super().__init__()
        self.login = login

    def answer(self, handler: Handler) -> None:
        if self.login and handler.headers.get("Proxy-Authorization") != basic(self.login):
            handler.reply(407)
        elif handler.command == "CONNECT":
            self._tunnel(handler)
        else:
            self._forward(handler)

    def _forward(self, handler: Handler) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        assert parts.hostname and parts.port
        head = f"{handler.command} {parts.path} HTTP/1.1\r\n"
        for key, value in handler.headers.items():
            if key.lower() not in ("connection", "proxy-authorization"):
                head += f"{key}: {value}\r\n"
        with socket.create_connection((self.target(parts.hostname), parts.port)) as upstream:
            upstream.sendall(f"{head}Connection: close\r\n\r\n".encode())
            while data := upstream.recv(65536):
                handler.wfile.write(data)
        handler.hang_up()

    def _tunnel(self, handler: Handler) -> None:
        host, _, port = handler.path.rpartition(":")
        with socket.create_connection((self.target(host), int(port))) as upstream:
            handler.send_response(200)
            handler.end_headers()

            def pump(source: socket.socket, sink: socket.socket) -> None:
                try:
                    while data := source.recv(65536):
                        sink.sendall(data)
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            back = threading.Thread(target=pump, args=(upstream, handler.connection))
            back.start()
            pump(handler.connection, upstream)
            back.join()
        handler.close_connection = True

    def target(self, host: str) -> str:
        """Every name leads to loopback: tests talk to nobody else."""
        return "127.0.0.1"


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


# --------------------------------------------------------------------------------------------- lies


def status(code: int, body: bytes = b"", **headers: str) -> Lie:
    """A bare status; retry_after="1" is the header Retry-After."""
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler: handler.reply(code, body, fields)


def redirect(url: str, code: int = 307) -> Lie:
    """Send the client to a URL; {path} in it is the path that was asked for."""
    return lambda handler: handler.reply(
        code, headers={"Location": url.replace("{path}", handler.path)}
    )


def html(handler: Handler) -> None:
    """What a captive portal says."""
    handler.reply(200, b"<!DOCTYPE html><title>Log in</title>", {"Content-Type": "text/html"})


def stall(handler: Handler) -> None:
    """No answer at all, until the server is told to end."""
    handler.server.owner.released.wait()
    handler.hang_up()


def drip(handler: Handler) -> None:
    """An answer that comes a byte at a time and never to an end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.owner.released.wait(0.05):
        handler.wfile.write(b"{")
    handler.hang_up()


def endless_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(64):
        handler.wfile.write(b"X: " + b"x" * 60000 + b"\r\n")
    handler.hang_up()


def broken_off(count: int) -> Lie:
    """The honest head, but the connection ends after `count` bytes of the honest body."""

    def lie(handler: Handler) -> None:
        honest = handler.wfile

        class Cut:
            left = count
            in_body = False

            def write(self, data: bytes) -> int:
                if not self.in_body:
                    self.in_body = data.endswith(b"\r\n\r\n")
                    return honest.write(data)
                honest.write(data[: self.left])
                return len(data)

            def flush(self) -> None:
                honest.flush()

        handler.wfile = Cut()  # type: ignore[assignment]
        try:
            handler.server.owner.answer(handler)
        finally:
            handler.wfile = honest
        handler.hang_up()

    return lie


def stalled_after(count: int) -> Lie:
    """The same, but instead of ending, the connection falls silent."""
    cut = broken_off(count)

    def lie(handler: Handler) -> None:
        hang_up = handler.hang_up
        handler.hang_up = lambda: (handler.server.owner.released.wait(), hang_up())  # type: ignore
        cut(handler)

    return lie


def content(body: bytes, **headers: str) -> Lie:
    """Another body than the honest one, with these headers (content_type=…)."""
    return status(200, body, **headers)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for another thread's doing; AssertionError when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)  # allowed: the other side has no event to wait for

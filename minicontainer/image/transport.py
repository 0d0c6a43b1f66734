"""One HTTP exchange with a host that may be slow, broken or hostile.

The standard library's client does the protocol. This module adds what it leaves open: a bound on
time (a peer that only drips is a peer that stalls) and on size, TLS and proxies by docker's
rules, connections that are kept, and an error that is a sentence. It follows no redirect, knows
no password and tries nothing twice: that is registry.py.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import ssl
import threading
import time
import urllib.parse

from ..errors import EngineError
from . import proxies, trust
from .origin import Origin, printable
from .patience import Transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .patience import Patience
    from .proxies import Proxy
    from .trust import Trust

# A living connection delivers at least one page in `stall` seconds.
PAGE = 4096
# What a peer may say before the body begins.
HEAD_LIMIT = 256 << 10


class _Receiver(io.RawIOBase):
    """The receiving side of a socket, with a purse of seconds: each page that arrives refills it.

    A timeout per recv(2) alone would let a peer hold us for ever with a byte now and then.
    """

    def __init__(self, owner: _Socket, sock: socket.socket, stall: float) -> None:
        self._owner = owner
        self._socket = sock
        self._stall = stall
        self._purse = stall
        self._page = 0
        self.allowance = HEAD_LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.allowance <= 0:
            raise http.client.HTTPException("a head without end")
        self._socket.settimeout(max(self._purse, 0.001))
        begin = time.monotonic()
        count = self._socket.recv_into(buffer)
        self._purse -= time.monotonic() - begin
        self.allowance -= count
        self._page += count
        if self._page >= PAGE:
            self._purse, self._page = self._stall, 0
        return count

    def close(self) -> None:
        super().close()
        if self._owner.is_ended:
            self._socket.close()


class _Socket:
    """What http.client needs of a socket, with our receiver."""

    def __init__(self, sock: socket.socket, stall: float) -> None:
        self._socket = sock
        self._stall = stall
        self.is_ended = False
        self.receiver = _Receiver(self, sock, stall)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A reader for one answer; a new answer has a full purse and a bounded head."""
        self.receiver = _Receiver(self, self._socket, self._stall)
        return io.BufferedReader(self.receiver)

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self._stall)
        self._socket.sendall(data)

    def close(self) -> None:
        """End the connection; one that the peer will close lives on until its answer is read."""
        self.is_ended = True
        if self.receiver.closed:
            self._socket.close()


class Client:
    """HTTP for one thread, keeping one connection per origin; any thread may call `abort`."""

    def __init__(self, trusted: Trust, patience: Patience, registry: str) -> None:
        self._trust = trusted
        self._patience = patience
        self._registry = registry
        self._kept: dict[Origin, http.client.HTTPConnection] = {}
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._aborted = False

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """Send one request and read the head of its answer, whatever its status.

        Raises Transient (refused, reset, stalled), EngineError (no trust, no HTTP).
        """
        origin = Origin.of(url)
        proxy = proxies.find(origin.scheme, origin.host, origin.port, os.environ)
        kept = self._kept.pop(origin, None)
        if kept:
            # The peer may have closed a kept connection just now; that is not a failure.
            with _explained(origin), contextlib.suppress(ConnectionError):
                return self._exchange(kept, origin, proxy, method, url, headers, body)
        with _explained(origin, proxy):
            connection = self._open(origin, proxy)
            return self._exchange(connection, origin, proxy, method, url, headers, body)

    def _open(self, origin: Origin, proxy: Proxy | None) -> http.client.HTTPConnection:
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        connection: http.client.HTTPConnection
        if origin.scheme == "http":
            connection = http.client.HTTPConnection(host, port, self._patience.connect)
        else:
            is_registry = origin.host == self._registry
            context = self._trust.context(origin.host, origin.port, is_registry=is_registry)
            connection = http.client.HTTPSConnection(
                host, port, timeout=self._patience.connect, context=context
            )
            if proxy:
                connection.set_tunnel(origin.host, origin.port, proxy.headers())
        connection.connect()
        sock = connection.sock
        with self._lock:
            self._live = {live for live in self._live if live.fileno() >= 0} | {sock}
            if self._aborted:
                sock.close()
        connection.sock = _Socket(sock, self._patience.stall)
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        origin: Origin,
        proxy: Proxy | None,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Response:
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        headers = {"User-Agent": "minicontainer", **headers}
        if proxy and origin.scheme == "http":
            target = f"http://{origin}{target}"
            headers.update(proxy.headers())
        paced = connection.sock
        assert isinstance(paced, _Socket)
        try:
            connection.request(method, target, body, headers)
            raw = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        # The head was bounded; the body's bound is its reader's affair.
        paced.receiver.allowance = 1 << 62
        return Response(self, connection, raw, origin, url)

    def keep(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        if connection.sock is not None:
            self._kept[origin] = connection

    def close(self) -> None:
        """Let every kept connection go."""
        while self._kept:
            self._kept.popitem()[1].close()

    def abort(self) -> None:
        """End what is under way in this client's thread, and all that it would still begin."""
        with self._lock:
            self._aborted = True
            for sock in self._live:
                with contextlib.suppress(OSError):
                    # Not SSLSocket's: that also throws away the state the other thread reads by.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Response:
    """The head of an answer, and its body as long as the connection lives."""

    def __init__(
        self,
        client: Client,
        connection: http.client.HTTPConnection,
        raw: http.client.HTTPResponse,
        origin: Origin,
        url: str,
    ) -> None:
        self._client = client
        self._connection = connection
        self._raw = raw
        self.origin = origin
        self.url = url
        self.status = raw.status
        self.headers = raw.headers

    def length(self) -> int | None:
        """The body's announced length in bytes, when the host announces one."""
        return self._raw.length

    def media_type(self) -> str:
        """Content-Type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes; 0 is its end, announced or not."""
        with _explained(self.origin):
            return self._raw.readinto(buffer)

    def read(self, limit: int, what: str) -> bytes:
        """The whole body; EngineError when it is longer than `limit` bytes, without reading it.

        what: names the body in that error.
        """
        announced = self._raw.length
        if announced is not None and announced > limit:
            body = b""
        else:
            with _explained(self.origin):
                body = self._raw.read(limit + 1)
            announced = max(len(body), announced or 0)
        if announced > limit:
            raise EngineError(
                f"{what} from {self.origin} is larger than the {limit >> 10} KiB that we accept"
            )
        if len(body) < announced:
            raise Transient(f"{self.origin} broke off in the middle of {what}")
        return body

    def drain(self, limit: int) -> None:
        """Read a body that does not matter, when it is short, so that the connection is kept."""
        if self._raw.length is not None and self._raw.length <= limit:
            with _explained(self.origin):
                self._raw.read()

    def close(self) -> None:
        """Be done with the answer; the connection is kept when nothing is left on it."""
        if self._raw.isclosed():
            self._client.keep(self.origin, self._connection)
        else:
            self._raw.close()
            self._connection.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _explained(origin: Origin, proxy: Proxy | None = None) -> Iterator[None]:
    """Turn what the socket, TLS and HTTP layers raise into sentences about a host."""
    way = f"{origin} through the proxy {proxy.host}:{proxy.port}" if proxy else str(origin)
    try:
        yield
    except ssl.SSLEOFError:
        raise Transient(f"{origin} closed the connection")
    except ssl.SSLError as error:
        raise trust.explain(error, str(origin))
    except ConnectionRefusedError:
        raise Transient(f"cannot reach {way}: connection refused", refused=True)
    except socket.gaierror as error:
        reason = "no such host" if error.errno == socket.EAI_NONAME else error.strerror
        raise Transient(f"cannot reach {way}: {reason}", refused=True)
    except TimeoutError:
        raise Transient(f"{origin} stalls: no answer in the time allowed")
    except (ConnectionError, http.client.IncompleteRead):
        raise Transient(f"{origin} closed the connection")
    except (http.client.HTTPException, UnicodeError) as error:
        text = printable(str(error) or type(error).__name__, 80)
        raise EngineError(f"{origin} does not answer in HTTP: {text}")
    except OSError as error:
        # A proxy that refuses the tunnel has no class of its own: "Tunnel connection failed: 407".
        raise Transient(f"cannot reach {way}: {error.strerror or error}", refused=True)

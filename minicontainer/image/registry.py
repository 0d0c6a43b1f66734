"""Reading from a registry: manifests by name, blobs by digest (OCI distribution spec, "Pull").

A registry is asked through three rings. `_ask` is one question with its detours: a 401 climbs one
step of the ladder in auth.py, a redirect is followed without our secrets. `persist` asks again
what failed for the moment. And the callers believe no answer: a manifest is held to its digest,
a blob to its size here and to its digest by the store's writer.
"""

from __future__ import annotations

import email.utils
import time
import urllib.parse

from .. import jsonio
from ..errors import EngineError
from .auth import Authorizer, check_destination
from .digest import check_digest, digest_of
from .manifest import INDEXES, LIMIT, MANIFESTS
from .origin import Origin, printable, redact
from .patience import Cancelled, Transient, persist
from .trust import NotTLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from .credentials import Login
    from .digest import Descriptor
    from .patience import Patience
    from .reference import Reference
    from .transport import Client, Response
    from .trust import Trust

ERROR_LIMIT = 64 << 10
MAX_REDIRECTS = 6
# One read of a blob. Smaller costs system calls, larger makes the progress bar jump.
CHUNK = 256 << 10
_REDIRECTS = (301, 302, 303, 307, 308)


class NotFound(EngineError):
    """The registry is well, and does not have what we asked for."""


class _Busy(Transient):
    """The registry is there, and has no time for us."""


class Manifest:
    """A manifest or index as the registry served it: bytes, media type, and their digest."""

    __slots__ = ("body", "media_type", "digest")

    def __init__(self, body: bytes, media_type: str, digest: str) -> None:
        self.body = body
        self.media_type = media_type
        self.digest = digest


class Registry:
    """One repository on one registry, asked by several threads, each with its own Client.

    stop: set when the pull is given up; every wait ends then. Call `open` before the rest.
    """

    def __init__(
        self,
        reference: Reference,
        trusted: Trust,
        login: Login | None,
        patience: Patience,
        stop: threading.Event,
    ) -> None:
        self.reference = reference
        self._trust = trusted
        self._login = login
        self._patience = patience
        self._stop = stop
        self._authorizer: Authorizer

    @staticmethod
    def host(reference: Reference) -> str:
        """HOST[:PORT] to ask: docker.io is a name for people, its registry has another."""
        name = reference.registry
        return "registry-1.docker.io" if name == "docker.io" else name

    def open(self, client: Client) -> None:
        """Find out whether the registry is there, speaks TLS, and wants to know who we are.

        Where nobody listens at all, that is said at once: a wrong name or port does not mend.
        """
        host = self.host(self.reference)
        secure, plain = Origin.of(f"https://{host}"), Origin.of(f"http://{host}")
        origin = secure
        if self._trust.is_insecure(secure.host, secure.port):
            try:
                return self._greet(client, secure)
            except _Busy:
                pass
            except (NotTLS, Transient):
                origin = plain
        return persist(lambda: self._greet(client, origin), self._patience, self._stop, new=True)

    def _greet(self, client: Client, origin: Origin) -> None:
        self._authorizer = Authorizer(origin, self.reference, self._login)
        with client.request("GET", f"{self._base()}/v2/", {}) as answer:
            if answer.status == 401:
                answer.drain(ERROR_LIMIT)
                self._authorizer.climb(client, answer, None)
            elif answer.status == 429 or answer.status >= 500:
                raise _busy(answer, "answers our greeting with")
            else:
                answer.drain(ERROR_LIMIT)

    def manifest(self, client: Client, which: str) -> Manifest:
        """The manifest or index by a tag or a digest, held to its digest.

        Raises EngineError: unknown, refused, more than 4 MiB, no manifest, another digest.
        """
        path = f"/manifests/{urllib.parse.quote(which, safe=':')}"
        accept = ", ".join(MANIFESTS + INDEXES)

        def fetch() -> Manifest:
            with self._ask(client, "GET", path, {"Accept": accept}) as answer:
                if answer.status != 200:
                    raise self._refusal(answer, f"manifest for {self.reference.familiar()}")
                body = answer.read(LIMIT, "the manifest")
                media_type = answer.media_type()
                served = answer.headers.get("Docker-Content-Digest")
            if media_type == "text/html" or not body.lstrip().startswith(b"{"):
                raise EngineError(
                    f"{answer.origin} does not answer like a registry: "
                    f"{printable(media_type or 'something', 60)} instead of a manifest",
                    hint="is it the right host, and not a login page or a proxy's?",
                )
            digest = digest_of(body)
            if served and check_digest(served.strip(), "Docker-Content-Digest") != digest:
                raise EngineError(
                    f"the manifest from {answer.origin} is not what it says: its digest is "
                    f"{digest}, but it came as {served.strip()}"
                )
            if ":" in which and which != digest:
                raise EngineError(
                    f"the manifest from {answer.origin} is not the one asked for: its digest is "
                    f"{digest} instead of {which}"
                )
            return Manifest(body, media_type, digest)

        return persist(fetch, self._patience, self._stop)

    def digest(self, client: Client, which: str) -> str | None:
        """The digest that a name has now, by a HEAD that costs no quota; None if it won't tell."""
        accept = {"Accept": ", ".join(MANIFESTS + INDEXES)}
        with self._ask(client, "HEAD", f"/manifests/{which}", accept) as answer:
            answer.drain(ERROR_LIMIT)
            return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None

    def copy_blob(
        self,
        client: Client,
        blob: Descriptor,
        write: Callable[[memoryview], object],
        report: Callable[[int], None] = lambda received: None,
    ) -> None:
        """Send a blob's bytes to `write`; go on where it broke off. `write` checks the content.

        report: called with the number of bytes so far. Raises EngineError: unknown, refused, of
        another size, broken off too often; and what `write` raises.
        """
        received = 0
        buffer = memoryview(bytearray(min(CHUNK, blob.size + 1)))

        def fetch() -> None:
            nonlocal received
            headers = {"Range": f"bytes={received}-"} if received else {}
            with self._ask(client, "GET", f"/blobs/{blob.digest}", headers) as answer:
                skip = received - self._start_of(answer, blob, received)
                while count := answer.readinto(buffer):
                    if self._stop.is_set():
                        raise Cancelled
                    # A host that cannot resume sends again what we have.
                    write(buffer[min(skip, count) : count])
                    received += count - min(skip, count)
                    skip -= min(skip, count)
                    report(received)
                if received < blob.size:
                    raise Transient(
                        f"{answer.origin} broke off: {received} of {blob.size} bytes of "
                        f"{blob.digest[:19]}"
                    )

        persist(fetch, self._patience, self._stop, lambda: received)

    def _start_of(self, answer: Response, blob: Descriptor, wanted: int) -> int:
        """Where in the blob an answer begins; EngineError unless its size is the blob's."""
        if answer.status == 206 and wanted:
            unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
            if unit != "bytes" or rest.partition("-")[0] != str(wanted):
                raise EngineError(f"{answer.origin} resumes {blob.digest[:19]} at another place")
            start = wanted
        elif answer.status == 200:
            start = 0
        else:
            raise self._refusal(answer, f"blob {blob.digest}")
        length = answer.length()
        if length is not None and length != blob.size - start:
            raise EngineError(
                f"{answer.origin} offers {start + length} bytes for blob {blob.digest}, "
                f"which has {blob.size}"
            )
        return start

    def _base(self) -> str:
        origin = self._authorizer.registry
        return f"{origin.scheme}://{origin}"

    def _ask(self, client: Client, method: str, path: str, headers: dict[str, str]) -> Response:
        """One question with its detours; the answer may have any status but those for detours."""
        url = f"{self._base()}/v2/{self.reference.repository}{path}"
        target = self._authorizer.registry
        has_climbed = False
        for _ in range(MAX_REDIRECTS + 2):
            header = self._authorizer.authorization(client, target)
            secret = {"Authorization": header} if header else {}
            answer = client.request(method, url, {**headers, **secret})
            if answer.status == 401 and target == self._authorizer.registry and not has_climbed:
                has_climbed = True
                with answer:
                    answer.drain(ERROR_LIMIT)
                    self._authorizer.climb(client, answer, header)
            elif answer.status in _REDIRECTS and answer.headers.get("Location"):
                with answer:
                    answer.drain(ERROR_LIMIT)
                    url = _join(url, answer.headers["Location"])
                    target = check_destination(url, target)
            elif answer.status == 429 or answer.status >= 500:
                with answer:
                    raise _busy(answer, f"answers {method} {redact(url)} with")
            else:
                return answer
        raise EngineError(f"{self._authorizer.registry} sends us round in circles of redirects")

    def _refusal(self, answer: Response, what: str) -> EngineError:
        """A final answer that is not what we asked for, as docker would say it."""
        with answer:
            code, message = _first_error(answer)
        familiar = self.reference.familiar()
        if answer.status in (401, 403) and answer.origin == self._authorizer.registry:
            return self._authorizer.denied()
        if code == "NAME_UNKNOWN":
            return NotFound(f"repository for {familiar} not found: {message}")
        if answer.status == 404:
            return NotFound(f"{what} not found: {message}")
        return EngineError(f"{answer.origin} answers {answer.status} for {what}: {message}")


def _join(base: str, location: str) -> str:
    """A Location header against the URL that it answers; some storages forget to quote it."""
    location = urllib.parse.quote(location.encode("latin-1"), safe="%/:=&?~#+!$,;'@()*[]")
    try:
        return urllib.parse.urljoin(base, location)
    except ValueError:
        return location  # Origin.of will have a sentence for it


def _first_error(answer: Response) -> tuple[str, str]:
    """Code and message of an error body (distribution spec, "Error Codes"), or its bare status."""
    try:
        error = jsonio.loads(answer.read(ERROR_LIMIT, "an error"))["errors"][0]
        code, message = str(error["code"]), str(error.get("message") or error["code"])
    except (EngineError, ValueError, LookupError, TypeError, AttributeError):
        code, message = "", f"status {answer.status}"
    return code, printable(message, 200)


def _busy(answer: Response, act: str) -> _Busy:
    """A 429 or 5xx, with the time after which the host wants to see us again (RFC 9110, 10.2.3)."""
    _, message = _first_error(answer)
    value = answer.headers.get("Retry-After", "").strip()
    after = 0.0
    if value.isdigit():
        after = float(value[:9])
    elif value:
        try:
            after = max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            after = 0.0
    hint = "the registry limits how much one may pull; a login raises the limit"
    return _Busy(
        f"{answer.origin} {act} {answer.status}: {message}",
        hint=hint if answer.status == 429 else None,
        after=after,
    )

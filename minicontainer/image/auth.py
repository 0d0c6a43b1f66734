"""How a registry learns who we are: nobody, a password, or a token that another host makes.

The ladder: ask without a word; on 401, read the challenge (RFC 7235) and climb one step, to Basic
(RFC 7617) or to the token protocol of Docker (distribution spec, auth/token). What must not
happen on the way is the point of this module: a secret reaches the host that it belongs to, or
the realm that host names, over a line that is not weaker than the registry's own; and no stranger
sends us to addresses on our own network.
"""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.parse

from .. import jsonio
from ..errors import EngineError
from . import credentials, proxies
from .origin import Origin, printable, redact
from .patience import Transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .credentials import Login
    from .reference import Reference
    from .transport import Client, Response

TOKEN_LIMIT = 64 << 10
# A token that does not tell lives for a minute (token spec, expires_in).
_LIFETIME = 60.0


class AccessDenied(EngineError):
    """The registry knows what we want and will not give it to us, as we are."""


class Challenge:
    """One way to prove oneself that a host offers: the scheme in lower case, its parameters."""

    __slots__ = ("scheme", "parameters")

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.parameters: dict[str, str] = {}


_PART = re.compile(
    r"""[\s,]*(?P<word>[!#$%&'*+.^_`|~0-9A-Za-z-]+)
        (?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]*)))?""",
    re.VERBOSE,
)


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """The challenges in WWW-Authenticate headers, in their order; malformed rests are dropped."""
    found: list[Challenge] = []
    for header in headers:
        position = 0
        while match := _PART.match(header, position):
            position = match.end()
            quoted, bare = match["quoted"], match["bare"]
            if quoted is None and bare is None:
                found.append(Challenge(match["word"].lower()))
            elif found:
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                found[-1].parameters.setdefault(match["word"].lower(), value)
    return found


def check_destination(url: str, sender: Origin) -> Origin:
    """Whether a host may send us there (a realm, a redirect): EngineError if not.

    Never from TLS to plain HTTP. Never, from the outside, to a literal address of this machine or
    of a private network, where our request would pass for one of the neighbours' (SSRF).
    """
    target = Origin.of(url)
    if target.host == sender.host:
        inward = False
    else:
        inward = _is_inner(target.host) and not _is_inner(sender.host)
    if inward:
        raise EngineError(f"{sender} sends us to {redact(url)}, an address that is not public")
    if sender.scheme == "https" and target.scheme == "http":
        raise EngineError(f"{sender} sends us to {redact(url)}, which is not encrypted")
    return target


def _is_inner(host: str) -> bool:
    address = proxies.literal_address(host)
    return proxies.is_loopback(host) or (address is not None and not address.is_global)


class Authorizer:
    """The present step on the ladder, shared by all threads of a pull.

    registry: the origin that the header is for, and nobody else. reference and actions: what a
    token is asked for. login: None for nobody.
    """

    def __init__(
        self, registry: Origin, reference: Reference, login: Login | None, actions: str = "pull"
    ) -> None:
        self.registry = registry
        self.login = login
        self.scope = f"repository:{reference.repository}:{actions}"
        self._reference = reference
        self._lock = threading.Lock()
        self._header: str | None = None
        self._challenge: Challenge | None = None
        self._expiry = 0.0

    def authorization(self, client: Client, target: Origin) -> str | None:
        """The Authorization header for one request; a token near its end is renewed first."""
        if target != self.registry:
            return None
        with self._lock:
            if self._challenge and time.monotonic() > self._expiry:
                self._header = self._fetch_token(client, self._challenge)
            return self._header

    def climb(self, client: Client, answer: Response, used: str | None) -> None:
        """Find a better header than the one used, which `answer` (a 401) has rejected.

        Raises AccessDenied at the top of the ladder.
        """
        challenges = parse_challenges(answer.headers.get_all("WWW-Authenticate") or [])
        with self._lock:
            if self._header != used:
                return  # another thread has climbed while we asked
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    if challenge.parameters.get("error") == "insufficient_scope" and used:
                        raise self.denied()
                    self._header = self._fetch_token(client, challenge)
                    self._challenge = challenge
                    return
            if any(challenge.scheme == "basic" for challenge in challenges):
                if self.login is None or not self.login.user:
                    raise self.denied()
                if used:
                    raise AccessDenied(
                        f"{self.registry} refused the password of {printable(self.login.user, 80)}"
                    )
                self._header = self.login.basic()
                return
        raise EngineError(
            f"{self.registry} asks for a proof of identity of an unknown kind",
            hint="it must offer Bearer or Basic (WWW-Authenticate)",
        )

    def denied(self) -> AccessDenied:
        """Docker's famous sentence: a registry does not tell the secret from the missing."""
        hint = None
        if self.login is None:
            hint = f"no login for {self.registry} was found (docker login, REGISTRY_AUTH_FILE)"
            keeper = credentials.helper(self._reference.registry, os.environ)
            if keeper:
                hint += f"; {keeper} may keep one, but credential helpers are not asked"
        return AccessDenied(
            f"access denied for {self._reference.familiar_name()}: "
            "the repository does not exist or needs a login",
            hint=hint,
        )

    def _fetch_token(self, client: Client, challenge: Challenge) -> str:
        """One round of the token protocol: GET with Basic, or POST with an identity token."""
        realm = challenge.parameters["realm"]
        target = check_destination(realm, self.registry)
        fields = [("service", challenge.parameters.get("service", ""))]
        fields += [("scope", scope) for scope in self._scopes(challenge)]
        headers: dict[str, str] = {}
        body = None
        if self.login and self.login.identity:
            fields += [("grant_type", "refresh_token"), ("refresh_token", self.login.identity)]
            fields += [("client_id", "minicontainer")]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(fields).encode()
            url = realm
        else:
            if self.login:
                headers["Authorization"] = self.login.basic()
                fields.append(("account", self.login.user))
            url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(fields)}"
        with client.request("POST" if body else "GET", url, headers, body) as answer:
            content = answer.read(TOKEN_LIMIT, "the token")
            if answer.status in (401, 403):
                if self.login is None:
                    raise self.denied()
                raise AccessDenied(f"{target} refused the login for {self.registry}")
            if answer.status == 429 or answer.status >= 500:
                raise Transient(f"the token server {target} answers {answer.status}")
            if answer.status != 200:
                raise EngineError(f"the token server {target} answers {answer.status}")
        return self._accept_token(content, target)

    def _scopes(self, challenge: Challenge) -> list[str]:
        """Ours, and the registry's own word for it (one that fronts another may rename)."""
        named = challenge.parameters.get("scope")
        return [self.scope] if named in (None, "", self.scope) else [self.scope, str(named)]

    def _accept_token(self, content: bytes, target: Origin) -> str:
        try:
            answer = jsonio.loads(content)
            token = answer.get("token") or answer.get("access_token")
            lifetime = answer.get("expires_in") or _LIFETIME
            # A line break in a token would become a header of its own.
            good = isinstance(token, str) and token.isascii() and token.isprintable() and token
            seconds = float(lifetime)
        except (ValueError, TypeError, AttributeError):
            good, seconds = False, 0.0
        if not good:
            raise EngineError(f"the token server {target} answers without a token")
        self._expiry = time.monotonic() + max(seconds, _LIFETIME) * 0.9
        return f"Bearer {token}"

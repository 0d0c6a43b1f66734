"""The user's logins, as `docker login`, `podman login` and `skopeo login` leave them behind."""

from __future__ import annotations

import base64
import binascii
import os

from .. import jsonio
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Login:
    """Who we are at one registry: a user with a password, or an identity token (OAuth2)."""

    __slots__ = ("user", "password", "identity")

    def __init__(self, user: str, password: str, identity: str = "") -> None:
        self.user = user
        self.password = password
        self.identity = identity

    def basic(self) -> str:
        """The Authorization header of RFC 7617."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def find(
    registry: str, repository: str, environment: Mapping[str, str], auth_file: str | None = None
) -> Login | None:
    """The login for a repository: the first file that knows its registry decides.

    auth_file: look there alone; it must exist (--authfile). Otherwise the places are those of
    containers-auth.json(5) and docker's config.json. Raises EngineError for a broken file: going
    on without a login that the user believes in would only confuse.
    """
    for path in [auth_file] if auth_file else _places(environment):
        try:
            content = jsonio.read(path)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not auth_file:
                continue
            reason = (error.strerror or str(error)).lower()
            raise EngineError(f"cannot read the logins in {path}: {reason}")
        except ValueError:
            raise EngineError(f"cannot read the logins in {path}: not JSON")
        login = _search(content, registry, repository, path)
        if login:
            return login
    return None


def _places(environment: Mapping[str, str]) -> list[str]:
    home = environment.get("HOME") or "/root"
    places = [environment.get("REGISTRY_AUTH_FILE")]
    if environment.get("XDG_RUNTIME_DIR"):
        places.append(f"{environment['XDG_RUNTIME_DIR']}/containers/auth.json")
    places.append(f"/run/containers/{os.getuid()}/auth.json")
    places.append(f"{environment.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/auth.json")
    places.append(f"{environment.get('DOCKER_CONFIG') or home + '/.docker'}/config.json")
    return [place for place in places if place]


def _search(content: Any, registry: str, repository: str, path: str) -> Login | None:
    """The entry whose key names the most of HOST/NAMESPACE/REPOSITORY."""
    entries = content.get("auths") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        return None
    known = {_normalise(key): entry for key, entry in entries.items()}
    name = _normalise(f"{registry}/{repository}")
    while name:
        if name in known:
            return _read_entry(known[name], registry, path)
        name = name.rpartition("/")[0]
    return None


def _normalise(key: str) -> str:
    """`https://index.docker.io/v1/`, docker's old key for its Hub, is `docker.io`."""
    name = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    name = name.removesuffix("/v1").removesuffix("/v2")
    host, slash, rest = name.partition("/")
    return ("docker.io" if host in _HUB else host) + slash + rest


def _read_entry(entry: Any, registry: str, path: str) -> Login | None:
    """None for the empty entry that docker leaves when a credential helper keeps the secret."""
    if not isinstance(entry, dict):
        entry = {}
    fields = [entry.get(key) or "" for key in ("username", "password", "identitytoken", "auth")]
    broken = EngineError(f"the login for {registry} in {path} is malformed")
    if not all(isinstance(field, str) for field in fields):
        raise broken
    user, password, identity, pair = fields
    if pair:
        try:
            user, colon, password = base64.b64decode(pair, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise broken
        if not colon:
            raise broken
        # Docker pads some of its entries with NUL.
        password = password.rstrip("\0")
    return Login(user, password, identity) if user or identity else None


def helper(registry: str, environment: Mapping[str, str]) -> str | None:
    """The credential helper that docker would ask for this registry, which we do not ask."""
    for path in _places(environment):
        try:
            content = jsonio.read(path)
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            helpers = content.get("credHelpers")
            name = helpers.get(registry) if isinstance(helpers, dict) else None
            name = name or content.get("credsStore")
            if isinstance(name, str) and name:
                return f"docker-credential-{name}"
    return None

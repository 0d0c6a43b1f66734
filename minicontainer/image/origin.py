"""Where a URL leads, and how a stranger's URL or text may be shown."""

from __future__ import annotations

import urllib.parse

from ..errors import EngineError


class Origin:
    """Scheme, host and port of a URL: what a password or a connection belongs to (RFC 6454)."""

    __slots__ = ("scheme", "host", "port")

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port

    @staticmethod
    def of(url: str) -> Origin:
        """Raises EngineError for anything but http and https with a host."""
        try:
            parts = urllib.parse.urlsplit(url)
            scheme, host = parts.scheme.lower(), parts.hostname
            port = parts.port or (443 if scheme == "https" else 80)
        except ValueError:
            scheme, host, port = "", None, 0
        if scheme not in ("http", "https") or not host:
            raise EngineError(f"not an address that we can ask: {redact(url)}")
        return Origin(scheme, host, port)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, int]:
        return (self.scheme, self.host, self.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


def redact(url: str) -> str:
    """A URL as it may be printed: queries carry signatures and tokens, user parts passwords."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    host, slash, path = rest.partition("/")
    bare = f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else bare
    return printable(bare, 200) + ("?…" if "?" in url else "")


def printable(text: str, limit: int) -> str:
    """A stranger's text made fit for a terminal: no control character, no endless line."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""Whom to believe on the network: certificate authorities, insecure hosts, client certificates.

Docker's rules. The system's authorities are trusted, and for one registry those in
/etc/docker/certs.d/HOST[:PORT] and /etc/containers/certs.d/HOST[:PORT] (*.crt; NAME.cert with
NAME.key is shown to a registry that asks who we are). Loopback, and hosts that the user calls
insecure, are not asked for a certificate that holds, and may speak plain HTTP.
"""

from __future__ import annotations

import os
import ssl

from ..errors import EngineError
from . import proxies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CERTIFICATE_DIRECTORIES = ("/etc/docker/certs.d", "/etc/containers/certs.d")

# OpenSSL's verify codes (x509_vfy.h), as sentences.
_FLAWS = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is signed by an unknown authority",
    20: "its certificate is signed by an unknown authority",
    21: "its certificate is signed by an unknown authority",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
# What OpenSSL, from 1.1 to 3.4, makes of an answer that is not TLS at all.
_NOT_TLS = {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}


class NotTLS(EngineError):
    """The host answered our TLS greeting with something else: most likely plain HTTP."""


class Trust:
    """What the user said about security; the same for every host of one pull.

    verify: None is docker's rule (loopback and `insecure` hosts may be insecure, others not),
    False makes every host insecure (--insecure), True none, not even loopback.
    insecure: hosts as HOST, HOST:PORT or a network in CIDR form (docker's insecure-registries).
    certificates: a directory that takes the place of certs.d/HOST (--cert-dir). An authority in
    it makes a loopback host secure again: who gives one wants it checked.
    """

    __slots__ = ("verify", "insecure", "certificates", "_contexts")

    def __init__(
        self,
        verify: bool | None = None,
        insecure: Sequence[str] = (),
        certificates: str | None = None,
    ) -> None:
        if certificates and not os.path.isdir(certificates):
            raise EngineError(f"cannot use --cert-dir {certificates}: not a directory")
        self.verify = verify
        self.insecure = tuple(insecure)
        self.certificates = certificates
        self._contexts: dict[tuple[str, int, bool], ssl.SSLContext] = {}

    def is_insecure(self, host: str, port: int | None = None) -> bool:
        """Whether a host may have a bad certificate, or none at all."""
        if self.verify is not None:
            return not self.verify
        if host in self.insecure or f"{host}:{port}" in self.insecure:
            return True
        if any(proxies.matches_network(rule, host) for rule in self.insecure):
            return True
        return proxies.is_loopback(host) and not _list(self._directories(host, port), ".crt")

    def context(self, host: str, port: int, *, is_registry: bool) -> ssl.SSLContext:
        """The TLS rules for one host.

        is_registry: our client certificate is for the registry alone, not for the hosts that it
        sends us to; its authorities count for those too, since one company's token server and
        registry share them.
        """
        key = (host, port, is_registry)
        if key not in self._contexts:
            self._contexts[key] = self._make_context(host, port, is_registry)
        return self._contexts[key]

    def _make_context(self, host: str, port: int, is_registry: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        directories = self._directories(host, port)
        if self.is_insecure(host, port):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_default_certs()
        for path in _list(directories, ".crt"):
            try:
                context.load_verify_locations(path)
            except (OSError, ssl.SSLError) as error:
                raise EngineError(f"cannot use the certificate authority {path}: {error}")
        for path in _list(directories, ".cert") if is_registry else ():
            try:
                # A key with a password would ask for it on the terminal: give it none instead.
                context.load_cert_chain(path, path.removesuffix(".cert") + ".key", password="")
            except (OSError, ssl.SSLError) as error:
                raise EngineError(f"cannot use the client certificate {path} and its key: {error}")
        return context

    def _directories(self, host: str, port: int | None) -> list[str]:
        if self.certificates:
            return [self.certificates]
        names = [host, f"{host}:{port}"]
        return [f"{base}/{name}" for base in CERTIFICATE_DIRECTORIES for name in names]


def _list(directories: list[str], suffix: str) -> list[str]:
    """The files of one kind in some directories, which need not be there."""
    found = []
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [f"{directory}/{name}" for name in names if name.endswith(suffix)]
    return found


def explain(error: ssl.SSLError, host: str) -> EngineError:
    """A failed TLS handshake as a sentence; none of them mends itself, so none is tried again."""
    if isinstance(error, ssl.SSLCertVerificationError):
        flaw = _FLAWS.get(error.verify_code, f"its certificate is bad: {error.verify_message}")
        return EngineError(
            f"cannot trust {host}: {flaw}",
            hint=f"put its authority into {CERTIFICATE_DIRECTORIES[0]}/{host}/ca.crt "
            "or name a directory with --cert-dir",
        )
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        return NotTLS(
            f"cannot speak TLS with {host}: it answers in plain HTTP",
            hint="if that is meant, allow it with --insecure",
        )
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return EngineError(
            f"{host} refused the TLS handshake ({reason.lower().replace('_', ' ')})",
            hint="it may want a client certificate: NAME.cert and NAME.key in "
            f"{CERTIFICATE_DIRECTORIES[0]}/{host} or in --cert-dir",
        )
    return EngineError(f"TLS with {host} failed: {reason.lower().replace('_', ' ')}")

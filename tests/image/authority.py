"""A certificate authority in a directory, made by openssl, for tests of TLS and of tokens."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Authority:
    """Its own certificate is `certificate`; `issue` makes others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "ca.crt"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.pem", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority",
        )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def issue(
        self, name: str, subject: str, days: str = "2", kind: str = "ec"
    ) -> tuple[Path, Path]:
        """A certificate and its key; subject: `IP:127.0.0.1`, `DNS:…`. kind: ec or rsa."""
        option = "ec_paramgen_curve:P-256" if kind == "ec" else "rsa_keygen_bits:2048"
        self._openssl(
            "req", "-newkey", kind, "-pkeyopt", option, "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        (self.directory / "extensions").write_text(f"subjectAltName={subject}\n")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.pem",
            "-CAcreateserial", "-out", f"{name}.cert", "-days", days, "-extfile", "extensions",
        )  # fmt: skip
        return self.directory / f"{name}.cert", self.directory / f"{name}.key"

    def server(self, subject: str = "IP:127.0.0.1", days: str = "2") -> ssl.SSLContext:
        """What a server of this process with such a certificate needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", subject, days))
        return context

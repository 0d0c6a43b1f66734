"""Platforms: which of an image's builds runs on this machine.

Normalisation and the order of preference are containerd's (package platforms), as in docker.
"""

from __future__ import annotations

import os

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .digest import Descriptor

_ARCHITECTURES = {
    "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "x86_64": "amd64", "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm/v7", "armel": "arm/v6",
    "armv8l": "arm/v7", "armv7l": "arm/v7", "armv6l": "arm/v6", "armv5tel": "arm/v5",
    "loongarch64": "loong64",
}  # fmt: skip
_KNOWN = frozenset(
    ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
)
_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd"))


class Platform:
    """Operating system, architecture and variant, normalised: `linux/arm/v7`, `linux/amd64`."""

    __slots__ = ("os", "architecture", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os = os.lower()
        architecture, _, implied = _ARCHITECTURES.get(
            architecture.lower(), architecture.lower()
        ).partition("/")
        variant = variant.lower() or implied
        if variant.isdigit():
            variant = f"v{variant}"
        if architecture == "arm":
            variant = variant or "v7"
        elif (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        self.architecture = architecture
        self.variant = variant

    @classmethod
    def host(cls) -> Platform:
        """The platform that this kernel runs."""
        return cls("linux", os.uname().machine)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that a person wrote, as `--platform` of docker takes it; EngineError.

        One word is an architecture or an operating system; the host gives the other.
        """
        parts = text.lower().split("/")
        letters = "".join(parts).translate({ord(mark): None for mark in "_.-"})
        if not all(parts) or len(parts) > 3 or not (letters.isascii() and letters.isalnum()):
            raise EngineError(
                f"invalid platform {text[:100]!r}", hint="write it as linux/arm64 or linux/arm/v7"
            )
        if len(parts) > 1:
            return cls(*parts)
        if parts[0] in _SYSTEMS:
            host = cls.host()
            return cls(parts[0], host.architecture, host.variant)
        if parts[0] in _KNOWN or parts[0] in _ARCHITECTURES:
            return cls("linux", parts[0])
        raise EngineError(
            f"invalid platform {text[:100]!r}: unknown operating system or architecture",
            hint="write it as linux/arm64 or linux/arm/v7",
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Platform:
        """The platform of a descriptor or of an image config; missing fields are empty."""
        fields = [value.get(name) for name in ("os", "architecture", "variant")]
        return cls(*[field if isinstance(field, str) else "" for field in fields])

    def to_json(self) -> dict[str, str]:
        """The `platform` object of a descriptor."""
        value = {"architecture": self.architecture, "os": self.os}
        if self.variant or self.architecture == "arm64":
            value["variant"] = self.variant or "v8"
        return value

    def runnable(self) -> list[Platform]:
        """The platforms whose programs this one runs, the best first.

        A processor runs what its older kin run: arm v7 runs v6 and v5, arm64 runs 32-bit arm,
        amd64 runs 386.
        """
        found = [self]
        if self.architecture == "arm64" and self.variant:
            found.append(Platform(self.os, "arm64"))
        if self.architecture == "amd64" and self.variant[1:].isdigit():
            found += [
                Platform(self.os, "amd64", f"v{level}")
                for level in range(int(self.variant[1:]) - 1, 0, -1)
            ]
        if self.architecture in ("arm", "arm64"):
            newest = 8 if self.architecture == "arm64" else int(self.variant[1:2] or 7) - 1
            found += [Platform(self.os, "arm", f"v{level}") for level in range(newest, 4, -1)]
        if self.architecture == "amd64":
            found.append(Platform(self.os, "386"))
        return found

    def matches(self, image: Platform) -> bool:
        """Whether an image of that platform is what was asked for."""
        return any(image == candidate for candidate in self.runnable())

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def choose(manifests: list[Descriptor], wanted: Platform, name: str = "the image") -> Descriptor:
    """The manifest of an index that suits the platform best; EngineError lists what there is.

    name: how the error calls the image. Attestations (platform unknown/unknown, buildkit) are
    not images. A lone manifest without a platform is taken: its config will tell.
    """
    images = [
        (Platform.from_json(manifest.platform) if manifest.platform else None, manifest)
        for manifest in manifests
        if not is_attestation(manifest)
    ]
    for candidate in wanted.runnable():
        for platform, manifest in images:
            if platform == candidate:
                return manifest
    if len(images) == 1 and images[0][0] is None:
        return images[0][1]
    available = sorted({str(platform) for platform, _ in images if platform})
    raise EngineError(
        f"no build of {name} for {wanted}",
        hint=f"available: {', '.join(available)}" if available else None,
    )


def is_attestation(manifest: Descriptor) -> bool:
    """Whether the manifest is buildkit's provenance of an image, and no image."""
    kind = (manifest.annotations or {}).get("vnd.docker.reference.type")
    platform = manifest.platform or {}
    return kind == "attestation-manifest" or platform.get("os") == "unknown"

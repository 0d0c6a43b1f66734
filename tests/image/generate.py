"""A made-up image for benchmarks and comparisons: the same bytes each time, sized like a real one.

    python3 -m tests.image.generate DIRECTORY [FILES] [MEGABYTES]

writes an OCI layout with three gzip layers (117 MB for the default of 15,000 files and 264 MB),
with what layers of real images have: directories, setuid, links, other owners, whiteouts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILES = 15_000
BYTES = 264_000_000
POOL = 8 << 20


@dataclass
class Layer:
    """One generated layer: its blob, and the digests of the blob and of the archive in it."""

    path: Path
    digest: str
    size: int
    diff_id: str
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"


def image(
    directory: Path, files: int = FILES, size: int = BYTES, layers: int = 3, name: str = "latest"
) -> list[Layer]:
    """Write an OCI layout; its layers, lowest first."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    source = random.Random(2026)
    pool = _pool(source)
    made = []
    for number in range(layers):
        content = _archive(source, pool, number, files // layers, size // layers)
        made.append(_write_layer(blobs, content))
    write_image(directory, made, name)
    return made


def write_image(directory: Path, layers: list[Layer], name: str = "latest") -> None:
    """Make an OCI layout of layers whose blobs are in it already, lowest first."""
    blobs = directory / "blobs" / "sha256"
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": f"generate layer {n}"} for n in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _write_json(blobs, config, "application/vnd.oci.image.config.v1+json"),
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    entry = _write_json(blobs, manifest, manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _pool(source: random.Random) -> bytes:
    """Bytes that gzip makes about 2.3 times smaller, as it does a Linux distribution's files."""
    words = [source.randbytes(source.randint(4, 16)) for _ in range(2000)]
    parts: list[bytes] = []
    length = 0
    while length < POOL:
        part = source.randbytes(6) if source.random() < 0.06 else source.choice(words)
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _archive(
    source: random.Random, pool: bytes, number: int, files: int, size: int
) -> Iterator[bytes]:
    """The archive of one layer, in pieces."""
    out = io.BytesIO()
    archive = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(
        name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object
    ) -> None:
        entry = tarfile.TarInfo(name)
        entry.type = kind
        entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        entry.mtime = 1_700_000_000 + source.randint(0, 10_000_000)
        entry.size = len(content)
        for field, value in fields.items():
            setattr(entry, field, value)
        archive.addfile(entry, io.BytesIO(content))

    def taken() -> bytes:
        piece = out.getvalue()
        out.seek(0)
        out.truncate()
        return piece

    if number == 0:
        for name in ("bin", "etc", "root", "usr", "usr/bin", "usr/share", "var", "var/lib"):
            add(name, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        add("usr/bin/su", content=pool[:4096], mode=0o4755)
        add("etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\n")
    else:
        # Docker writes the directories above what a layer changes, but not the root.
        for name in ("usr", "usr/share"):
            add(name, tarfile.DIRTYPE)
    if number == 1:
        for name in ("", "/0", "/1"):
            add(f"usr/share/layer0{name}", tarfile.DIRTYPE)
        add("usr/share/layer0/0/.wh.0.bin")
        add("usr/share/layer0/1/.wh..wh..opq")
        add("usr/share/layer0/.wh.2")
    top = f"usr/share/layer{number}"
    add(top, tarfile.DIRTYPE)
    weights = [source.lognormvariate(0, 1.6) for _ in range(files)]
    scale = size / sum(weights)
    per_directory = 25
    previous = ""
    for at, weight in enumerate(weights):
        folder = f"{top}/{at // per_directory}"
        if at % per_directory == 0:
            add(folder, tarfile.DIRTYPE)
        name = f"{folder}/{at}.bin"
        if at % 40 == 39:
            add(name, tarfile.SYMTYPE, linkname=f"../{at // 50}/{at // 2}.bin")
        elif at % 60 == 59:
            add(name, tarfile.LNKTYPE, linkname=previous)
        else:
            owner = {"uid": 33, "gid": 33} if at % 10 == 9 else {}
            length = int(weight * scale)
            content = b""
            while len(content) < length:
                start = source.randrange(POOL // 2)
                content += pool[start : start + length - len(content)]
            add(name, content=content, **owner)
            previous = name
        if out.tell() > 1 << 20:
            yield taken()
    archive.close()
    yield taken()


def _write_layer(blobs: Path, content: Iterator[bytes]) -> Layer:
    raw, packed = hashlib.sha256(), hashlib.sha256()
    compress = zlib.compressobj(4, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    path = blobs / "unfinished"
    with path.open("wb") as file:

        def put(data: bytes) -> None:
            packed.update(data)
            file.write(data)

        for piece in content:
            raw.update(piece)
            put(compress.compress(piece))
        put(compress.flush())
    path = path.rename(blobs / packed.hexdigest())
    return Layer(
        path, f"sha256:{packed.hexdigest()}", path.stat().st_size, f"sha256:{raw.hexdigest()}"
    )


def _write_json(blobs: Path, value: object, media_type: object) -> dict[str, object]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    for layer in image(
        Path(sys.argv[1]), *(numbers[:1] or [FILES]), *[n * 1_000_000 for n in numbers[1:]]
    ):
        print(layer.size, layer.digest, layer.diff_id)

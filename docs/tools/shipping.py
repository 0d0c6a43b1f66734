"""An image by hand, for the demo: one more layer over another, and the way to a registry.

The engine's own `build` and `push` come with later chapters. What they do is not more than this:
an image is a list of archives and a few words about how to run them (OCI image specification).
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    """An OCI image layout with one image, the first of its index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs" / "sha256"

    def read(self, descriptor: dict[str, Any]) -> bytes:
        """The content of a blob."""
        return (self.blobs / descriptor["digest"].partition(":")[2]).read_bytes()

    def add(self, content: bytes, kind: str) -> dict[str, Any]:
        """Add a blob; its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(self) -> dict[str, Any]:
        """The descriptor of the image's manifest."""
        found: dict[str, Any] = json.loads((self.directory / "index.json").read_text())
        descriptor: dict[str, Any] = found["manifests"][0]
        return descriptor


def package(base: Layout, app: Path, directory: Path, name: str) -> Layout:
    """What the Dockerfile in `app` describes, as a new layout: the base and one layer over it.

    It knows COPY of a file, USER, EXPOSE and CMD; FROM is the base, whatever its name.
    """
    made = Layout(directory)
    made.blobs.mkdir(parents=True)
    for blob in base.blobs.iterdir():
        os.link(blob, made.blobs / blob.name)
    manifest = json.loads(base.read(base.manifest()))
    image = json.loads(base.read(manifest["config"]))
    config = image["config"]
    files: dict[str, Path] = {}
    for line in (app / "Dockerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "COPY":
                source, _, target = rest.partition(" ")
                files[target.lstrip("/")] = app / source
            case "USER":
                config["User"] = rest
            case "EXPOSE":
                config["ExposedPorts"] = {f"{rest}/tcp": {}}
            case "CMD":
                config["Cmd"] = json.loads(rest)
            case "FROM":
                continue
            case _:
                raise SystemExit(f"{app}/Dockerfile: cannot do {line}")
    layer = made.add(archive(files), LAYER)
    manifest["layers"].append(layer)
    image["rootfs"]["diff_ids"].append(layer["digest"])  # of what is not compressed, the same
    image["history"].append({"created": image["created"], "created_by": f"COPY {' '.join(files)}"})
    manifest["config"] = made.add(json.dumps(image).encode(), manifest["config"]["mediaType"])
    top = made.add(json.dumps(manifest).encode(), manifest["mediaType"])
    top["annotations"] = {"org.opencontainers.image.ref.name": f"docker.io/library/{name}:latest"}
    index = {"schemaVersion": 2, "manifests": [top]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return made


def archive(files: dict[str, Path]) -> bytes:
    """A layer: a tar of these files, root's, and of the directories that they are in."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for directory in sorted({os.path.dirname(path) for path in files} - {""}):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, source in files.items():
            content = source.read_bytes()
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def push(layout: Layout, address: str, repository: str, tag: str) -> None:
    """Upload the image to a registry (OCI distribution specification, "Pushing")."""
    descriptor = layout.manifest()
    manifest = layout.read(descriptor)
    fields = json.loads(manifest)
    registry = http.client.HTTPConnection(address)

    def request(method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        registry.request(method, path, body, {"Content-Type": kind or "application/octet-stream"})
        answer = registry.getresponse()
        answer.read()
        if answer.status not in (201, 202):
            raise SystemExit(f"{method} {path}: the registry says {answer.status}")
        return answer.headers["Location"]

    for blob in [fields["config"], *fields["layers"]]:
        place = urlsplit(request("POST", f"/v2/{repository}/blobs/uploads/"))
        query = f"{place.query}&digest={blob['digest']}"
        request("PUT", f"{place.path}?{query}", layout.read(blob))
    request("PUT", f"/v2/{repository}/manifests/{tag}", manifest, descriptor["mediaType"])
    registry.close()


def start_registry(program: str, directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Debian's docker-registry, once it listens, and its address."""
    address = f"127.0.0.1:{free_port()}"
    configuration = directory / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{directory}/registry'}}}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", configuration],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    host, _, port = address.partition(":")
    while process.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return process, address
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise SystemExit("docker-registry did not start")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

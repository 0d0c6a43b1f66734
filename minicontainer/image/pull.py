"""Pull: from a name on a registry to an image in the store, unpacked.

The road: name -> manifest (of an index, the one for the platform) -> config and layers, fetched
by a few threads at once -> each layer unpacked in a process of its own as soon as it is whole,
while others still arrive -> the stack file -> the name. Whatever fails on the road, complete
blobs and layers stay for the next pull and nothing else does: the name comes last.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading

from ..errors import EngineError
from ..files import Lock
from . import credentials, unpacking
from .crew import Crew, Outcome
from .digest import Descriptor
from .manifest import Manifest, parse, parse_config, parse_manifest
from .origin import Origin, redact
from .patience import Cancelled, Patience
from .platform import Platform, choose
from .progress import Progress
from .registry import NotFound, Registry
from .store import Image, ImageNotFound
from .transport import Client
from .trust import Trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from .reference import Reference
    from .store import Store

# Docker's max-concurrent-downloads.
_FETCHERS = 3
# Processes that unpack; each takes 20 MB.
_MOST_UNPACKERS = 16
# How long cancelled threads may take to come back before we go without them, in seconds.
_FAREWELL = 1.0
_UNPACKING = {
    "unpacking": "Extracting",
    "unpacked": "Pull complete",
    "exists": "Already exists",
}


def pull(
    store: Store,
    reference: Reference,
    platform: Platform | str | None = None,
    *,
    insecure: bool | None = None,
    insecure_registries: Sequence[str] = (),
    cert_dir: str | None = None,
    auth_file: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Image:
    """Bring the image that a registry serves under that name into the store, unpacked.

    platform: the host's when None. insecure: None lets loopback and `insecure_registries` (HOST,
    HOST:PORT or a network) be insecure, True everybody, False nobody. cert_dir: see trust.py.
    auth_file: logins from this file alone. progress: silent when None. Raises EngineError, and
    KeyboardInterrupt at once when Ctrl-C is pressed.
    """
    if not isinstance(platform, Platform):
        platform = Platform.parse(platform) if platform else None
    trusted = Trust(None if insecure is None else not insecure, insecure_registries, cert_dir)
    login = credentials.find(reference.registry, reference.repository, os.environ, auth_file)
    patience = patience or Patience()
    stop = threading.Event()
    registry = Registry(reference, trusted, login, patience, stop)
    host = Origin.of(f"https://{registry.host(reference)}").host
    clients = [Client(trusted, patience, host) for _ in range(_FETCHERS)]
    with progress or Progress() as shown, store.adding():
        work = _Pull(store, reference, platform, registry, shown, stop, clients)
        try:
            return work.run()
        finally:
            stop.set()
            for client in clients:
                client.abort()
            work.dismiss()
            for client in clients:
                client.close()


class _Pull:
    """One pull under way. Its crews fetch and unpack; the thread that calls `run` decides."""

    def __init__(
        self,
        store: Store,
        reference: Reference,
        platform: Platform | None,
        registry: Registry,
        progress: Progress,
        stop: threading.Event,
        clients: list[Client],
    ) -> None:
        self.store = store
        self.reference = reference
        self.platform = platform
        self.registry = registry
        self.progress = progress
        self.stop = stop
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.fetchers = Crew(clients, self.outcomes)
        # More than processors: three equal layers on two of them take 1.2 s, not 1.5.
        count = min(2 * len(os.sched_getaffinity(0)), _MOST_UNPACKERS)
        self.unpackers = Crew([None] * count, self.outcomes)

    def dismiss(self) -> None:
        """Send the crews home; `stop` is set and the clients are aborted."""
        self.fetchers.dismiss(_FAREWELL)
        self.unpackers.dismiss(_FAREWELL)

    def run(self) -> Image:
        """The whole road; see the top of this file."""
        self._ask(self.registry.open)
        which = self.reference.digest or self.reference.tag or ""
        present = self._find_present(which)
        if present:
            image, digest = present
            self.progress.pulling(self.reference)
            self.progress.finished(self.reference, digest, newer=False)
            return image
        descriptor, digest = self._find_manifest(which)
        self.progress.pulling(self.reference)
        body = self.store.read_blob(descriptor.digest)
        config = self._fetch_and_unpack(parse_manifest(body, descriptor.media_type))
        descriptor.platform = Platform.from_json(config).to_json()
        self.store.unpack(self.store.image_of(descriptor))
        image = self.store.tag(descriptor, self.reference, digest)
        self.progress.finished(self.reference, digest, newer=True)
        return image

    def _ask(self, question: Callable[[Client], Any]) -> Any:
        """Have a fetcher do one thing while nothing else is under way, and wait for it."""
        self.fetchers.submit(question, question)
        return self.outcomes.get().get()

    def _find_present(self, which: str) -> tuple[Image, str] | None:
        """The image of that name, when the registry still means the same by it."""
        try:
            image = self.store.resolve(str(self.reference))
        except ImageNotFound:
            return None
        own = Platform.from_json(image.config())
        if not self.store.is_unpacked(image) or not (self.platform or Platform.host()).matches(own):
            return None
        digest = self._ask(lambda client: self.registry.digest(client, which))
        known = f"{self.reference.name}@{digest}" in image.repo_digests
        return (image, digest) if known else None

    def _find_manifest(self, which: str) -> tuple[Descriptor, str]:
        """The manifest for our platform, in the store, and the digest behind the name."""
        served = self._ask(lambda client: self.registry.manifest(client, which))
        content = parse(served.body, served.media_type)
        body = served.body
        if isinstance(content, Manifest):
            descriptor = Descriptor(content.media_type, served.digest, len(body))
        else:
            wanted = self.platform or Platform.host()
            descriptor = choose(content, wanted, self.reference.familiar())
            if self.store.has_blob(descriptor.digest, descriptor.size):
                return descriptor, served.digest
            digest = descriptor.digest
            body = self._ask(lambda client: self.registry.manifest(client, digest)).body
        with self.store.write_blob(descriptor) as writer:
            writer.write(body)
        return descriptor, served.digest

    def _fetch_and_unpack(self, manifest: Manifest) -> dict[str, Any]:
        """Bring the config (which is returned) and the layers, and unpack each layer that does
        not need those below it, as soon as it and the config are there."""
        for layer in manifest.layers:
            self.progress.update(layer.digest, "Pulling fs layer")
        # The config first: it tells early whether this is an image, and one for us.
        blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        for blob in blobs.values():
            shown = Progress() if blob is manifest.config else self.progress
            self.fetchers.submit(blob, functools.partial(self._fetch, blob, shown))
        under_way = len(blobs)
        config: dict[str, Any] = {}
        diff_ids: dict[str, str] = {}
        waiting: list[Descriptor] = []
        while under_way:
            outcome = self.outcomes.get()
            outcome.get()
            under_way -= 1
            if not isinstance(outcome.task, Descriptor):
                continue
            if outcome.task is manifest.config:
                config = self._read_config(manifest)
                digests = [layer.digest for layer in manifest.layers]
                diff_ids = dict(zip(digests, config["rootfs"]["diff_ids"], strict=True))
            else:
                waiting.append(outcome.task)
            while config and waiting:
                layer = waiting.pop()
                unpack = functools.partial(self._unpack, layer, diff_ids[layer.digest])
                self.unpackers.submit("unpack", unpack)
                under_way += 1
        return config

    def _read_config(self, manifest: Manifest) -> dict[str, Any]:
        """The config, when it is one for the platform that was asked for."""
        body = self.store.read_blob(manifest.config.digest)
        config = parse_config(body, len(manifest.layers))
        own, wanted = Platform.from_json(config), self.platform or Platform.host()
        if own.os and own.architecture and not wanted.matches(own):
            name = self.reference.familiar()
            raise EngineError(f"no build of {name} for {wanted}", hint=f"available: {own}")
        return config

    def _fetch(self, blob: Descriptor, shown: Progress, client: Client) -> None:
        """Bring one blob, unless it is there or another process is just bringing it."""

        def report(received: int) -> None:
            shown.update(blob.digest, "Downloading", received, blob.size)

        with self._turn(blob):
            if self.store.has_blob(blob.digest, blob.size):
                return
            try:
                with self.store.write_blob(blob) as writer:
                    self.registry.copy_blob(client, blob, writer.write, report)
            except NotFound:
                if not blob.urls:
                    raise
                raise EngineError(
                    f"cannot pull {self.reference.familiar()}: a layer is not in the registry but "
                    f"at {redact(blob.urls[0])}",
                    hint="foreign layers are not fetched: no digest says whose they are",
                )
        shown.update(blob.digest, "Download complete")

    @contextlib.contextmanager
    def _turn(self, blob: Descriptor) -> Iterator[None]:
        """Hold the lock of one blob, so that of several pulls one fetches it for all."""
        lock = Lock(f"{self.store.unfinished}/{blob.hex}.lock", block=False)
        while True:
            try:
                lock.acquire()
                break
            except BlockingIOError:
                if self.stop.wait(0.1):
                    raise Cancelled
        try:
            yield
        finally:
            lock.release()

    def _unpack(self, layer: Descriptor, diff_id: str, _: None) -> None:
        """Unpack one layer by itself, ahead of store.unpack, which then finds it there."""

        def report(_: Descriptor, event: str) -> None:
            self.progress.update(layer.digest, _UNPACKING[event])

        def advance(done: int, total: int) -> None:
            if self.stop.is_set():
                raise Cancelled  # which also ends the worker
            self.progress.update(layer.digest, "Extracting", done, total)

        unpacking.unpack_layer(self.store, layer, diff_id, diff_id, [], report, advance)

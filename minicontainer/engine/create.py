"""From an image and a command line to a container's record, by docker's rules."""

from __future__ import annotations

import os

from .. import files
from ..errors import EngineError
from ..image.blobs import explain
from ..image.store import ImageNotFound
from ..kernel import capabilities, overlay
from . import lifetime, names, teardown
from . import record as records
from .fetch import fetch, is_usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .fetch import OnPull
    from .home import Home
    from .record import Record

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_TIMEOUT = 10

# Docker's list, less CAP_MKNOD: it is safe only behind the device cgroup, which chapter 08 brings.
CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_NET_RAW CAP_SETGID CAP_SETUID "
    "CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
).split()

NETWORKS = ("none", "host")


class Settings:
    """What a caller asks for, beside what the image says: the options of `run` and `create`.

    image: a name or an id. command: replaces the image's CMD. entrypoint: replaces ENTRYPOINT
    and drops CMD; "" takes it away. env: NAME=value, or NAME alone to take one of the image's
    away. mounts: OCI mounts (config.md, "Mounts"); sources: host directories that `-v` makes
    when they are missing. groups: names or numbers to add. ulimits: OCI rlimits. seccomp:
    "unconfined", or a profile as `filters.check` gives it; "" for the default policy.
    """

    def __init__(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        name: str | None = None,
        entrypoint: str | None = None,
        env: Sequence[str] = (),
        workdir: str | None = None,
        user: str | None = None,
        groups: Sequence[str] = (),
        hostname: str | None = None,
        labels: dict[str, str] | None = None,
        mounts: Sequence[dict[str, Any]] = (),
        sources: Sequence[str] = (),
        read_only: bool = False,
        network: str = "none",
        tty: bool = False,
        interactive: bool = False,
        remove: bool = False,
        init: bool = False,
        cap_add: Sequence[str] = (),
        cap_drop: Sequence[str] = (),
        ulimits: Sequence[dict[str, Any]] = (),
        seccomp: str = "",
        stop_signal: str | None = None,
        stop_timeout: int | None = None,
        pull: str = "missing",
        platform: str | None = None,
    ) -> None:
        self.image = image
        self.command = list(command)
        self.name = name
        self.entrypoint = entrypoint
        self.env = list(env)
        self.workdir = workdir
        self.user = user
        self.groups = list(groups)
        self.hostname = hostname
        self.labels = labels or {}
        self.mounts = list(mounts)
        self.sources = list(sources)
        self.read_only = read_only
        self.network = network
        self.tty = tty
        self.interactive = interactive
        self.remove = remove
        self.init = init
        self.cap_add = list(cap_add)
        self.cap_drop = list(cap_drop)
        self.ulimits = list(ulimits)
        self.seccomp = seccomp
        self.stop_signal = stop_signal
        self.stop_timeout = stop_timeout
        self.pull = pull
        self.platform = platform


def create(
    home: Home,
    settings: Settings,
    *,
    on_created: Callable[[str], None] | None = None,
    on_pull: OnPull | None = None,
) -> tuple[Record, files.Lock]:
    """Make a container that has not started: its directory, its name, its record.

    on_created: called with the id when all is made; what it raises undoes the container.
    on_pull: see `fetch`. Returns the record and the lock of its life, which the caller holds
    until `teardown`. Raises EngineError; nothing is left then.
    """
    home.make()
    made = None if settings.pull == "always" else _make(home, settings, on_created)
    if made is None:
        fetch(home, settings.image, settings.pull, settings.platform, on_pull)
        made = _make(home, settings, on_created)
    if made is None:
        raise EngineError(f"image {settings.image} was removed while it was to be used")
    return made


def _make(
    home: Home, settings: Settings, on_created: Callable[[str], None] | None
) -> tuple[Record, files.Lock] | None:
    """The container, or None when its image is not in the store, ready to be mounted."""
    store = home.store()
    # Until the record names the image, or rmi could take it away under our feet.
    with store.using():
        try:
            image = store.resolve(settings.image)
        except ImageNotFound:
            return None
        if not is_usable(store, image, settings.platform):
            return None
        id = names.new_id()
        # The lock first: from here on a kill leaves something that the next command finds.
        lock = lifetime.claim(home, id)
        record: Record | None = None
        try:
            record = compose(id, image.id, image.config().get("config") or {}, settings)
            record.layers = store.stack(image)
            os.mkdir(home.container(id), 0o700)
            for name in ("rootfs", "upper", "work"):
                os.mkdir(home.container(id, name), 0o755)
            if record.layers:
                overlay.adopt_root(record.layers[0], home.container(id, "upper"))
            record.name = names.claim(home, id, settings.name)
            for path in settings.sources:
                os.makedirs(path, exist_ok=True)
            record.save(home)
            if on_created is not None:
                on_created(id)
        except BaseException as error:
            teardown.remove(home, id, record.name if record else "")
            lifetime.drop(home, id, lock)
            if isinstance(error, OSError):
                raise explain(f"make a container below {home.root}", error) from error
            raise
    return record, lock


def compose(id: str, image_id: str, config: dict[str, Any], settings: Settings) -> Record:
    """The record that an image's config (image-spec, config.md) and the settings give.

    Touches nothing; EngineError for what cannot be.
    """
    if settings.network not in NETWORKS:
        known = settings.network in ("bridge", "default") or settings.network[:10] == "container:"
        message = "network {!r} is not implemented yet" if known else "no such network: {}"
        raise EngineError(message.format(settings.network), hint="use none or host")
    workdir = settings.workdir or config.get("WorkingDir") or "/"
    if not workdir.startswith("/"):
        raise EngineError(
            f"the working directory {workdir!r} is invalid, it needs to be an absolute path"
        )
    hostname = os.uname().nodename if settings.network == "host" else id[:12]
    entrypoint, command = combine_command(config, settings)
    return records.Record(
        id=id,
        created=records.now(),
        image=settings.image,
        image_id=image_id,
        command=command,
        entrypoint=entrypoint,
        user=settings.user if settings.user is not None else config.get("User") or "",
        env=merge_environment(config.get("Env") or [], settings.env),
        workdir=workdir,
        hostname=check_hostname(settings.hostname or hostname),
        tty=settings.tty,
        interactive=settings.interactive,
        remove=settings.remove,
        init=settings.init,
        network=settings.network,
        labels={**(config.get("Labels") or {}), **settings.labels},
        mounts=settings.mounts,
        read_only=settings.read_only,
        groups=settings.groups,
        stop_signal=settings.stop_signal or config.get("StopSignal") or "SIGTERM",
        stop_timeout=STOP_TIMEOUT if settings.stop_timeout is None else settings.stop_timeout,
        capabilities=choose_capabilities(settings.cap_add, settings.cap_drop),
        ulimits=settings.ulimits,
        seccomp=settings.seccomp,
        status="created",
    )


def combine_command(config: dict[str, Any], settings: Settings) -> tuple[list[str], list[str]]:
    """(entry point, whole argument list) by docker's rules: the command replaces CMD; another
    entry point replaces ENTRYPOINT and forgets CMD too, which was meant for the old one."""
    entrypoint, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    if settings.entrypoint is not None:
        entrypoint = [settings.entrypoint] if settings.entrypoint else []
        command = []
    whole = [*entrypoint, *(settings.command or command)]
    if not whole:
        raise EngineError(
            "no command specified", hint="the image has no CMD: name a program after the image"
        )
    return entrypoint, whole


def merge_environment(base: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Environment entries with changes on top: `NAME=value` sets, `NAME` takes away."""
    merged = dict(entry.partition("=")[::2] for entry in base)
    for entry in changes:
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    return [f"{name}={value}" for name, value in merged.items() if name]


def choose_capabilities(add: Sequence[str], drop: Sequence[str]) -> list[str]:
    """The capabilities after --cap-add and --cap-drop (docker run reference, "Runtime privilege
    and Linux capabilities"); ALL means all that the engine itself can give."""
    wanted_add, wanted_drop = _names(add), _names(drop)
    if "CAP_MKNOD" in wanted_add:
        raise EngineError(
            "CAP_MKNOD cannot be had yet (chapter 08): without the device cgroup it gives the "
            "host's disks"
        )
    if "ALL" in wanted_add:
        kept = capabilities.words(capabilities.read()["CapBnd"] & ~capabilities.mask(["MKNOD"]))
    elif "ALL" in wanted_drop:
        kept = []
    else:
        kept = [name for name in CAPABILITIES if name not in wanted_drop]
    if "ALL" in wanted_add:
        return [name for name in kept if name not in wanted_drop]
    return kept + [name for name in wanted_add if name not in kept]


def _names(given: Sequence[str]) -> list[str]:
    upper = [name.upper() for name in given]
    named = ["ALL" if name == "ALL" else f"CAP_{name.removeprefix('CAP_')}" for name in upper]
    capabilities.mask([name for name in named if name != "ALL"])  # refuses unknown ones
    return named


def check_hostname(name: str) -> str:
    """A host name that sethostname(2) takes and /etc/hosts can hold; EngineError otherwise."""
    good = all(c.isascii() and (c.isalnum() or c in "-._") for c in name)
    if not name or len(name) > 63 or not good:
        raise EngineError(f"invalid hostname {name!r}: at most 63 letters, digits, dots, dashes")
    return name

"""From an image and a command line to a container's record, by docker's rules."""

from __future__ import annotations

import os

from .. import files
from ..errors import EngineError
from ..image.blobs import explain
from ..image.store import ImageNotFound
from ..kernel import cgroups, overlay
from . import connecting, lifetime, names, publishing, security, teardown, userns
from . import limits as limiting
from . import record as records
from .fetch import fetch, is_usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .fetch import OnPull
    from .home import Home
    from .record import Record
    from .security import Options

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_TIMEOUT = 10


class Settings:
    """What a caller asks for, beside what the image says: the options of `run` and `create`.

    image: a name or an id. command: replaces the image's CMD. entrypoint: replaces ENTRYPOINT
    and drops CMD; "" takes it away. env: NAME=value, or NAME alone to take one of the image's
    away. mounts: OCI mounts (config.md, "Mounts"); sources: host directories that `-v` makes
    when they are missing. groups: names or numbers to add. ulimits: OCI rlimits. limits,
    devices, names, ports (PortBindings): docker's HostConfig fields (see `limits`, `naming`,
    `publishing`); exposed: as --expose; device_rules: `c 10:200 rwm`.
    network: see `connecting.check`; endpoint: "ip", "ip6", "mac" and "aliases" on it;
    more_networks: the container is on these too.
    privileged, cap_add, cap_drop: as the options of `run`; security: what --security-opt says;
    userns: see `userns.choose`.
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
        network: str = "",
        more_networks: Sequence[str] = (),
        endpoint: dict[str, Any] | None = None,
        ports: dict[str, list[dict[str, str]]] | None = None,
        publish_all: bool = False,
        exposed: Sequence[str] = (),
        names: dict[str, list[str]] | None = None,
        tty: bool = False,
        interactive: bool = False,
        remove: bool = False,
        init: bool = False,
        cap_add: Sequence[str] = (),
        cap_drop: Sequence[str] = (),
        privileged: bool = False,
        security: Options | None = None,
        ulimits: Sequence[dict[str, Any]] = (),
        limits: dict[str, Any] | None = None,
        devices: Sequence[dict[str, str]] = (),
        device_rules: Sequence[str] = (),
        sysctls: dict[str, str] | None = None,
        shm_size: int = 0,
        oom_score_adj: int = 0,
        cgroup_parent: str = "",
        userns: str = "",
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
        self.more_networks = more_networks
        self.endpoint = endpoint or {}
        self.ports = ports or {}
        self.publish_all = publish_all
        self.exposed = list(exposed)
        self.names = names or {}
        self.tty = tty
        self.interactive = interactive
        self.remove = remove
        self.init = init
        self.cap_add = list(cap_add)
        self.cap_drop = list(cap_drop)
        self.privileged = privileged
        self.security = security
        self.ulimits = list(ulimits)
        self.limits = limits or {}
        self.devices = list(devices)
        self.device_rules = list(device_rules)
        self.sysctls = sysctls or {}
        self.shm_size = shm_size
        self.oom_score_adj = oom_score_adj
        self.cgroup_parent = cgroup_parent
        self.userns = userns
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
    settings.network = connecting.check(home, settings)
    settings.more_networks = connecting.check_more(home, settings)
    connecting.check_ports(home, settings)
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
            userns.own(home, record, "upper", "rootfs")
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
    # Where nothing keeps a container from the machine's disks, it must not make their nodes.
    unguarded = cgroups.unguarded()
    if unguarded and (settings.devices or settings.device_rules):
        raise EngineError(f"--device and --device-cgroup-rule cannot be had here: {unguarded}")
    publishing.check(settings.network, bool(settings.ports) or settings.publish_all)
    workdir = settings.workdir or config.get("WorkingDir") or "/"
    if not workdir.startswith("/"):
        raise EngineError(
            f"the working directory {workdir!r} is invalid, it needs to be an absolute path"
        )
    hostname = os.uname().nodename if settings.network == "host" else id[:12]
    entrypoint, command = combine_command(config, settings)
    options = settings.security or security.Options(privileged=settings.privileged)
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
        more_networks=list(settings.more_networks),
        endpoint=settings.endpoint,
        ports=settings.ports,
        publish_all=settings.publish_all,
        exposed=publishing.exposed(config, settings.exposed, settings.ports),
        names=settings.names,
        labels={**(config.get("Labels") or {}), **settings.labels},
        mounts=settings.mounts,
        read_only=settings.read_only,
        groups=settings.groups,
        stop_signal=settings.stop_signal or config.get("StopSignal") or "SIGTERM",
        stop_timeout=STOP_TIMEOUT if settings.stop_timeout is None else settings.stop_timeout,
        capabilities=security.choose_capabilities(
            settings.cap_add,
            settings.cap_drop,
            privileged=settings.privileged,
            unguarded=unguarded,
        ),
        cap_add=settings.cap_add,
        cap_drop=settings.cap_drop,
        privileged=settings.privileged,
        security=options.shown,
        no_new_privileges=options.no_new_privileges,
        system_paths=options.system_paths,
        seccomp=options.seccomp,
        apparmor=options.apparmor,
        ulimits=settings.ulimits,
        limits=limiting.check(settings.limits),
        devices=settings.devices,
        device_rules=settings.device_rules,
        sysctls=limiting.check_sysctls(settings.sysctls, settings.network),
        shm_size=settings.shm_size,
        oom_score_adj=settings.oom_score_adj,
        cgroup_parent=settings.cgroup_parent,
        guarded=not unguarded,
        userns=settings.userns,
        users=userns.choose(settings.userns, settings.network, privileged=settings.privileged),
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


def check_hostname(name: str) -> str:
    """A host name that sethostname(2) takes and /etc/hosts can hold; EngineError otherwise."""
    good = all(c.isascii() and (c.isalnum() or c in "-._") for c in name)
    if not name or len(name) > 63 or not good:
        raise EngineError(f"invalid hostname {name!r}: at most 63 letters, digits, dots, dashes")
    return name

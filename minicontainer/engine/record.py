"""What the engine knows about a container: `container.json`, and while it lives `state.json`.

The record is written when the container is made and when it ends. Whether it *runs* is never
read from a file alone: the lock tells (see lifetime).
"""

from __future__ import annotations

import time

from .. import files, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .home import Home


class Record:
    """One container, as it was made and as it ended. Times are RFC 3339 in UTC, "" for never.

    A field that is not given is empty, so that a record of an older version can be read.
    """

    # What was asked for.
    id: str
    name: str
    created: str
    image: str  # the name as given
    image_id: str
    layers: list[str]  # their directories, top first
    command: list[str]  # the whole argument list, entry point and all
    entrypoint: list[str]
    user: str
    env: list[str]
    workdir: str
    hostname: str
    tty: bool
    interactive: bool
    remove: bool  # --rm
    init: bool
    network: str  # none, host, a network's name, container:ID
    more_networks: list[str]  # beside that one, by their names
    endpoint: dict[str, Any]  # ip, mac, aliases, as asked for
    ports: dict[str, Any]  # docker's PortBindings
    publish_all: bool
    exposed: list[str]  # docker's ExposedPorts: 5000/tcp
    names: dict[str, list[str]]  # docker's Dns, DnsSearch, DnsOptions, ExtraHosts
    labels: dict[str, str]
    mounts: list[dict[str, Any]]  # the user's own, as OCI mounts
    read_only: bool
    groups: list[str]
    stop_signal: str
    stop_timeout: int
    capabilities: list[str]  # what came of the next three
    cap_add: list[str]
    cap_drop: list[str]
    privileged: bool
    security: list[str]  # --security-opt as given; what it says is in the next four
    no_new_privileges: bool
    system_paths: bool  # /proc and /sys without masks
    seccomp: str  # "" for the default policy, "unconfined", or a profile's JSON
    apparmor: str  # "" for the default profile, "unconfined", or a profile's name
    ulimits: list[dict[str, Any]]
    limits: dict[str, Any]  # docker's HostConfig fields, those that were asked for
    devices: list[dict[str, str]]  # docker's DeviceMapping
    device_rules: list[str]
    sysctls: dict[str, str]
    shm_size: int  # bytes; 0: the default
    oom_score_adj: int
    cgroup_parent: str
    guarded: bool  # behind the device filter: device nodes need not be dead
    userns: str  # as asked for
    users: dict[str, Any]  # its tables: see userns
    # How it went.
    status: str  # created, exited, dead
    exit_code: int
    error: str
    oom_killed: bool
    started: str
    finished: str

    def __init__(self, **fields: Any) -> None:
        for name, kind in FIELDS.items():
            setattr(self, name, fields[name] if name in fields else _EMPTY[kind]())

    @property
    def short_id(self) -> str:
        """The twelve digits that people see."""
        return self.id[:12]

    def save(self, home: Home) -> None:
        """Write container.json; a reader sees all of it or the version before."""
        fields = {name: getattr(self, name) for name in FIELDS}
        files.write_atomic(
            home.container(self.id, "container.json"), jsonio.dumps(fields), mode=0o600
        )


_EMPTY: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
# Field to kind: annotations are text here (PEP 563).
FIELDS = {name: kind.partition("[")[0] for name, kind in Record.__annotations__.items()}


def load(home: Home, id: str) -> Record | None:
    """The record of a container; None when there is no such container (any more).

    A directory without container.json is no container: it is being made or being removed. A
    container whose record is damaged is dead: it can be seen, and removed.
    """
    try:
        fields = jsonio.read(home.container(id, "container.json"))
        return Record(**fields)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        return Record(id=id, status="dead", error=f"the record is damaged: {error}")


class Live:
    """state.json: a container's first process and when the two of them began.

    pid, start: the process and its start time in clock ticks since boot (they name it for
    ever); engine: the process that supervises it; started: RFC 3339; cgroup: its path, "" for
    none of its own.
    """

    __slots__ = ("pid", "start", "engine", "started", "cgroup")

    def __init__(self, pid: int, start: int, engine: int, started: str, cgroup: str = "") -> None:
        self.pid = pid
        self.start = start
        self.engine = engine
        self.started = started
        self.cgroup = cgroup

    def save(self, home: Home, id: str) -> None:
        """Write state.json."""
        fields = {
            "pid": self.pid,
            "pidStart": self.start,
            "engine": self.engine,
            "started": self.started,
            "cgroup": self.cgroup,
        }
        files.write_atomic(home.live(id, "state.json"), jsonio.dumps(fields))


def load_live(home: Home, id: str) -> Live | None:
    """state.json of a container; None when it has no process."""
    try:
        state = jsonio.read(home.live(id, "state.json"))
        names = ("pid", "pidStart", "engine", "started")
        pid, start, engine, started = (state[name] for name in names)
        return Live(pid, start, engine, started, state.get("cgroup", ""))
    except (FileNotFoundError, NotADirectoryError):
        return None


def now() -> str:
    """The time as docker writes it: RFC 3339 in UTC with nanoseconds, zeros at the end cut."""
    return timestamp(time.time_ns())


def timestamp(nanoseconds: int) -> str:
    """A time since 1970 in RFC 3339 (Go's RFC3339Nano), without the cost of `datetime`."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"

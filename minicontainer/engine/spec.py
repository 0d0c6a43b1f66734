"""From a container's record to the OCI runtime specification (config.json) that starts it.

Any OCI runtime takes what is written here: the tests give the same bundle to runc. Mounts,
masked paths and the rest are docker's (moby, oci/defaults.go).
"""

from __future__ import annotations

import os

from .. import files, jsonio
from ..errors import EngineError
from ..kernel import cgroups, devicefilter, devices, terminal
from ..kernel.users import is_mapped
from . import apparmor, limits, naming, networking, security, userns, users
from . import record as records
from .create import DEFAULT_PATH, merge_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .home import Home
    from .record import Record

VERSION = "1.0.2"
SHM_SIZE = 64 << 20


def build(home: Home, record: Record, root: int) -> dict[str, Any]:
    """The specification of a container whose root is mounted; also writes its /etc files.

    It is whole but for linux.seccomp, which comes with `save`. root: descriptor of the root: the
    user is looked up in its files. EngineError when the user is unknown.
    """
    user = users.resolve(root, record.user, record.groups)
    naming.write_files(home, record)
    extra, rules = limits.devices(record.devices)
    # moby, oci.WithPrivileged and parseSystemPaths
    open_paths = record.privileged or record.system_paths
    if record.privileged:
        extra = [*all_devices(record), *extra]
    spec = {
        "ociVersion": VERSION,
        "process": process(record, user),
        "root": {"path": "rootfs", "readonly": record.read_only},
        "hostname": record.hostname,
        "mounts": mounts(home, record),
        "linux": {
            "namespaces": namespaces(home, record),
            "maskedPaths": [] if open_paths else list(devices.MASKED),
            "readonlyPaths": [] if open_paths else list(devices.READONLY),
            "devices": extra,
            "sysctl": {**sysctls(record), **record.sysctls},
            **cgroup(record, rules),
        },
    }
    return userns.add(spec, record)


def sysctls(record: Record) -> dict[str, str]:
    """In a network of its own a port below 1024 is nobody's privilege, and `ping` needs none; the
    latter's groups would have to be mapped (moby, oci.WithSysctls)."""
    if record.network == "host" or record.network.startswith("container:"):
        return {}
    found = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if not record.users and not is_mapped():
        found["net.ipv4.ping_group_range"] = "0 2147483647"
    return found


def cgroup(record: Record, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """`cgroupsPath` and `resources`; neither where the machine has no cgroups and nothing was
    asked of them. rules: of the devices that were asked for."""
    wanted = limits.to_oci(record.limits)
    if record.guarded:
        own = [device_rule(text) for text in record.device_rules]
        allowed = [devicefilter.rule(True)] if record.privileged else devicefilter.DOCKER
        wanted["devices"] = [*allowed, *rules, *own]
    elif not wanted:
        return {}
    path = f"{record.cgroup_parent.rstrip('/')}/{record.id}" if record.cgroup_parent else record.id
    return {"cgroupsPath": cgroups.choose(path).path, "resources": wanted}


def device_rule(text: str) -> dict[str, Any]:
    """An OCI rule from `c 10:200 rwm`, whose form was checked when it was given."""
    kind, numbers, access = text.split(" ")
    major, minor = (devicefilter.ANY if part == "*" else int(part) for part in numbers.split(":"))
    return devicefilter.rule(True, kind, major, minor, access)


def all_devices(record: Record) -> list[dict[str, Any]]:
    """The host's devices, for --privileged; none where the user brings a /dev, in which they would
    be made (runc, needsSetupDev)."""
    brought = any(mount["destination"] == "/dev" for mount in record.mounts)
    return [] if brought else security.host_devices()


def process(record: Record, user: users.User) -> dict[str, Any]:
    """The `process` object of the container's own program."""
    return {
        "terminal": record.tty,
        "user": user.to_spec(),
        "args": record.command,
        "env": environment(record, user.home, record.tty),
        "cwd": record.workdir,
        "capabilities": capability_sets(record.capabilities, user.uid),
        "rlimits": record.ulimits,
        "noNewPrivileges": record.no_new_privileges,
        **oom_score(record),
        **apparmor.prepare(record),
    }


def oom_score(record: Record) -> dict[str, int]:
    """`oomScoreAdj` where it was asked for, or where we are spared ourselves: a container must not
    inherit that. A higher score of ours it keeps, since to lower it needs a capability."""
    if record.oom_score_adj:
        return {"oomScoreAdj": record.oom_score_adj}
    with open("/proc/self/oom_score_adj") as file:
        return {"oomScoreAdj": 0} if int(file.read()) < 0 else {}


def environment(record: Record, home: str, tty: bool, changes: Sequence[str] = ()) -> list[str]:
    """The environment of a process in the container: docker's defaults, the record's own, and
    HOME when nobody set it. changes: for `exec -e`."""
    defaults = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={record.hostname}"]
    if tty:
        defaults.append("TERM=xterm")
    merged = merge_environment(merge_environment(defaults, record.env), changes)
    if not any(entry.startswith("HOME=") for entry in merged):
        merged.append(f"HOME={home}")
    return merged


def capability_sets(names: list[str], uid: int) -> dict[str, list[str]]:
    """Root has them at once; another user only through a program that carries them, and no set
    is inheritable (CVE-2022-24769), so that none is ambient either (moby, oci.SetCapabilities)."""
    if uid:
        return {"bounding": names}
    return {"bounding": names, "effective": names, "permitted": names}


def namespaces(home: Home, record: Record) -> list[dict[str, str]]:
    """Everything of its own, but the network where the host's or a container's is asked for."""
    found = [{"type": kind} for kind in ("mount", "uts", "ipc", "pid", "cgroup")]
    other = networking.shared_with(record)
    if other:
        live = records.load_live(home, other)
        if live is None:
            raise EngineError(f"cannot join the network of a non running container: {other}")
        found.append({"type": "network", "path": f"/proc/{live.pid}/ns/net"})
    elif record.network != "host":
        found.append({"type": "network"})
    return found


def mounts(home: Home, record: Record) -> list[dict[str, Any]]:
    """Docker's default mounts, the three files about names, and the user's mounts.

    The user's come last, the deeper ones after those above them, and replace a default one at
    the same place.
    """
    safe = ["nosuid", "noexec", "nodev"]
    shm_size = record.shm_size or SHM_SIZE
    kernel = safe if record.privileged else [*safe, "ro"]
    defaults = [
        mount("/proc", "proc", "proc", safe),
        mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", terminal.DEVPTS_WORDS),
        mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", f"size={shm_size}"]),
        mount("/dev/mqueue", "mqueue", "mqueue", safe),
        mount("/sys", "sysfs", "sysfs", kernel),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", kernel),
    ]
    how = ["rbind", "rprivate", *(["ro"] if record.read_only else [])]
    named = networking.names_from(home, record)
    for name in naming.FILES:
        source = home.container(named, name)
        defaults.append(mount(f"/etc/{name}", "bind", source, how))
    open_devices = record.guarded or record.privileged
    own = [entry if open_devices else without_devices(entry) for entry in record.mounts]
    own.sort(key=lambda entry: entry["destination"].count("/"))
    taken = {entry["destination"] for entry in own}
    return [entry for entry in defaults if entry["destination"] not in taken] + own


def without_devices(entry: dict[str, Any]) -> dict[str, Any]:
    """A mount of the user's whose device files are dead, those of mounts below it too.

    Where the machine has no device filter: `-v /:/host:ro` would be the host's disk to write,
    since a device file does not care about `ro`. A device that is itself the source was named on
    purpose.
    """
    if entry["type"] != "bind" or not os.path.isdir(entry["source"]):
        return entry
    return {**entry, "options": [*entry["options"], "nodev", "rnodev"]}


def mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    """One mount in OCI form."""
    return {"destination": destination, "type": kind, "source": source, "options": options}


def save(home: Home, id: str, spec: dict[str, Any], seccomp: bytes | None = None) -> None:
    """Write config.json beside the container's rootfs: together they are an OCI bundle.

    seccomp: linux.seccomp as JSON. To read 400 names and write them again would take 0.3 ms.
    """
    text = jsonio.dumps({**spec, "linux": {**spec["linux"], "seccomp": None}})
    # Within a JSON string a quote has a backslash before it, so this is no user's text.
    head, _, tail = text.rpartition(',"seccomp":null')
    middle = f',"seccomp":{seccomp.decode()}' if seccomp is not None else ""
    files.write_atomic(home.container(id, "config.json"), head + middle + tail, mode=0o600)


def load(home: Home, id: str) -> dict[str, Any]:
    """The specification that a container was started with."""
    spec: dict[str, Any] = jsonio.read(home.container(id, "config.json"))
    return spec


def open_process_root(pid: int) -> int:
    """The root directory of a running container, as a descriptor."""
    return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

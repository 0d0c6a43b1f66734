"""A container as `docker inspect` shows it (moby, api/types ContainerJSON)."""

from __future__ import annotations

from . import apparmor, ending, limits, naming, networking, userns
from .spec import SHM_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .home import Home
    from .record import Record

NEVER = "0001-01-01T00:00:00Z"


def inspect(home: Home, record: Record) -> dict[str, Any]:
    """Docker's fields, those that mean something here."""
    state = ending.state(home, record)
    directory = home.container(record.id)
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": "".join(record.command[:1]),
        "Args": record.command[1:],
        "State": {
            "Status": state.status,
            "Running": state.running,
            "Paused": state.status == "paused",
            "Restarting": False,
            "OOMKilled": record.oom_killed and not state.live,
            "Dead": state.status == "dead",
            "Pid": state.live.pid if state.live else 0,
            "ExitCode": 0 if state.live else record.exit_code,
            "Error": "" if state.live else record.error,
            "StartedAt": (state.live.started if state.live else record.started) or NEVER,
            "FinishedAt": ("" if state.live else record.finished) or NEVER,
        },
        "Image": record.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": f"{directory}/log.json",
        "Name": f"/{record.name}",
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "AppArmorProfile": apparmor.choose(record),
        "HostConfig": {
            **limits.FIELDS,
            **record.limits,
            "AutoRemove": record.remove,
            "Binds": [f"{m['source']}:{m['destination']}" for m in record.mounts if _is_bind(m)],
            "CapAdd": record.cap_add or None,
            "CapDrop": record.cap_drop or None,
            "CgroupParent": record.cgroup_parent,
            "DeviceCgroupRules": record.device_rules or None,
            "Devices": record.devices,
            **naming.FIELDS,
            **record.names,
            "GroupAdd": record.groups,
            "Init": record.init,
            "NetworkMode": record.network,
            "OomKillDisable": False,
            "OomScoreAdj": record.oom_score_adj,
            "PortBindings": record.ports,
            "Privileged": record.privileged,
            "PublishAllPorts": record.publish_all,
            "ReadonlyRootfs": record.read_only,
            "SecurityOpt": record.security or None,
            "ShmSize": record.shm_size or SHM_SIZE,
            "Sysctls": record.sysctls or None,
            "Tmpfs": {
                m["destination"]: ",".join(m["options"]) for m in record.mounts if not _is_bind(m)
            },
            "Ulimits": record.ulimits,
            **userns.describe(record),
        },
        "GraphDriver": {"Name": "overlay", "Data": _directories(home, record)},
        "Mounts": [_mount(mount) for mount in record.mounts],
        "Config": {
            "Hostname": record.hostname,
            "User": record.user,
            "Tty": record.tty,
            "OpenStdin": record.interactive,
            "Env": record.env,
            "Cmd": record.command[len(record.entrypoint) :],
            "Entrypoint": record.entrypoint or None,
            "ExposedPorts": {port: {} for port in record.exposed},
            "Image": record.image,
            "WorkingDir": record.workdir,
            "Labels": record.labels,
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout,
        },
        "NetworkSettings": networking.describe(home, record),
    }


def _is_bind(mount: dict[str, Any]) -> bool:
    return bool(mount["type"] == "bind")


def _directories(home: Home, record: Record) -> dict[str, str]:
    upper, work = home.container(record.id, "upper"), home.container(record.id, "work")
    return {"LowerDir": ":".join(record.layers), "UpperDir": upper, "WorkDir": work}


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    words = mount["options"]
    propagation = [word for word in words if word.lstrip("r") in ("private", "shared", "slave")]
    return {
        "Type": mount["type"],
        "Source": mount["source"] if _is_bind(mount) else "",
        "Destination": mount["destination"],
        "Mode": ",".join(words),
        "RW": "ro" not in words,
        "Propagation": propagation[-1] if propagation else "",
    }

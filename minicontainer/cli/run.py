"""`run`: make a container from an image and start it."""

from __future__ import annotations

import os
import sys

from ..engine import security
from ..engine.create import Settings
from ..engine.home import Home
from ..errors import EngineError
from ..kernel import users
from . import arguments, limits
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.progress import Progress
    from ..image.reference import Reference

DOCKER_LATER = (
    "--annotation --attach -a --blkio-weight-device --cgroupns --cpu-count "
    "--cpu-percent --cpu-rt-period --cpu-rt-runtime --detach-keys --disable-content-trust "
    "--domainname --gpus --health-cmd --health-interval "
    "--health-retries --health-start-interval --health-start-period --health-timeout "
    "--io-maxbandwidth --io-maxiops --ipc --isolation --kernel-memory --link "
    "--link-local-ip --log-driver --log-opt --memory-swappiness --net-alias "
    "--no-healthcheck --pid "
    "--restart --runtime --storage-opt --use-api-socket --uts "
    "--volume-driver --volumes-from"
)

OPTIONS = tuple(sorted((
    Option("--add-host", "add a line to /etc/hosts; host-gateway is this machine's address",
           value="NAME:ADDRESS", many=True),
    Option("--cap-add", "add a Linux capability", value="NAME", many=True),
    Option("--cap-drop", "drop a Linux capability", value="NAME", many=True),
    Option("--cidfile", "write the container's id to a file", value="FILE"),
    Option("--detach -d", "run in the background and print the container's id"),
    Option("--dns", "a name server instead of the host's", value="ADDRESS", many=True),
    Option("--dns-option", "an option of resolv.conf(5)", value="OPTION", many=True),
    Option("--dns-search", "a domain to look for names in; . for none", value="DOMAIN", many=True),
    Option("--entrypoint", "replace the image's ENTRYPOINT", value="PROGRAM"),
    Option("--env -e", "set an environment variable, or pass the caller's on", value="NAME[=VALUE]",
           many=True),
    Option("--env-file", "read environment variables from a file", value="FILE", many=True),
    Option("--explain", "tell the start as it happens: each system call, its time, its chapter"),
    Option("--expose", "say that the program listens on a port; see --publish-all", value="PORT",
           many=True),
    Option("--group-add", "add a group to the process", value="GROUP", many=True),
    Option("--hostname -h", "the container's host name", value="NAME"),
    Option("--init", "run a tiny init that passes signals on and reaps orphans"),
    Option("--interactive -i", "pass the standard input to the container"),
    Option("--ip", "an address on a network of yours, instead of any", value="ADDRESS"),
    Option("--ip6", "an IPv6 address on a network of yours, instead of any", value="ADDRESS"),
    Option("--label -l", "set a label", value="NAME[=VALUE]", many=True),
    Option("--label-file", "read labels from a file", value="FILE", many=True),
    Option("--mac-address", "the adapter's, instead of one made from its address", value="MAC"),
    Option("--mount", "attach a directory of the host or a tmpfs: "
           "type=bind,source=DIR,target=DIR[,readonly] or type=tmpfs,target=DIR", value="SPEC",
           many=True),
    Option("--name", "the container's name", value="NAME"),
    Option("--network", "bridge (the default), or a network of yours: an adapter of its own on it; "
           "none: an own network with nothing in it; host: the host's; container:NAME: that "
           "container's. Given again: one more adapter, on another network", value="NETWORK",
           many=True),
    Option("--network-alias", "one more name on a network of yours", value="NAME", many=True),
    Option("--platform", "the image's platform: os[/arch[/variant]]", value="PLATFORM"),
    Option("--privileged", "all capabilities that the engine has, all devices, no masked paths"),
    Option("--publish -p", "lead a port of the host to one of the container; without HOST any that "
           "is free", value="[[IP:][HOST]:]PORT[/PROTOCOL]", many=True),
    Option("--publish-all -P", "publish all exposed ports, each at a free port of the host"),
    Option("--pull", "when to pull the image: always, missing, never", value="WHEN",
           default="missing"),
    Option("--quiet -q", "show no progress of the pull"),
    Option("--read-only", "make the root file system read-only"),
    Option("--rm", "remove the container when it ends"),
    Option("--security-opt", "no-new-privileges[=true|false]: no program may gain powers; "
           "seccomp=unconfined|FILE: the system-call filter; "
           "apparmor=unconfined|PROFILE: a loaded AppArmor profile; "
           "systempaths=unconfined: no masked paths", value="OPTION", many=True),
    Option("--sig-proxy", "pass signals on to the process", default=True),
    Option("--stop-signal", "the signal that asks the container to end", value="SIGNAL"),
    Option("--stop-timeout", "seconds to wait before the container is killed", value="SECONDS",
           number=True),
    Option("--tmpfs", "mount a tmpfs", value="DIR[:OPTIONS]", many=True),
    Option("--tty -t", "give the container a terminal"),
    Option("--ulimit", "a limit of setrlimit(2)", value="NAME=SOFT[:HARD]", many=True),
    Option("--user -u", "who the process is", value="USER[:GROUP]"),
    Option("--userns", "host: the host's users; remap: others, so that root inside is nobody on "
           "the host, by the ranges in /etc/subuid of a name (minicontainer)",
           value="host|remap[=USER[:GROUP]]"),
    Option("--volume -v", "attach a directory or file of the host", value="SOURCE:TARGET[:OPTIONS]",
           many=True),
    Option("--workdir -w", "the working directory", value="DIR"),
    *limits.OPTIONS,
), key=lambda option: option.long))  # fmt: skip


def run(home: Home, values: Values) -> int:
    """The action of `minicontainer run`."""
    detach = values.flag("detach")
    asked = (values.many("network") or [""])[0]
    if not detach and asked not in ("none", "host") and users.is_mapped():
        from ..engine import rootless

        rootless.renew(home)  # before anything is read that can be read once
    settings = make_settings(values)
    if settings.network == "host" and (settings.ports or settings.publish_all):
        print(
            "minicontainer: published ports are discarded when using host network mode",
            file=sys.stderr,
        )
    if values.flag("explain"):
        if detach:
            raise EngineError("--explain tells a start in the foreground, not one with --detach")
        from .explain import explain

        explain()
    if settings.tty and settings.interactive and not detach and not os.isatty(0):
        raise EngineError("the input device is not a TTY", exit_code=1)
    from ..engine import run as engine

    cidfile = values.text("cidfile")
    if cidfile is not None and os.path.exists(cidfile):
        raise EngineError(
            f"container ID file found, make sure the other container isn't running "
            f"or delete {cidfile}"
        )
    on_pull = None if values.flag("quiet") else announce
    on_created = arguments.write_cidfile(cidfile) if cidfile is not None else None
    if detach:
        print(engine.run_detached(home, settings, on_created=on_created, on_pull=on_pull))
        return 0
    return engine.run(
        home, settings, forward=values.flag("sig-proxy"), on_created=on_created, on_pull=on_pull
    )


def announce(reference: Reference) -> Progress:
    """Say that an image is pulled, on standard error: the standard output is the container's."""
    from ..image import progress

    print(f"Unable to find image '{reference.familiar()}' locally", file=sys.stderr)
    return progress.choose(sys.stderr)


def make_settings(values: Values) -> Settings:
    """What the command line asks for; EngineError for a value that cannot be."""
    signal = values.text("stop-signal")
    if signal is not None:
        from ..engine.ending import parse_signal

        parse_signal(signal)
    mounts, sources = arguments.mounts(
        values.many("volume"), values.many("mount"), values.many("tmpfs")
    )
    privileged = values.flag("privileged")
    return Settings(
        values.words[0],
        values.words[1:],
        name=values.text("name"),
        entrypoint=values.text("entrypoint"),
        env=arguments.environment(values.many("env-file"), values.many("env")),
        workdir=values.text("workdir"),
        user=values.text("user"),
        groups=values.many("group-add"),
        hostname=values.text("hostname"),
        labels=arguments.labels(values.many("label-file"), values.many("label")),
        mounts=mounts,
        sources=sources,
        read_only=values.flag("read-only"),
        network=(values.many("network") or [""])[0],
        more_networks=values.many("network")[1:],
        endpoint=arguments.endpoint(values),
        ports=arguments.ports(values.many("publish")),
        publish_all=values.flag("publish-all"),
        exposed=values.many("expose"),
        names=arguments.names(values),
        tty=values.flag("tty"),
        interactive=values.flag("interactive"),
        remove=values.flag("rm"),
        init=values.flag("init"),
        cap_add=values.many("cap-add"),
        cap_drop=values.many("cap-drop"),
        privileged=privileged,
        security=security.Options(values.many("security-opt"), privileged=privileged),
        ulimits=arguments.ulimits(values.many("ulimit")),
        userns=values.text("userns") or "",
        limits=limits.limits(values),
        **limits.others(values),
        stop_signal=signal,
        stop_timeout=values.number("stop-timeout"),
        pull=values.text("pull") or "missing",
        platform=values.text("platform"),
    )


RUN = Command(
    "run",
    "IMAGE [COMMAND] [ARG...]",
    "Make a container from an image and run a command in it",
    run,
    OPTIONS,
    minimum=1,
    interspersed=False,
    later=DOCKER_LATER,
    failure=125,
)

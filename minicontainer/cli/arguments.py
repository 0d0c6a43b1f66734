"""The small languages inside option values: environments, labels, mounts, limits."""

from __future__ import annotations

import os

from ..errors import EngineError
from ..network.names import check_host, check_option, check_search, check_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .options import Values

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def environment(files: Sequence[str], given: Sequence[str]) -> list[str]:
    """--env-file and --env: `NAME=value` sets; `NAME` takes the caller's value, and where the
    caller has none, --env takes the image's variable away, as in docker."""
    entries = []
    for path in files:
        for line in _lines(path, "env file"):
            name, equals, _ = line.partition("=")
            if not name or any(character.isspace() for character in name):
                raise EngineError(f"invalid env file {path}: variable {name!r} contains whitespace"
                                  if name else f"invalid env file {path}: no variable name on "
                                  f"line {line!r}")  # fmt: skip
            if equals:
                entries.append(line)
            elif name in os.environ:
                entries.append(f"{name}={os.environ[name]}")
    for entry in given:
        name, equals, _ = entry.partition("=")
        if not name:
            raise EngineError(f"invalid environment variable: {entry}")
        if not equals and name in os.environ:
            entry = f"{name}={os.environ[name]}"
        entries.append(entry)
    return entries


def labels(files: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """--label-file and --label: `NAME=value`, or `NAME` for an empty value."""
    entries = [line for path in files for line in _lines(path, "label file")]
    found = {}
    for entry in [*entries, *given]:
        name, _, value = entry.partition("=")
        if not name:
            raise EngineError(f"invalid label {entry!r}: it has no name")
        found[name] = value
    return found


def endpoint(values: Values) -> dict[str, Any]:
    """--ip, --ip6, --mac-address and --network-alias, as far as they are given."""
    found: dict[str, Any] = own_addresses(values)
    mac = values.text("mac-address")
    if mac:
        octets = mac.lower().replace("-", ":").split(":")
        hexadecimal = all(len(o) == 2 and not o.strip("0123456789abcdef") for o in octets)
        if len(octets) != 6 or not hexadecimal or int(octets[0], 16) & 1 or {*octets} == {"00"}:
            raise EngineError(f"invalid MAC address {mac!r}: six octets, and not a group's")
        found["mac"] = ":".join(octets)
    if values.many("network-alias"):
        found["aliases"] = values.many("network-alias")
    return found


def own_addresses(values: Values) -> dict[str, str]:
    """--ip and --ip6, as far as they are given."""
    found = {}
    for name, version in (("ip", 4), ("ip6", 6)):
        if address := values.text(name):
            from ..network.addresses import parse

            if parse(address)[0] != version:
                raise EngineError(f"invalid IPv{version} address: {address}")
            found[name] = address
    return found


def ports(given: list[str]) -> dict[str, list[dict[str, str]]]:
    """--publish as docker's PortBindings."""
    if not given:
        return {}
    from ..network import ports

    return ports.parse(given)


def names(values: Values) -> dict[str, list[str]]:
    """--dns, --dns-search, --dns-option and --add-host as docker's HostConfig fields."""
    checked = {
        "Dns": [check_server(each) for each in values.many("dns")],
        "DnsSearch": [check_search(each) for each in values.many("dns-search")],
        "DnsOptions": [check_option(each) for each in values.many("dns-option")],
        "ExtraHosts": [check_host(each) for each in values.many("add-host")],
    }
    return {field: given for field, given in checked.items() if given}


def _lines(path: str, what: str) -> list[str]:
    """The lines that say something; blanks at the end of a line belong to the value."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EngineError(f"cannot read the {what} {path}: {reason}") from None
    except UnicodeDecodeError:
        raise EngineError(f"the {what} {path} is not UTF-8") from None
    lines = [line.removesuffix("\r").lstrip() for line in lines]
    return [line for line in lines if line and not line.startswith("#")]


def mounts(
    volumes: Sequence[str], specs: Sequence[str], tmpfs: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """--volume, --mount and --tmpfs as OCI mounts, and the host directories that --volume makes
    when they are missing. EngineError also for two mounts at one place."""
    found = [volume(text) for text in volumes]
    sources = [entry["source"] for entry in found]
    found += [mount(text) for text in specs]
    found += [temporary(text) for text in tmpfs]
    seen = set()
    for entry in found:
        if entry["destination"] in seen:
            raise EngineError(f"duplicate mount point: {entry['destination']}")
        seen.add(entry["destination"])
    return found, [path for path in sources if not os.path.lexists(path)]


def volume(text: str) -> dict[str, Any]:
    """One --volume: `SOURCE:TARGET[:ro,…]`."""
    source, colon, rest = text.partition(":")
    target, _, words = rest.partition(":")
    if not colon or not source or not target or ":" in words:
        if source.startswith("/") and not colon:
            raise EngineError(
                f"the anonymous volume {text} cannot be had yet",
                hint="use --tmpfs, or a directory of the host: -v /DIR:" + text,
            )
        raise EngineError(f"invalid volume specification {text!r}: use SOURCE:TARGET[:OPTIONS]")
    if source.startswith("."):
        source = os.path.abspath(source)
    if not source.startswith("/"):
        raise EngineError(
            "named volumes are not implemented yet",
            hint="a directory of the host is named by its absolute path: -v /DIR:" + rest,
        )
    options = ["rbind"]
    propagation = "rprivate"
    for word in filter(None, words.split(",")):
        if word in _PROPAGATION:
            propagation = word
        elif word in ("ro", "rw"):
            # Read-only with all that is mounted below, as docker since version 25.
            options += ["ro", "rro"] if word == "ro" else [word]
        elif word == "idmap":
            # podman's word: with --userns remap, what the host's root owns is the container's.
            options = [word, "bind", *options[1:]]
        elif word not in ("z", "Z", "nocopy", "consistent", "cached", "delegated"):
            raise EngineError(f"invalid volume specification {text!r}: unknown option {word!r}")
    return _entry(target, "bind", source, [*options, propagation])


def mount(text: str) -> dict[str, Any]:
    """One --mount: `type=bind,source=DIR,target=DIR,…` or `type=tmpfs,target=DIR,…`."""
    fields: dict[str, str] = {"type": "volume"}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(
            key, key
        )
        if key not in _MOUNT_KEYS:
            raise _invalid_mount(text, f"unexpected key {key!r}")
        if not equals and key != "readonly":
            raise _invalid_mount(text, f"{key} must be a key=value pair")
        fields[key] = value if equals else "true"
    target = fields.get("target")
    if not target:
        raise _invalid_mount(text, "target is required")
    readonly = ["ro", "rro"] if fields.get("readonly", "false") in ("1", "true") else []
    if fields["type"] == "bind":
        source = fields.get("source") or ""
        source = os.path.abspath(source) if source.startswith(".") else source
        if not source.startswith("/"):
            raise _invalid_mount(text, "the source of a bind mount is an absolute path")
        if not os.path.lexists(source):
            raise _invalid_mount(text, f"bind source path does not exist: {source}")
        propagation = fields.get("bind-propagation", "rprivate")
        if propagation not in _PROPAGATION:
            raise _invalid_mount(text, f"unknown bind-propagation {propagation!r}")
        return _entry(target, "bind", source, ["rbind", *readonly, propagation])
    if fields["type"] == "tmpfs":
        words = [f"{name}={fields[f'tmpfs-{name}']}" for name in ("size", "mode")
                 if f"tmpfs-{name}" in fields]  # fmt: skip
        safe = ["noexec", "nosuid", "nodev", *readonly[:1]]
        return _entry(target, "tmpfs", "tmpfs", [*safe, *words])
    raise _invalid_mount(text, f"the type {fields['type']!r} cannot be had yet: use bind or tmpfs")


_MOUNT_KEYS = ("type", "source", "target", "readonly", "bind-propagation", "tmpfs-size",
               "tmpfs-mode", "consistency")  # fmt: skip


def _invalid_mount(text: str, why: str) -> EngineError:
    return EngineError(f"invalid mount {text!r}: {why}")


def temporary(text: str) -> dict[str, Any]:
    """One --tmpfs: `DIR[:OPTIONS]`, with mount(8)'s words."""
    target, _, words = text.partition(":")
    given = [word for word in words.split(",") if word]
    # What the user says replaces the careful default.
    defaults = [word for word in ("noexec", "nosuid", "nodev") if word[2:] not in given]
    return _entry(target, "tmpfs", "tmpfs", defaults + given)


def _entry(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    if not target.startswith("/") or ".." in target.split("/"):
        raise EngineError(
            f"invalid mount path {target!r}: it must be an absolute path inside the container"
        )
    target = os.path.normpath(target)
    if target in ("/", "//"):
        raise EngineError("invalid mount path '/': the root itself cannot be mounted over")
    return {"destination": target, "type": kind, "source": source, "options": options}


def ulimits(given: Sequence[str]) -> list[dict[str, Any]]:
    """--ulimit as OCI rlimits: `nofile=1024:2048`; one number is both; -1 is no limit."""
    found = []
    for text in given:
        name, _, numbers = text.partition("=")
        soft, colon, hard = numbers.partition(":")
        try:
            low = int(soft)
            high = int(hard) if colon else low
        except ValueError:
            raise EngineError(f"invalid ulimit {text!r}: use NAME=SOFT[:HARD]") from None
        if high != -1 and (low == -1 or low > high):
            raise EngineError(
                f"invalid ulimit {text!r}: the soft limit must not be above the hard one"
            )
        found.append({"type": f"RLIMIT_{name.upper()}", "soft": low % 2**64, "hard": high % 2**64})
    return found


def write_cidfile(path: str) -> Callable[[str], None]:
    """A function that writes an id to a new file; the file must not exist."""

    def write(id: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, id.encode())
        finally:
            os.close(descriptor)

    return write

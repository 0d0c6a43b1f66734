"""The options that limit a container, of `run` and of `update`: docker's words for values."""

from __future__ import annotations

from ..errors import EngineError
from .options import Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_UNITS = "kmgtp"

_RATE = "DISK:RATE"


def size(text: str) -> int:
    """Bytes from `64m`, `1.5GiB`, `4096`; units are powers of 1024 (go-units, RAMInBytes)."""
    word = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = 1
    if word and word[-1] in _UNITS:
        factor = 1024 ** (_UNITS.index(word[-1]) + 1)
        word = word[:-1].rstrip()
    whole, _, fraction = word.partition(".")
    if not word.isascii() or not whole.isdigit() or not (fraction or "0").isdigit():
        raise ValueError(f"invalid size: '{text}'")
    return int(float(word) * factor) if fraction else int(whole) * factor


def size_or_unlimited(text: str) -> int:
    """The same, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def cpus(text: str) -> int:
    """Billionths of a processor from `1.5`."""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        raise ValueError(f"failed to parse {text} as a rational number")
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    return int(whole or "0") * 10**9 + int(fraction[:9].ljust(9, "0"))


def bytes_rate(text: str) -> dict[str, Any]:
    """`/dev/sda:1mb`: bytes a second."""
    path, colon, rate = text.partition(":")
    try:
        return {"Path": _disk(path, colon, text, "<number>[<unit>]"), "Rate": size(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is "
            "<device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional "
            "and can be kb, mb, or gb"
        ) from None


def operations_rate(text: str) -> dict[str, Any]:
    """`/dev/sda:100`: operations a second."""
    path, colon, rate = text.partition(":")
    if not (rate.isascii() and rate.isdigit()):
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": _disk(path, colon, text, "<number>"), "Rate": int(rate)}


def _disk(path: str, colon: str, text: str, form: str) -> str:
    if not colon or not path.startswith("/dev/"):
        raise EngineError(f"bad format for device path {text}: use /dev/NAME:{form}")
    return path


def whole(text: str) -> int:
    """A whole number."""
    return int(text)


# Option, docker's HostConfig field, what reads the value. Those of `update` first.
UPDATABLE: tuple[tuple[Option, str, Callable[[str], Any]], ...] = (
    (Option("--blkio-weight", "share of the disks beside others, 10 to 1000", value="N"),
     "BlkioWeight", whole),
    (Option("--cpu-period", "length of the period that --cpu-quota is of, in microseconds",
            value="N"), "CpuPeriod", whole),
    (Option("--cpu-quota", "processor time in each period, in microseconds", value="N"),
     "CpuQuota", whole),
    (Option("--cpu-shares -c", "share of the processors beside others (default 1024)", value="N"),
     "CpuShares", whole),
    (Option("--cpus", "how many processors at most: 0.5, 2", value="N"), "NanoCpus", cpus),
    (Option("--cpuset-cpus", "the processors that may be used: 0-2,7", value="LIST"),
     "CpusetCpus", str),
    (Option("--cpuset-mems", "the memory nodes that may be used", value="LIST"),
     "CpusetMems", str),
    (Option("--memory -m", "how much memory at most: 64m, 1g", value="SIZE"), "Memory", size),
    (Option("--memory-reservation", "memory that is left to it when there is little",
            value="SIZE"), "MemoryReservation", size),
    (Option("--memory-swap", "memory and swap together at most; -1: swap without limit",
            value="SIZE"), "MemorySwap", size_or_unlimited),
    (Option("--pids-limit", "how many processes at most; -1: no limit", value="N"),
     "PidsLimit", whole),
)  # fmt: skip
_ONCE: tuple[tuple[Option, str, Callable[[str], Any]], ...] = (
    (Option("--device-read-bps", "bytes a second read from a disk at most", value=_RATE,
            many=True), "BlkioDeviceReadBps", bytes_rate),
    (Option("--device-read-iops", "read operations a second at most", value=_RATE, many=True),
     "BlkioDeviceReadIOps", operations_rate),
    (Option("--device-write-bps", "bytes a second written to a disk at most", value=_RATE,
            many=True), "BlkioDeviceWriteBps", bytes_rate),
    (Option("--device-write-iops", "write operations a second at most", value=_RATE, many=True),
     "BlkioDeviceWriteIOps", operations_rate),
)  # fmt: skip
OTHERS = (
    Option("--cgroup-parent", "the cgroup to be below, instead of /minicontainer", value="PATH"),
    Option("--device", "a device of the host, and what may be done with it",
           value="PATH[:PATH][:rwm]", many=True),
    Option("--device-cgroup-rule", "let devices be opened by number: 'c 10:200 rwm'",
           value="RULE", many=True),
    Option("--oom-kill-disable", "refused: a container at its limit would stand still for ever"),
    Option("--oom-score-adj", "how soon the kernel kills it when the machine has no memory left: "
           "-1000 to 1000", value="N", number=True),
    Option("--shm-size", "size of /dev/shm", value="SIZE", default="64m"),
    Option("--sysctl", "set a kernel parameter that belongs to a namespace", value="NAME=VALUE",
           many=True),
)  # fmt: skip
OPTIONS = tuple(row[0] for row in (*UPDATABLE, *_ONCE)) + OTHERS


def limits(values: Values) -> dict[str, Any]:
    """docker's HostConfig fields for the limits that a command line asks for."""
    found = {}
    for option, field, read in (*UPDATABLE, *_ONCE):
        name = option.long[2:]
        if option.many:
            if values.many(name):
                found[field] = [_read(option, read, text) for text in values.many(name)]
        elif (text := values.text(name)) is not None:
            found[field] = _read(option, read, text)
    return found


def others(values: Values) -> dict[str, Any]:
    """The rest, by the names that engine.create.Settings has for them."""
    if values.flag("oom-kill-disable"):
        raise EngineError(
            "--oom-kill-disable cannot be had: without the OOM killer a container at its limit "
            "stands still for ever, and cgroup version 2 has no such switch",
            hint="give it more memory, or --oom-score-adj",
        )
    score = values.number("oom-score-adj") or 0
    if not -1000 <= score <= 1000:
        raise EngineError(f"invalid value {score}, range for oom score adj is [-1000, 1000]")
    shm = next(option for option in OTHERS if option.long == "--shm-size")
    return {
        "cgroup_parent": values.text("cgroup-parent") or "",
        "devices": [device(text) for text in values.many("device")],
        "device_rules": [device_rule(text) for text in values.many("device-cgroup-rule")],
        "oom_score_adj": score,
        "shm_size": _read(shm, size, values.text("shm-size") or "64m"),
        "sysctls": sysctls(values.many("sysctl")),
    }


def device(text: str) -> dict[str, str]:
    """One --device: docker's DeviceMapping."""
    source, *rest = text.split(":")
    access = "rwm"
    if rest and (len(rest) == 2 or _is_access(rest[-1])):
        access = rest.pop()
    target = rest[0] if rest and rest[0] else source
    if not source or len(rest) > 1:
        raise EngineError(f"invalid device specification: {text}")
    if not _is_access(access):
        raise EngineError(f"bad mode specified: {access}")
    for path in (source, target):
        if not path.startswith("/") or ".." in path.split("/"):
            raise EngineError(f"{path} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return bool(text) and not set(text) - set("rwm") and len(set(text)) == len(text)


def device_rule(text: str) -> str:
    """One --device-cgroup-rule: `[acb] MAJOR:MINOR [rwm]`, where `*` is any number."""
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    parts = numbers.split(":")
    right = len(parts) == 2 and all(part == "*" or (part.isascii() and part.isdigit())
                                    for part in parts)  # fmt: skip
    if kind not in ("a", "b", "c") or not right or not _is_access(access):
        raise EngineError(f"invalid device cgroup format '{text}'")
    return text


def sysctls(given: Sequence[str]) -> dict[str, str]:
    """--sysctl: `NAME=VALUE`."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise EngineError(f"invalid sysctl {text!r}: use NAME=VALUE")
        found[name] = value
    return found


def _read(option: Option, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        names = f"{option.short}, {option.long}" if option.short else option.long
        why = "it is not a whole number" if read is whole else str(error)
        raise EngineError(f'invalid argument "{text}" for "{names}" flag: {why}') from None

"""The OCI runtime specification: read, checked, and nothing of it ignored in silence.

A specification asks for confinement. What this runtime cannot give yet is refused with its
name, because a container that runs with less than it asked for is a lie.
"""

from __future__ import annotations

from .. import jsonio
from ..errors import EngineError
from ..kernel import capabilities, devicefilter, mounts, namespaces, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.seccomp import Filter
    from ..kernel.users import Row

VERSION = "1.0.2"

_ROW = ("containerID", "hostID", "size")

# config-linux.md and config.md: what is asked for here is not given yet, by chapter.
_NOT_YET = (
    (("hooks",), "hooks", "18"),
    (("linux", "intelRdt"), "Intel RDT", "08"),
    (("linux", "mountLabel"), "an SELinux label", "18"),
    (("process", "selinuxLabel"), "an SELinux label", "18"),
)


def load(path: str) -> dict[str, Any]:
    """Read and check a config.json; EngineError says what is wrong with it."""
    try:
        spec = jsonio.read(path)
    except FileNotFoundError:
        raise EngineError(f"no OCI bundle here: {path} does not exist") from None
    except ValueError as error:
        raise EngineError(f"{path} is not JSON: {error}") from None
    check(spec)
    checked: dict[str, Any] = spec
    return checked


def check(spec: Any) -> None:
    """Raise EngineError when a specification is malformed, or asks for what we cannot do."""
    _expect(spec, dict, "the specification")
    version = spec.get("ociVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise EngineError(f"ociVersion {version!r}: only 1.x is known")
    root = _expect(spec.get("root"), dict, "root")
    _expect(root.get("path"), str, "root.path")
    process = _expect(spec.get("process"), dict, "process")
    check_process(process)
    for mount in _expect(spec.get("mounts", []), list, "mounts"):
        _expect(mount, dict, "a mount")
        mounts.check_absolute(_expect(mount.get("destination"), str, "a mount's destination"))
        words = _strings(mount.get("options", []), "a mount's options")
        _refuse_propagation(words, f"the mount at {mount['destination']}")
    linux = _expect(spec.get("linux", {}), dict, "linux")
    for namespace in _expect(linux.get("namespaces", []), list, "linux.namespaces"):
        kind = _expect(namespace, dict, "a namespace").get("type")
        if kind not in namespaces.KINDS:
            raise EngineError(f"unknown namespace type {kind!r}")
        if kind == "time" or (kind in ("pid", "user") and namespace.get("path")):
            raise EngineError(f"this specification's {kind} namespace cannot be had yet")
    mapped = user_maps(linux) is not None
    for mount in spec.get("mounts", []):
        if "idmap" in mount.get("options", []) and not mapped:
            where = mount["destination"]
            raise EngineError(f"the mount at {where}: idmap wants a user namespace to map to")
    _refuse_propagation([linux.get("rootfsPropagation") or "private"], "rootfsPropagation")
    for name in ("maskedPaths", "readonlyPaths"):
        for path in _strings(linux.get(name, []), f"linux.{name}"):
            mounts.check_absolute(path)
    for way, what, chapter in _NOT_YET:
        value: Any = spec
        for key in way:
            value = value.get(key) if isinstance(value, dict) else None
        if value:
            raise EngineError(f"{what} cannot be had yet (chapter {chapter}): {'.'.join(way)}")
    _expect(linux.get("cgroupsPath", ""), str, "linux.cgroupsPath")
    check_resources(_expect(linux.get("resources") or {}, dict, "linux.resources"))


def check_resources(wanted: dict[str, Any]) -> None:
    """The same for linux.resources (config-linux.md, "Control groups")."""
    for section in resources.KNOWN:
        for name, value in _expect(wanted.get(section) or {}, dict, section).items():
            what = f"linux.resources.{section}.{name}"
            if name.startswith("throttle"):
                for entry in _expect(value, list, what):
                    _expect(entry, dict, what)
                    for key in ("major", "minor", "rate"):
                        _expect(entry.get(key), int, f"{what}: {key}")
            elif name in ("cpus", "mems"):
                _expect(value, str, what)
            elif name in resources.KNOWN[section] and name != "disableOOMKiller":
                _expect(value, int, what)
    for entry in _expect(wanted.get("devices") or [], list, "linux.resources.devices"):
        devicefilter.numbers(_expect(entry, dict, "a device rule"))
    for entry in _expect(wanted.get("hugepageLimits") or [], list, "hugepageLimits"):
        _expect(_expect(entry, dict, "a huge page limit").get("limit"), int, "its limit")
        _expect(entry.get("pageSize"), str, "its pageSize")
    for value in _expect(wanted.get("unified") or {}, dict, "linux.resources.unified").values():
        _expect(value, str, "a value of linux.resources.unified")
    resources.check(wanted)


def user_maps(linux: dict[str, Any]) -> tuple[list[Row], list[Row]] | None:
    """The two tables of a new user namespace, None where none is asked for (config-linux.md,
    "User namespace mappings"). EngineError for tables without a namespace, and the reverse."""
    wanted = any(entry.get("type") == "user" for entry in linux.get("namespaces", []))
    tables = []
    for name in ("uidMappings", "gidMappings"):
        rows = []
        for row in _expect(linux.get(name) or [], list, f"linux.{name}"):
            _expect(row, dict, f"a row of linux.{name}")
            numbers = [_expect(row.get(k), int, f"linux.{name}: {k}") for k in _ROW]
            if min(numbers) < 0 or max(numbers) >= 2**32 or not numbers[2]:
                raise EngineError(f"linux.{name}: {numbers} is no range of numbers")
            rows.append((numbers[0], numbers[1], numbers[2]))
        if wanted != bool(rows):
            what = "is missing" if wanted else "asks for a user namespace, and there is none"
            raise EngineError(f"linux.{name} {what}")
        tables.append(rows)
    return (tables[0], tables[1]) if wanted else None


def _refuse_propagation(words: list[str], what: str) -> None:
    """Our tree is private: a mount that shares with the host's would be so in name only."""
    for word in words:
        if word in ("shared", "rshared", "slave", "rslave"):
            raise EngineError(f"{what}: {word} propagation cannot be had yet (chapter 18)")


def check_process(process: Any) -> None:
    """The same for the `process` object, which `exec` brings too (config.md, "Process")."""
    arguments = _strings(process.get("args"), "process.args")
    if not arguments:
        raise EngineError("process.args is empty: no command was given")
    for entry in _strings(process.get("env", []), "process.env"):
        if "=" not in entry or "\0" in entry or entry.startswith("="):
            raise EngineError(f"process.env: {entry!r} is not NAME=value")
    if any("\0" in argument for argument in arguments):
        raise EngineError("process.args: an argument holds a null character")
    cwd = _expect(process.get("cwd"), str, "process.cwd")
    if not cwd.startswith("/"):
        raise EngineError(f"process.cwd: {cwd!r} is not an absolute path")
    user = _expect(process.get("user", {}), dict, "process.user")
    for key in ("uid", "gid"):
        number = _expect(user.get(key, 0), int, f"process.user.{key}")
        if not 0 <= number < 2**32 - 1:
            raise EngineError(f"process.user.{key}: {number} is out of range")
    profile = _expect(process.get("apparmorProfile", ""), str, "process.apparmorProfile")
    if profile and not profile.isprintable():
        raise EngineError(f"process.apparmorProfile: {profile!r} is no name of a profile")
    sets = process.get("capabilities") or {}
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        capabilities.mask(_strings(sets.get(name, []), f"process.capabilities.{name}"))


def compile_filter(spec: dict[str, Any], *, init: bool = False) -> Filter | None:
    """The system-call filter of linux.seccomp, checked and compiled; None where there is none.

    init: whether a tiny init starts the program (start.start). It takes some milliseconds, and
    the modules for it are not those of a start: the engine keeps what comes out.
    """
    profile = (spec.get("linux") or {}).get("seccomp")
    if profile is None:
        return None
    from ..kernel import seccomp_compiler, seccomp_profile

    try:
        seccomp_profile.check(profile)
    except seccomp_profile.ProfileError as error:
        raise EngineError(f"linux.seccomp: {error.message}", hint=error.hint) from None
    filter = seccomp_compiler.compile_filter(profile)
    drops = not (spec.get("process") or {}).get("noNewPrivileges")
    seccomp_compiler.check_start(profile, drops=drops, init=init)
    return filter


def environment(process: dict[str, Any]) -> dict[str, str]:
    """process.env as a mapping; of a name given twice the last counts."""
    return dict(entry.split("=", 1) for entry in process.get("env", []))


def _expect(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise EngineError(f"{what} is missing or malformed in the OCI specification")
    return value


def _strings(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise EngineError(f"{what} is missing or malformed in the OCI specification")
    return value

"""The system-call filter of a container: chosen by its record, compiled once, kept.

Reading the policy and compiling it takes 5 ms, of a start that takes 20. So what comes out is kept
below the data root, under a name that says all it was made from. Nothing there is believed without
its digest; what is missing or damaged is made again.
"""

from __future__ import annotations

import os

from .. import __version__, files, jsonio
from ..image.digest import digest_of
from ..kernel import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .home import Home
    from .record import Record

UNCONFINED = "unconfined"
# How many filters are kept; another profile, set of capabilities or kernel makes another one.
KEPT = 64
_NAME = "seccomp"
_SOURCES = ("", "_assembler", "_compiler", "_default", "_profile")


class Chosen:
    """What was chosen for a container. profile: `linux.seccomp` of its specification, as JSON."""

    __slots__ = ("profile", "filter")

    def __init__(self, profile: bytes, filter: seccomp.Filter) -> None:
        self.profile = profile
        self.filter = filter


def prepare(home: Home, record: Record) -> Chosen | None:
    """The filter that a container is to have; None for none.

    record.seccomp: "" for the default policy, "unconfined" for none, else a profile's JSON. A
    copy is left in the container's directory for those who join it later. Raises EngineError.
    """
    if record.seccomp == UNCONFINED:
        return None
    key = digest_of(repr(_made_from(record)).encode())[7:].encode()
    path = f"{home.root}/{_NAME}/{key.decode()}"
    chosen = _read(path, key)
    if chosen is None:
        chosen = _choose(record)
        if chosen is None:
            return None
        _keep(path, _pack(key, chosen))
    own = home.container(record.id, _NAME)
    try:
        _link(path, own)
    except FileNotFoundError:
        # Another engine has tidied it up; or has put its own in its place this moment, and a file
        # whose last name is gone gets no new one (link(2), ENOENT).
        files.write_atomic(own, _pack(key, chosen), mode=0o600)
    return chosen


def of_container(home: Home, record: Record, spec: dict[str, Any]) -> seccomp.Filter | None:
    """The filter that a container was started with, for one more process in it.

    spec: its config.json, from which the filter is made again should the copy be damaged.
    """
    if "seccomp" not in spec["linux"]:
        return None
    chosen = _read(home.container(record.id, _NAME))
    if chosen is not None:
        return chosen.filter
    from ..runtime.spec import compile_filter

    return compile_filter(spec)


def check(text: str, name: str) -> str:
    """The value of `--security-opt seccomp=` for a record: the profile without its blanks.

    text: what the file holds; name: the file, for the error that tells line and reason.
    """
    from ..kernel import seccomp_profile

    return jsonio.dumps(seccomp_profile.parse(text, name))


def _made_from(record: Record) -> list[Any]:
    """All that a filter depends on, the program that makes it too."""
    system = os.uname()
    package = os.path.dirname(seccomp.__file__)
    # As Python tells whether its own compiled files are of today's source.
    sources = [os.stat(f"{package}/seccomp{name}.py") for name in _SOURCES]
    sources.append(os.stat(f"{package}/seccomp_numbers.txt"))
    return [
        __version__, [(source.st_mtime_ns, source.st_size) for source in sources],
        system.machine, system.release, sorted(record.capabilities), record.init,
        record.no_new_privileges, record.seccomp,
    ]  # fmt: skip


def _choose(record: Record) -> Chosen | None:
    """Choose the rules that hold for a container, and compile them."""
    from ..kernel import seccomp_compiler, seccomp_default, seccomp_profile

    profile = seccomp_default.profile()
    if record.seccomp:
        profile = seccomp_profile.parse(record.seccomp, "the seccomp profile")
    system = os.uname()
    rules = seccomp_profile.select(profile, record.capabilities, system.machine, system.release)
    if rules is None:
        return None
    filter = seccomp_compiler.compile_filter(rules)
    # With no-new-privileges nothing is given up after the filter is there.
    drops = not record.no_new_privileges
    seccomp_compiler.check_start(rules, drops=drops, init=record.init)
    return Chosen(jsonio.dumps(rules).encode(), filter)


def _read(path: str, key: bytes | None = None) -> Chosen | None:
    """What a file says, when it is whole; and was made for this key, where one is given.

    Its lines: the digest of the rest, the key, the flags, the rules; then the program.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    digest, _, rest = data.partition(b"\n")
    if digest != digest_of(rest).encode():
        return None
    made_for, how, profile, program = rest.split(b"\n", 3)
    if key not in (None, made_for):
        return None
    return Chosen(profile, seccomp.Filter(program, int(how)))


def _pack(key: bytes, chosen: Chosen) -> bytes:
    """The text of the file that `_read` reads."""
    filter = chosen.filter
    rest = b"\n".join((key, str(filter.how).encode(), chosen.profile, filter.program))
    return digest_of(rest).encode() + b"\n" + rest


def _keep(path: str, data: bytes) -> None:
    """Keep a filter for the next container, and not more of them than are of use."""
    directory = os.path.dirname(path)
    os.makedirs(directory, 0o700, exist_ok=True)
    files.write_atomic(path, data, mode=0o600)
    try:
        with os.scandir(directory) as entries:
            by_age = sorted(entries, key=lambda entry: entry.stat().st_mtime_ns)
        for entry in by_age[:-KEPT]:
            os.unlink(entry.path)
    except FileNotFoundError:
        return  # another engine tidies up as well


def _link(path: str, own: str) -> None:
    """Give a container its filter, which stays when the other name is tidied up."""
    try:
        os.link(path, own)
    except FileExistsError:
        os.unlink(own)
        os.link(path, own)

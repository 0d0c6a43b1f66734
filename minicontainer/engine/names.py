"""Names of containers: claimed by a symbolic link, which only one can make."""

from __future__ import annotations

import os

from .. import files
from ..errors import EngineError
from . import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .home import Home
    from .record import Record

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HEX = frozenset("0123456789abcdef")

# What a container should be, and people who made the machines and ideas beneath it.
_ADJECTIVES = (
    "able agile airy amber apt bold brave bright brisk calm candid civil clear clever cosy crisp "
    "curious deft eager early easy exact fair fleet fond frank free fresh frosty gentle glad "
    "golden handy hardy honest humble jolly keen kind level light lively loyal lucid lucky mellow "
    "merry mild modest neat nimble noble novel orderly patient plain polite prime proud quick "
    "quiet rapid ready robust sharp silent simple smart smooth snug sober solid spry stable "
    "steady sunny swift tidy trusty vivid warm wise witty zesty"
).split()
_SURNAMES = (
    "aho allen backus bartik berezin bernstein boole brooks cerf church clark codd conway cox "
    "curry dahl dijkstra easley engelbart feinler floyd forsythe frege goldberg granville gray "
    "hamilton hamming hoare holberton hopper hamano iverson johnson kahan kahn karp keller kemeny "
    "kernighan kilburn kleene knuth kurtz lamarr lamport liskov lovelace mauchly mccarthy mcilroy "
    "meltzer milner minsky moore naur neumann noether nygaard papert perlis perlman pike postel "
    "rabin raskin ritchie rosen shamir shannon shaw sinclair snyder stallman stonebraker "
    "strachey sutherland tarjan thompson torvalds turing wilkes wing wirth yao zuse"
).split()


def new_id() -> str:
    """64 random hex digits. Twelve are shown, so they must not look like a number: a hostname
    of digits alone confuses programs."""
    while True:
        id = os.urandom(32).hex()
        if not id[:12].isdigit():
            return id


def random_name(attempt: int = 0) -> str:
    """Two words, as in docker; from the third attempt on with a digit."""
    pick = int.from_bytes(os.urandom(4), "little")
    adjective = _ADJECTIVES[pick % len(_ADJECTIVES)]
    surname = _SURNAMES[pick // len(_ADJECTIVES) % len(_SURNAMES)]
    return f"{adjective}_{surname}" + (str(pick % 10) if attempt > 1 else "")


def check(name: str) -> str:
    """The name without docker's leading slash; EngineError when it cannot be one."""
    name = name.removeprefix("/")
    if len(name) > 1 and name[0] in _LETTERS and all(c in _LETTERS or c in "_.-" for c in name):
        return name
    raise EngineError(
        f'invalid container name "{name}": only [a-zA-Z0-9][a-zA-Z0-9_.-]+ are allowed'
    )


def claim(home: Home, id: str, name: str | None) -> str:
    """Give a container a name, or one made up; EngineError in docker's words when it is taken."""
    if name is not None:
        name = check(name)
        owner = _claim(home, id, name)
        if owner is not None:
            raise EngineError(
                f'conflict: the container name "/{name}" is already in use by container "{owner}"',
                hint="remove that container to be able to reuse the name",
            )
        return name
    attempt = 0
    while _claim(home, id, made := random_name(attempt)) is not None:
        attempt += 1
    return made


def _claim(home: Home, id: str, name: str) -> str | None:
    """None when the name is ours now, else the id that has it."""
    link = f"{home.names}/{name}"
    with _locked(home):
        try:
            owner = os.readlink(link)
        except FileNotFoundError:
            os.symlink(id, link)
            return None
        if os.path.isdir(home.container(owner)):
            return owner
        # Left by a removal that was cut short.
        os.unlink(link)
        os.symlink(id, link)
        return None


def of(home: Home, id: str) -> str:
    """The name that leads to a container, looked for among all; "" when there is none."""
    for name in os.listdir(home.names):
        link = f"{home.names}/{name}"
        if os.path.islink(link) and os.readlink(link) == id:
            return name
    return ""


def release(home: Home, id: str, name: str) -> None:
    """Give a name up, if it is this container's."""
    link = f"{home.names}/{name}"
    with _locked(home):
        try:
            if os.readlink(link) == id:
                os.unlink(link)
        except FileNotFoundError:
            return


def _locked(home: Home) -> files.Lock:
    # No container's name begins with a dot.
    return files.Lock(f"{home.names}/.lock")


def ids(home: Home) -> list[str]:
    """The ids of all containers, and of those that are being made or removed."""
    try:
        return os.listdir(f"{home.root}/containers")
    except FileNotFoundError:
        return []


def find(home: Home, text: str) -> Record:
    """The container that a person means: by id, by name, by a unique beginning of its id.

    EngineError in docker's words: `no such container: X`.
    """
    name = text.removeprefix("/")
    candidates = []
    if len(name) == 64 and _HEX.issuperset(name):
        candidates = [name]
    elif name and "/" not in name:
        try:
            candidates = [os.readlink(f"{home.names}/{name}")]
        except OSError:
            if _HEX.issuperset(name):
                candidates = [id for id in ids(home) if id.startswith(name)]
    if len(candidates) > 1:
        raise EngineError(
            f"several containers have an id that begins with {name}",
            hint=", ".join(sorted(id[:20] for id in candidates)),
        )
    found = records.load(home, candidates[0]) if candidates else None
    if found is None:
        raise EngineError(
            f"no such container: {text}", hint="'minicontainer ps -a' shows all containers"
        )
    return found


def all_records(home: Home) -> list[Record]:
    """All containers, the youngest first."""
    found = [record for id in ids(home) if (record := records.load(home, id)) is not None]
    return sorted(found, key=lambda record: record.created, reverse=True)

"""The starter image: a small root file system from this machine's own programs.

No download, no registry: busybox where it is installed, otherwise sh and the usual tools with the
libraries that they load; with `python` the machine's Python too. The same machine makes the same
image, bit for bit: names sorted, times from SOURCE_DATE_EPOCH (0 without it), nothing random.
"""

from __future__ import annotations

import os

from .. import jsonio
from ..errors import EngineError
from . import elf
from .manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from .platform import Platform
from .reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .digest import Descriptor
    from .store import Image, Store

    Tree = dict[str, "Item"]

NAME = "starter:latest"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a machine without busybox gives, where it has it.
TOOLS = (
    "sh", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "du",
    "echo", "env", "expr", "false", "find", "free", "grep", "head", "hostname", "id", "ip", "kill",
    "ln", "ls", "mkdir", "mknod", "mount", "mv", "nproc", "nsenter", "od", "printf", "ps", "pwd",
    "readlink", "rm", "rmdir", "sed", "seq", "sleep", "sort", "stat", "sync", "tail", "tee", "test",
    "touch", "tr", "true", "tty", "umount", "uname", "unshare", "wc", "whoami", "xargs", "yes",
)  # fmt: skip

# Parts of Python's library that a small image does without: tests, editors, the static library.
_NOT_COPIED = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data",
    "dist-packages", "site-packages",
}  # fmt: skip

_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    "app:x:1000:1000:app:/home/app:/bin/sh\n",
    "group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:app\nnogroup:x:65534:\napp:x:1000:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "os-release": 'NAME="minicontainer starter"\nID=starter\n'
    'PRETTY_NAME="minicontainer starter image"\n',
}


class Item:
    """One file of the image: a directory, a symbolic link to `target`, or content (bytes, or the
    path of a file here)."""

    __slots__ = ("content", "mode", "mtime", "owner", "source", "target")

    def __init__(
        self,
        mode: int = 0o755,
        *,
        content: bytes | None = None,
        source: str | None = None,
        target: str | None = None,
        owner: int = 0,
        mtime: int | None = None,
    ) -> None:
        self.mode = mode
        self.content = content
        self.source = source
        self.target = target
        self.owner = owner
        self.mtime = mtime


def build(
    store: Store,
    name: str = NAME,
    *,
    python: bool = False,
    programs: Sequence[str] = (),
    busybox: bool = True,
) -> Image:
    """Make the starter image, unpack it and give it the name.

    python: with the machine's Python, as a second layer. programs: more programs of this machine,
    by name or path, with their libraries. busybox: use it where it is installed. EngineError when a
    program or library is missing.
    """
    reference = Reference.parse(name)
    with store.adding():
        layers = []
        history = []
        for tree, maker in _layers(python, programs, busybox):
            layers.append(_write_layer(store, tree))
            history.append({"created": _date(), "created_by": maker})
        manifest = _write_image(store, layers, history)
        image = store.image_of(manifest)
        store.unpack(image)
        return store.tag(manifest, reference)


def write_rootfs(
    directory: str,
    *,
    python: bool = False,
    programs: Sequence[str] = (),
    busybox: bool = True,
) -> None:
    """Write the starter image's files into a new or empty directory, without any store.

    Arguments as for build(). EngineError when the directory holds something.
    """
    os.makedirs(directory, exist_ok=True)
    if os.listdir(directory):
        raise EngineError(f"cannot write a root file system to {directory}: it is not empty")
    for tree, _ in _layers(python, programs, busybox):
        for path, item in sorted(tree.items()):
            _write_file(f"{directory}/{path}", item)


def _layers(python: bool, programs: Sequence[str], busybox: bool) -> list[tuple[Tree, str]]:
    """The files of each layer, the lowest first, and what the history says of it."""
    base = _skeleton()
    program = _find("busybox") if busybox else None
    if program:
        _add_busybox(base, program)
        what = "busybox"
    else:
        _add_programs(base, [tool for tool in TOOLS if _find(tool)])
        what = "sh and the usual tools"
    _add_programs(base, programs)
    layers = [(base, f"minicontainer image starter: {what} of {_host()}")]
    if python:
        tree = {p: item for p, item in _python().items() if p not in base}
        layers.append((tree, f"minicontainer image starter: Python of {_host()}"))
    return layers


# The files


def _skeleton() -> Tree:
    """Directories, users and names that every program expects; merged /usr as in the machine."""
    tree = {
        path: Item()
        for path in (
            "dev", "etc", "home", "mnt", "opt", "proc", "run", "srv", "sys", "usr", "usr/bin",
            "usr/lib", "usr/lib64", "usr/local", "usr/local/bin", "usr/sbin", "var", "var/log",
        )
    }  # fmt: skip
    for name in ("bin", "lib", "lib64", "sbin"):
        tree[name] = Item(0o777, target=f"usr/{name}")
    tree["tmp"] = tree["var/tmp"] = Item(0o1777)
    tree["root"] = Item(0o700)
    tree["home/app"] = Item(owner=1000)
    tree["var/run"] = Item(0o777, target="/run")
    for name, text in _ETC.items():
        tree[f"etc/{name}"] = Item(0o644, content=text.encode())
    return tree


def _add_busybox(tree: Tree, program: str) -> None:
    """busybox, and a symbolic link for each of the programs that it is."""
    from subprocess import run

    listed = run([program, "--list-full"], check=True, capture_output=True, text=True)
    _add_file(tree, "usr/bin/busybox", program)
    for path in listed.stdout.split():
        directory, _, name = path.rpartition("/")
        if name == "busybox":
            continue
        if directory.endswith("sbin"):
            tree[f"usr/sbin/{name}"] = Item(0o777, target="../bin/busybox")
        else:
            tree[f"usr/bin/{name}"] = Item(0o777, target="busybox")
    _add_libraries(tree, [program])


def _add_programs(tree: Tree, programs: Sequence[str]) -> None:
    """Programs of this machine, each as /usr/bin/NAME, and the libraries that they load."""
    sources = []
    for name in programs:
        source = _find(name)
        if source is None:
            raise EngineError(f"cannot put {name} into the image: no such program here")
        tree.pop(f"usr/bin/{os.path.basename(name)}", None)
        _add_file(tree, f"usr/bin/{os.path.basename(name)}", source)
        sources.append(source)
    _add_libraries(tree, sources)


def _add_libraries(tree: Tree, programs: Sequence[str]) -> None:
    binaries = [path for path in programs if _is_elf(path)]
    for place, source in elf.libraries(binaries).items():
        _add_file(tree, _merged(place), source)


def _python() -> Tree:
    """The machine's own Python: program, standard library, extension modules, libraries."""
    from subprocess import run

    program = _find("python3")
    if program is None:
        raise EngineError("cannot put Python into the image: there is no /usr/bin/python3 here")
    question = (
        "import sys, sysconfig; "
        "print(sysconfig.get_path('stdlib'), 'python%d.%d' % sys.version_info[:2])"
    )
    asked = run([program, "-I", "-S", "-c", question], check=True, capture_output=True, text=True)
    library, name = asked.stdout.split()
    tree: Tree = {}
    _add_file(tree, f"usr/bin/{name}", program)
    tree["usr/bin/python3"] = tree["usr/bin/python"] = Item(0o777, target=name)
    binaries = [program]
    for directory, directories, files in os.walk(library):
        directories[:] = sorted(
            each for each in directories if each not in _NOT_COPIED and "config-" not in each
        )
        for file in files:
            source = f"{directory}/{file}"
            if file.endswith(".so") and not _has_libraries(source):
                continue
            if os.path.isfile(source):
                # A .pyc file belongs to its source by the source's time, so that one is kept.
                _add_file(tree, _merged(source), source, int(os.stat(source).st_mtime))
                if file.endswith(".so"):
                    binaries.append(source)
    _add_libraries(tree, binaries)
    return tree


def _has_libraries(path: str) -> bool:
    """Whether an extension module's libraries are installed (Tk's often are not)."""
    try:
        elf.libraries([path])
    except EngineError:
        return False
    return True


def _add_file(tree: Tree, path: str, source: str, mtime: int | None = None) -> None:
    """A file of this machine, and the directories above it; what is there already stays."""
    if path in tree:
        return
    parent = os.path.dirname(path)
    while parent and parent not in tree:
        tree[parent] = Item()
        parent = os.path.dirname(parent)
    executable = os.stat(source).st_mode & 0o111
    tree[path] = Item(0o755 if executable else 0o644, source=source, mtime=mtime)


def _merged(path: str) -> str:
    """The path in an image where /bin, /lib, /lib64 and /sbin are links into /usr."""
    path = path.lstrip("/")
    first = path.partition("/")[0]
    return f"usr/{path}" if first in ("bin", "lib", "lib64", "sbin") else path


def _find(name: str) -> str | None:
    """The real file of a program of the machine itself (not of a virtual environment)."""
    directories = [""] if name.startswith("/") else ["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"]
    for directory in directories:
        if os.access(path := f"{directory}{name}", os.X_OK):
            return os.path.realpath(path)
    return None


def _is_elf(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


# The outputs


def _epoch() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH") or 0)


def _date() -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(_epoch()))


def _host() -> str:
    machine = os.uname()
    return f"this {machine.sysname} machine ({machine.machine})"


def _write_layer(store: Store, tree: Tree) -> Descriptor:
    """The layer as a plain tar: its digest is its diff id."""
    import tarfile

    with (
        store.new_blob(OCI_LAYER) as writer,
        # A stream is only written to, whatever the annotation asks for.
        tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as archive,  # type: ignore[call-overload]
    ):
        for path, item in sorted(tree.items()):
            entry = tarfile.TarInfo(path)
            entry.mode = item.mode
            entry.uid = entry.gid = item.owner
            entry.mtime = _epoch() if item.mtime is None else item.mtime
            if item.target is not None:
                entry.type = tarfile.SYMTYPE
                entry.linkname = item.target
                archive.addfile(entry)
            elif item.source is not None:
                with open(item.source, "rb") as file:
                    entry.size = os.fstat(file.fileno()).st_size
                    archive.addfile(entry, file)
            elif item.content is not None:
                from io import BytesIO

                entry.size = len(item.content)
                archive.addfile(entry, BytesIO(item.content))
            else:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
    assert writer.descriptor is not None
    return writer.descriptor


def _write_image(
    store: Store, layers: list[Descriptor], history: list[dict[str, str]]
) -> Descriptor:
    platform = Platform.host().to_json()
    config: dict[str, Any] = {
        **platform,
        "created": _date(),
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": history,
    }
    described = store.add_blob(OCI_CONFIG, jsonio.dumps(config, sort=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    descriptor = store.add_blob(OCI_MANIFEST, jsonio.dumps(manifest).encode())
    descriptor.platform = platform
    return descriptor


def _write_file(path: str, item: Item) -> None:
    """One file of the directory; the tree is ours, so no link leads anywhere else."""
    if item.target is not None:
        os.symlink(item.target, path)
    elif item.source is None and item.content is None:
        os.mkdir(path)
    else:
        with open(path, "xb") as file:
            if item.source is None:
                file.write(item.content or b"")
            else:
                from shutil import copyfileobj

                with open(item.source, "rb") as source:
                    copyfileobj(source, file, 1 << 20)
    if item.owner:
        os.chown(path, item.owner, item.owner)
    if item.target is None:
        os.chmod(path, item.mode)
        mtime = _epoch() if item.mtime is None else item.mtime
        os.utime(path, (mtime, mtime))

"""Placement: the entries of one layer's archive become a directory in overlayfs form.

The archive says *add*, *replace* and, by names that begin with `.wh.`, *remove*; overlayfs says
remove by a character device 0:0 of that name, and "nothing from below" by the attribute
trusted.overlay.opaque on a directory (OCI image-spec layer.md; the kernel's
filesystems/overlayfs.rst).

A name in an archive is written by a stranger. The attacks: `../../etc/passwd`; `a -> /etc`, then
`a/passwd`; a hard link to a file outside, then a write to it; `.wh...`, which would remove the
parent; attributes that only overlayfs may set. The answer: each entry is made in its parent
directory by descriptor, the last name is never followed, and the parent is reached one name at a
time, each opened with O_NOFOLLOW; a symbolic link on the way is read and walked by us, from our
root. This holds without the change of root that the worker does as well (unpack.py): either alone
would do.
"""

from __future__ import annotations

import os
import stat
from errno import ELOOP, ENOENT, ENOTDIR

from ..errors import EngineError
from ..files import remove_tree
from . import lower as below
from . import tar, xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lower import Metadata

MAX_PATH = 4096  # bytes; what a program could name (PATH_MAX)
MAX_DEPTH = 255  # names in one path; removing a tree keeps one descriptor open for each
MAX_LINKS = 40  # symbolic links on one path; the kernel's own limit
OPEN_DIRECTORIES = 256  # kept open, because the next entry is mostly in the same one

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = os.makedev(0, 0)


class PlacementError(EngineError):
    """An entry that does not go where it says, or not as what it says."""


class Placement:
    """One layer's directory while entries are put into it.

    root: descriptor of an empty directory. lower: descriptors of the layers below, top first; their
    directories lend owner and mode to those that this archive uses but does not hold.
    Call place() for each entry, then finish() once. The caller's umask must be 0.
    """

    __slots__ = (
        "content", "_root", "_lower", "_open", "_aliases", "_lent", "_directories", "_implicit",
        "_whiteouts", "_opaque",
    )  # fmt: skip

    def __init__(self, root: int, lower: list[int] | None = None) -> None:
        self.content = 0  # bytes of all files: what docker calls the layer's size
        self._root = root
        self._lower = lower or []
        # Paths below are clean and free of symbolic links: what the kernel would call the place.
        self._open: dict[bytes, int] = {b"": root}
        self._aliases: dict[bytes, bytes] = {}  # a path through links: the place
        self._lent: set[bytes] = set()  # places of links below that were followed
        self._directories: dict[bytes, Metadata] = {}
        self._implicit: set[bytes] = set()
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._add_implicit(b"")

    def place(self, entry: tar.Entry, reader: tar.Reader) -> None:
        """Make one entry, its content from the reader. PlacementError, TarError or OSError."""
        name = clean(entry.name)
        if len(self._open) > OPEN_DIRECTORIES:
            self.close()
        if b".wh." in name and self._place_whiteout(name):
            return
        parent, _, base = name.rpartition(b"/")
        if not base:
            if entry.kind != tar.DIRECTORY:
                raise PlacementError("the root of a layer must be a directory")
            self._describe(b"", entry)
            return
        if parent not in self._open:
            parent = self._walk(parent)
        if self._lent and join(parent, base) in self._lent:
            self._aliases.clear()  # this entry takes the place of the link
        directory = self._open[parent]
        if entry.kind == tar.FILE:
            try:
                file = os.open(base, _CREATE, entry.mode & 0o777, dir_fd=directory)
            except FileExistsError:
                self._remove(parent, base)
                file = os.open(base, _CREATE, entry.mode & 0o777, dir_fd=directory)
            try:
                if entry.size:
                    self.content += entry.size
                    reader.copy(file)
                # chown clears the setuid bits and file capabilities, so they come after it.
                if entry.uid or entry.gid:
                    os.fchown(file, entry.uid, entry.gid)
                if entry.mode & 0o7000:
                    os.fchmod(file, entry.mode)
                if entry.xattrs:
                    xattrs.write(file, entry.xattrs)
                time = bounded(entry.mtime)
                os.utime(file, ns=(time, time))
            finally:
                os.close(file)
        elif entry.kind == tar.DIRECTORY:
            self._place_directory(parent, base, entry)
        elif entry.kind == tar.LINK:
            self._place_link(parent, base, entry.link)
        else:
            try:
                self._place_special(directory, base, entry)
            except FileExistsError:
                self._remove(parent, base)
                self._place_special(directory, base, entry)

    def _place_directory(self, parent: bytes, base: bytes, entry: tar.Entry) -> None:
        place = join(parent, base)
        directory = self._open[parent]
        try:
            os.mkdir(base, 0o755, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(base, dir_fd=directory).st_mode):
                self._remove(parent, base)
                os.mkdir(base, 0o755, dir_fd=directory)
        self._describe(place, entry)

    def _describe(self, place: bytes, entry: tar.Entry) -> None:
        # Applied at the end: files placed later would change the time, and a set-group-id bit or a
        # default ACL would leak to them.
        self._implicit.discard(place)
        self._directories[place] = (
            entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs or {},
        )  # fmt: skip

    def _place_link(self, parent: bytes, base: bytes, target: bytes) -> None:
        """A hard link; its target is looked up as if it were an entry's name, never followed."""
        origin, _, last = clean(target).rpartition(b"/")
        shown = printable(target)
        if not last:
            raise PlacementError("a hard link to the root")
        try:
            while True:
                source = self._open[self._walk(origin, create=False)]
                found = os.lstat(last, dir_fd=source)
                if stat.S_ISDIR(found.st_mode):
                    raise PlacementError(f"a hard link to {shown}, which is a directory")
                directory = self._open[parent]
                try:
                    os.link(
                        last, base, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False
                    )
                    return
                except FileExistsError:
                    old = os.lstat(base, dir_fd=directory)
                    if (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino):
                        return  # a link to itself: removing the old one would lose both
                    self._remove(parent, base)
        except FileNotFoundError:
            raise PlacementError(f"a hard link to {shown}, which the layer does not hold") from None

    def _place_special(self, directory: int, base: bytes, entry: tar.Entry) -> None:
        """A symbolic link, a device or a FIFO; set up by name, because the name is new and ours."""
        if entry.kind == tar.SYMLINK:
            if not entry.link:
                raise PlacementError("a symbolic link to nothing")
            os.symlink(entry.link, base, dir_fd=directory)
        else:
            kind, device = stat.S_IFIFO, 0
            if entry.kind != tar.FIFO:
                major, minor = entry.device
                if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                    raise PlacementError(f"no device has the numbers {major}:{minor}")
                kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
                device = os.makedev(major, minor)
            os.mknod(base, kind | entry.mode & 0o777, device, dir_fd=directory)
        if entry.uid or entry.gid:
            os.chown(base, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        if entry.mode & 0o7000 and entry.kind != tar.SYMLINK:
            os.chmod(base, entry.mode, dir_fd=directory)
        if entry.xattrs:
            # There is no setxattrat before Linux 6.13.
            here = os.open(".", os.O_PATH | os.O_CLOEXEC)
            try:
                os.fchdir(directory)
                xattrs.write(base, entry.xattrs)
            finally:
                os.fchdir(here)
                os.close(here)
        time = bounded(entry.mtime)
        os.utime(base, ns=(time, time), dir_fd=directory, follow_symlinks=False)

    def _place_whiteout(self, name: bytes) -> bool:
        """Note what a `.wh.` name removes; False when the name only looks like one.

        Nothing is removed here: a whiteout is about the layers below, wherever in the archive it
        stands, so finish() applies it to whatever this layer has put there.
        """
        parent, _, base = name.rpartition(b"/")
        for part in parent.split(b"/"):
            if part.startswith(b".wh..wh."):
                return True  # AUFS kept its own data under such names
            if part.startswith(b".wh."):
                raise PlacementError("a whiteout cannot hold files")
        if not base.startswith(b".wh."):
            return False
        if base == b".wh..wh..opq":
            self._opaque.add(self._walk(parent))
        elif not base.startswith(b".wh..wh."):
            removed = base[4:]
            if removed in (b"", b".", b".."):
                raise PlacementError("a whiteout without a name")
            self._whiteouts.add(join(self._walk(parent), removed))
        return True

    def finish(self) -> list[str]:
        """Apply whiteouts, and the metadata of directories; the implicit directories, sorted.

        Implicit ones are those that the archive uses and does not describe, "." for the root: they
        have mode 0755 and root as their owner, unless a layer below lent them its own.
        """
        for place in sorted(self._whiteouts):
            parent, _, base = place.rpartition(b"/")
            if self._hidden(place):
                continue  # a whiteout in an opaque directory would show up in readdir
            if len(self._open) > OPEN_DIRECTORIES:
                self.close()
            directory = self._open[self._walk(parent)]
            try:
                os.mknod(base, stat.S_IFCHR, _WHITEOUT, dir_fd=directory)
            except FileExistsError:
                if stat.S_ISDIR(os.lstat(base, dir_fd=directory).st_mode):
                    self._opaque.add(place)
        for place, (mode, uid, gid, mtime, attributes) in sorted(self._directories.items()):
            if len(self._open) > OPEN_DIRECTORIES:
                self.close()
            directory = self._open[self._walk(place)]
            if uid or gid or not place:
                os.fchown(directory, uid, gid)
            if mode != 0o755 or not place:
                os.fchmod(directory, mode)
            if attributes:
                xattrs.write(directory, attributes)
            if place in self._opaque:
                os.setxattr(directory, xattrs.opaque(), b"y")
            time = bounded(mtime)
            os.utime(directory, ns=(time, time))
        self.close()
        shown = [place for place in self._implicit if not self._replaces(place)]
        return sorted(os.fsdecode(place) or "." for place in shown)

    def _hidden(self, place: bytes) -> bool:
        """Is a directory above this place opaque, so that nothing from below shows there?"""
        while place:
            place = place.rpartition(b"/")[0]
            if place in self._opaque:
                return True
        return False

    def _replaces(self, place: bytes) -> bool:
        """Does this layer remove what the layers below have at this place?"""
        return place in self._whiteouts or self._hidden(place)

    def _walk(self, path: bytes, create: bool = True) -> bytes:
        """Open the directory that an archive's path leads to, inside our root; its place.

        What is missing is made, unless create is False (FileNotFoundError then). Symbolic links,
        of this archive or of a layer below, are followed as a process inside the container would.
        """
        if path in self._open:
            return path
        if path in self._aliases:
            return self._walk(self._aliases[path])
        here = path
        pending: list[bytes] = []
        while here not in self._open:
            here, _, name = here.rpartition(b"/")
            pending.append(name)
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here.rpartition(b"/")[0]
                if here not in self._open:
                    here = self._walk(here)
                continue
            place = join(here, name)
            if place in self._open:
                here = place
                continue
            target = self._step(self._open[here], name, place, create)
            if target is None:
                here = place
                continue
            links += 1
            if links > MAX_LINKS:
                raise PlacementError(f"too many symbolic links in {printable(path)}")
            if target.startswith(b"/"):
                here = b""
            pending.extend(reversed(target.split(b"/")))
        if here != path and len(self._aliases) < 10_000:
            self._aliases[path] = here
        return here

    def _step(self, directory: int, name: bytes, place: bytes, create: bool) -> bytes | None:
        """Open one name in an open directory; the target instead when it is a symbolic link."""
        try:
            self._open[place] = os.open(name, _DIRECTORY, dir_fd=directory)
            return None
        except OSError as error:
            if error.errno == ENOENT:
                return self._step_below(directory, name, place, create)
            if error.errno not in (ENOTDIR, ELOOP):
                raise
        if not stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode):
            raise PlacementError(f"{printable(place)} is not a directory")
        return os.readlink(name, dir_fd=directory)

    def _step_below(self, directory: int, name: bytes, place: bytes, create: bool) -> bytes | None:
        """The same for a name that this layer does not have: as the layers below have it."""
        if self._lower and not self._replaces(place):
            found = below.find(self._lower, place)
            if found is not None and found.link is not None:
                self._lent.add(place)
                return found.link
        if not create:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
        os.mkdir(name, 0o755, dir_fd=directory)
        self._open[place] = os.open(name, _DIRECTORY, dir_fd=directory)
        self._add_implicit(place)
        return None

    def _add_implicit(self, place: bytes) -> None:
        # The time is fixed, so that a layer is the same directory on every machine.
        self._directories[place] = (0o755, 0, 0, 0, {})
        if self._lower and not self._replaces(place):
            found = below.find(self._lower, place)
            if found is not None and found.metadata is not None:
                self._directories[place] = found.metadata
                return
        self._implicit.add(place)

    def _remove(self, parent: bytes, base: bytes) -> None:
        """Remove what an earlier entry of this archive put here: the later one wins."""
        directory = self._open[parent]
        if not stat.S_ISDIR(os.lstat(base, dir_fd=directory).st_mode):
            os.unlink(base, dir_fd=directory)
            self._aliases.clear()
            return
        place = join(parent, base)
        inside = place + b"/"
        for known in (self._implicit, self._whiteouts, self._opaque):
            known.difference_update([p for p in known if p == place or p.startswith(inside)])
        for p in [p for p in self._directories if p == place or p.startswith(inside)]:
            del self._directories[p]
        for p in [p for p in self._open if p == place or p.startswith(inside)]:
            os.close(self._open.pop(p))
        self._aliases.clear()
        remove_tree(os.fsdecode(base), parent=directory)

    def close(self) -> None:
        """Close the directories that are open; root and lower stay the caller's."""
        for place, descriptor in self._open.items():
            if place:
                os.close(descriptor)
        self._open = {b"": self._root}


def clean(name: bytes) -> bytes:
    """An archive's name as a path below the root, without empty names, `.` and `..`.

    Docker's rule: absolute names are below the root too, and `a/../b` is `b`, by the text alone.
    PlacementError for one that climbs above the root.
    """
    if name[:2] == b"./":
        name = name[2:]
    name = name.strip(b"/")
    if name[:1] != b"." and b"/." not in name and b"//" not in name and len(name) < MAX_DEPTH:
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise PlacementError("the path leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    name = b"/".join(parts)
    # Before anybody walks it: that costs the square of its length.
    if len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise PlacementError("the path is too long")
    return name


def join(parent: bytes, name: bytes) -> bytes:
    """The path of a name in a directory; bounded, because links can lengthen what clean() saw."""
    path = parent + b"/" + name if parent else name
    if len(path) > MAX_PATH or path.count(b"/") >= MAX_DEPTH:
        raise PlacementError("the path is too long")
    return path


def bounded(time: int) -> int:
    """A time in nanoseconds that every file system can hold; docker too takes 1970 otherwise."""
    return time if abs(time) < 1 << 63 else 0


def printable(name: bytes) -> str:
    """A stranger's name for a message: one line, no control characters, not too long."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 120 else text[:100] + "…" + text[-1]

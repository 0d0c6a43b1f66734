"""A layer copied with other owners, for file systems that cannot show it through an idmapped mount.

The copy lies beside its layer, layers/<hex>.<name of the tables>, is made once and shared by all
containers with those tables, and goes with the layer (see garbage).
"""

from __future__ import annotations

import os
import stat

from ..errors import EngineError
from ..files import Lock, remove_tree
from ..kernel import users
from .blobs import explain
from .digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.users import Row
    from .store import Store

    Tables = tuple[Sequence[Row], Sequence[Row]]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def shifted(store: Store, layer: str, uids: Sequence[Row], gids: Sequence[Row]) -> str:
    """The directory of a layer's copy whose owners are those that the tables say; made when it is
    missing, under store.adding().

    layer: one of Store.stack(). EngineError when there is no room for it.
    """
    name = f"{os.path.basename(layer)}.{digest_of(repr((uids, gids)).encode())[7:19]}"
    directory = f"{os.path.dirname(layer)}/{name}"
    if os.path.isdir(directory):
        return directory
    lock = Lock(f"{store.unfinished}/shift-{name}.lock")
    try:
        with lock:
            try:
                if not os.path.isdir(directory):
                    aside = f"{store.unfinished}/{name}"
                    remove_tree(aside)  # of one that was killed
                    os.mkdir(aside, 0o700)
                    _copy_root(layer, aside, (uids, gids))
                    os.rename(aside, directory)
            finally:
                os.unlink(lock.path)  # those who wait for it make another
    except OSError as error:
        raise explain(f"copy layer {name[:12]} for other users", error) from error
    return directory


def _copy_root(layer: str, target: str, tables: Tables) -> None:
    source = os.open(layer, _DIRECTORY)
    try:
        made = os.open(target, _DIRECTORY)
        mask = os.umask(0)
        try:
            _copy_directory(source, made, tables, {})
        finally:
            os.umask(mask)
            os.close(made)
    finally:
        os.close(source)


def _copy_directory(source: int, target: int, tables: Tables, links: dict[int, bytes]) -> None:
    """Copy what is in a directory, and at last the directory's own owner, mode and times.

    links: where a file with several names was copied to, by inode.
    """
    for name in os.listdir(source):
        found = os.lstat(name, dir_fd=source)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            below = os.open(name, _DIRECTORY, dir_fd=source)
            try:
                made = os.open(name, _DIRECTORY, dir_fd=target)
                try:
                    _copy_directory(below, made, tables, links)
                finally:
                    os.close(made)
            finally:
                os.close(below)
            continue
        first = links.get(found.st_ino)
        if first is not None:
            os.link(first, name, dst_dir_fd=target, follow_symlinks=False)
            continue
        if stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, tables)
        else:
            _copy_special(source, target, name, found, tables)
        if found.st_nlink > 1:
            links[found.st_ino] = os.fsencode(f"{_path(target)}/{name}")
    _describe(source, target, os.fstat(source), tables)


def _path(directory: int) -> str:
    return os.readlink(f"/proc/self/fd/{directory}")


def _copy_file(source: int, target: int, name: str, tables: Tables) -> None:
    read = os.open(name, _READ, dir_fd=source)
    try:
        write = os.open(name, _CREATE, 0o600, dir_fd=target)
        try:
            while os.copy_file_range(read, write, 1 << 30):
                pass
            _describe(read, write, os.fstat(read), tables)
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_special(
    source: int, target: int, name: str, found: os.stat_result, tables: Tables
) -> None:
    """A symbolic link, a device (a whiteout too), a FIFO."""
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    whiteout = stat.S_ISCHR(found.st_mode) and not found.st_rdev
    if not whiteout:
        uid, gid = _owner(found, tables)
        os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _describe(source: int, target: int, found: os.stat_result, tables: Tables) -> None:
    """Owner, mode, attributes and times, in the order in which none undoes another."""
    os.fchown(target, *_owner(found, tables))
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        # A label is the host policy's own, and set by it.
        if name != "security.selinux":
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _owner(found: os.stat_result, tables: Tables) -> tuple[int, int]:
    """The owner on the host; one whom the tables do not know is nobody inside, and stays."""
    owner = []
    for rows, number in zip(tables, (found.st_uid, found.st_gid), strict=True):
        try:
            owner.append(users.outside(rows, number))
        except EngineError:
            owner.append(users.NOBODY)
    return owner[0], owner[1]

"""The worker: a process of its own unpacks each layer, with the layer's directory as its root.

A layer is a stranger's archive. The process that reads it has first moved into a mount namespace of
its own whose root *is* the target directory: no path in it can name anything else, should
placement.py have a hole. It also gives the puller's other threads a processor of their own.

    parent                                  worker
    run(): posix_spawn  ─ blob as fd 0 ──▶  main(): die with the parent; bound memory
                                            open the layers below, load the decoder
                                            unshare, pivot_root into the target
    report on progress  ◀─ lines on fd 1 ─  decompress and hash (thread), place, finish
    check the digest    ◀─ last line ─────  {"digest": …, "implicit": …} or {"error": …}
"""

from __future__ import annotations

import os
import sys

from .. import jsonio
from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from . import tar
    from .placement import Placement

MEMORY = 1 << 30  # bytes of data the worker may hold; a million directories need a tenth
MAX_REPORT = 64 << 20  # bytes of the worker's report
_PROGRESS = 1 << 20  # bytes of the blob between two reports
_SMALL = 256 << 10  # a blob up to here is not worth a thread (4 ms of imports)

# -I -S: no environment variable and no file of a user's says what runs here as root.
_COMMAND = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from minicontainer.image.unpack import main; main(sys.argv[2])"
)


def run(
    blob: int,
    kind: str,
    directory: str,
    lower: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Unpack a layer in a worker and wait for it; what it reports: digest, size, content,
    entries, implicit.

    blob: descriptor, at its start. kind: see compression.sniff. directory: exists, empty.
    EngineError with the worker's reason.
    """
    total = os.fstat(blob).st_size
    request = {
        "kind": kind,
        "directory": os.path.abspath(directory),
        "lower": [os.path.abspath(path) for path in lower],
        "parent": os.getpid(),
        "progress": progress is not None,
        "size": total,
    }
    output, report = os.pipe()
    try:
        try:
            pid = spawn_worker(request, blob, report)
        finally:
            os.close(report)
        last = b""
        try:
            for line in _lines(output):
                if line.isdigit():
                    assert progress is not None
                    progress(int(line), total)
                else:
                    last = line
        except BaseException:
            os.kill(pid, 9)
            raise
        finally:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(output)
    if not last:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with code {status}"
        raise EngineError(f"the unpacking process {how}")
    answer: dict[str, Any] = jsonio.loads(last)
    if "error" in answer:
        error = EngineError(answer["error"], hint=answer.get("hint"))
        if answer.get("trace"):
            error.add_note(answer["trace"])
        raise error
    return answer


def spawn_worker(request: dict[str, Any], blob: int, report: int) -> int:
    """Start a worker with the blob as its descriptor 0 and the report as 1; its process id.

    posix_spawn and not fork: the caller may have threads, whose locks a forked child would inherit
    held. Descriptors of ours are close-on-exec, so the worker has these two and standard error.
    """
    import fcntl

    python = sys.executable or "/usr/bin/python3"
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    argv = [python, "-I", "-S", "-c", _COMMAND, package, jsonio.dumps(request)]
    # Above 2, so that neither is overwritten by the other's dup2.
    descriptors: list[int] = []
    try:
        for descriptor in (blob, report):
            descriptors.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3))
        actions = [(os.POSIX_SPAWN_DUP2, source, at) for at, source in enumerate(descriptors)]
        # Ctrl-C goes to us too, who kill the worker and tidy up: it need not see it, ever.
        return os.posix_spawn(python, argv, os.environ, file_actions=actions, setsigmask=[2])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lines(descriptor: int) -> Iterator[bytes]:
    buffer = b""
    while chunk := os.read(descriptor, 1 << 16):
        buffer += chunk
        if len(buffer) > MAX_REPORT:
            raise EngineError("the layer has too many directories without entries of their own")
        *lines, buffer = buffer.split(b"\n")
        yield from lines


def main(argument: str) -> None:
    """The worker, from its first line to its last; reports, and ends the process."""
    try:
        answer = _work(jsonio.loads(argument))
    except EngineError as error:
        answer = {"error": error.message, "hint": error.hint}
    except OSError as error:
        answer = {"error": str(error), "hint": getattr(error, "hint", None)}
    except MemoryError:
        answer = {"error": f"the archive needs more than {MEMORY >> 20} MiB of memory to read"}
    except BaseException as error:  # a bug of ours is reported like the rest
        answer = {
            "error": f"internal error: {type(error).__name__}: {error}",
            "trace": "\n".join(_trace(error)),
        }
    text = memoryview(jsonio.dumps(answer).encode() + b"\n")
    while text:
        text = text[os.write(1, text) :]
    os._exit(0)  # the decompressing thread is not waited for


def _work(request: dict[str, Any]) -> dict[str, Any]:
    _settle(request["parent"])
    # All that is needed from the host is loaded and opened before the change of root.
    from ..kernel import flags, mounts, syscalls
    from . import compression, owners, placement, tar, xattrs

    adapt = owners.adapter()
    xattrs.opaque()
    decode = compression.decoder(request["kind"])
    if request["size"] > _SMALL:
        import queue  # noqa: F401  (for compression.ahead)
    lower = [
        os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in request["lower"]
    ]
    stream = Stream(decode(0), request["progress"])
    syscalls.unshare(flags.CLONE_NEWNS)
    root = mounts.enter(request["directory"])
    target = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(root)
    chunks = compression.ahead(iter(stream)) if request["size"] > _SMALL else iter(stream)
    place = placement.Placement(target, lower)
    entries, implicit = extract(tar.Reader(chunks), place, adapt)
    return {
        "digest": stream.digest(), "size": stream.size, "content": place.content,
        "entries": entries, "implicit": implicit,
    }  # fmt: skip


def extract(
    reader: tar.Reader,
    placement: Placement,
    adapt: Callable[[tar.Entry], bool] | None = None,
) -> tuple[int, list[str]]:
    """Place all of an archive and read it to its last byte; how many entries, and what finish()
    says. adapt: see owners.adapter. EngineError with the entry's name."""
    from .placement import printable

    entries = 0
    try:
        while (entry := reader.next()) is not None:
            entries += 1
            if adapt is not None and not adapt(entry):
                continue
            try:
                placement.place(entry, reader)
            except EngineError as error:
                message = f"entry {printable(entry.name)}: {error.message}"
                raise EngineError(message, hint=error.hint) from error
            except OSError as error:
                raise EngineError(f"entry {printable(entry.name)}: {error.strerror}") from error
        implicit = placement.finish()
        reader.drain()
    finally:
        placement.close()
    return entries, implicit


class Stream:
    """The decompressed archive on its way to the reader: counted, hashed, its progress told."""

    __slots__ = ("size", "_chunks", "_hash", "_told")

    def __init__(self, chunks: Iterator[bytes], progress: bool = False) -> None:
        import hashlib

        self.size = 0
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._told = 0 if progress else -1

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            if self._told >= 0:
                self._tell()
            yield chunk
        if self._told >= 0:
            self._tell(last=True)

    def _tell(self, last: bool = False) -> None:
        done = os.lseek(0, 0, os.SEEK_CUR)
        if last or done - self._told >= _PROGRESS:
            self._told = done
            os.write(1, b"%d\n" % done)

    def digest(self) -> str:
        """`sha256:…` of what has passed."""
        return "sha256:" + self._hash.hexdigest()


def _trace(error: BaseException) -> Iterator[str]:
    """Where an error came from. The traceback module would look for the host's files."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        yield f"{code.co_filename}:{step.tb_lineno} in {code.co_name}"
        step = step.tb_next


def _settle(parent: int) -> None:
    """Make this process one that ends with its parent and stays small."""
    import gc
    import resource

    from ..kernel import flags, syscalls

    syscalls.prctl(flags.PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above
    os.umask(0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > MEMORY:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, hard))
    # A deep path and the directories kept open: about 600 descriptors.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    gc.disable()  # nothing here makes cycles; looking for them costs 3 %

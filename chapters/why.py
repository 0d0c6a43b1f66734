"""What is each line of the start for? Take it out, and see which of these probes notices.

Run it: python3 -m chapters why

The program below runs in namespaces of its own (see `ask`), so that a container without one of
its walls meets a stand-in for the host.
"""

import __future__

import ast
import copy
import ctypes
import fcntl
import inspect
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapters import patience
from minicontainer.errors import EngineError
from minicontainer.kernel import (
    capabilities,
    cgroups,
    flags,
    mounts,
    namespaces,
    overlay,
    process,
    syscalls,
    terminal,
    users,
)
from minicontainer.runtime import child, join, start

# The child's start sequence, from birth to exec.
SEQUENCE: list[tuple[ModuleType, str]] = [
    (child, "run"),
    (child, "join_namespaces"),
    (child, "mount_one"),
    (child, "make_devices"),
    (mounts, "make_private"),
    (mounts, "pivot_root"),
    (child, "confine"),
    (child, "make_working_directory"),
    (child, "enter_directory"),
    (users, "change"),
]
# What may be taken out unseen, and why it is there all the same.
UNSEEN = {
    "mount_one: os.close(made)": "exec closes it too; a hundred mounts would need the numbers",
    "pivot_root: os.close(old)": "exec closes it too; the layer workers do not exec",
    "pivot_root: syscalls.through('fchdir', os.fchdir, old)": "the kernels that we know "
    "have `.` at the old root already; pivot_root(2) does not promise it",
    "pivot_root: syscalls.through('chdir', os.chdir, '/')": "a container goes to its own working "
    "directory next; the layer workers, which call this too, do not",
    "confine: syscalls.prctl(flags.PR_SET_DUMPABLE, 0)": "nobody can be made to look exactly "
    "between it and the exec",
    "enter_directory: if not inside:": "this C library says ENOENT; others return (unreachable)",
    "enter_directory: raise EngineError(f'the working directory {path!r} lies outside of the "
    "container')": "this C library says ENOENT; others return (unreachable)",
    "change: syscalls.prctl(flags.PR_SET_KEEPCAPS, 0)": "exec clears it too",
    "confine: if loading:": "exec takes the power away too (capabilities(7)); until then "
    "the process would hold what it has given up",
    "confine: capabilities.set_sets(effective, permitted, inheritable)": "the same",
    "run: raise EngineError('the engine ended before the container had its users')": "the next "
    "read of the pipe finds its end too",
    "make_working_directory: raise EngineError(f'cannot make the working directory {path!r}: "
    "{reason}') from error": "the step after the next fails too, with another sentence",
}
if cgroups.is_v2():
    BORN_INSIDE = "clone3 has put it into the cgroup; version 1 needs it, and there it is noticed"
    UNSEEN["run: if group is not None:"] = UNSEEN["run: group.enter()"] = BORN_INSIDE
SECONDS = 10
NEEDED = "a later line needs what it makes"
FILES = {"network": "net", "mount": "mnt"}

ROOTFS, DIRECTORY = Path(), Path()


# ------------------------------------------------------------------------------------- the probes


def specification() -> dict[str, Any]:
    """A container that asks for everything."""
    safe = ["nosuid", "noexec", "nodev"]
    one = ["CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(ROOTFS), "readonly": True},
        "hostname": "boxed",
        "domainname": "box.example",
        "process": {
            "args": ["sh", "-c", "cat /proc/keys; exec cat"],
            "env": ["PATH=/bin"],
            "cwd": "/new/place",
            "user": {"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o027},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 333, "hard": 333}],
            "capabilities": {
                "bounding": [*one, "CAP_CHOWN"],
                "permitted": [*one, "CAP_CHOWN"],
                "effective": one,
                "inheritable": one,
                "ambient": one,
            },
            "noNewPrivileges": True,
            "oomScoreAdj": 321,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "options": safe},
            {"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "options": terminal.DEVPTS_WORDS},
            {"destination": "/sys", "type": "sysfs", "options": [*safe, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": [*safe, "ro"]},
            {
                "destination": "/data",
                "type": "bind",
                "source": str(DIRECTORY / "data"),
                "options": ["rbind", "runbindable"],
            },
        ],
        "linux": {
            # One for each container of a trial, all below one that goes with the trial.
            "cgroupsPath": f"/minicontainer/why-{os.getpid()}/{secrets.token_hex(4)}",
            "resources": {"pids": {"limit": 50}},
            "namespaces": [
                {"type": kind} for kind in ("mount", "uts", "ipc", "pid", "cgroup", "network")
            ],
            "sysctl": {"kernel.msgmax": "4321"},
            "readonlyPaths": ["/proc/sys"],
            "maskedPaths": ["/proc/version"],
            "devices": [
                {"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}
            ],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }


class Box:
    """A container with pipes as its streams, ended at the end of `with`."""

    def __init__(
        self,
        spec: dict[str, Any],
        terminal_ends: tuple[int, int] | None = None,
        output: int | None = None,
        on_created: Callable[[process.Process], None] = lambda _: None,
        devpts: int | None = None,
        owner: int = 0,
    ) -> None:
        self.ours, theirs = os.pipe()
        inner, self.answer = os.pipe()
        self.streams = os.fstat(theirs).st_ino
        streams = (inner, output or theirs, output or theirs)
        if terminal_ends:
            self.ours = self.answer = terminal_ends[0]
            streams = (terminal_ends[1],) * 3
        # Each has a layer of its own: a start that goes wrong may write anywhere.
        layer = tempfile.mkdtemp(dir=DIRECTORY)
        os.mkdir(f"{layer}/upper")
        os.mkdir(f"{layer}/work")
        os.chown(f"{layer}/upper", owner, owner)
        root = overlay.mount([str(ROOTFS)], f"{layer}/upper", f"{layer}/work", volatile=True)
        self.spec = spec
        self.process = start.start(spec, "/", root, streams, on_created, devpts=devpts)
        self.pid = self.process.pid
        for descriptor in (root, theirs, inner):
            os.close(descriptor)

    def __enter__(self) -> "Box":
        os.write(self.answer, b"ready\n")
        self.said = ""
        while not self.said.endswith("ready\n"):
            more = os.read(self.ours, 4096).decode()
            if not more:
                break
            self.said += more.replace("\r", "")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.signal(signal.SIGKILL)
        self.process.wait()
        start.remove_cgroup(self.spec, "/")

    def status(self, field: str) -> str:
        """A field of /proc/PID/status."""
        for row in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if row.startswith(f"{field}:"):
                return row.partition(":")[2].strip()
        return ""

    def mounts(self) -> dict[str, list[str]]:
        """Mount point: the row of mountinfo, split."""
        rows = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return {row.split()[4]: row.split() for row in rows}

    def path(self, inside: str) -> Path:
        """The host's path of a file in the container."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def inside(self, kind: str, look: Callable[[], str]) -> str:
        """What a function of ours sees in one of the container's namespaces."""
        read, write = os.pipe()
        helper = os.fork()
        if not helper:
            try:
                namespaces.join_file(f"/proc/{self.pid}/ns/{FILES.get(kind, kind)}", kind)
                os.write(write, look().encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(helper, 0)
        return os.read(read, 4096).decode()


def link_flags() -> str:
    """Whether the loopback is up: SIOCGIFFLAGS, IFF_UP (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, 0x8913, b"lo".ljust(40, b"\0"))
    return "up" if answer[16] & 1 else "down"


def everything() -> Iterator[tuple[str, bool]]:
    """What is asked for is there, and nothing else."""
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    # keyctl(KEYCTL_JOIN_SESSION_KEYRING): one with a name, for the container to find.
    ctypes.CDLL(None).syscall(flags.NR_keyctl, 1, b"the-hosts-keys")
    with Box(specification()) as box:
        yield "the program's first words do not come", box.said.endswith("ready\n")
        user = [box.status(field).split() for field in ("Uid", "Gid", "Groups")]
        yield "the user is another", user[0] == ["1000"] * 4
        yield "the group is another", user[1] == ["1001"] * 4
        yield "the additional groups are others", user[2] == ["7"]
        sets = capabilities.read(box.pid)
        one = capabilities.mask(["NET_BIND_SERVICE"])
        yield "the bounding set is another", sets["CapBnd"] == one | capabilities.mask(["CHOWN"])
        yield "the capabilities are others", sets["CapPrm"] == sets["CapEff"] == one
        yield "the inheritable set is another", sets["CapInh"] == one
        yield "the ambient set is another", sets["CapAmb"] == one
        yield "no_new_privs is not set", box.status("NoNewPrivs") == "1"
        yield "the system calls are not filtered", box.status("Seccomp") == "2"
        yield "the umask is another", box.status("Umask") == "0027"
        limits = Path(f"/proc/{box.pid}/limits").read_text()
        yield "there is no limit on open files", "333" in limits
        score = Path(f"/proc/{box.pid}/oom_score_adj").read_text()
        yield "the kernel would not spare it as asked", score == "321\n"
        environment = Path(f"/proc/{box.pid}/environ").read_text().split("\0")
        yield "HOME is not set", "HOME=/home/app" in environment
        yield (
            "the program has descriptors of the engine",
            sorted(os.listdir(f"/proc/{box.pid}/fd")) == ["0", "1", "2"],
        )
        yield "the streams are others", os.stat(f"/proc/{box.pid}/fd/1").st_ino == box.streams
        fields = Path(f"/proc/{box.pid}/stat").read_text().rpartition(")")[2].split()
        yield "it is in the engine's session", int(fields[3]) == box.pid
        yield "the program has the engine's keys", "the-hosts-keys" not in box.said
        try:
            place = box.path("/new/place").stat()
        except FileNotFoundError:
            yield "the root is another", False
            return
        yield (
            "the working directory is another",
            os.path.samestat(os.stat(f"/proc/{box.pid}/cwd"), place),
        )
        yield "the host name is another", box.inside("uts", lambda: os.uname().nodename) == "boxed"
        domain = Path("/proc/sys/kernel/domainname")
        yield "the domain name is another", box.inside("uts", domain.read_text) == "box.example\n"
        yield (
            "the kernel parameter is not set",
            box.inside("ipc", Path("/proc/sys/kernel/msgmax").read_text) == "4321\n",
        )
        yield "the loopback is down", box.inside("network", link_flags) == "up"
        group = f"/minicontainer/why-{os.getpid()}/"
        yield "it is outside of its limits", group in Path(f"/proc/{box.pid}/cgroup").read_text()
        same = namespaces.identity(box.pid, "cgroup") == namespaces.identity("self", "cgroup")
        yield "it sees the host's cgroups", not same
        table = box.mounts()
        yield "the root can be written", "ro" in table["/"][5].split(",")
        yield (
            "/proc/sys can be written",
            "/proc/sys" in table and "ro" in table["/proc/sys"][5].split(","),
        )
        yield "a masked path can be read", "/proc/version" in table
        asked = {"/", "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/data"}
        yield "a mount is missing", asked <= set(table)
        yield "mounts of the host are left", not any(str(DIRECTORY) in point for point in table)
        shared = [row for point, row in table.items() if row[6] != "-" and point != "/data"]
        yield "mounts are shared with the host", not shared
        yield "an unbindable mount can be bound", table["/data"][6] == "unbindable"
        extra = box.path("/dev/extra")
        mode = stat.S_IMODE(extra.stat().st_mode) if extra.exists() else 0
        yield "the device that was asked for is missing", mode == 0o640
        yield "/dev/null is missing", box.path("/dev/null").is_char_device()
        there = box.inside("mount", lambda: " ".join(os.listdir("/")))
        yield "the namespace's own root is the host's", "only-here" in there.split()
        host = Path("/proc/self/mountinfo").read_text()
        yield "the host sees the container's mounts", str(ROOTFS) not in host


def without_a_promise() -> Iterator[tuple[str, bool]]:
    """Without no_new_privs a filter needs a power to be loaded, which the program does not get."""
    spec = specification()
    spec["process"]["noNewPrivileges"] = False
    with Box(spec) as box:
        yield "the filter wants no_new_privs", box.status("Seccomp") == "2"
        one = capabilities.mask(["NET_BIND_SERVICE"])
        yield "the power to load a filter is left", capabilities.read(box.pid)["CapPrm"] == one


def at_a_terminal() -> Iterator[tuple[str, bool]]:
    """A terminal is the program's controlling one, and its console."""
    spec = specification()
    spec["process"]["args"] = ["cat"]
    devpts = terminal.create_devpts()
    with Box(spec, terminal.open_pair(devpts), devpts=devpts) as box:
        fields = Path(f"/proc/{box.pid}/stat").read_text().rpartition(")")[2].split()
        yield "the terminal is nobody's", fields[4] != "0"
        yield "there is no /dev/console", "/dev/console" in box.mounts()


def in_anothers_namespace() -> Iterator[tuple[str, bool]]:
    """A namespace that the specification names by path is joined."""
    other = process.spawn(signal.pause, namespaces.bits(["uts"]))
    spec = specification()
    path = f"/proc/{other.pid}/ns/uts"
    linux = spec["linux"]
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "uts"]
    linux["namespaces"].append({"type": "uts", "path": path})
    identity = namespaces.identity(other.pid, "uts")
    with Box(spec) as box:
        yield "the named namespace is not joined", namespaces.identity(box.pid, "uts") == identity
    other.signal(signal.SIGKILL)


def with_users_of_its_own() -> Iterator[tuple[str, bool]]:
    """Root inside is nobody outside, and makes and mounts all the same."""
    spec = specification()
    linux = spec["linux"]
    linux["namespaces"].append({"type": "user"})
    table = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["uidMappings"] = linux["gidMappings"] = table
    with Box(spec, owner=100000) as box:
        yield "it does not start in a user namespace", box.said.endswith("ready\n")
        yield "its user is the host's", box.status("Uid").split() == ["101000"] * 4
        same = namespaces.identity(box.pid, "ipc") == namespaces.identity("self", "ipc")
        yield "it shares System V objects with the host", not same


def refusals() -> Iterator[tuple[str, bool]]:
    """What cannot be done is said, and nothing runs."""
    spec = specification()
    spec["mounts"].append({"destination": "/x", "source": "/no/such/place", "options": ["bind"]})
    yield (
        "a mount that failed is not told",
        "cannot mount /no/such/place" in refusal(lambda: Box(spec)),
    )
    spec = specification()
    spec["process"]["args"] = ["/bin/nowhere"]
    yield "a program that is missing is not told", "/bin/nowhere" in refusal(lambda: Box(spec))

    spec = specification()
    spec["process"]["apparmorProfile"] = "no-such-profile"
    told = refusal(lambda: Box(spec))
    yield "a profile that is not there is not told", "AppArmor" in told

    spec = specification()
    outside = os.open("/", os.O_RDONLY)
    os.set_inheritable(outside, True)
    with Box(spec) as box:
        started = process.start_time(box.pid)
        wanted = {**spec["process"], "cwd": f"/proc/self/fd/{outside}"}
        told = refusal(lambda: join.join(box.pid, started, wanted, (0, 1, 2)))
        yield "a working directory outside is not refused", "the working directory" in told
        wanted = {**spec["process"], "cwd": "/no/such/place"}
        told = refusal(lambda: join.join(box.pid, started, wanted, (0, 1, 2)))
        yield "a missing working directory is not told", "cannot enter" in told


def refusal(attempt: Callable[[], Any]) -> str:
    """The error that something ends with."""
    try:
        attempt()
    except EngineError as error:
        return error.message
    return ""


def when_the_engine_dies() -> Iterator[tuple[str, bool]]:
    """A container that nobody has recorded never runs."""
    trace = DIRECTORY / "data" / "it-ran"
    spec = specification()
    spec["process"]["args"] = ["touch", "/data/it-ran"]
    spec["process"]["user"] = {"uid": 0, "gid": 0}
    alive, end = os.pipe()
    engine = os.fork()
    if not engine:
        os.close(alive)
        Box(spec, output=end, on_created=lambda _: os._exit(0))
    os.close(end)
    os.waitpid(engine, 0)
    os.read(alive, 1)  # the container has the pipe's other end, until it ends
    yield "it runs though the engine has died", not trace.exists()


def while_it_starts() -> Iterator[tuple[str, bool]]:
    """Until it is the image's program, nobody without the right to trace can look into it."""
    traceless = capabilities.read()["CapEff"] & ~capabilities.mask(["SYS_PTRACE"])
    capabilities.set_sets(traceless, traceless, 0)
    looked = []

    def look(container: process.Process) -> None:
        state = ""
        while state not in ("S", "Z"):  # until it waits for us
            fields = Path(f"/proc/{container.pid}/stat").read_text().rpartition(")")[2]
            state = fields.split()[0]
        try:
            looked.append(os.readlink(f"/proc/{container.pid}/exe"))
        except OSError:
            looked.append("")

    spec = specification()
    spec["process"]["args"] = ["true"]
    Box(spec, on_created=look)
    yield "others can look into it while it starts", looked == [""]


PROBES = (
    everything,
    without_a_promise,
    at_a_terminal,
    in_anothers_namespace,
    with_users_of_its_own,
    refusals,
    when_the_engine_dies,
    while_it_starts,
)


def probe() -> str:
    """The first thing that is not as it should be; empty when all is well."""
    (DIRECTORY / "data" / "it-ran").unlink(missing_ok=True)
    for group in PROBES:
        try:
            for name, held in group():
                if not held:
                    return name
        except NameError:  # UnboundLocalError too
            return NEEDED
        except BrokenPipeError:
            return "the program ends at once"
        except Exception as error:
            said = str(error).splitlines()[0]
            if " is not defined" in said or "cannot access local variable" in said:
                return NEEDED  # the child's NameError, as the engine hears it
            return f"it does not start: {said}"
    return ""


# ------------------------------------------------------------------------------------ the mutants


def mutants(part: str = "") -> Iterator[tuple[str, ModuleType, ast.FunctionDef]]:
    """Every function of the sequence with each of its statements taken out, one at a time.

    part: only those with this in "function: line".

    An assignment to a name is not taken out: what uses the name would fail, and show nothing.
    """
    for module, name in SEQUENCE:
        function: FunctionType = getattr(module, name)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        for number, statement in enumerate(statements(tree)):
            if taken_out(statement):
                changed = copy.deepcopy(tree)
                replace(changed, statements(changed)[number])
                first = ast.unparse(statement).splitlines()[0]
                if part in f"{name}: {first}":
                    yield f"{name}: {first}", module, changed


def statements(tree: ast.AST) -> list[ast.stmt]:
    """All statements of a function, as they stand in its text."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sorted(found, key=lambda statement: statement.lineno)


def taken_out(statement: ast.stmt) -> bool:
    """Is it a statement that does something?"""
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.targets[0], (ast.Name, ast.Tuple))
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)  # a docstring
    return isinstance(statement, (ast.If, ast.For, ast.Raise))


def replace(tree: ast.AST, target: ast.stmt) -> None:
    """Put `pass` in the place of a statement."""
    for node in ast.walk(tree):
        for body in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
            if isinstance(body, list) and target in body:
                body[body.index(target)] = ast.copy_location(ast.Pass(), target)


def put_in(module: ModuleType, function: ast.FunctionDef) -> None:
    """Replace a function of a module, in this process."""
    tree = ast.fix_missing_locations(ast.Module([function], []))
    how = __future__.annotations.compiler_flag
    exec(compile(tree, "<mutant>", "exec", how), vars(module))


def try_out(module: ModuleType | None, function: ast.FunctionDef | None) -> str:
    """What the probes say, in a process of its own that has a few seconds."""
    read, write = os.pipe()
    trial = os.fork()
    if not trial:
        os.close(read)
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        # A host of its own, with shared mounts, as systemd leaves them on most machines.
        syscalls.unshare(flags.CLONE_NEWNS)
        syscalls.mount(None, "/", None, flags.MS_REC | flags.MS_SHARED)
        try:
            if module and function:
                put_in(module, function)
            os.write(write, probe().encode()[:4096])
        finally:
            os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], patience.seconds(SECONDS))
    told = os.read(read, 4096).decode() if ready else "it hangs"
    os.close(read)
    try:
        os.kill(trial, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(trial, 0)
    cgroups.choose(f"/minicontainer/why-{trial}").remove()
    return told


def ask(rootfs: Path, directory: Path, part: str = "") -> dict[str, str]:
    """{"function: line": what noticed that it was gone, "" when nothing did}; under the empty name
    the start as it stands.

    rootfs: a root file system, which is changed; directory: an empty one; part: only the
    lines with this in them, or in their function's name.
    """
    namespaces_of_its_own = ["--pid", "--mount", "--uts", "--ipc", "--mount-proc"]
    subprocess.run(
        ["unshare", "--fork", "--kill-child", "--propagation", "private", *namespaces_of_its_own,
         sys.executable, "-I", "-S", __file__, rootfs, directory, part],
        check=True, timeout=patience.seconds(300),
    )  # fmt: skip
    found: dict[str, str] = json.loads((directory / "found.json").read_text())
    return found


def main() -> None:
    """Try all mutants; the answers go into DIRECTORY/found.json."""
    global ROOTFS, DIRECTORY
    ROOTFS, DIRECTORY = Path(sys.argv[1]), Path(sys.argv[2])
    (ROOTFS / "only-here").touch()
    (ROOTFS / "sys").rmdir()  # so that it has to be made
    (ROOTFS / "etc" / "passwd").write_text("app:x:1000:1001::/home/app:/bin/sh\n")
    (DIRECTORY / "data").mkdir()
    found = {"": try_out(None, None)}
    for name, module, function in mutants(sys.argv[3]):
        found[name] = try_out(module, function)
    (DIRECTORY / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

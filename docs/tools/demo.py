"""`./dev demo`: an app becomes an image, goes to a registry and back, and runs twice.

The app is examples/dogs. Everything happens in a temporary directory and on 127.0.0.1. At the end
the host is compared with what it was at the beginning.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import shipping

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "bin" / "minicontainer"
APP = ROOT / "examples" / "dogs"
ROWS = 7


def main() -> int:
    """Run the demo; the exit code."""
    if os.geteuid() != 0:
        print("the demo runs as root: sudo ./dev demo", file=sys.stderr)
        return 1
    began = time.monotonic()
    before = host()
    with tempfile.TemporaryDirectory(prefix="minicontainer-demo-") as directory:
        maker, engine = Engine(f"{directory}/maker"), Engine(f"{directory}/user")
        title("1. An image with Python, from this machine's own programs")
        maker.show("image", "starter", "--python", "python:3-slim")
        title("2. The app, examples/dogs, as one more layer over it")
        dogs = package(maker, Path(directory))
        image = ship(dogs, engine, Path(directory))
        title("4. A container of it, beside its host")
        beside(engine, image)
        title("5. Two instances of it, each with an adapter and a port 5000 of its own")
        instances(engine, image)
        title("6. What a start costs")
        cost(engine, image)
    return finish(before, directory, time.monotonic() - began)


class Engine:
    """minicontainer with a data root of its own, and a terminal that shows what is typed."""

    def __init__(self, root: str) -> None:
        self.environment = {
            **os.environ,
            "MINICONTAINER_ROOT": f"{root}/lib",
            "MINICONTAINER_RUN_ROOT": f"{root}/run",
        }
        self.layout = Path(root, "lib", "images")

    def show(self, *arguments: str) -> None:
        """Run a command as a user would, with its output on our terminal."""
        typed(arguments)
        subprocess.run(
            [COMMAND, *arguments], env=self.environment, stderr=subprocess.STDOUT, check=True
        )

    def output(self, *arguments: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def wait_for(self, container: str, word: str) -> None:
        """Wait until the container's log has a line with this word; what it runs needs a moment."""
        command = [COMMAND, "logs", "--follow", container]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, text=True
        ) as logs:
            assert logs.stdout is not None
            for line in logs.stdout:
                if word in line:
                    logs.terminate()
                    return
        raise SystemExit(f"container {container} ended before it was {word}")


# ------------------------------------------------------------------------- the image, and its way


def package(maker: Engine, directory: Path) -> shipping.Layout:
    """The app's image, by hand: the engine's own `build` comes with a later chapter."""
    for line in (APP / "Dockerfile").read_text().splitlines():
        print(f"  {line}")
    base = shipping.Layout(maker.layout)
    dogs = shipping.package(base, APP, directory / "dogs", "dogs")
    size = os.path.getsize(APP / "dogs.py")
    print(f"a layer with one file of {size} bytes; all below it is the image of before")
    return dogs


def ship(dogs: shipping.Layout, engine: Engine, directory: Path) -> str:
    """Bring the image from its maker to an empty store, by way of a registry; its name there."""
    program = shutil.which("docker-registry")
    if program is None:
        title("3. To an archive, and into an empty store (docker-registry is not installed)")
        archive = directory / "dogs.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(dogs.directory, ".")
        engine.show("load", "--input", str(archive))
        return "dogs"
    title("3. To a real registry on 127.0.0.1, and back into an empty store")
    registry, address = shipping.start_registry(program, directory)
    try:
        shipping.push(dogs, address, "dogs", "latest")
        engine.show("pull", f"{address}/dogs")
    finally:
        registry.terminate()
        registry.wait()
    engine.show("images")
    return f"{address}/dogs"


# --------------------------------------------------------------------------------- side by side


def beside(engine: Engine, image: str) -> None:
    """Ask the same questions in a container and on the host."""
    run = ["run", "--rm", "--network", "none", "--user", "root", "--hostname", "box", image]
    typed([*run, "sh", "-c", "hostname; ps; ls /; …"])

    def inside(command: str) -> list[str]:
        return engine.output(*run, "sh", "-c", command).splitlines()

    show("hostname", [os.uname().nodename], inside("hostname"))
    show("processes", host_processes(), inside("ps -o pid,comm; exit")[1:])
    show("root directory", sorted(os.listdir("/")), inside("ls /"))
    show("mounts", host_mounts(), [mount_words(line) for line in inside("cat /proc/mounts")])
    show("network links", sorted(os.listdir("/sys/class/net")), inside("ls /sys/class/net"))
    powers = "grep CapEff /proc/self/status"
    show("capabilities", host_powers(), [line.split()[1] for line in inside(powers)])


def host_processes() -> list[str]:
    """The host's processes: pid and name."""
    found = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            found.append(f"{pid:>5} {Path(f'/proc/{pid}/comm').read_text().strip()}")
        except OSError:
            continue  # it has ended since
    return found


def mount_words(line: str) -> str:
    """A line of /proc/mounts as `where (type)`."""
    _, where, kind, *_ = line.split()
    return f"{where} ({kind})"


def host_mounts() -> list[str]:
    """The host's mounts."""
    return [mount_words(line) for line in Path("/proc/mounts").read_text().splitlines()]


def host_powers() -> list[str]:
    """The effective capabilities of this process."""
    status = Path("/proc/self/status").read_text()
    return [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")]


def cut(line: str, width: int) -> str:
    """As much of a line as there is room for."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def show(question: str, host_side: list[str], container_side: list[str]) -> None:
    """One question in two columns: the host's answer, and the container's."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120) // 2 - 2
    heading = f"{question} on the host"
    print(f"\n{bold(heading.ljust(width))}  {bold('in the container')}")
    left, right = shorten(host_side), shorten(container_side)
    for row in range(max(len(left), len(right))):
        a = left[row] if row < len(left) else ""
        b = right[row] if row < len(right) else ""
        print(f"{cut(a, width):<{width}}  {cut(b, width)}".rstrip())


def shorten(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    if len(lines) <= ROWS:
        return lines
    return [*lines[: ROWS - 1], f"… and {len(lines) - ROWS + 1} more"]


def instances(engine: Engine, image: str) -> None:
    """Publish two on ports 5001 and 5002, fetch both, look inside, kill one; the other goes on."""
    names = {"one": port_of_the_host(5001), "two": port_of_the_host(5002)}
    try:
        for name, port in names.items():
            words = ("run", "-d", "--name", name, "--hostname", name, "-p", f"{port}:5000", image)
            typed(words)
            engine.output(*words)
            engine.wait_for(name, "listening")
        engine.show("ps", "--format", r"table {{.Names}}\t{{.Status}}\t{{.Ports}}")
        for port in names.values():
            fetch(port)
        for name in names:
            engine.show("exec", name, "ps", "-o", "pid,user,args")
        engine.show("top", "one", "-eo", "pid,user,args")  # the same process, as the host sees it
        engine.show("kill", "one")
        fetch(names["two"], "health")
        engine.show("logs", "two")
    finally:
        engine.show("rm", "-f", *names)
        engine.show("network", "prune", "-f")


def port_of_the_host(wanted: int) -> int:
    """A port that the story is told with, or another where somebody has it."""
    with socket.socket() as listener:
        try:
            listener.bind(("0.0.0.0", wanted))
        except OSError:
            return shipping.free_port()
    return wanted


def fetch(port: int, page: str = "") -> None:
    """The page at a published port."""
    command = ["curl", "--silent", "--show-error", f"http://127.0.0.1:{port}/{page}"]
    print(f"$ {' '.join([command[0], command[-1]])}", flush=True)
    subprocess.run(command, check=True)


def cost(engine: Engine, image: str) -> None:
    """Start the smallest program ten times; the middle one's time."""
    run = ("run", "--rm", "--network", "none", image, "true")
    typed(run)
    times = []
    for _ in range(10):
        began = time.monotonic()
        engine.output(*run)
        times.append(time.monotonic() - began)
    print(f"{sorted(times)[5] * 1000:.0f} ms from the command line to the end, the middle of ten")


# -------------------------------------------------------------------------------- nothing is left


def host() -> dict[str, set[str]]:
    """What a container could leave behind."""
    return {
        "mount": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "network link": set(os.listdir("/sys/class/net")),
    }


def finish(before: dict[str, set[str]], directory: str, seconds: float) -> int:
    """Compare the host with what it was; the exit code."""
    left = [
        f"{kind}: {name}" for kind, names in host().items() for name in sorted(names - before[kind])
    ]
    # Whatever we started was told where our files are.
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if directory.encode() in file.read_bytes():
                left.append(f"process: {file.parent.name}")
        except OSError:
            continue  # it has ended since
    print()
    if left:
        print("left behind:\n  " + "\n  ".join(left))
        return 1
    print(bold(f"The host is as it was. {seconds:.1f} s in all."))
    return 0


def title(text: str) -> None:
    """A heading."""
    print(f"\n{bold(text)}", flush=True)


def typed(arguments: Sequence[str]) -> None:
    """The command line that is about to run."""
    print(f"$ minicontainer {shlex.join(arguments)}", flush=True)


def bold(text: str) -> str:
    """Bold on a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)

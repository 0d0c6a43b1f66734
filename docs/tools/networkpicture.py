"""The picture on docs/networks.md: a real scene, drawn by the engine from the kernel.

    sudo python3 docs/tools/networkpicture.py

writes docs/pictures/network.svg. Two instances of one image are on ports 5001 and 5002 of a host
with an uplink, and one of them is on a second network too. All of it is in namespaces that end
with the tool: one for the host, and one for what is beyond its uplink.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "pictures" / "network.svg"
COMMAND = ROOT / "bin" / "minicontainer"

# The scene: what ip(8) and the engine are told.
UPLINK = """\
link set lo up
link add up0 type veth peer name eth0 netns {elsewhere}
address add 192.0.2.10/24 dev up0
link set up0 up
route add default via 192.0.2.1
"""
SCENE = """\
image starter
network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 shop
run -d --name one -p 5001:5000 starter sleep 1000
run -d --name two -p 5002:5000 starter sleep 1000
run -d --name stock --network shop -p 127.0.0.1:8080:80 starter sleep 1000
network connect shop one
"""
END = "rm -f one two stock\nnetwork prune -f\n"

# What is another at each run: ids, in the names of links, and the default network's own prefix.
CHANGES = re.compile(r"\bmc-?[0-9a-f]{10,12}|\bfd[0-9a-f]{2}(:[0-9a-f]{1,4}){1,2}::")


def draw() -> str:
    """The SVG of the scene; as root."""
    return _run("unshare", "--net", sys.executable, __file__, "elsewhere")


def elsewhere() -> str:
    """The same, from within a namespace that is the world beyond the host."""
    return _run("unshare", "--net", "--mount", sys.executable, __file__, "host")


def host() -> str:
    """The same, from within the host's namespaces."""
    _run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    _run("ip", "-batch", "-", input=UPLINK.format(elsewhere=os.getppid()))
    try:
        for line in SCENE.splitlines():
            _engine(*line.split())
        return _engine("network", "inspect", "--diagram=svg")
    finally:
        for line in END.splitlines():
            _engine(*line.split())


def _engine(*words: str) -> str:
    # The default data root, for the default names; it is in memory and ends with the namespace.
    roots = ("--root", "/var/lib/minicontainer", "--run-root", "/var/lib/run")
    return _run(str(COMMAND), *roots, *words)


def _run(*words: str, input: str | None = None) -> str:
    done = subprocess.run(words, input=input, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def structure(drawn: str) -> tuple[list[str], Counter[str]]:
    """What of a picture is the same at each run: what it says, and how many elements it has."""
    elements = list(xml.fromstring(drawn).iter())
    said = [CHANGES.sub("…", element.text or "").strip() for element in elements]
    return [text for text in said if text], Counter(element.tag for element in elements)


def main() -> None:
    """Write the picture, or a stage's to the standard output."""
    if sys.argv[1:]:
        print({"elsewhere": elsewhere, "host": host}[sys.argv[1]](), end="")
        return
    PICTURE.write_text(draw())
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

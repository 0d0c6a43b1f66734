"""Times starts of one bundle, from inside this program: by our runtime, by crun, by runc.

python3 inner.py BUNDLE      prints {name: [seconds, …]} as JSON
"""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from minicontainer.runtime import spec as specification
from minicontainer.runtime import start
from tests.bench import measure


def by_us(bundle: str) -> None:
    spec = specification.load(f"{bundle}/config.json")
    root = start.open_root(bundle, spec)
    container = start.start(spec, bundle, root, (0, 1, 2), lambda _: None)
    os.close(root)
    assert container.wait() == 0
    container.close()


def by(runtime: str, bundle: str) -> None:
    arguments = [runtime, "run", "--bundle", bundle, f"bench-{os.getpid()}"]
    pid = os.posix_spawnp(runtime, arguments, os.environ)
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    bundle = sys.argv[1]
    work = {"minicontainer": partial(by_us, bundle)}
    for runtime in ("crun", "runc"):
        if shutil.which(runtime):
            work[f"{runtime} run"] = partial(by, runtime, bundle)
    print(json.dumps(measure.interleave(work, 40)))

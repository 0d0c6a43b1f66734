"""Make the attacks of a chapter on several stages, and say how each went."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chapters import ground, stages
from chapters.stages import Chapter, Stage

# {attack: {stage: verdict}}
Verdicts = dict[str, dict[str, str]]

GOT_THROUGH, STOPPED, ABSENT = "gets through", "is stopped", "cannot be tried"


def make(chapter: Chapter, on: Sequence[Stage], verbose: bool = False) -> Verdicts:
    """Make the attacks of a chapter on the stages, printing each verdict as it is known.

    The caller must be in the stand-in host (ground.enter_stand_in).
    """
    module = importlib.import_module(f"chapters.{chapter['folder']}.attack")
    verdicts: Verdicts = {}
    with tempfile.TemporaryDirectory(prefix="chapters-attack-") as directory:
        template = Path(directory) / "template"
        write_rootfs(template)
        for attack in module.ATTACKS:
            print(f"{chapter['number']:02} {attack.__doc__}")
            verdicts[attack.__name__] = {}
            for stage in on:
                place = Path(directory) / "place"
                place.mkdir()
                field = ground.Ground(stage, place, template)
                try:
                    verdict = GOT_THROUGH if attack(field) else STOPPED
                    shown = verdict
                except ground.Missing as missing:
                    verdict, shown = ABSENT, f"{ABSENT}: {missing}"
                finally:
                    clear(place)
                verdicts[attack.__name__][stage.label] = verdict
                print(f"   {stage.label:14} {shown}", flush=True)
                if verbose:
                    print("\n".join(f"      {line}" for line in field.told))
    return verdicts


def write_rootfs(directory: Path) -> None:
    """A root file system of this machine's programs, with those that the attackers use."""
    from minicontainer.image import starter

    extra = () if shutil.which("busybox") else ("chroot", "mkfifo")
    starter.write_rootfs(str(directory), programs=extra)


def clear(place: Path) -> None:
    """Take away what an attack left in the stand-in host: its mounts, then its files."""
    from minicontainer.kernel import flags, syscalls

    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    for path in reversed([row.split()[4] for row in rows]):
        if path.startswith(f"{place}/"):
            syscalls.umount2(path, flags.MNT_DETACH)
    shutil.rmtree(place)


def default_stages(number: int) -> list[Stage]:
    """The stage before a chapter, its own, and the engine."""
    return [s for s in stages.stages() if s.number in (number - 1, number, stages.ENGINE)]

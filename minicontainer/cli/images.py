"""Images: fetched, loaded, listed, named, removed, and made from this machine's own programs."""

from __future__ import annotations

import sys

from ..engine import ending, names, teardown
from ..engine.home import Home
from ..errors import EngineError
from . import output
from .containers import confirm
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..image.store import Image


def pull(home: Home, values: Values) -> int:
    """The action of `minicontainer pull`."""
    from ..image import progress
    from ..image.pull import pull as pull_image
    from ..image.reference import Reference

    text = values.words[0]
    reference = Reference.parse(text)
    quiet = values.flag("quiet")
    last = text.rpartition("/")[2]
    if not quiet and ":" not in last and "@" not in text:
        print(f"Using default tag: {reference.tag}")
    pull_image(
        home.store(),
        reference,
        values.text("platform"),
        insecure=True if values.flag("insecure") else None,
        cert_dir=values.text("cert-dir"),
        progress=progress.choose(sys.stdout, quiet),
    )
    if not quiet:
        print(reference)
    return 0


def load(home: Home, values: Values) -> int:
    """The action of `minicontainer load`."""
    from ..image import archive

    path = values.text("input")
    if path is None and sys.stdin.isatty():
        raise EngineError("requested load from stdin, but stdin is empty", hint="use -i FILE")
    with open(path, "rb") if path else sys.stdin.buffer as stream:
        loaded = archive.load(home.store(), stream)
    for name in loaded:
        kind = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        print(name if values.flag("quiet") else f"{kind}: {name}")
    return 0


HEAD = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
NONE = "<none>"


def images(home: Home, values: Values) -> int:
    """The action of `minicontainer images`."""
    wanted = values.words[0] if values.words else None
    found = []
    for image in home.store().images():
        found += rows(image, wanted, values.flag("no-trunc"))
    if values.flag("quiet"):
        for id in dict.fromkeys(row["ID"] for row in found):
            print(id)
        return 0
    head = dict(HEAD)
    if not values.flag("digests"):
        del head["Digest"]
    output.show(head, found, values.text("format"))
    return 0


def rows(image: Image, wanted: str | None, full: bool) -> list[dict[str, Any]]:
    """One row for each name of an image, or one without a name; wanted: a repository or name."""
    from ..image.reference import Reference

    digests = {}
    for text in image.repo_digests:
        reference = Reference.parse(text)
        digests[reference.familiar_name()] = reference.digest
    named = [Reference.parse(name) for name in image.names]
    names: list[tuple[str, str]] = [(r.familiar_name(), r.tag or NONE) for r in named]
    if not names:
        names = [(repository, NONE) for repository in digests] or [(NONE, NONE)]
    if wanted is not None:
        names = [name for name in names if _is_wanted(wanted, *name)]
    return [
        {
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, NONE),
            "ID": image.id if full else image.short_id,
            "CreatedSince": output.ago(image.created),
            "CreatedAt": image.created,
            "Size": output.size(image.store.size(image)),
        }
        for repository, tag in names
    ]


def _is_wanted(wanted: str, repository: str, tag: str) -> bool:
    from ..image.reference import Reference

    reference = Reference.parse(wanted)
    same_tag = ":" not in wanted.rpartition("/")[2] or reference.tag == tag
    return reference.familiar_name() == repository and same_tag


def tag(home: Home, values: Values) -> int:
    """The action of `minicontainer tag`."""
    from ..image.reference import Reference

    source, target = values.words
    store = home.store()
    reference = Reference.parse(target)
    if reference.digest:
        raise EngineError(f"cannot tag an image as {target}: a digest is not a tag")
    store.tag(store.resolve(source), reference)
    return 0


def users(home: Home) -> list[tuple[str, str, bool]]:
    """(container id, image id, whether it runs) of every container."""
    return [
        (record.id, record.image_id, ending.state(home, record).running)
        for record in names.all_records(home)
    ]


def remove(home: Home, values: Values) -> int:
    """The action of `minicontainer rmi`."""
    teardown.reconcile(home)
    store = home.store()
    force = values.flag("force")

    def one(word: str) -> None:
        for line in store.remove(word, force=force, containers=lambda: users(home)):
            print(line)

    return output.for_each(values.words, one)


def prune(home: Home, values: Values) -> int:
    """The action of `minicontainer image prune`."""
    teardown.reconcile(home)
    everything = values.flag("all")
    what = "without a container" if everything else "without a name"
    if not values.flag("force") and not confirm(f"this removes all images {what}"):
        return 1
    store = home.store()
    used = {image_id for _, image_id, _ in users(home)}
    for image in store.images():
        if image.id not in used and (everything or not image.names):
            for line in store.remove(image.id, force=True, containers=lambda: users(home)):
                print(line)
    return 0


HISTORY_HEAD = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def history(home: Home, values: Values) -> int:
    """The action of `minicontainer history`."""
    store = home.store()
    full, human = values.flag("no-trunc"), values.flag("human")
    found = []
    for step in store.history(store.resolve(values.words[0])):
        id = step["Id"]
        if not full and id.startswith("sha256:"):
            id = id[7:19]
        command = step["CreatedBy"].replace("\t", " ")
        found.append(
            {
                "ID": id,
                "CreatedSince": output.ago(step["Created"]) if human else step["Created"],
                "CreatedAt": step["Created"],
                "CreatedBy": command if full else output.shorten(command, 45),
                "Size": output.size(step["Size"]) if human else str(step["Size"]),
                "Comment": step["Comment"],
            }
        )
    if values.flag("quiet"):
        for row in found:
            print(row["ID"])
        return 0
    output.show(HISTORY_HEAD, found, values.text("format"))
    return 0


def starter(home: Home, values: Values) -> int:
    """The action of `minicontainer image starter`."""
    from ..image import starter as maker

    python, programs = values.flag("python"), values.many("add")
    busybox = values.flag("busybox")
    directory = values.text("rootfs")
    if directory is not None:
        if values.words:
            raise EngineError("a root directory has no name: give a NAME or --rootfs, not both")
        maker.write_rootfs(directory, python=python, programs=programs, busybox=busybox)
        print(directory)
        return 0
    name = values.words[0] if values.words else maker.NAME
    image = maker.build(home.store(), name, python=python, programs=programs, busybox=busybox)
    print(image.id if values.flag("quiet") else f"made {name} ({image.short_id})")
    return 0


PULL = Command(
    "pull",
    "NAME[:TAG|@DIGEST]",
    "Fetch an image from a registry",
    pull,
    (
        Option("--cert-dir", "certificates (*.crt) to trust, and a client's (*.cert, *.key)",
               value="DIR"),
        Option("--insecure", "plain HTTP, or TLS that nobody vouches for, is good enough"),
        Option("--platform", "the image's platform: os[/arch[/variant]]", value="PLATFORM"),
        Option("--quiet -q", "show no progress, only the name"),
    ),
    minimum=1,
    maximum=1,
    later="--all-tags -a --disable-content-trust",
)  # fmt: skip

LOAD = Command(
    "load",
    "",
    "Load images from an archive: of docker save, podman save or skopeo",
    load,
    (
        Option("--input -i", "read a file instead of the standard input", value="FILE"),
        Option("--quiet -q", "print only the names"),
    ),
    maximum=0,
    later="--platform",
)

IMAGES = Command(
    "images",
    "[REPOSITORY[:TAG]]",
    "List images",
    images,
    (
        Option("--all -a", "for docker's sake: there are no hidden images"),
        Option("--digests", "show the digests"),
        Option("--format", "table, json, or a template such as {{.ID}}", value="FORMAT"),
        Option("--no-trunc", "show everything whole"),
        Option("--quiet -q", "only ids"),
    ),
    maximum=1,
    later="--filter -f --tree",
)

TAG = Command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Give an image another name",
    tag,
    minimum=2,
    maximum=2,
)

RMI = Command(
    "rmi",
    "IMAGE [IMAGE...]",
    "Remove names of images, and images with their last name",
    remove,
    (Option("--force -f", "also where a stopped container uses it, or several names name it"),),
    minimum=1,
    later="--no-prune --platform",
)

HISTORY = Command(
    "history",
    "IMAGE",
    "Show how an image was made",
    history,
    (
        Option("--format", "table, json, or a template such as {{.Size}}", value="FORMAT"),
        Option("--human -H", "sizes and dates for people", default=True),
        Option("--no-trunc", "show everything whole"),
        Option("--quiet -q", "only ids"),
    ),
    minimum=1,
    maximum=1,
    later="--platform",
)

PRUNE = Command(
    "image prune",
    "",
    "Remove images that nobody needs",
    prune,
    (
        Option("--all -a", "all that no container uses, not only those without a name"),
        Option("--force -f", "do not ask"),
    ),
    maximum=0,
    later="--filter",
)

STARTER = Command(
    "image starter",
    "[NAME]",
    "Make a small image from this machine's own programs, with no download",
    starter,
    (
        Option("--add", "a program of this machine to add, with its libraries", value="PROGRAM",
               many=True),
        Option("--busybox", "use busybox where it is installed", default=True),
        Option("--python", "with this machine's Python"),
        Option("--quiet -q", "print only the image's id"),
        Option("--rootfs", "write a plain root directory instead of an image", value="DIR"),
    ),
    maximum=1,
)  # fmt: skip

"""`ps`: which containers there are."""

from __future__ import annotations

from ..engine import ending, names, publishing, teardown
from ..engine.home import Home
from ..engine.record import Record
from ..errors import EngineError
from . import output
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAgo": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
}


def ps(home: Home, values: Values) -> int:
    """The action of `minicontainer ps`."""
    teardown.reconcile(home)
    filters = parse_filters(values.many("filter"))
    last = 1 if values.flag("latest") else values.number("last") or 0
    found = []
    for record in names.all_records(home):
        state = ending.state(home, record)
        wanted = values.flag("all") or last or "status" in filters or state.running
        if wanted and matches(record, state, filters):
            found.append((record, state))
    if last > 0:
        found = found[:last]
    full = values.flag("no-trunc")
    if values.flag("quiet"):
        for record, _ in found:
            print(record.id if full else record.short_id)
        return 0
    output.show(
        HEAD, [row(r, s, publishing.of(home, r), full) for r, s in found], values.text("format")
    )
    return 0


def row(record: Record, state: ending.State, ports: dict[str, Any], full: bool) -> dict[str, Any]:
    """The fields of one container, by docker's names (docker ps reference, "Format")."""
    command = " ".join(record.command)
    return {
        "ID": record.id if full else record.short_id,
        "Image": record.image,
        "Command": f'"{command if full else output.shorten(command, 20)}"',
        "CreatedAgo": output.ago(record.created),
        "CreatedAt": record.created,
        "RunningFor": output.ago(record.created),
        "Status": status(record, state),
        "State": state.status,
        "Ports": publishing.summary(ports),
        "Names": record.name,
        "Labels": ",".join(f"{k}={v}" for k, v in sorted(record.labels.items())),
        "Mounts": ",".join(mount["source"] for mount in record.mounts),
        "Networks": ",".join([record.network, *record.more_networks]),
        "LocalVolumes": "0",
        "Size": "",
    }


def status(record: Record, state: ending.State) -> str:
    """`Up 2 minutes`, `Exited (1) 3 hours ago`, `Created`."""
    if state.live is not None:
        up = f"Up {output.duration(output.seconds_since(state.live.started))}"
        return f"{up} (Paused)" if state.status == "paused" else up
    if state.status == "exited":
        return f"Exited ({record.exit_code}) {output.ago(record.finished)}"
    return state.status.capitalize()


KEYS = ("status", "name", "label", "id", "ancestor", "exited")


def parse_filters(given: list[str]) -> dict[str, list[str]]:
    """`--filter key=value`, by key; EngineError for a key that there is not."""
    filters: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise EngineError(f"invalid filter {text!r}: use key=value")
        if key not in KEYS:
            raise EngineError(f"invalid filter {key!r}", hint=f"there are: {', '.join(KEYS)}")
        filters.setdefault(key, []).append(value)
    return filters


def matches(record: Record, state: ending.State, filters: dict[str, list[str]]) -> bool:
    """Whether a container passes: one value of each key, but all labels (docker ps reference)."""

    def one(key: str, value: str) -> bool:
        if key == "status":
            return state.status == value
        if key == "name":
            return value.removeprefix("/") in record.name
        if key == "id":
            return record.id.startswith(value)
        if key == "ancestor":
            image = record.image_id.removeprefix("sha256:")
            return record.image in (value, f"{value}:latest") or image.startswith(
                value.removeprefix("sha256:")
            )
        if key == "exited":
            return state.status == "exited" and str(record.exit_code) == value
        name, equals, wanted = value.partition("=")
        return name in record.labels and (not equals or record.labels[name] == wanted)

    return all(
        (all if key == "label" else any)(one(key, value) for value in wanted)
        for key, wanted in filters.items()
    )


PS = Command(
    "ps",
    "",
    "List containers",
    ps,
    (
        Option("--all -a", "also those that do not run"),
        Option("--filter -f", f"only those that match: {', '.join(KEYS)}", value="KEY=VALUE",
               many=True),
        Option("--format", "table, json, or a template such as {{.Names}}", value="FORMAT"),
        Option("--last -n", "the last containers made, in any state", value="COUNT", number=True),
        Option("--latest -l", "the last container made, in any state"),
        Option("--no-trunc", "show everything whole"),
        Option("--quiet -q", "only ids"),
    ),
    maximum=0,
    later="--size -s",
)  # fmt: skip

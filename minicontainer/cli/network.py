"""`network create|ls|inspect|rm|connect|disconnect|prune`: networks of one's own."""

from __future__ import annotations

import sys

from ..engine import connecting, firewalling, names, networks, teardown
from ..engine.home import Home
from ..errors import EngineError
from ..kernel import users
from . import arguments, output
from .containers import confirm
from .options import Command, Option, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}
DRIVERS = {"none": "null", "host": "host"}


def create(home: Home, values: Values) -> int:
    """The action of `minicontainer network create`."""
    driver = values.text("driver")
    if driver not in (None, "bridge"):
        raise EngineError(f"network driver {driver!r} is not known", hint="bridge is the only one")
    firewalling.check(values.flag("internal"))
    home.make()
    teardown.reconcile(home)
    with networks.lock(home):
        network = networks.define(
            home,
            values.words[0],
            subnets=values.many("subnet"),
            gateways=values.many("gateway"),
            internal=values.flag("internal"),
            ipv6=bool(values.given.get("ipv6", True)),
            mtu=mtu(values.many("opt")),
            labels=arguments.labels([], values.many("label")),
        )
        try:
            firewalling.rebuild(home)
        except BaseException:
            networks.remove(home, network)
            raise
    print(network["id"])
    return 0


def mtu(options: list[str]) -> int:
    """The only driver option that we have."""
    value = 0
    for option in options:
        name, _, text = option.partition("=")
        if name != "com.docker.network.driver.mtu":
            raise EngineError(f"unknown network option {option!r}",
                              hint="known is com.docker.network.driver.mtu=BYTES")  # fmt: skip
        if not (text.isascii() and text.isdigit()):
            raise EngineError(f"invalid MTU {text!r}: a number of bytes")
        value = int(text)
    return value


def ls(home: Home, values: Values) -> int:
    """The action of `minicontainer network ls`."""
    teardown.reconcile(home)
    defined = networks.all_of(home)
    if values.flag("quiet"):
        for network in defined:
            print(network["id"][: None if values.flag("no-trunc") else 12])
        return 0
    rows: list[dict[str, Any]] = []
    for network in defined:
        id = network["id"] if values.flag("no-trunc") else network["id"][:12]
        rows.append({"ID": id, "Name": network["name"], "Driver": "bridge", "Scope": "local"})
    rows += [
        {"ID": "-", "Name": mode, "Driver": DRIVERS[mode], "Scope": "local"}
        for mode in networks.MODES
    ]
    output.show(HEAD, rows, values.text("format"))
    return 0


def inspect(home: Home, values: Values) -> int:
    """The action of `minicontainer network inspect`."""
    home.make()
    teardown.reconcile(home)
    if values.text("diagram") is not None:
        return draw(home, values)
    if not values.words:
        raise INSPECT.complain(
            "'minicontainer network inspect' requires at least 1 argument", exit_code=1
        )
    found = []
    for word in values.words:
        if word in networks.MODES:
            found.append(describe_mode(word))
            continue
        with networks.lock(home):
            network = networks.find(home, word)
        found.append(describe(home, network))
    template = values.text("format")
    if template is None:
        print(output.pretty(found))
    else:
        for each in found:
            print(output.render(template, each))
    return 0


def describe_mode(name: str) -> dict[str, Any]:
    """The same of `none` and `host`, which are no networks of ours."""
    return {"Name": name, "Id": "", "Scope": "local", "Driver": DRIVERS[name], "Containers": {}}


def draw(home: Home, values: Values) -> int:
    """The picture of networks, or of all, as the kernel has them."""
    from ..engine import survey
    from ..network import picture, svg

    form = values.text("diagram")
    if form not in ("text", "svg"):
        raise INSPECT.complain(f"a diagram is text or svg, not {form!r}")
    if values.text("format") is not None:
        raise INSPECT.complain("a diagram has no --format; for a picture: --diagram=svg")
    if users.is_mapped():
        raise EngineError(
            "an ordinary user's containers are on no bridge: there is nothing to draw",
            hint="minicontainer port CONTAINER shows how one is reached",
        )
    with networks.lock(home):
        found = [networks.find(home, word) for word in values.words] or networks.all_of(home)
    drawing = survey.survey(home, found)
    text = svg.draw(drawing) if form == "svg" else picture.text(drawing)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = picture.plain(text)
    print(text, end="")
    return 0


def describe(home: Home, network: dict[str, Any]) -> dict[str, Any]:
    """A network in docker's fields (moby, api/types/network Inspect)."""
    here = {}
    for each in networks.containers(home, network["name"]):
        for endpoint in each["endpoints"]:
            if endpoint["network"] == network["name"]:
                six = endpoint["address6"]
                here[each["id"]] = {
                    "Name": each["name"],
                    "MacAddress": endpoint["mac"],
                    "IPv4Address": f"{endpoint['address4']}/{endpoint['prefix4']}",
                    "IPv6Address": f"{six}/{endpoint['prefix6']}" if six else "",
                }
    return {
        "Name": network["name"],
        "Id": network["id"],
        "Created": network["created"],
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": network["ipv6"],
        "IPAM": {"Driver": "default", "Options": {}, "Config": network["subnets"]},
        "Internal": network["internal"],
        "Containers": here,
        "Options": {"com.docker.network.bridge.name": network["bridge"]},
        "Labels": network["labels"],
    }


def remove(home: Home, values: Values) -> int:
    """The action of `minicontainer network rm`."""
    home.make()
    teardown.reconcile(home)

    def one(word: str) -> None:
        refuse_defined(word)
        with networks.lock(home):
            network = networks.find(home, word)
            refuse_defined(network["name"])
            networks.remove(home, network)
            firewalling.rebuild(home)
        print(word)

    return output.for_each(values.words, one, forgive="not found" if values.flag("force") else None)


def refuse_defined(name: str) -> None:
    """EngineError for a network that nobody has made; the default one may come as its id."""
    if name in (*networks.MODES, networks.DEFAULT):
        hint = "network prune takes it down while it is idle" if name == networks.DEFAULT else None
        raise EngineError(f"{name} is a pre-defined network and cannot be removed", hint=hint)


def prune(home: Home, values: Values) -> int:
    """The action of `minicontainer network prune`: also the default one, which comes back."""
    teardown.reconcile(home)
    if not values.flag("force") and not confirm("this removes all networks without containers"):
        return 1
    if not networks.all_of(home):
        return 0
    with networks.lock(home):
        for network in networks.all_of(home):
            if not networks.containers(home, network["name"]):
                networks.remove(home, network)
                print(network["name"])
        firewalling.rebuild(home)
    return 0


def connect(home: Home, values: Values) -> int:
    """The action of `minicontainer network connect`."""
    home.make()
    teardown.reconcile(home)
    word, container = values.words
    record = names.find(home, container)
    with networks.lock(home):
        network = networks.find(home, word)
    wanted = {"aliases": values.many("alias"), **arguments.own_addresses(values)}
    connecting.attach(home, record, network, wanted)
    return 0


def disconnect(home: Home, values: Values) -> int:
    """The action of `minicontainer network disconnect`."""
    home.make()
    teardown.reconcile(home)
    word, container = values.words
    with networks.lock(home):
        network = networks.find(home, word)
    connecting.detach(home, names.find(home, container), network)
    return 0


CREATE = Command(
    "network create",
    "NETWORK",
    "Make a network",
    create,
    (
        Option("--driver -d", "bridge is the only one", value="DRIVER"),
        Option("--gateway", "the host's address on it", value="ADDRESS", many=True),
        Option("--internal", "nothing on it reaches anything beyond it"),
        Option("--ipv6", "IPv6 addresses too: the default; with --ipv6=false IPv4 alone"),
        Option("--label", "set a label", value="NAME[=VALUE]", many=True),
        Option("--opt -o", "com.docker.network.driver.mtu=BYTES", value="NAME=VALUE", many=True),
        Option("--subnet", "its addresses; chosen when none is given", value="ADDRESS/LENGTH",
               many=True),
    ),
    minimum=1,
    maximum=1,
    later="--attachable --aux-address --config-from --config-only --ingress --ip-range "
    "--ipam-driver --ipam-opt --scope",
)  # fmt: skip

LS = Command(
    "network ls",
    "",
    "List networks",
    ls,
    (
        Option("--format", "a Go template, json or table", value="TEMPLATE"),
        Option("--no-trunc", "show whole ids"),
        Option("--quiet -q", "show only ids"),
    ),
    maximum=0,
    later="--filter -f",
)

INSPECT = Command(
    "network inspect",
    "[NETWORK...]",
    "Show a network and who is on it",
    inspect,
    (
        Option("--diagram", "draw what the kernel has of it, or of all networks: text or svg",
               value="FORM", alone="text"),
        Option("--format -f", "a Go template", value="TEMPLATE"),
    ),
    later="--verbose -v",
)  # fmt: skip

RM = Command(
    "network rm",
    "NETWORK [NETWORK...]",
    "Remove networks",
    remove,
    (Option("--force -f", "it is no error when there is none of that name"),),
    minimum=1,
)

PRUNE = Command(
    "network prune",
    "",
    "Remove all networks without containers, the default one's bridge too",
    prune,
    (Option("--force -f", "do not ask"),),
    maximum=0,
    later="--filter",
)

CONNECT = Command(
    "network connect",
    "NETWORK CONTAINER",
    "Give a running container an adapter on a network",
    connect,
    (
        Option("--alias", "one more name on it", value="NAME", many=True),
        Option("--ip", "an address on it, instead of any", value="ADDRESS"),
        Option("--ip6", "an IPv6 address on it, instead of any", value="ADDRESS"),
    ),
    minimum=2,
    maximum=2,
    later="--driver-opt --gw-priority --link --link-local-ip",
)

DISCONNECT = Command(
    "network disconnect",
    "NETWORK CONTAINER",
    "Take a running container's adapter on a network away",
    disconnect,
    minimum=2,
    maximum=2,
    later="--force -f",
)

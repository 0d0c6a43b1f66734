"""The three files that tell a program about names: /etc/hosts, /etc/hostname, /etc/resolv.conf.

The C library reads nothing else (hosts(5), resolv.conf(5)), so a container's names are what is in
them. Texts in, texts out; the rules and the words of the errors are docker's.

Which servers a container asks. With --dns, those. On a network of the user's, our resolver at
127.0.0.11, which knows the neighbours and asks the host's servers for the rest. Else the host's
own; but a server on the host's loopback is nobody behind another loopback. Where systemd-resolved
is the only one, its own servers are in a file of its; where nothing but the loopback is left, our
resolver passes the questions on. (Docker would then ask Google's, which nobody has chosen.)
"""

from __future__ import annotations

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHAPTER = 13

# Docker's, and so what programs know.
RESOLVER = "127.0.0.11"
SYSTEMD, SYSTEMD_FILE = "127.0.0.53", "/run/systemd/resolve/resolv.conf"
HOST_GATEWAY = "host-gateway"
# The network that `run` uses when nobody says has no names, as docker's has none: whoever is on
# it is there by chance.
NAMELESS = "bridge"

LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(above: str, extra: Sequence[tuple[str, str]], own: Sequence[str], hostname: str) -> str:
    """/etc/hosts: what is above, the (name, address) of --add-host, and the container itself.

    above: LOCAL, or the host's own file. own: the container's addresses. hostname: what it calls
    itself; of `web.example.org` also `web` is written.
    """
    lines = [f"{address}\t{name}\n" for name, address in extra]
    names = hostname if "." not in hostname else f"{hostname} {hostname.partition('.')[0]}"
    lines += [f"{address}\t{names}\n" for address in own]
    if above and not above.endswith("\n"):
        above += "\n"
    return above + "".join(lines)


def extra_hosts(entries: Sequence[str], gateways: Sequence[str]) -> list[tuple[str, str]]:
    """The (name, address) of checked --add-host entries. gateways: the host's addresses as the
    container reaches them, for `host-gateway`; EngineError where it is asked for without any."""
    found = []
    for entry in entries:
        name, _, address = entry.partition(":")
        if address == HOST_GATEWAY and not gateways:
            raise EngineError(
                f"unable to derive the IP value for {HOST_GATEWAY}",
                hint="only by a bridge does a container reach the host",
            )
        found += [(name, each) for each in (gateways if address == HOST_GATEWAY else (address,))]
    return found


def servers(resolv_conf: str) -> list[str]:
    """The name servers that a resolv.conf lists, in their order."""
    fields = [line.split() for line in resolv_conf.splitlines()]
    return [field[1] for field in fields if field[:1] == ["nameserver"] and len(field) > 1]


def is_loopback(address: str) -> bool:
    """Whether an address means the machine that uses it."""
    return address.startswith("127.") or address in ("::1", "::", "0.0.0.0")  # noqa: S104


def resolv_conf(
    host: str,
    *,
    servers: Sequence[str] | None = None,
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """A container's resolv.conf: the host's, with what is given in place of its own lines.

    servers: None for the host's. search: domains, `.` alone for none. options: as in the file.
    """
    replaced = {
        "nameserver": servers is not None,
        "search": bool(search),
        "domain": bool(search),
        "options": bool(options),
    }
    kept = [
        line for line in host.splitlines() if not replaced.get((line.split() or [""])[0], False)
    ]
    lines = [f"nameserver {address}" for address in servers or ()] + kept
    if search and list(search) != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)


def for_resolver(host: str, search: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """The resolv.conf of a container that asks our resolver. A name without a dot is a
    neighbour's more often than a search domain's, so it is tried as it is first: ndots:0."""
    listed = [line.split()[1:] for line in host.splitlines() if line.split()[:1] == ["options"]]
    options = list(options) or [word for words in listed for word in words]
    if not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    return resolv_conf(host, servers=[RESOLVER], search=search, options=options)


# ------------------------------------------------------------------ what the command line may say


def check_server(address: str) -> str:
    """--dns: an address; EngineError for a name, which nobody could look up."""
    if not is_address(address):
        raise EngineError(f"invalid DNS server: IP address is not correctly formatted: {address}")
    return address


def check_search(domain: str) -> str:
    """--dns-search: a domain, or `.` for none."""
    domain = domain.strip(" ")
    if domain == ".":
        return domain
    labels = domain.removesuffix(".").split(".")
    good = all(
        label.isascii() and label.replace("-", "a").isalnum() and "-" not in (label[0], label[-1])
        for label in labels
        if label
    )
    # Docker wants one letter at least: else it is an address in the wrong place.
    if not good or not all(labels) or len(domain) > 254 or not any(map(str.isalpha, domain)):
        raise EngineError(f"invalid DNS search domain: {domain} is not a valid domain")
    return domain.removesuffix(".")


def check_option(option: str) -> str:
    """--dns-option: one word of the `options` line."""
    if not option or any(letter.isspace() or not letter.isprintable() for letter in option):
        raise EngineError(f"invalid DNS option: {option!r}")
    return option


def check_host(entry: str) -> str:
    """--add-host: `name:address`, `name=address`, an IPv6 address also in brackets, or
    `host-gateway`; as `name:address`."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not name or ":" in name or not name.isprintable() or " " in name:
        raise EngineError(f'bad format for add-host: "{entry}"', hint="NAME:ADDRESS")
    if address[:1] == "[" and address[-1:] == "]":
        address = address[1:-1]
    if address != HOST_GATEWAY and not is_address(address):
        raise EngineError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, in a form that inet_pton(3) knows."""
    import _socket  # 0.4 ms, which a container without a network does not pay

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False

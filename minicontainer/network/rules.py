"""The firewall as the kernel has it: what is left of the two tables that `firewall` writes.

Anybody may flush or change them. So nothing is taken for granted: a map with an element translates
nothing where the rule that looks it up is gone.
"""

from __future__ import annotations

from .. import jsonio
from ..errors import EngineError
from . import nft
from .ports import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # A published port, or a socket that listens: the host's address, protocol, number.
    Key = tuple[str, str, int]

CHAPTER = 13

EVERY = {4: ANY, 6: "::"}
# What the host loses with a rule that is gone: chain, words of the rule.
_GUARDS = (
    ("forwarded", ("@bridges", "drop"), "no rule keeps networks apart, or neighbours out"),
    ("arriving", ("127.0.0.0", "drop"), "no rule keeps neighbours from this host's loopback"),
)


class Rules:
    """The two tables at this moment. known: whether we may know them at all; missing: which of them
    there are not, or why nobody can say."""

    def __init__(self, table: str) -> None:
        self.known = True
        self.missing: list[str] = []
        self._sets: dict[str, list[Any]] = {}
        self._rules: list[tuple[str, str]] = []
        try:
            for family in ("inet", "bridge"):
                listed = nft.listed(family, table)
                if listed is None:
                    self.missing.append(f"there is no table {family} {table}")
                self._add(listed or [])
        except EngineError as error:
            self.known, self.missing = False, [error.message]

    def _add(self, listed: list[dict[str, Any]]) -> None:
        for entry in listed:
            for kind, found in entry.items():
                if kind in ("set", "map"):
                    self._sets[found["name"]] = found.get("elem", [])
                elif kind == "rule":
                    self._rules.append((found["chain"], jsonio.dumps(found["expr"])))

    def elements(self, name: str) -> list[Any]:
        """What is in a set or map."""
        return self._sets.get(name, [])

    def has(self, chain: str, *words: str) -> bool:
        """Whether a chain has a rule with all these words."""
        return any(where == chain and all(w in rule for w in words) for where, rule in self._rules)

    def doors(self) -> dict[Key, tuple[str, int]]:
        """Where published ports lead: (address, port), as far as a rule looks them up."""
        found = {}
        for name in ("any4", "any6", "given4", "given6"):
            if self.has("incoming", "publish") and self.has("publish", "dnat", f"@{name}"):
                for key, value in self.elements(name):
                    *place, proto, number = key["concat"]
                    where = place[0] if place else EVERY[int(name[-1])]
                    found[where, proto, number] = tuple(value["concat"])
        return found

    def lacks(self) -> list[str]:
        """What is gone that keeps the whole host."""
        return self.missing + [
            what for chain, words, what in _GUARDS if self._rules and not self.has(chain, *words)
        ]

"""Image names by docker's rules, without any input or output.

The grammar is that of github.com/distribution/reference, and so are the defaults:
`alpine` means `docker.io/library/alpine:latest`.
"""

from __future__ import annotations

from ..errors import EngineError
from .digest import is_hex

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_REGISTRY = "index.docker.io"
_OFFICIAL = "library/"
_LONGEST_REPOSITORY = 255
_LONGEST_TAG = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALPHANUMERIC = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALPHANUMERIC | {"_"}
_DIGITS = frozenset("0123456789")


class ReferenceError(EngineError):
    """The text is not a name that an image can have."""


class Reference:
    """A whole image name: registry, repository, and a tag, a digest or both.

    registry: host with its port if one was given ("docker.io", "127.0.0.1:5000").
    repository: the path on the registry ("library/alpine").
    tag: None only where there is a digest and no tag was given.
    digest: "sha256:" and 64 hex digits, or None.
    """

    __slots__ = ("registry", "repository", "tag", "digest")

    def __init__(
        self, registry: str, repository: str, tag: str | None, digest: str | None = None
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that docker would understand; ReferenceError with the reason."""
        if not text:
            raise ReferenceError("an image name cannot be empty")
        if len(text) == 64 and is_hex(text):
            raise _invalid(text, "64 hex digits alone are an image id, not a name")
        rest, at, digest = text.partition("@")
        if at:
            _check_digest(text, digest)
        registry, path = _split_registry(rest)
        repository, colon, tag = path.partition(":")
        _check_registry(text, registry)
        _check_repository(text, repository)
        if colon:
            _check_tag(text, tag)
        return cls(
            registry,
            repository,
            tag if colon else None if at else DEFAULT_TAG,
            digest if at else None,
        )

    @property
    def name(self) -> str:
        """Registry and repository: the name without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def familiar_name(self) -> str:
        """The name as docker shows it: the defaults left out, no tag, no digest."""
        for short in (self.repository.removeprefix(_OFFICIAL), self.repository):
            # `library/a/b` keeps its prefix, and `docker.io/a.b/c` its registry: shortened, they
            # would be read as something else.
            if _split_registry(short) == (self.registry, self.repository):
                return short
        return self.name

    def familiar(self) -> str:
        """The reference as docker shows it: `alpine:latest`, `127.0.0.1:5000/web:2`."""
        return self.familiar_name() + self._suffix()

    def with_digest(self, digest: str) -> Reference:
        """The same repository by digest, without a tag."""
        return Reference(self.registry, self.repository, None, digest)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __str__(self) -> str:
        return self.name + self._suffix()

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def _invalid(text: str, reason: str) -> ReferenceError:
    return ReferenceError(f"invalid image name {text[:300]!r}: {reason}")


def _split_registry(text: str) -> tuple[str, str]:
    """Registry and the rest, defaults filled in (splitDockerDomain of distribution/reference).

    The part before the first slash is a registry only when a repository cannot look like that:
    a dot, a colon, `localhost`, or an upper-case letter.
    """
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry = first
    else:
        registry, rest = DEFAULT_REGISTRY, text
    if registry == _LEGACY_REGISTRY:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in rest:
        rest = _OFFICIAL + rest
    return registry, rest


def _check_registry(text: str, registry: str) -> None:
    if registry.startswith("["):
        address, bracket, port = registry[1:].partition("]")
        good = bracket and address and all(c in "0123456789abcdefABCDEF:" for c in address)
        if not good or (port and not (port[0] == ":" and port[1:] and set(port[1:]) <= _DIGITS)):
            raise _invalid(text, f"{registry!r} is not a registry's address")
        return
    host, colon, port = registry.partition(":")
    if colon and not (port and _DIGITS.issuperset(port)):
        raise _invalid(text, f"the port of registry {registry!r} is not a number")
    for label in host.split("."):
        if (
            not label
            or label[0] not in _ALPHANUMERIC
            or label[-1] not in _ALPHANUMERIC
            or not all(c in _ALPHANUMERIC or c == "-" for c in label)
        ):
            raise _invalid(text, f"{registry!r} is not a registry's host name")


def _check_repository(text: str, repository: str) -> None:
    if repository != repository.lower():
        raise _invalid(text, f"the repository {repository!r} must be lower case")
    if len(repository) > _LONGEST_REPOSITORY:
        raise _invalid(text, f"the repository has more than {_LONGEST_REPOSITORY} characters")
    for component in repository.split("/"):
        if not component:
            raise _invalid(text, "the repository has an empty part")
        if not _is_component(component):
            raise _invalid(
                text,
                f"{component!r} is not lower-case letters and digits, "
                "parted by one dot, one or two underscores, or dashes",
            )


def _is_component(component: str) -> bool:
    """[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)* without the time that `import re` takes."""
    separator = ""
    letters = False
    for character in component:
        if character in _LOWER:
            if separator and separator not in (".", "_", "__") and set(separator) != {"-"}:
                return False
            separator, letters = "", True
        elif not letters:
            return False
        else:
            separator += character
    return letters and not separator


def _check_tag(text: str, tag: str) -> None:
    if not tag or len(tag) > _LONGEST_TAG:
        raise _invalid(text, f"a tag has 1 to {_LONGEST_TAG} characters")
    if tag[0] not in _WORD or not all(c in _WORD or c in ".-" for c in tag):
        raise _invalid(
            text, f"the tag {tag!r} is not letters, digits, underscores, dots and dashes"
        )


def _check_digest(text: str, digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    if algorithm != "sha256" or len(encoded) != 64 or not is_hex(encoded):
        raise _invalid(text, "a digest is sha256: and 64 lower-case hex digits")

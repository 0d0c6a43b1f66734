"""Image names: docker's grammar and docker's defaults."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image.reference import Reference, ReferenceError

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("bob/web", "docker.io/bob/web:latest", "bob/web:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
        ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web:latest"),
        ("127.0.0.1:5000/web:2", "127.0.0.1:5000/web:2", "127.0.0.1:5000/web:2"),
        ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("GHCR.io/a", "GHCR.io/a:latest", "GHCR.io/a:latest"),
        ("HOST/a", "HOST/a:latest", "HOST/a:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
        ("a__b.c-d--e", "docker.io/library/a__b.c-d--e:latest", "a__b.c-d--e:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("a:" + "T" * 128, "docker.io/library/a:" + "T" * 128, "a:" + "T" * 128),
        ("r.io/" + "a" * 255, "r.io/" + "a" * 255 + ":latest", "r.io/" + "a" * 255 + ":latest"),
    ],
)
def test_a_name_gets_dockers_defaults(text: str, whole: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == whole
    assert reference.familiar() == familiar


def test_the_parts_of_a_name() -> None:
    reference = Reference.parse(f"r.example:443/team/web:2@{DIGEST}")
    assert reference.registry == "r.example:443"
    assert reference.repository == "team/web"
    assert (reference.tag, reference.digest) == ("2", DIGEST)
    assert Reference.parse(f"web@{DIGEST}").tag is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Alpine", "must be lower case"),
        ("docker.io/Bob/web", "must be lower case"),
        ("a" * 64, "an image id"),
        ("web:", "a tag has 1 to 128 characters"),
        ("web:" + "t" * 129, "a tag has 1 to 128 characters"),
        ("web:.x", "the tag '.x'"),
        ("web:a b", "the tag 'a b'"),
        ("web@sha256:abc", "a digest is"),
        (f"web@{DIGEST.upper()}", "a digest is"),
        ("web@", "a digest is"),
        (f"web@sha512:{'0' * 128}", "a digest is"),
        ("a//b", "empty part"),
        ("r.io/", "empty part"),
        ("/web", "empty part"),
        ("-web", "'-web' is not"),
        ("web-", "'web-' is not"),
        ("a..b", "'a..b' is not"),
        ("a___b", "'a___b' is not"),
        ("a._b", "'a._b' is not"),
        ("r.io:port/web", "the port"),
        ("r.io:/web", "the port"),
        ("-r.io/web", "host name"),
        ("r..io/web", "host name"),
        ("[zz]/web", "'[zz]' is not"),
        ("../../etc/passwd", "host name"),
        ("r.io/../x", "'..' is not"),
        ("r.io/" + "a" * 256, "more than 255 characters"),
        ("wéb", "'wéb' is not"),
        ("web\n", "'web\\n' is not"),
        ("http://r.io/web", "the port of registry 'http:'"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ReferenceError) as caught:
        Reference.parse(text)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


# The grammar of distribution/reference, as regular expressions.
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = rf"(?:{LABEL}(?:\.{LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
NAME = re.compile(
    rf"(?:(?P<domain>{DOMAIN})/)?(?P<path>{COMPONENT}(?:/{COMPONENT})*)"
    rf"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


@given(st.text("ab0AZ._-:/@[]", max_size=12) | st.from_regex(NAME, fullmatch=True))
@example("a/b:c@" + DIGEST)
@example("A.b/c")
def test_the_grammar_is_the_one_of_distribution(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceError:
        # What docker takes must not be refused, but for the rules that the grammar cannot tell.
        match = NAME.fullmatch(text)
        if match and "/" in text.partition(":")[0]:
            registry = text.partition("/")[0]
            looks_so = "." in registry or ":" in registry or registry != registry.lower()
            assert not looks_so or len(match["path"]) > 255 or match["domain"] != registry
        return
    assert NAME.fullmatch(str(reference))


@given(st.from_regex(NAME, fullmatch=True))
def test_reading_what_was_written_gives_the_same_name(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference


@given(st.text())
def test_any_text_is_a_name_or_an_error_of_ours(text: str) -> None:
    try:
        Reference.parse(text)
    except EngineError:
        pass

"""Platforms: what people write, what indexes offer, what this machine can run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.image.digest import Descriptor
from minicontainer.image.platform import Platform, choose
from tests.image import small


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("arm64", "linux/arm64"),
        ("riscv64", "linux/riscv64"),
    ],
)
def test_what_people_write_is_normalised(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "linux/", "/amd64", "a/b/c/d", "quantum", "linux/am d64"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="invalid platform") as caught:
        Platform.parse(text)
    assert "linux/arm64" in str(caught.value.hint)


@given(st.text())
def test_any_text_is_a_platform_or_an_error_of_ours(text: str) -> None:
    try:
        Platform.parse(text)
    except EngineError:
        pass


def test_the_host_runs_its_own_builds() -> None:
    host = Platform.host()
    assert host.os == "linux"
    assert host.matches(host)
    assert Platform.from_json(host.to_json()) == host


def offer(text: str | None, **annotations: str) -> Descriptor:
    platform = None
    if text is not None:
        names = ("os", "architecture", "variant")
        platform = dict(zip(names, text.split("/"), strict=False))
    return Descriptor(
        "x", small.digest(str(text).encode()), 1, platform=platform, annotations=annotations
    )


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", "linux/386 linux/amd64", "linux/amd64"),
        ("linux/amd64", "linux/386 linux/arm", "linux/386"),
        ("linux/arm64", "linux/arm/v7 linux/arm64/v8", "linux/arm64/v8"),
        ("linux/arm64", "linux/arm/v6 linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v5 linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/v7", "linux/arm", "linux/arm"),
        ("linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", "linux/amd64/v2"),
    ],
)
def test_the_best_build_that_runs_is_chosen(wanted: str, offered: str, chosen: str) -> None:
    manifests = [offer(text) for text in offered.split()]
    assert choose(manifests, Platform.parse(wanted)).digest == offer(chosen).digest


def test_attestations_are_not_images() -> None:
    manifests = [
        offer("unknown/unknown"),
        offer("linux/amd64", **{"vnd.docker.reference.type": "attestation-manifest"}),
    ]
    with pytest.raises(EngineError) as caught:
        choose(manifests, Platform("linux", "amd64"), "web:1")
    assert (caught.value.message, caught.value.hint) == ("no build of web:1 for linux/amd64", None)


def test_the_error_lists_what_there_is() -> None:
    manifests = [offer("linux/s390x"), offer("linux/arm/v6"), offer("unknown/unknown")]
    with pytest.raises(EngineError) as caught:
        choose(manifests, Platform("linux", "arm", "v5"), "web:1")
    assert caught.value.message == "no build of web:1 for linux/arm/v5"
    assert caught.value.hint == "available: linux/arm/v6, linux/s390x"


def test_a_lone_manifest_without_a_platform_is_taken() -> None:
    lone = offer(None)
    assert choose([lone, offer("unknown/unknown")], Platform("linux", "amd64")) is lone
    with pytest.raises(EngineError):
        choose([lone, offer("linux/arm")], Platform("linux", "amd64"))

"""The picture on docs/networks.md is what the engine draws of that scene today."""

from __future__ import annotations

import networkpicture
import pytest


@pytest.mark.root
@pytest.mark.tools("ip", "nft")
def test_the_picture_on_the_page_is_what_the_kernel_has() -> None:
    said, elements = networkpicture.structure(networkpicture.PICTURE.read_text())
    assert (said, elements) == networkpicture.structure(networkpicture.draw())
    assert {"one", "two", "*:5001", "*:5002", "shop"} <= set(said)

"""Capabilities and the change of user, read back from the kernel."""

from __future__ import annotations

import os

import pytest

from minicontainer.errors import EngineError
from minicontainer.kernel import capabilities, users
from tests.support.inside import inside

pytestmark = pytest.mark.root
KEPT = capabilities.mask(["CAP_CHOWN", "NET_BIND_SERVICE"])


def test_names_and_bits() -> None:
    assert capabilities.mask(["CAP_CHOWN", "cap_sys_admin"]) == 1 | 1 << 21
    assert capabilities.words(KEPT) == ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]
    assert capabilities.NAMES[40] == "CHECKPOINT_RESTORE"
    # Docker's list, the one mask that everybody has seen. MKNOD wants a device cgroup.
    docker = capabilities.mask(["MKNOD", *capabilities.DEFAULT])
    assert docker == 0xA80425FB
    with pytest.raises(EngineError, match="CAP_MAGIC"):
        capabilities.mask(["CAP_MAGIC"])


def test_the_five_masks() -> None:
    def child() -> dict[str, int]:
        capabilities.drop_bounding(KEPT)
        capabilities.set_sets(KEPT, KEPT, 1)
        capabilities.set_ambient(1)
        return capabilities.read()

    assert inside(child) == {
        "CapInh": 1, "CapPrm": KEPT, "CapEff": KEPT, "CapBnd": KEPT, "CapAmb": 1,
    }  # fmt: skip


def test_a_change_of_user_keeps_what_is_then_set() -> None:
    def child() -> list[object]:
        users.change(1234, 2345, [7, 8])
        kept = capabilities.read()["CapPrm"]
        capabilities.set_sets(0, KEPT, 0)
        return [os.getresuid(), os.getresgid(), os.getgroups(), kept & KEPT == KEPT]

    assert inside(child) == [[1234] * 3, [2345] * 3, [7, 8], True]


def test_no_new_privileges_is_for_good() -> None:
    def child() -> str:
        capabilities.set_no_new_privileges()
        with open("/proc/self/status") as file:
            return next(line for line in file if line.startswith("NoNewPrivs"))

    assert inside(child) == "NoNewPrivs:\t1\n"

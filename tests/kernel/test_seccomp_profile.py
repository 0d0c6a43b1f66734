"""Profiles in docker's format: what is chosen for a container, and what is said of bad ones."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import EngineError
from minicontainer.kernel import seccomp_profile
from minicontainer.kernel.seccomp_profile import ProfileError, check, find_line, parse, select

pytestmark = pytest.mark.host  # arithmetic: the same in every kernel


def chosen(
    rule: dict[str, Any], caps: tuple[str, ...] = (), machine: str = "x86_64", kernel: str = "6.1.0"
) -> bool:
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule},
    ]}  # fmt: skip
    check(profile, dockers=True)
    found = select(profile, caps, machine, kernel)
    assert found is not None
    return bool(found["syscalls"])


def test_conditions() -> None:
    assert chosen({})
    admin = {"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}
    assert chosen(admin, ("CAP_SYS_ADMIN", "CAP_BPF"))
    assert not chosen(admin, ("CAP_SYS_ADMIN",))
    assert not chosen({"excludes": admin["includes"]}, ("CAP_BPF",))
    assert chosen({"excludes": admin["includes"]})
    for machine, own in (("x86_64", "amd64"), ("aarch64", "arm64")):
        assert chosen({"includes": {"arches": ["s390x", own]}}, machine=machine)
        assert not chosen({"includes": {"arches": ["s390x"]}}, machine=machine)
        assert not chosen({"excludes": {"arches": [own]}}, machine=machine)
    both = {"includes": {"caps": ["CAP_BPF"]}, "excludes": {"caps": ["CAP_KILL"]}}
    assert not chosen(both, ("CAP_BPF", "CAP_KILL"))


@pytest.mark.parametrize(
    ("kernel", "new"),
    [
        *[(kernel, True) for kernel in ("4.8", "4.8.0-rc5", "4.10.1", "6.1.0-13-amd64", "5.0+")],
        *[(kernel, False) for kernel in ("4.7.99", "3.12-1-amd64", "4.0")],
    ],
)
def test_the_kernels_version(kernel: str, new: bool) -> None:
    assert chosen({"includes": {"minKernel": "4.8"}}, kernel=kernel) == new
    assert chosen({"excludes": {"minKernel": "4.8"}}, kernel=kernel) != new


def test_old_and_podmans_ways_of_writing() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        ],
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None, "includes": {}},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errno": "EINVAL", "errnoRet": 22},
        ],
    }  # fmt: skip
    check(profile, dockers=True)
    assert select(profile, [], "x86_64", "6.1") == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
        ],
    }


def test_an_empty_profile_is_no_filter() -> None:
    assert select(parse("{}", "x"), [], "x86_64", "6.1") is None
    with pytest.raises(ProfileError, match="the action is missing"):
        check({})


GOOD = """
{
  "defaultAction": "SCMP_ACT_ERRNO",
  "syscalls": [
    {
      "names": ["read"],
      "action": "SCMP_ACT_ALLOW"
    },
    {
      "names": ["clone"],
      "action": "SCMP_ACT_ALLOW",
      "args": [
        {
          "index": 0,
          "value": 2114060288,
          "valueTwo": 0,
          "op": "SCMP_CMP_MASKED_EQ"
        }
      ],
      "excludes": {
        "minKernel": "4.8"
      }
    }
  ]
}
""".lstrip()


def test_a_good_one_is_taken() -> None:
    assert parse(GOOD, "p") == json.loads(GOOD)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"names": ["read"],', '"names": ["read"]', "p:6: this is not JSON: expecting ','"),
        ("ALLOW", "ALOW", "p:6: syscalls[0].action: unknown action 'SCMP_ACT_ALOW'"),
        ("ALLOW", "NOTIFY", "p:6: syscalls[0].action: SCMP_ACT_NOTIFY cannot be had"),
        ('"defaultAction"', '"defaultaction"', "p:2: defaultaction: nothing of this name"),
        ("ACT_ERRNO", "ACT_NONE", "p:2: defaultAction: unknown action 'SCMP_ACT_NONE'"),
        ("MASKED_EQ", "LIKE", "p:16: syscalls[1].args[0].op: unknown operator 'SCMP_CMP_LIKE'"),
        ('"index": 0', '"index": 6', "p:13: syscalls[1].args[0].index: 6 is not a number"),
        ("2114060288", '"0x7e02"', "p:14: syscalls[1].args[0].value: '0x7e02' is not a number"),
        ("2114060288", "-1", "p:14: syscalls[1].args[0].value: -1 is not a number from 0 to 18"),
        ("2114060288", "1.5", "p:14: syscalls[1].args[0].value: 1.5 is not a number"),
        ('"valueTwo": 0', '"valueTwo": 1', "p:15: syscalls[1].args[0].valueTwo: it has bits"),
        ('"4.8"', '"4"', "p:20: syscalls[1].excludes.minKernel: '4' is not a kernel's version"),
        ('["read"]', '[]', "p:5: syscalls[0].names: at least one name"),
        ('["read"]', '"read"', "p:5: syscalls[0].names: a list was expected here"),
        ('["read"]', '["read"], "name": "write"', "p:5: syscalls[0].name: give either name"),
        ('"excludes"', '"exclude"', "p:19: syscalls[1].exclude: nothing of this name is known"),
        ('"syscalls": [', '"architectures": ["SCMP_ARCH_X68"], "syscalls": [', "p:3: archi"),
        ('"syscalls": [', '"flags": ["SECCOMP_FILTER_FLAG_X"], "syscalls": [', "p:3: flags[0]"),
        ('"syscalls": [', '"defaultErrnoRet": 4096, "syscalls": [', "p:3: defaultErrnoRet: 4096"),
        ('"syscalls": [', '"listenerPath": "/x", "syscalls": [', "p:3: listenerPath: there is"),
        ("ALLOW", 'ALLOW", "errnoRet": 1, "comment": "', "p:6: syscalls[0].errnoRet: SCMP_ACT"),
        ("ACT_ALLOW", 'ACT_ERRNO", "errno": "EMAGIC', "p:6: syscalls[0].errno: unknown errno"),
    ],
)  # fmt: skip
def test_bad_ones_are_told_by_file_line_and_reason(old: str, new: str, told: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse(GOOD.replace(old, new, 1), "p")
    assert caught.value.message.startswith(told)
    assert "\n" not in caught.value.message


def test_wrong_kinds_at_the_top() -> None:
    for text in ("[]", "1", '"x"', "null"):
        with pytest.raises(EngineError, match="p:1: an object was expected"):
            parse(text, "p")
    with pytest.raises(EngineError, match="p:1: this is not JSON"):
        parse("", "p")
    with pytest.raises(EngineError, match="p:1: this is not JSON: nested too deeply"):
        parse("[" * 100_000, "p")


def test_the_oci_specification_has_no_conditions() -> None:
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}}
    with pytest.raises(ProfileError, match=r"syscalls\[0\].includes: nothing of this name"):
        check({"defaultAction": "SCMP_ACT_KILL", "syscalls": [rule]})


VALUES = st.recursive(
    st.one_of(st.integers(), st.text(), st.none()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


@given(VALUES, st.data())
def test_a_value_is_found_by_its_line(value: Any, data: Any) -> None:
    way: list[str | int] = []
    text = json.dumps(value, indent=1)
    marked = json.loads(text)
    holder, last = {"": marked}, ""
    while isinstance(holder[last], (dict, list)) and holder[last]:  # type: ignore[index]
        holder = holder[last]  # type: ignore[index, assignment]
        steps = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        last = data.draw(st.sampled_from(steps))
        way.append(last)
    holder[last] = "here it is"  # type: ignore[index]
    text = json.dumps(marked if way else "here it is", indent=1)
    lines = [n for n, line in enumerate(text.split("\n"), 1) if "here it is" in line]
    assert find_line(text, tuple(way)) in lines


def test_of_a_key_given_twice_the_last_counts() -> None:
    text = textwrap.dedent("""
        {"defaultAction": "SCMP_ACT_ALLOW",
         "defaultAction": "SCMP_ACT_MAYBE"}
    """)
    with pytest.raises(EngineError, match="p:3: defaultAction"):
        parse(text, "p")


@given(VALUES)
def test_anything_is_answered_with_one_line(value: Any) -> None:
    for whole in (value, {"defaultAction": "SCMP_ACT_LOG", "syscalls": value}):
        try:
            parse(json.dumps(whole), "p")
        except EngineError as error:
            assert error.message.startswith("p:1: ")


def test_names_are_spelled() -> None:
    assert seccomp_profile.spell(("syscalls", 3, "args", 0, "op")) == "syscalls[3].args[0].op"

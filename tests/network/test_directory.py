"""Who has which name, from the files of the living."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from minicontainer.network import dns
from minicontainer.network.directory import Directory

ASKER = "a" * 64


def place(run: Path, id: str, name: str, *networks: tuple[str, str], **more: Any) -> Path:
    """A living container: on each (network, its last number of the address there)."""
    endpoints = [
        {
            "network": network,
            "address4": f"10.{88 + len(network)}.0.{last}",
            "prefix4": 16,
            "bridge": f"mc-{network}",
            "gateway4": "" if network == "inner" else f"10.{88 + len(network)}.0.1",
            "address6": "",
            "prefix6": 0,
            "gateway6": "",
            "aliases": more.get("aliases", []),
        }
        for network, last in networks
    ]
    for endpoint in endpoints:
        endpoint.update(more.get("endpoint", {}))
    directory = run / id
    directory.mkdir(parents=True, exist_ok=True)
    fields = {"name": name, "hostname": more.get("hostname", id[:12]), "endpoints": endpoints}
    temporary = directory / "new"
    temporary.write_text(json.dumps(fields))
    temporary.rename(directory / "network.json")
    return directory


def found(directory: Directory, name: str, kind: int = dns.A) -> list[str] | None:
    addresses = directory.addresses(name, kind)
    return None if addresses is None else [".".join(map(str, each)) for each in addresses]


def test_a_neighbour_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"))
    place(tmp_path, "b" * 64, "Web", ("shop", "3"), aliases=["www", "WWW2"], hostname="box")
    directory = Directory(str(tmp_path), ASKER)
    for name in ("web", "www", "www2", "box", "b" * 12, "web.shop", "www.shop"):
        assert found(directory, name) == ["10.92.0.3"], name
    assert found(directory, "asker") == ["10.92.0.2"]
    for name in ("webs", "b" * 11, "b" * 64, "web.other", "shop", "", ".shop", "web.shop.shop"):
        assert found(directory, name) is None, name


def test_a_name_that_is_no_label_is_not_said(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "a" * 63, ("shop", "2"))
    place(tmp_path, "b" * 64, "b" * 64, ("shop", "3"))
    directory = Directory(str(tmp_path), ASKER)
    assert directory.name(bytes([10, 92, 0, 2])) == "a" * 63 + ".shop"
    assert directory.name(bytes([10, 92, 0, 3])) is None


def test_only_shared_networks_have_names(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"), ("bridge", "2"))
    place(tmp_path, "b" * 64, "web", ("stock", "3"))
    place(tmp_path, "c" * 64, "other", ("bridge", "4"))
    directory = Directory(str(tmp_path), ASKER)
    assert found(directory, "web") is None
    assert found(directory, "other") is None
    assert directory.name(bytes([10, 93, 0, 3])) is None


def test_two_networks_and_a_shared_alias(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"), ("stock", "2"))
    place(tmp_path, "b" * 64, "one", ("shop", "3"), aliases=["web"])
    place(tmp_path, "c" * 64, "two", ("stock", "4"), ("shop", "4"), aliases=["web"])
    directory = Directory(str(tmp_path), ASKER)
    assert found(directory, "web") == ["10.92.0.3", "10.93.0.4", "10.92.0.4"]
    assert found(directory, "web.stock") == ["10.93.0.4"]
    assert directory.name(bytes([10, 93, 0, 4])) == "two.stock"


def test_who_has_no_such_address_is_still_known(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"))
    place(tmp_path, "b" * 64, "web", ("shop", "3"))
    directory = Directory(str(tmp_path), ASKER)
    assert found(directory, "web", dns.AAAA) == []
    assert found(directory, "web", 15) == []
    assert found(directory, "webs", dns.AAAA) is None
    place(tmp_path, "b" * 64, "web", ("shop", "3"), endpoint={"address6": "fd00::3"})
    assert directory.addresses("web", dns.AAAA) == [bytes.fromhex("fd" + "00" * 14 + "03")]
    assert directory.addresses("web", 15) == []
    assert directory.name(bytes.fromhex("fd" + "00" * 14 + "03")) == "web.shop"


def test_a_change_and_an_end_are_seen_at_once(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"))
    web = place(tmp_path, "b" * 64, "web", ("shop", "3"))
    directory = Directory(str(tmp_path), ASKER)
    assert found(directory, "web") == ["10.92.0.3"]
    place(tmp_path, "b" * 64, "web", ("shop", "5"))
    assert found(directory, "web") == ["10.92.0.5"]
    shutil.rmtree(web)
    assert found(directory, "web") is None
    assert list(directory._known) == [ASKER]  # a supervisor lives for months
    # Another network for the asker itself.
    place(tmp_path, "c" * 64, "far", ("stock", "6"))
    assert found(directory, "far") is None
    place(tmp_path, ASKER, "asker", ("shop", "2"), ("stock", "2"))
    assert found(directory, "far") == ["10.93.0.6"]


def test_what_is_being_made_or_damaged_is_passed_over(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("shop", "2"))
    place(tmp_path, "b" * 64, "web", ("shop", "3"))
    (tmp_path / "images.lock").touch()
    (tmp_path / ("c" * 64)).mkdir()
    (tmp_path / ("d" * 64)).mkdir()
    (tmp_path / ("d" * 64) / "network.json").write_text('{"name":')
    assert found(Directory(str(tmp_path), ASKER), "web") == ["10.92.0.3"]
    assert found(Directory(str(tmp_path), "e" * 64), "web") is None


def test_the_way_out_and_the_own_networks(tmp_path: Path) -> None:
    place(tmp_path, ASKER, "asker", ("inner", "2"))
    directory = Directory(str(tmp_path), ASKER)
    assert not directory.leads_out()
    assert directory.is_near(bytes([10, 93, 255, 9]))
    assert not directory.is_near(bytes([10, 94, 0, 1]))
    assert not directory.is_near(bytes(16))
    place(tmp_path, ASKER, "asker", ("inner", "2"), ("shop", "2"))
    assert directory.leads_out()

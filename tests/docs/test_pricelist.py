"""The price list: from a file of pytest-benchmark to the chart on the page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml

import pricelist

TITLES = {1: "A process", 2: "A root directory"}


def bench(name: str, seconds: float) -> dict[str, object]:
    return {"fullname": name, "stats": {"min": seconds, "rounds": 200}}


RUN = {
    "datetime": "2026-11-23T22:00:00",
    "machine_info": {"cpu": {"count": 2}, "release": "6.1.0", "python_version": "3.11.2"},
    "benchmarks": [
        bench("chapters/ch02_chroot/bench_stage.py::test_stage", 0.002),
        bench("tests/bench/bench_peers.py::test_run", 1.0),
        bench("chapters/ch01_process/bench_stage.py::test_stage", 0.0015),
        bench("chapters/ch01_process/bench_stage.py::test_other", 9.0),
    ],
}


def test_the_stages_are_listed_in_order_of_the_book() -> None:
    found = pricelist.figures(RUN, TITLES)
    assert [(row["chapter"], row["microseconds"]) for row in found["rows"]] == [
        (1, 1500),
        (2, 2000),
    ]
    assert found["machine"] == "2 cores, Linux 6.1.0, Python 3.11.2"


def test_the_table_says_what_a_chapter_adds() -> None:
    assert "| 02 A root directory | 2,000 | +500 |" in pricelist.table(
        pricelist.figures(RUN, TITLES)
    )


def test_the_others_are_in_proportion_to_ours() -> None:
    medians = {"minicontainer run": 0.02, "runc run": 0.04}
    found = {"peers": {"run": medians}, "machine": "2 cores", "date": "2026-11-23"}
    table = pricelist.peers_table(found)
    assert "| minicontainer run | 20.0 |  |" in table
    assert "| runc run | 40.0 | 0.50 |" in table


def test_the_chart_has_a_bar_for_each_and_is_xml() -> None:
    found = pricelist.figures(RUN, {1: "A <process>", 2: "B & C"})
    picture = xml.fromstring(pricelist.chart(found))
    bars = [node for node in picture if node.tag.endswith("rect")][1:]
    widths = [int(bar.attrib["width"]) for bar in bars]
    assert widths == [0, 288, 288, 96]


def test_a_cheaper_chapter_is_drawn_too() -> None:
    rows = [
        {"chapter": 1, "title": "a", "microseconds": 300},
        {"chapter": 2, "title": "b", "microseconds": 200},
    ]
    picture = pricelist.chart({"rows": rows})
    assert 'width="-' not in picture
    assert "-100" in picture


def test_the_chart_on_the_page_is_that_of_the_figures() -> None:
    found = json.loads(pricelist.FIGURES.read_text())
    assert pricelist.CHART.read_text() == pricelist.chart(found)
    assert len(found["rows"]) >= 7

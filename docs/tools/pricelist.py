"""The price list of isolation: what each chapter's stage costs, from a run of the benchmarks.

    BENCH_JSON=peers.json ./dev bench --benchmark-min-rounds=200 --benchmark-json=bench.json
    python3 docs/tools/pricelist.py bench.json peers.json

writes docs/price.json (the figures) and docs/pictures/price.svg (the chart). The page docs/price.md
shows both, and the engine beside the others; a test holds the chart to the figures.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "price.json"
CHART = ROOT / "docs" / "pictures" / "price.svg"

STAGE = re.compile(r"chapters/ch(\d\d)_(\w+)/bench_stage\.py::")


def figures(benchmarks: dict[str, Any], titles: dict[int, str]) -> dict[str, Any]:
    """What the stages cost, in microseconds, from a file of pytest-benchmark.

    The fastest round of each: what it costs when nothing else runs; a busy machine only adds.
    A chapter that measures several things is listed with the first one.
    """
    rows: dict[int, dict[str, Any]] = {}
    for bench in benchmarks["benchmarks"]:
        if match := STAGE.match(bench["fullname"]):
            number, cost = int(match[1]), bench["stats"]["min"]
            row = {"chapter": number, "title": titles[number], "microseconds": round(cost * 1e6)}
            rows.setdefault(number, row)
    machine = benchmarks["machine_info"]
    cpu = machine.get("cpu", {})
    return {
        "date": benchmarks["datetime"][:10],
        "machine": f"{cpu.get('count', '?')} cores, Linux {machine['release']}, "
        f"Python {machine['python_version']}",
        "rounds": min(bench["stats"]["rounds"] for bench in benchmarks["benchmarks"]),
        "rows": [rows[number] for number in sorted(rows)],
    }


def titles() -> dict[int, str]:
    """The chapters' titles, from the book's manifest."""
    with open(ROOT / "chapters" / "book.toml", "rb") as file:
        return {c["number"]: c["title"] for c in tomllib.load(file)["chapter"]}


# -------------------------------------------------------------------------------------- the chart


def chart(found: dict[str, Any]) -> str:
    """The figures as bars: what was there before in grey, what the chapter adds in colour."""
    rows = found["rows"]
    most = max((row["microseconds"] for row in rows), default=1)
    height = 70 + 34 * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" '
        'font-family="system-ui, sans-serif" font-size="14" role="img">',
        "  <title>What each chapter's stage costs, in microseconds</title>",
        f'  <rect width="760" height="{height}" fill="#f6f8f8" rx="8"/>',
        '  <text x="24" y="32" font-weight="600" fill="#263238">'
        "start, run and end of the smallest program, in microseconds</text>",
    ]
    before = 0
    for place, row in enumerate(rows):
        y, cost = 52 + 34 * place, row["microseconds"]
        kept = round(384 * min(before, cost) / most)
        added = round(384 * cost / most) - kept
        difference = f"{cost - before:+,}" if place else ""
        lines += [
            f'  <text x="210" y="{y + 16}" text-anchor="end" fill="#263238">'
            f"{row['chapter']:02} {_escape(row['title'])}</text>",
            f'  <rect x="224" y="{y}" width="{kept}" height="22" fill="#b0bec5"/>',
            f'  <rect x="{224 + kept}" y="{y}" width="{added}" height="22" fill="#00897b"/>',
            f'  <text x="{232 + kept + added}" y="{y + 16}" fill="#263238">{cost:,}'
            f'<tspan dx="6" fill="#00695c">{difference}</tspan></text>',
        ]
        before = cost
    return "\n".join([*lines, "</svg>\n"])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def table(found: dict[str, Any]) -> str:
    """The figures as a table of the page."""
    rows = ["| chapter | microseconds | more than before |", "|---|--:|--:|"]
    before = None
    for row in found["rows"]:
        cost = row["microseconds"]
        more = "" if before is None else f"{cost - before:+,}"
        rows.append(f"| {row['chapter']:02} {row['title']} | {cost:,} | {more} |")
        before = cost
    how = f"The fastest of at least {found['rounds']} rounds each, in one run"
    return "\n".join([*rows, "", f"{how}: {found['machine']}, {found['date']}."])


def peers_table(found: dict[str, Any]) -> str:
    """The engine beside the others: medians in milliseconds, and ours as a part of theirs."""
    rows = ["| | milliseconds | ours / theirs |", "|---|--:|--:|"]
    for title, medians in found["peers"].items():
        rows.append(f"| **{title}** | | |")
        ours = next(iter(medians.values()))
        for place, (name, seconds) in enumerate(medians.items()):
            ratio = f"{ours / seconds:.2f}" if place else ""
            rows.append(f"| {name} | {seconds * 1000:,.1f} | {ratio} |")
    how = "Medians of one run, with all stores in memory"
    return "\n".join([*rows, "", f"{how}: {found['machine']}, {found['date']}."])


def main() -> None:
    """Write the figures and the chart."""
    found = figures(json.loads(Path(sys.argv[1]).read_text()), titles())
    found["peers"] = json.loads(Path(sys.argv[2]).read_text())
    FIGURES.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    CHART.write_text(chart(found))
    print(f"wrote {FIGURES.relative_to(ROOT)} and {CHART.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

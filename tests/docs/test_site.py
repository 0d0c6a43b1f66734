"""The site, built strictly and read in a real browser: it works, and asks no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import ROOT

pytestmark = pytest.mark.needs("chromium")

# Quiet, and nothing of its own in the background.
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update --disable-dev-shm-usage
""".split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a directory of our own."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on loopback."""
    command = [sys.executable, "-um", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout
        yield server.stdout.readline().split("(")[1].split("/)")[0]
        server.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, temporaries: Path) -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=program, args=FLAGS
        )
        yield context
        context.close()


class Tab:
    """A page of the browser that notes what went wrong, and whom it asked."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page()
        self.address = address
        self.wrong: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(m.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._note)
        self.page.on("response", lambda r: r.status >= 400 and self.wrong.append(r.url))

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"asked {request.url}")


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    tab.page.close()


def pages(site: Path) -> list[str]:
    """Every page of the site, by its address; of the pages of the source, one."""
    found = sorted(str(path.parent.relative_to(site)) for path in site.rglob("index.html"))
    source = [page for page in found if page.startswith("source/")]
    return [page for page in found if page not in source] + source[-1:]


def test_every_page_loads_cleanly_with_its_pictures(site: Path, tab: Tab) -> None:
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
    for page in pages(site):
        tab.page.goto(f"{tab.address}/{page}/", wait_until="networkidle")
        assert tab.page.evaluate(broken) == [], page
        assert tab.page.locator("h1").count() == 1, page
    assert tab.wrong == []


def test_the_search_finds(tab: Tab) -> None:
    tab.page.goto(f"{tab.address}/")
    tab.page.get_by_role("textbox", name="Search").click()
    tab.page.keyboard.type("clone3")
    tab.page.locator(".md-search-result__item a[href*=architecture]").first.click()
    tab.page.wait_for_url("**/architecture/**")
    assert tab.wrong == []


def test_a_reference_leads_to_its_line(tab: Tab) -> None:
    tab.page.goto(f"{tab.address}/architecture/")
    tab.page.get_by_role("link", name="runtime.start.start").click()
    tab.page.wait_for_url("**/source/minicontainer/runtime/start.py/#*")
    line = tab.page.evaluate("document.querySelector(location.hash).textContent")
    assert line.startswith("def start(")
    assert tab.wrong == []


def test_nothing_in_the_site_names_another_host(site: Path) -> None:
    """Links to elsewhere may be there for the reader; what a browser loads may not."""
    loads = re.compile(
        r"""(?:src|srcset)=["']?https?:|<link[^>]+href=["']?https?:|url\(["']?https?:"""
    )
    found = [
        f"{path.relative_to(site)}: {match.group()}"
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for match in loads.finditer(path.read_text())
        if 'rel="canonical"' not in match.group()
    ]
    assert found == []


def test_an_outside_request_is_seen(tab: Tab) -> None:
    """The check itself: a page that asks another host, and one with an error in its script."""
    tab.page.goto(f"{tab.address}/")
    tab.page.evaluate("fetch('http://127.0.0.2:9/').catch(() => 0)")
    assert "asked http://127.0.0.2:9/" in tab.wrong
    tab.page.evaluate("setTimeout(() => { throw new Error('broken') })")
    tab.page.wait_for_function("true")
    assert any("broken" in text for text in tab.wrong)


@pytest.mark.parametrize(
    "text",
    [
        "# Page\n\n```python excerpt=minicontainer/errors.py:NoSuchName\n```\n",
        "# Page\n\n[words](code:minicontainer/nothing.py)\n",
        "# Page\n\n[words](nowhere.md)\n",
    ],
)
def test_a_page_with_a_broken_name_fails_the_build(tmp_path: Path, text: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "docs" / "install.md").write_text(text)
    configuration = (ROOT / "mkdocs.yml").read_text()
    configuration = configuration.replace(
        "docs/tools/excerpts.py", str(ROOT / "docs/tools/excerpts.py")
    )
    (tmp_path / "mkdocs.yml").write_text(configuration)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "install.md" in done.stdout + done.stderr

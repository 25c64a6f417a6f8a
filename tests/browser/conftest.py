"""Debian's Chromium, and a report of a study whose names are made to break pages."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lossbench.comparison.compare import compare
from lossbench.records import read_study
from tests.comparison.synthetic import write_synthetic_study

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
HOSTILE = (
    "<img src=x onerror=window.broken=1>",
    "</script><script>window.broken=1</script>",
    "<!--<script>",
    'a,"b"',
)
ARMS = {"cross_entropy": 0.0, "focal": 0.02, "balanced_softmax": 0.06}
ARMS |= {name: 0.01 * place for place, name in enumerate(HOSTILE)}
ARMS |= {f"other_{place}": -0.02 * place for place in range(4)}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of eleven arms with four seeds; more arms than the figures draw at first."""
    folder = tmp_path_factory.mktemp("browser")
    write_synthetic_study(folder / "study", ARMS, range(4))
    compare(read_study(folder / "study"), out=folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if not found:
        pytest.fail("no browser to open the page in: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--headless", *QUIET])
        yield browser
        browser.close()


@dataclass
class Opened:
    """The page in a browser, and the data that are written in it."""

    page: Page
    content: dict[str, Any]
    data: dict[str, Any]

    def drawn(self, figure: str, chart: int = 0) -> list[dict[str, Any]]:
        """The rows that a chart of ``figure`` shows, once it is drawn."""
        found = self.page.locator(f"#{figure} .chart").nth(chart)
        found.scroll_into_view_if_needed()
        found.locator("svg.marks").wait_for()
        return found.evaluate("chart => chart.view.runAsync().then(view => view.data('rows'))")

    def download(self, item: str) -> list[list[str]]:
        """The rows of the CSV file that the button of ``item`` gives."""
        with self.page.expect_download() as found:
            self.page.locator(f"#{item} button.csv").click()
        text = Path(found.value.path()).read_text(encoding="utf-8", newline="")
        return list(csv.reader(io.StringIO(text, newline="")))


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    """The page, opened; at the end nothing may have gone wrong or asked for the network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked, said = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: said.append(str(error.error)))
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(report.as_uri())
    found = {name: json.loads(page.locator(f"#{name}").text_content()) for name in ("content", "data-0")}
    yield Opened(page, found["content"], found["data-0"])
    context.close()
    outside = [url for url in asked if url != report.as_uri() and not url.startswith("blob:")]
    assert (outside, said) == ([], [])

"""The tab "Losses" in TensorBoard in a real browser: what is drawn follows what is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lossbench.tensorboard.writer import RunWriter
from tests.tensorboard.losses_logs import (
    EDGES,
    HOSTILE,
    MAIN,
    VAL,
    Logs,
    served,
    wait_for_all,
    wait_for_runs,
    write,
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return write(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def address(logs: Logs) -> Iterator[str]:
    with served(logs.folder) as address:
        wait_for_all(address, logs)
        yield address


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """At the end nothing may have gone wrong, or asked for another machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    asked, said = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("response", lambda answer: said.extend([answer.url] * (answer.status >= 400)))
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("console", lambda line: said.extend([line.text] * (line.type == "error")))
    yield context
    context.close()
    outside = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert (outside, said) == ([], [])


@pytest.fixture
def tab(context: BrowserContext, address: str) -> Page:
    """The tab without TensorBoard around it, which takes seconds to load."""
    page = context.new_page()
    open_alone(page, address)
    page.get_by_label("runs of").select_option(MAIN)
    expect(page.locator("path.line")).to_have_count(3)
    return page


def open_alone(page: Page, address: str) -> None:
    page.goto(f"{address}data/plugin_entry.html?name=lossbench")


def drawn(tab: Page) -> dict[str, str]:
    """The path of each arm that is drawn, by the name of its arm."""
    lines = tab.locator("path.line").all()
    found = {line.get_attribute("data-arm"): line.get_attribute("d") for line in lines}
    return {key.partition(" 0123abcd")[0]: path for key, path in found.items()}


def rows(tab: Page) -> dict[str, list[str]]:
    table = [row.locator("th, td").all_text_contents() for row in tab.locator("tbody tr").all()]
    return {name: cells for name, *cells in table}


def outline(path: str) -> list[float]:
    """The heights of a path's steps, in pixels above the axis."""
    start, *steps = path.removeprefix("M").split("V")
    axis = float(start.split()[1])
    return [axis - float(step.split("H")[0]) for step in steps]


def test_the_slider_shows_each_epoch_as_it_was_written(tab: Page, logs: Logs) -> None:
    slider = tab.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 4")
    last = drawn(tab)
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 2")
    before = drawn(tab)
    assert all(before[arm] != last[arm] for arm in before)

    counts = [logs.written["cross_entropy", seed, VAL, 2] for seed in range(3)]
    mean = np.mean([count / count.sum() for count in counts], axis=0)
    mean = np.trim_zeros(mean)
    heights = np.array(outline(before["cross_entropy"]))[: len(mean)]
    np.testing.assert_allclose(heights / heights.sum(), mean / mean.sum(), atol=2e-3)

    found = rows(tab)
    assert [found["cross_entropy"][0], found["focal"][0], found[HOSTILE][0]] == ["3", "2", "1"]
    below = np.concatenate([[0], np.cumsum(np.mean([c / c.sum() for c in counts], axis=0))])
    place = np.searchsorted(below, 0.5)
    low, high = 10.0 ** EDGES[place - 2], 10.0 ** EDGES[place - 1]
    assert low <= float(found["cross_entropy"][1]) <= high


def test_the_list_of_arms_says_what_is_drawn(tab: Page) -> None:
    tab.get_by_role("checkbox", name="focal").uncheck()
    assert drawn(tab).keys() == rows(tab).keys() == {"cross_entropy", HOSTILE}
    tab.get_by_role("button", name="none").click()
    assert drawn(tab).keys() == rows(tab).keys() == set()
    tab.get_by_label("filter arms").fill("FOC")
    tab.get_by_role("button", name="all").click()
    assert drawn(tab).keys() == rows(tab).keys() == {"focal"}


def test_an_arm_without_the_epoch_is_not_drawn_and_the_table_says_so(tab: Page) -> None:
    tab.get_by_role("combobox", name="split").select_option("training")
    expect(tab.locator("path.line")).to_have_count(2)
    assert rows(tab)[HOSTILE] == ["nothing logged at this epoch"]
    assert rows(tab)["focal"][0] == "1 of 2"
    tab.get_by_role("slider").press("Home")
    assert rows(tab)["focal"][0] == "2"
    tab.get_by_role("combobox", name="split").select_option("test")
    expect(tab.get_by_role("slider")).to_be_disabled()
    expect(tab.get_by_text("4 (the only one logged)")).to_be_visible()


def test_losses_classes_and_cumulative_heights_can_be_chosen(tab: Page) -> None:
    seen = [drawn(tab)]
    tab.get_by_role("combobox", name="classes").select_option("tail classes")
    expect(tab.locator("caption")).to_contain_text("tail classes")
    seen.append(drawn(tab))
    tab.get_by_role("combobox", name="height").select_option("cumulative")
    seen.append(drawn(tab))
    heights = outline(seen[-1]["focal"])
    assert heights == sorted(heights)
    # There is no histogram of the own loss over the tail: what was chosen last is what counts.
    tab.get_by_role("combobox", name="loss").select_option("each arm's own loss")
    expect(tab.locator("caption")).to_contain_text("own loss, all classes")
    expect(tab.locator(".mark")).to_have_count(0)
    seen.append(drawn(tab))
    assert len({shown["focal"] for shown in seen}) == 4


def test_names_are_text_and_marks_are_at_their_losses(tab: Page) -> None:
    expect(tab.get_by_role("checkbox", name=HOSTILE)).to_be_checked()
    assert tab.locator("body").evaluate("() => [window.broken, document.images.length]") == [
        None,
        0,
    ]
    positions = [float(mark.get_attribute("x1")) for mark in tab.locator(".mark").all()]
    ticks = tab.locator("svg text").all()
    one = next(float(t.get_attribute("x")) for t in ticks if t.text_content() == "1")
    hundred = next(float(t.get_attribute("x")) for t in ticks if t.text_content() == "100")
    decade = (hundred - one) / 2
    logs = np.log10(np.log([2, 10]))
    np.testing.assert_allclose((np.array(positions) - one) / decade, logs, atol=2e-3)


def test_without_runs_the_tab_says_what_to_do(context: BrowserContext, tmp_path: Path) -> None:
    with served(tmp_path) as address:
        page = context.new_page()
        open_alone(page, address)
        expect(page.get_by_role("status").first).to_contain_text("lossbench train")
        expect(page.get_by_role("form")).to_be_hidden()


def test_tensorboard_opens_the_tab_and_its_reload_brings_new_epochs(
    context: BrowserContext, tmp_path: Path
) -> None:
    with RunWriter(tmp_path / "run") as writer, served(tmp_path) as address:
        writer.histogram(VAL, np.ones(102), EDGES, 1)
        writer.flush()
        wait_for_runs(address, 1)
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab", name="Losses").click()
        tab = page.frame_locator("iframe")
        expect(tab.get_by_text("1 (the only one logged)")).to_be_visible(timeout=20_000)
        tab.get_by_role("combobox", name="height").select_option("cumulative")
        writer.histogram(VAL, np.ones(102), EDGES, 2)
        writer.flush()
        for _ in range(20):  # TensorBoard reads its files on its own, once a second
            page.locator("app-header-reload button").click()
            page.wait_for_timeout(500)
            if tab.get_by_text("2 of 2").count():
                break
        expect(tab.get_by_text("2 of 2")).to_be_visible()
        expect(tab.get_by_role("combobox", name="height")).to_have_value("cumulative")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_those_who_cannot_see_well(
    context: BrowserContext, address: str, scheme: str
) -> None:
    page = context.new_page()
    page.emulate_media(color_scheme=scheme)
    open_alone(page, address)
    expect(page.locator("path.line").first).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
